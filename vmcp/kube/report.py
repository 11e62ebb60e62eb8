"""From what is known of the backends to the status that a gateway reports. Pure: no IO, no clock.

The size is bounded whatever backends say and however many there are: texts are cut, and beyond `MAX_LIST` first the
details of backends that are ready are left out, then these backends themselves, then others. Counts stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import reports
from runtime.util.conditions import Condition, Conditions, set_condition
from runtime.util.times import format_time
from vmcp.backend.interface import Backend, Circuit, Health
from vmcp.config.settings import LeftOut

MAX_MESSAGE = 256
"""Characters of a backend's message."""
MAX_URL = 512
"""Characters of a backend's URL."""
MAX_WORD = 64
"""Characters of what a backend or a configuration calls something."""
MAX_LIST = 256 * 1024
"""Bytes of the list of backends. etcd takes 1.5 MiB for the whole object, and the API server's notes on who owns which
field are about as long as the list."""
NOT_PROBED = "not probed: its lists need a caller's credentials"

Redact = Callable[[str, int | None], str]
"""Takes secrets out of a text, and cuts it."""

_WORDS = {
    Health.HEALTHY: reports.READY,
    Health.DEGRADED: reports.DEGRADED,
    Health.UNHEALTHY: reports.UNAVAILABLE,
    Health.UNAUTHENTICATED: reports.UNAUTHENTICATED,
    Health.UNKNOWN: reports.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedBackend:
    """A backend, as it is reported.

    Attributes:
        name: Of the backend.
        status: One of the words of `api.contract.reports`.
        url: Without user, query and fragment, which may hold keys.
        auth_type: The strategy.
        auth_config: The MCPExternalAuthConfig behind it; "" = none, or not known.
        message: What is wrong; "" = nothing.
        checked: Unix seconds of the last check; None = never.
        circuit: Its circuit breaker's state.
        circuit_changed: Unix seconds; None = never.
        failures: In a row.
        revision: MCP revision; "" = not known.
    """

    name: str
    status: str
    url: str = ""
    auth_type: str = ""
    auth_config: str = ""
    message: str = ""
    checked: float | None = None
    circuit: Circuit = Circuit.CLOSED
    circuit_changed: float | None = None
    failures: int = 0
    revision: str = ""

    @property
    def down(self) -> bool:
        """Whether it is of no use to anybody."""
        return reports.is_down(self.status, self.auth_type)

    def as_json(self) -> dict[str, Any]:
        """Return its entry of `discoveredBackends`, without what is not known."""
        found = {
            "name": self.name,
            "url": self.url,
            "status": self.status,
            "authConfigRef": self.auth_config,
            "authType": self.auth_type,
            "lastHealthCheck": _moment(self.checked),
            "message": self.message,
            "circuitBreakerState": self.circuit.value,
            "circuitLastChanged": _moment(self.circuit_changed),
            "consecutiveFailures": self.failures,
            "mcpRevision": self.revision,
        }
        return {key: value for key, value in found.items() if value != ""}


def see(backend: Backend, auth_config: str, redact: Redact) -> ObservedBackend:
    """Look at a backend."""
    state = backend.state
    status = _WORDS[state.health]
    message = redact(state.last_error, MAX_MESSAGE)
    if state.health is Health.UNKNOWN and state.failures == 0 and backend.personal:
        # Nothing speaks against it, and nobody but a caller can find out more.
        status, message = reports.READY, NOT_PROBED
    return ObservedBackend(
        name=backend.name,
        status=status,
        url=plain_url(backend.url),
        auth_type=backend.auth_method[:MAX_WORD],
        auth_config=auth_config,
        message=message or redact("; ".join(dict.fromkeys(state.failing.values())), MAX_MESSAGE),
        checked=state.last_check,
        circuit=state.circuit,
        circuit_changed=state.circuit_changed,
        failures=state.failures,
        revision=state.version[:MAX_WORD],
    )


def see_left_out(left_out: LeftOut, redact: Redact) -> ObservedBackend:
    """Look at a backend of the configuration that cannot be served."""
    reasons = "; ".join(str(error) for error in left_out.errors)
    return ObservedBackend(
        name=left_out.name,
        status=reports.UNAVAILABLE,
        message=redact(f"left out: {reasons}", MAX_MESSAGE),
    )


def sign(
    backends: Iterable[Backend], left_out: Iterable[LeftOut], auth_configs: Mapping[str, str]
) -> tuple[tuple[object, ...], ...]:
    """Return what is reported as soon as it changes: not times, numbers and texts, which go along with the next report.

    Looked at once a second, so it makes as little as it can. An open circuit that lets a probe through has not changed.
    """
    states = (
        (
            backend.name,
            backend.url,
            backend.auth_method,
            auth_configs.get(backend.name),
            backend.state.health,
            backend.state.circuit is Circuit.CLOSED,
            backend.state.last_error_category,
            backend.state.version,
            backend.personal,
        )
        for backend in backends
    )
    return (*states, *((one.name, one.reason) for one in left_out))


def look(
    backends: Iterable[Backend], left_out: Iterable[LeftOut], auth_configs: Mapping[str, str], redact: Redact
) -> tuple[ObservedBackend, ...]:
    """Look at all backends, in the order of their names.

    Members of the group that do not become backends are the operator's to tell (`BackendsIncluded`).
    """
    found = {backend.name: see(backend, auth_configs.get(backend.name, ""), redact) for backend in backends}
    for one in left_out:
        if not one.reason and one.name not in found:
            found[one.name] = see_left_out(one, redact)
    return tuple(found[name] for name in sorted(found))


def compose(seen: Sequence[ObservedBackend], previous: Conditions, now: datetime) -> dict[str, Any]:
    """Return the gateway's part of the status.

    Args:
        seen: All backends.
        previous: Conditions of the status so far, for their transition times.
        now: Time of the report.
    """
    usable = sum(reports.is_usable(one.status, one.auth_type) for one in seen)
    down = [one.name for one in seen if one.down]
    entries, cut = _fitting(seen)
    wanted = [_discovered(len(seen), cut)]
    if down:
        message = f"{len(down)} of {len(seen)} backends are down: {reports.name_some(down)}"
        wanted.append(Condition(str(T.DEGRADED), "True", str(R.BACKENDS_DEGRADED), message))
    before = {condition.type: condition for condition in previous}
    conditions: list[Condition] = []
    for condition in wanted:
        old = (before[condition.type],) if condition.type in before else ()
        conditions += set_condition(old, replace(condition, observed_generation=None), now=now)
    return {
        "discoveredBackends": entries,
        "backendCount": usable,
        "readyBackends": f"{usable}/{len(seen)}",
        "lastReportTime": format_time(now),
        "conditions": [condition.as_dict() for condition in conditions],
    }


def _discovered(total: int, cut: str) -> Condition:
    reason = R.REPORT_TRUNCATED if cut else R.BACKENDS_DISCOVERED
    message = f"the gateway has {total} backend{'' if total == 1 else 's'}"
    return Condition(str(T.BACKENDS_DISCOVERED), "True", str(reason), message + (f"; {cut}" if cut else ""))


def _fitting(seen: Sequence[ObservedBackend]) -> tuple[list[dict[str, Any]], str]:
    """Return the entries that fit into `MAX_LIST`, and what was left out."""
    full = [one.as_json() for one in seen]
    if _size(full) <= MAX_LIST:
        return full, ""
    ready = {one.name for one in seen if one.status == reports.READY}
    short = [
        {"name": one.name, "status": one.status, "circuitBreakerState": one.circuit.value}
        if one.name in ready
        else body
        for one, body in zip(seen, full, strict=True)
    ]
    if _size(short) <= MAX_LIST:
        return short, f"details of {len(ready)} that are ready are left out of the status"
    room, chosen = MAX_LIST, set()
    for one, body in sorted(zip(seen, short, strict=True), key=lambda pair: (not pair[0].down, pair[0].name in ready)):
        room -= _size([body])
        if room < 0:
            break
        chosen.add(one.name)
    kept = [body for body in short if body["name"] in chosen]
    return kept, f"{len(seen) - len(kept)} are left out of the status, those that are ready first"


def _size(entries: list[dict[str, Any]]) -> int:
    return len(orjson.dumps(entries))


def plain_url(url: str) -> str:
    """Return a URL without user, query and fragment, cut at `MAX_URL`; "" for none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:MAX_URL]


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else format_time(datetime.fromtimestamp(seconds, UTC))
