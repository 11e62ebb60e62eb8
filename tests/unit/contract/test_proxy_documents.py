"""A proxy's configuration: written and read back, judged by the gateway's rules, told in its own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from api.contract import ConfigErrors
from api.contract.proxy import as_gateway, dump_proxy, parse_proxy, validate_proxy

GOLDEN = sorted((Path(__file__).parent / "golden" / "proxy").glob("*.yaml"))
GOOD: dict[str, Any] = {
    "name": "p",
    "remote": {"url": "https://r.example/mcp", "transport": "streamable-http"},
    "incomingAuth": {"type": "anonymous"},
}


def remote(**fields: Any) -> dict[str, Any]:
    return {"url": "https://r.example/mcp", "transport": "streamable-http"} | fields


def mistakes(**changes: Any) -> list[str]:
    document = {key: value for key, value in (GOOD | changes).items() if value is not None}
    errors = validate_proxy(parse_proxy(orjson.dumps(document)), env={})
    assert all(error.backends is None for error in errors)
    return [error.path for error in errors]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_file_is_read_and_written_again_byte_for_byte(path: Path):
    data = path.read_bytes()
    proxy = parse_proxy(data)
    assert dump_proxy(proxy) == data
    assert validate_proxy(proxy) == ()


def test_there_are_golden_files():
    assert [path.stem for path in GOLDEN] == ["full", "minimal"]


def test_the_good_one_is_good():
    assert mistakes() == []


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("name", None, ["name"]),
        ("remote", None, ["remote", "remote.url", "remote.transport"]),
        ("remote", remote(url="ftp://r"), ["remote.url"]),
        ("remote", remote(transport="stdio"), ["remote.transport"]),
        ("remote", remote(caBundlePath="ca.crt"), ["remote.caBundlePath"]),
        (
            "remote",
            remote(headerForward={"addPlaintextHeaders": {"X-Forwarded-For": "1"}}),
            ["remote.headerForward.addPlaintextHeaders.X-Forwarded-For"],
        ),
        ("remote", remote(auth={"type": "magic"}), ["remote.auth.type"]),
        ("remote", remote(auth={"type": "obo", "obo": {"tokenUrl": "https://t"}}), ["remote.auth.type"]),
        (
            "remote",
            remote(
                auth={"type": "header_injection", "headerInjection": {"headerName": "X", "headerValueEnv": "UNSET"}}
            ),
            ["remote.auth.headerInjection.headerValueEnv"],
        ),
        ("incomingAuth", None, ["incomingAuth"]),
        ("incomingAuth", {"type": "oidc"}, ["incomingAuth.oidc"]),
        (
            "incomingAuth",
            {
                "type": "oidc",
                "oidc": {"issuer": "https://i", "audience": "a", "introspectionUrl": "https://i/introspect"},
            },
            ["incomingAuth.oidc.introspectionUrl"],
        ),
        ("sessionStorage", {"provider": "redis", "address": "r:1"}, ["sessionStorage.provider"]),
        ("passthroughHeaders", ["Authorization"], ["passthroughHeaders[0]"]),
        ("operational", {"timeouts": {"perWorkload": {"p": "1s"}}}, ["operational.timeouts.perWorkload"]),
        (
            "operational",
            {"failureHandling": {"partialFailureMode": "fail"}},
            ["operational.failureHandling.partialFailureMode"],
        ),
        ("endpointPrefix", "/p", ["endpointPrefix"]),
    ],
)
def test_what_breaks_a_rule_is_refused_at_its_place_in_this_document(key, value, where):
    assert mistakes(**{key: value}) == where


def test_a_name_with_dots_does_not_hide_the_place_of_its_auth():
    assert mistakes(name="a.b", remote=remote(auth={"type": "magic"})) == ["remote.auth.type"]


def test_a_document_without_a_name_is_told_of_that_once_and_of_all_the_rest():
    found = mistakes(name=None, remote=remote(auth={"type": "magic"}), tools={"overrides": {"a": {"name": "b"}}})
    assert found == ["name", "remote.auth.type"]


def test_unknown_keys_are_told_with_the_nearest_known_one():
    with pytest.raises(ConfigErrors) as caught:
        parse_proxy(b"name: p\nremote: {transprt: sse}\nbackends: []\n")
    found = {error.path: error.message for error in caught.value.errors}
    assert found["remote.transprt"] == 'unknown key; did you mean "transport"?'
    assert found["backends"].startswith("unknown key; known are name, groupRef, remote")


def test_it_is_a_gateway_with_one_backend():
    gateway = as_gateway(parse_proxy(GOLDEN[0].read_bytes()))
    (backend,) = gateway.backends
    assert (backend.name, backend.type) == ("notion", "direct")
    assert gateway.outgoing_auth is not None
    assert list(gateway.outgoing_auth.backends) == ["notion"]
