"""From the backends' states to what is reported, and when."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.contract import reports
from api.contract.errors import ConfigError
from runtime.util.conditions import parse_conditions
from vmcp.backend.interface import BackendState, Circuit, Health
from vmcp.config.settings import LeftOut
from vmcp.kube import kinds, reporter
from vmcp.kube.report import MAX_LIST, MAX_MESSAGE, NOT_PROBED, ObservedBackend, compose, look, plain_url, see, sign
from vmcp.kube.reporter import BURST, REFILL, ReportPace
from vmcp.observe.redact import Redactor

NOW = datetime(2026, 7, 28, 12, tzinfo=UTC)
PLAIN = Redactor().text


@dataclass
class Known:
    """A backend as a report sees it."""

    name: str = "b"
    url: str = "https://b.example/mcp"
    auth_method: str = "unauthenticated"
    personal: bool = False
    state: BackendState = field(default_factory=BackendState)


def seen(name: str = "b", status: str = "ready", **fields: Any) -> ObservedBackend:
    return ObservedBackend(name=name, status=status, **fields)


def of(**state: Any) -> Any:
    return Known(state=BackendState(**state))


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (f"{c['status']}/{c['reason']}", c["message"]) for c in status["conditions"]}


@pytest.mark.parametrize(
    ("health", "status"),
    [
        (Health.HEALTHY, "ready"),
        (Health.DEGRADED, "degraded"),
        (Health.UNHEALTHY, "unavailable"),
        (Health.UNAUTHENTICATED, "unauthenticated"),
        (Health.UNKNOWN, "unknown"),
    ],
)
def test_every_health_has_the_word_of_the_api(health: Health, status: str) -> None:
    assert see(of(health=health), "", PLAIN).status == status


def test_a_backend_that_only_a_caller_can_ask_is_not_held_against_the_gateway() -> None:
    found = see(Known(personal=True), "", PLAIN)
    assert (found.status, found.message) == ("ready", NOT_PROBED)
    assert see(Known(personal=True, state=BackendState(failures=1)), "", PLAIN).status == "unknown"


@pytest.mark.parametrize(
    ("status", "auth_type", "usable", "down"),
    [
        ("ready", "", True, False),
        ("degraded", "", True, False),
        ("unavailable", "", False, True),
        ("unknown", "", False, False),
        ("unauthenticated", "", True, False),
        ("unauthenticated", "unauthenticated", True, False),
        ("unauthenticated", "header_injection", False, True),
        ("what a later version says", "", False, True),
    ],
)
def test_a_slow_backend_works_and_wrong_credentials_do_not(
    status: str, auth_type: str, usable: bool, down: bool
) -> None:
    assert (reports.is_usable(status, auth_type), reports.is_down(status, auth_type)) == (usable, down)


def test_secrets_and_what_may_be_one_are_in_no_field() -> None:
    secret = "t0ken-of-the-backend"
    state = BackendState(health=Health.UNHEALTHY, last_error=f"refused {secret}" + "x" * 1000, failures=3)
    backend = Known(url=f"https://user:{secret}@b.example/mcp?key={secret}#{secret}", state=state)
    left_out = LeftOut("bad", (ConfigError("backends[1].url", f"is not a URL: {secret}"),))
    found = compose(look([backend], [left_out], {"b": "auth"}, Redactor([secret]).text), (), NOW)
    assert secret not in json.dumps(found)
    first, second = found["discoveredBackends"]
    assert first["name"] == "b"
    assert first["url"] == "https://b.example/mcp"
    assert first["authConfigRef"] == "auth"
    assert len(first["message"]) <= MAX_MESSAGE
    assert (second["name"], second["status"]) == ("bad", "unavailable")
    assert "backends[1].url" in second["message"]


def test_members_that_are_no_backends_are_the_operators_to_tell() -> None:
    skipped = LeftOut("m", (ConfigError("members.m", "NotValid"),), "NotValid")
    assert look([], [skipped], {}, PLAIN) == ()


def test_times_of_transitions_stay_and_a_condition_without_cause_goes() -> None:
    first = compose([seen(), seen("c", "unavailable")], (), NOW)
    assert conditions(first)["Degraded"] == ("True/BackendsDegraded", "1 of 2 backends are down: c")
    assert (first["backendCount"], first["readyBackends"]) == (1, "1/2")
    later = compose([seen("a", "unavailable"), seen("c")], parse_conditions(first["conditions"]), NOW + timedelta(1))
    assert {c["lastTransitionTime"] for c in later["conditions"]} == {"2026-07-28T12:00:00Z"}
    assert list(conditions(compose([seen()], parse_conditions(later["conditions"]), NOW))) == ["BackendsDiscovered"]


STATUSES = st.sampled_from(["ready", "degraded", "unavailable", "unauthenticated", "unknown"])


@given(st.lists(st.tuples(STATUSES, st.integers(0, 512), st.integers(0, 256)), max_size=60), st.integers(1, 40))
def test_whatever_backends_say_the_list_is_bounded_and_counts_are_exact(
    states: list[tuple[str, int, int]], times: int
) -> None:
    found = [
        seen(f"{'n' * 200}{index:05}", status, url="u" * url, message="m" * message)
        for index, (status, url, message) in enumerate(states * times)
    ]
    report = compose(found, (), NOW)
    listed = report["discoveredBackends"]
    assert len(json.dumps(listed, separators=(",", ":"))) <= MAX_LIST
    usable = sum(one.status in ("ready", "degraded", "unauthenticated") for one in found)
    assert report["readyBackends"] == f"{usable}/{len(found)}"
    names = [one["name"] for one in listed]
    assert names == sorted(names)
    if len(listed) < len(found):
        assert conditions(report)["BackendsDiscovered"][0] == "True/ReportTruncated"
        if any(one["status"] == "ready" for one in listed):
            assert {one.name for one in found if one.down} <= set(names), "what is down goes last"


def test_a_thousand_backends_in_good_health_are_all_listed_however_long_their_urls_are() -> None:
    found = [seen(f"member-{index:04}", url="https://x.example/" + "p" * 480) for index in range(1000)]
    report = compose(found, (), NOW)
    assert len(report["discoveredBackends"]) == 1000
    assert "details of 1000" in conditions(report)["BackendsDiscovered"][1]


def test_a_probe_through_an_open_circuit_is_no_news_and_a_new_kind_of_error_is() -> None:
    def signed(**changes: Any) -> object:
        down = {"health": Health.UNHEALTHY, "circuit": Circuit.OPEN, "last_error_category": "unavailable"}
        return sign([of(**(down | changes))], [], {})

    assert signed(circuit=Circuit.HALF_OPEN, failures=9, last_check=5.0, last_error="m") == signed()
    assert signed(last_error_category="timeout") != signed()
    assert signed(circuit=Circuit.CLOSED) != signed()
    assert signed(health=Health.DEGRADED) != signed()
    assert sign([of()], [], {"b": "auth"}) != sign([of()], [], {})
    assert sign([], [LeftOut("bad", ())], {}) != sign([], [], {})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://[::1]:80/mcp", "http://[::1]:80/mcp"),
        ("http://[broken/mcp", ""),
        ("https://a@b@c.example/x?y", "https://c.example/x"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_what_may_hold_keys(url: str, shown: str) -> None:
    assert plain_url(url) == shown


def test_changes_are_reported_at_once_and_a_backend_that_flaps_is_reported_less_often() -> None:
    pace = ReportPace()
    written = [second for second in range(600) if pace.due(second, changed=True) and not pace.reported(second)]
    assert written[:BURST] == list(range(BURST))
    assert len(written) <= BURST + 600 / REFILL + 1


def test_without_changes_a_report_is_due_every_five_minutes_and_after_a_failure_later_and_later() -> None:
    pace = ReportPace()
    assert pace.due(0.0, changed=False)
    pace.reported(0.0)
    assert not pace.due(299.0, changed=False)
    assert pace.due(300.0, changed=False)
    tries = [second for second in range(300, 1000) if pace.due(second, changed=True) and not pace.failed(second)]
    gaps = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert gaps == sorted(gaps)
    assert max(gaps) == reporter.LONGEST_BACKOFF
    pace.restart()
    assert pace.due(2000.0, changed=False)


def test_the_kind_that_is_reported_to_is_the_one_of_the_api() -> None:
    assert reporter.VMCP == kinds.VMCP
