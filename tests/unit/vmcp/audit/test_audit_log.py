"""The audit log: what a line says, what it never says, and that nobody waits for it."""

from __future__ import annotations

import json
import os
import stat

import pytest

from tests.support.eventually import eventually_blocking
from vmcp.audit.interface import AuditEvent, AuditResult, EventType, event_type
from vmcp.audit.line import LineMaker, LineSettings, bare_url
from vmcp.audit.log import AuditSettings, NoAudit, ThreadedAuditLog
from vmcp.auth.interface import Principal
from vmcp.observe.redact import REDACTED, Redactor

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def event(**fields: object) -> AuditEvent:
    return AuditEvent(**{"type": EventType.TOOL_CALL, "outcome": AuditResult.SUCCESS, "method": "tools/call", **fields})


def line(found: AuditEvent, redactor: Redactor | None = None, **settings: object) -> dict:
    raw = LineMaker(LineSettings(**settings), redactor or Redactor()).line(found, 1_700_000_000.5)
    assert raw.endswith(b"\n")
    assert raw.count(b"\n") == 1
    return json.loads(raw)


def lines_of(path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def test_a_line_says_who_did_what_where_when_and_how_it_ended():
    principal = Principal("u-1", "https://idp", {"sub": "u-1", "email": "a@example.com", "azp": "cli"}, TOKEN)
    said = line(
        event(
            principal=principal,
            name="gh_search",
            request_id="7",
            client_ip="10.0.0.9",
            user_agent="inspector/1",
            era="modern",
            status=200,
            duration_ms=1.23456,
            trace_id="ab" * 16,
            backend="gh",
            backend_tool="search",
        ),
        component="front-door",
    )
    assert said["metadata"].pop("auditId")
    assert said == {
        "metadata": {
            "extra": {
                "era": "modern",
                "status": 200,
                "duration_ms": 1.235,
                "trace_id": "ab" * 16,
                "backend_name": "gh",
            }
        },
        "type": "mcp_tool_call",
        "loggedAt": "2023-11-14T22:13:20.500Z",
        "source": {"type": "network", "value": "10.0.0.9", "extra": {"user_agent": "inspector/1", "request_id": "7"}},
        "outcome": "success",
        "subjects": {"user": "a@example.com", "user_id": "u-1", "issuer": "https://idp", "client_id": "cli"},
        "component": "front-door",
        "target": {
            "endpoint": "/mcp",
            "method": "tools/call",
            "type": "tool",
            "name": "gh_search",
            "backend": "gh",
            "backend_name": "search",
        },
    }


def test_direct_backends_add_url_auth_method_and_remote_status():
    extra = line(
        event(remote_url="https://u:p@api.example:8443/mcp?key=1#x", auth_method="token_exchange", remote_status=503)
    )["metadata"]["extra"]
    assert extra == {
        "remote_url": "https://api.example:8443/mcp",
        "auth_method": "token_exchange",
        "remote_status": 503,
    }


def test_the_session_id_is_only_a_digest():
    said = json.dumps(line(event(session_id="very-secret-session")))
    assert "very-secret" not in said
    assert line(event(session_id="a"))["metadata"]["extra"]["session"] == "ca978112ca1b"


def test_a_delegation_chain_is_written_up_to_its_depth():
    claims = {"sub": "a", "act": {"sub": "b", "act": {"sub": "c", "iss": "i", "act": {"sub": "d"}}}}
    said = line(event(principal=Principal("a", "i", claims)), max_delegation_depth=2)
    assert said["metadata"]["extra"]["delegation_chain"] == [{"sub": "b"}, {"sub": "c", "iss": "i"}]


def test_bodies_are_only_written_when_asked_for():
    assert "data" not in line(event(request_data=b'{"a":1}', response_data=b'{"b":1}'))
    said = line(event(request_data=b'{"a":1}', response_data=b'{"b":1}'), include_request_data=True)
    assert said["data"] == {"request": {"a": 1}}
    said = line(event(response_data=b'{"b":1}'), include_response_data=True)
    assert said["data"] == {"response": {"b": 1}}


def test_bodies_are_cut_and_odd_ones_only_measured():
    said = line(event(request_data=json.dumps({"a": "x" * 5000}).encode()), include_request_data=True, max_data_size=64)
    assert len(said["data"]["request"]) == 67
    assert line(event(request_data=b"\xff\xfe"), include_request_data=True)["data"]["request"].startswith("[2 bytes")
    big = b'{"a":"' + b"x" * (1 << 20) + b'"}'
    assert line(event(request_data=big), include_request_data=True)["data"]["request"] == f"[{len(big)} bytes]"


def test_secrets_in_bodies_are_redacted_by_key_by_look_and_by_value_before_anything_is_cut():
    data = {
        "password": "p4ss",
        "nested": [{"api_key": "k"}],
        "text": f"Authorization: Bearer abc.def and {TOKEN}",
        "echo": "the backend echoes hdr-s3cret-value",
        "pad": "x" * 3000,
    }
    raw = json.dumps(data).encode()
    said = line(event(request_data=raw), Redactor(["hdr-s3cret-value"]), include_request_data=True, max_data_size=4000)
    text = json.dumps(said)
    for secret in ("p4ss", "abc.def", "eyJ", "hdr-s3cret-value", '"k"'):
        assert secret not in text
    assert said["data"]["request"]["password"] == REDACTED


def test_line_breaks_cannot_forge_a_line():
    raw = LineMaker(LineSettings(), Redactor()).line(
        event(name='x\n{"type":"forged"}', user_agent="a\r\nb", error="c\nd"), 0.0
    )
    assert raw.count(b"\n") == 1
    assert json.loads(raw)["target"]["name"].startswith("x?{")


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("tools/call", EventType.TOOL_CALL),
        ("resources/templates/list", EventType.RESOURCES_LIST),
        ("notifications/cancelled", EventType.NOTIFICATION),
        ("vendor/thing", EventType.REQUEST),
    ],
)
def test_methods_have_event_types(method, kind):
    assert event_type(method) is kind


