"""What the operator makes of a gateway's report: phase, Ready, whether it still holds, and events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controllers.shared.resources import VMCP
from controllers.shared.workload.rollout import PodCounts
from controllers.virtualmcpserver.decide import GatewayDecision, decide
from controllers.virtualmcpserver.report import status_view
from controllers.virtualmcpserver.reports import OVERDUE, GatewayReport, read_report
from controllers.virtualmcpserver.status import compute_health
from controllers.virtualmcpserver.tell import AGAIN, BackendEvents
from runtime import Record
from runtime.wire.decode import record_from_body
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import NOW, make, said

POD = PodCounts(ready=1)


def status(age: timedelta = timedelta(0), counts: str = "", **backends: str) -> dict[str, Any]:
    listed = [{"name": name, "status": state, "message": f"{name} is {state}"} for name, state in backends.items()]
    fields = {"readyBackends": counts} if counts else {}
    return {"discoveredBackends": listed, "lastReportTime": (NOW - age).isoformat(), **fields}


def decided(pods: PodCounts = POD, age: timedelta = timedelta(0), **backends: str) -> GatewayDecision:
    return decide(make({}, pods=pods, status=status(age, **backends)))


@pytest.mark.parametrize(
    ("backends", "phase", "ends"),
    [
        ({}, "Ready", "running"),
        ({"a": "ready", "b": "degraded"}, "Ready", "running"),
        ({"a": "ready", "b": "unknown"}, "Ready", "running"),
        ({"a": "unknown"}, "Pending", "not checked yet"),
        ({"a": "ready", "b": "unavailable"}, "Degraded", "1/2 backends available; down: b"),
        ({"a": "unavailable"}, "Degraded", "no backend can be used; down: a"),
        ({"a": "unavailable", "b": "unknown"}, "Degraded", "no backend can be used; down: a"),
    ],
)
def test_phase_names_what_is_down_and_a_slow_or_unchecked_backend_is_not(
    backends: dict[str, str], phase: str, ends: str
) -> None:
    health = compute_health(POD, read_report(status(**backends)))
    assert str(health.phase) == phase
    assert health.message.endswith(ends)
    assert health.ready == (phase == "Ready")


def test_counts_are_those_of_all_backends_where_the_list_has_no_room_and_names_are_ten_at_most() -> None:
    many = {f"b{index:02}": "unavailable" for index in range(30)}
    health = compute_health(POD, read_report(status(counts="970/1000", **many)))
    assert health.message.endswith("970/1000 backends available; down: " + ", ".join(list(many)[:10]) + " and 20 more")
    assert read_report(status(counts="9" * 5000 + "/1", a="ready")).total == 1
    assert read_report(status(counts="1/0", a="ready")).total == 1


def test_a_report_counts_while_a_pod_is_ready_and_it_is_not_overdue() -> None:
    fresh = decided(a="unavailable")
    assert said(fresh)["BackendsReported"] == "True/ReportCurrent"
    assert fresh.look_again == pytest.approx(OVERDUE.total_seconds() + 1)
    assert str(fresh.health.phase) == "Degraded"
    gone = decided(pods=PodCounts(), a="unavailable")
    assert said(gone)["BackendsReported"] == "False/ReporterGone"
    old = decided(age=OVERDUE + timedelta(seconds=1), a="unavailable")
    assert said(old)["BackendsReported"] == "False/ReportOverdue"
    assert (str(old.health.phase), old.look_again) == ("Ready", None)
    assert "BackendsReported" not in said(decide(make({}, pods=POD)))


def test_a_report_is_marked_within_two_minutes_of_the_moment_it_is_missing() -> None:
    assert OVERDUE - timedelta(minutes=5) <= timedelta(minutes=2)


def test_later_times_alone_change_nothing_that_wakes_the_operator() -> None:
    first = status(a="ready", b="unavailable")
    later = status(timedelta(minutes=-5), a="ready", b="unavailable")
    for item in later["discoveredBackends"]:
        item |= {"lastHealthCheck": "2026-01-01T00:00:00Z", "consecutiveFailures": 7}
    assert status_view(first) == status_view(later)
    assert status_view(first) != status_view(status(a="unavailable", b="ready"))
    overdue = {
        "conditions": [{"type": "BackendsReported", "status": "False", "reason": "ReportOverdue", "message": ""}]
    }
    assert status_view(first | overdue) != status_view(later | overdue), "the report that was missing came"


class Heard:
    """A recorder and a clock."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []
        self.now = 0.0
        self.events = BackendEvents(self, lambda: self.now)  # type: ignore[arg-type]

    def event(self, _record: Record, *, reason: str, note: str, **_: Any) -> None:
        self.notes.append((reason, note))

    def look(self, counts: str = "", uid: str = "u", **backends: str) -> list[tuple[str, str]]:
        self.notes = []
        body = {
            "apiVersion": "toolhive.stacklok.dev/v1beta1",
            "kind": "VirtualMCPServer",
            "metadata": {"name": "v", "namespace": "ns", "uid": uid},
        }
        found = status(counts=counts, **backends)
        self.events.look(record_from_body(VMCP, body), found, read_report(found))
        return self.notes


def test_going_down_and_coming_back_are_told_once_each_and_several_at_a_time() -> None:
    heard = Heard()
    assert heard.look() == []
    assert heard.look(a="ready", b="unavailable") == [("BackendDown", "backend b went down (b: b is unavailable)")]
    assert heard.look(a="ready", b="unavailable") == []
    assert heard.look(a="unknown", b="unknown") == [], "nothing is known at the moment"
    assert heard.look(a="unavailable", b="ready") == [
        ("BackendDown", "backend a went down (a: a is unavailable)"),
        ("BackendRecovered", "backend b came back"),
    ]
    assert heard.look() == [], "a backend that is no more has not come back"
    many = {f"b{index:02}": "unavailable" for index in range(2, 14)}
    ((reason, note),) = heard.look(**many)
    assert reason == "BackendDown"
    assert note.startswith("12 backends went down: b02, b03, ")
    assert " and 2 more (b02: b02 is unavailable; " in note


def test_what_was_so_when_the_operator_started_is_not_told_and_a_new_object_of_the_name_is_another() -> None:
    heard = Heard()
    assert heard.look(a="unavailable") == []
    assert heard.look(a="ready") == [], "nobody was told that it is down"
    assert heard.look(a="unavailable") != []
    assert heard.look(uid="other", a="unavailable") == []


def test_a_backend_that_flaps_is_told_of_now_and_then() -> None:
    heard = Heard()
    heard.look()
    told = 0
    for _ in range(100):
        told += len(heard.look(a="unavailable"))
        told += len(heard.look(a="ready"))
        heard.now += 10
    assert told <= 2 * (1000 / AGAIN + 1)
    heard.now += AGAIN
    assert [reason for reason, _ in heard.look(a="unavailable")] == ["BackendDown"]
    assert [reason for reason, _ in heard.look(a="ready")] == ["BackendRecovered"]


def test_a_backend_that_the_list_has_no_room_for_is_ready() -> None:
    heard = Heard()
    heard.look()
    heard.look(counts="2/3", a="unavailable")
    assert heard.look(counts="3/3", c="unavailable")[-1] == ("BackendRecovered", "backend a came back")


def test_an_empty_report_is_what_a_status_without_one_gives() -> None:
    assert read_report({}) == GatewayReport()
    assert read_report({"discoveredBackends": "odd", "readyBackends": 7}) == GatewayReport()
