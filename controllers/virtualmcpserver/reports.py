"""What the running gateway reports of its backends, as the operator reads it: who is down, and how old that is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import reports
from controllers.shared.workload.rollout import PodCounts
from runtime import Condition

OVERDUE = timedelta(seconds=reports.REPORT_EVERY + reports.REPORT_GRACE)
"""Age at which a report of this project's gateway is out of date."""
MAX_REASON = 120
"""Characters of a backend's message in an event."""
_FRACTION = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Reported:
    """A backend, as the gateway reports it; nothing that changes with each check.

    Attributes:
        name: of the backend.
        status: one of the words of `api.contract.reports`.
        auth_type: the strategy; "" where the gateway did not say.
    """

    name: str
    status: str
    auth_type: str = ""

    @property
    def down(self) -> bool:
        """Whether it is of no use to anybody."""
        return reports.is_down(self.status, self.auth_type)

    @property
    def usable(self) -> bool:
        """Whether it can be used, as far as is known."""
        return reports.is_usable(self.status, self.auth_type)


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What a gateway last reported; empty before it did.

    Attributes:
        backends: those that the list had room for; what is down comes before what is ready when it had not for all.
        usable: backends that can be used, those that are not in the list included.
        total: all backends.
    """

    backends: tuple[Reported, ...] = ()
    usable: int = 0
    total: int = 0

    @property
    def down(self) -> tuple[str, ...]:
        """Names of the backends that are down."""
        return tuple(backend.name for backend in self.backends if backend.down)

    @property
    def checked(self) -> bool:
        """Whether anything is known of any backend."""
        return not self.backends or any(backend.status != reports.UNKNOWN for backend in self.backends)


def read_report(status: Mapping[str, Any]) -> GatewayReport:
    """Read what a status says about backends; whatever does not have its form is not there."""
    backends = tuple(
        Reported(
            str(item.get("name") or ""), str(item.get("status") or reports.UNKNOWN), str(item.get("authType") or "")
        )
        for item in _items(status)
    )
    usable, total = sum(backend.usable for backend in backends), len(backends)
    counts = _FRACTION.fullmatch(str(status.get("readyBackends") or ""))
    if counts is not None and int(counts[2]) >= total:
        usable, total = int(counts[1]), int(counts[2])
    return GatewayReport(backends, usable, total)


def read_messages(status: Mapping[str, Any], names: frozenset[str]) -> dict[str, str]:
    """Return what the report says is wrong with some backends, each cut for an event."""
    return {
        name: str(item.get("message") or "")[:MAX_REASON]
        for item in _items(status)
        if (name := str(item.get("name") or "")) in names
    }


def report_age(status: Mapping[str, Any], now: datetime) -> timedelta | None:
    """Return the age of the gateway's newest report; None when there is none, or it does not say.

    The stock gateway does not say when it reported; its checks are as old as its report.
    """
    said = parse_time(status.get("lastReportTime"))
    times = (
        [said]
        if said is not None
        else [parsed for item in _items(status) if (parsed := parse_time(item.get("lastHealthCheck"))) is not None]
    )
    return now - max(times) if times else None


def has_reported(status: Mapping[str, Any]) -> bool:
    """Whether a gateway ever reported."""
    return bool(status.get("lastReportTime")) or bool(_items(status))


def judge_report(status: Mapping[str, Any], pods: PodCounts, age: timedelta | None) -> Condition | None:
    """Say whether a report of this project's gateway is up to date; None before the first one."""
    if not has_reported(status):
        return None
    type_ = str(T.BACKENDS_REPORTED)
    if pods.ready == 0:
        message = "no gateway pod is ready, so the status of its backends may be out of date"
        return Condition(type_, "False", str(R.REPORTER_GONE), message)
    if age is not None and age > OVERDUE:
        message = (
            "gateway pods are ready but do not report, so the status of the backends may be out of date. Their log "
            "says why; their ServiceAccount needs the permissions in docs/reference/rbac.md"
        )
        return Condition(type_, "False", str(R.REPORT_OVERDUE), message)
    return Condition(type_, "True", str(R.REPORT_CURRENT), "the gateway reports on its backends")


def _items(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    backends = status.get("discoveredBackends")
    return [item for item in backends if isinstance(item, dict)] if isinstance(backends, list) else []


def parse_time(value: object) -> datetime | None:
    """Read a time of the API; None when it is none, or says no zone."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else None