def test_events_reach_the_file_in_order_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "audit.log"
    log = ThreadedAuditLog(AuditSettings(log_file=str(path)))
    for number in range(500):
        log.write(event(request_id=str(number)))
    log.close()
    assert [one["source"]["extra"]["request_id"] for one in lines_of(path)] == [str(n) for n in range(500)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_events_appear_without_closing(tmp_path):
    path = tmp_path / "audit.log"
    log = ThreadedAuditLog(AuditSettings(log_file=str(path)))
    log.write(event())
    eventually_blocking(lambda: len(lines_of(path)) == 1)
    log.write(event())
    eventually_blocking(lambda: len(lines_of(path)) == 2)
    log.close()


def test_a_rotated_file_is_opened_again(tmp_path):
    path, old = tmp_path / "audit.log", tmp_path / "audit.log.1"
    log = ThreadedAuditLog(AuditSettings(log_file=str(path)))
    log.write(event(request_id="1"))
    eventually_blocking(lambda: len(lines_of(path)) == 1)
    path.rename(old)
    log.write(event(request_id="2"))
    eventually_blocking(lambda: len(lines_of(path)) == 1)
    log.close()
    assert [len(lines_of(path)), len(lines_of(old))] == [1, 1]


def test_types_can_be_chosen_and_excluded(tmp_path):
    path = tmp_path / "audit.log"
    settings = AuditSettings(
        event_types=frozenset({"mcp_tool_call", "mcp_ping"}),
        exclude_event_types=frozenset({"mcp_ping"}),
        log_file=str(path),
    )
    log = ThreadedAuditLog(settings)
    for kind in (EventType.PING, EventType.TOOL_CALL, EventType.INITIALIZE):
        log.write(event(type=kind))
    log.close()
    assert [one["type"] for one in lines_of(path)] == ["mcp_tool_call"]


def test_a_full_queue_loses_events_but_never_makes_anybody_wait(tmp_path):
    """A pipe that nobody reads takes 64 KiB, then whoever writes to it waits."""
    lost, written = [], 2_000
    path = tmp_path / "audit.log"
    os.mkfifo(path)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        log = ThreadedAuditLog(AuditSettings(log_file=str(path)), dropped=lambda: lost.append(1), max_queue=10)
        for _ in range(written):
            log.write(event())
        assert lost
        taken = bytearray()

        def accounted_for() -> bool:
            taken.extend(reader.read(1 << 20) or b"")
            return taken.count(b"\n") + len(lost) == written

        eventually_blocking(accounted_for, "each event is in the log, or counted as lost")
        log.close()


@pytest.mark.parametrize("before", ["", '{"whole": "line"}\n', '{"line": "cut off by a full di'])
def test_a_disk_that_fails_is_counted_and_the_log_goes_on_once_it_works(tmp_path, before):
    lost = []
    path, good = tmp_path / "audit.log", tmp_path / "good.log"
    path.symlink_to("/dev/full")
    good.write_text(before)
    log = ThreadedAuditLog(AuditSettings(log_file=str(path)), dropped=lambda: lost.append(1))
    log.write(event())
    eventually_blocking(lambda: lost == [1])
    path.unlink()
    path.symlink_to(good)
    log.write(event())
    eventually_blocking(lambda: good.read_text().endswith("}\n") and good.read_text() != before)
    log.close()
    assert lost == [1]
    *_, last = good.read_text().splitlines()
    assert json.loads(last)["type"] == "mcp_tool_call"
    assert good.read_text() == before + "\n" * (not before.endswith("\n") and before != "") + last + "\n"


def test_nothing_is_done_where_no_audit_is_configured():
    assert not NoAudit().enabled
    NoAudit().write(event())
    NoAudit().close()


def test_urls_lose_what_may_be_secret():
    assert bare_url("http://a:b@h/p?q=1#f") == "http://h/p"
