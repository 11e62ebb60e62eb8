"""What an MCPGroup's status must say, and when it is worth a write: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from api.conditions import MCPGroupCondition as Type
from api.conditions import MCPGroupPhase as Phase
from api.conditions import MCPGroupReason as Reason
from controllers.shared.verdicts import Conditions, Verdict, conditions_json, fold

MAX_NAMES = 256 * 1024
"""Bytes that the names of all members may take in the status (as JSON); beyond, lists are cut and counts stay exact."""

QUIET = 0.5
"""Seconds without a change of the members after which their lists are written. Longer than a member takes from its
creation to its verdict, or each small group of a burst would be written for both."""
LATEST = 3.0
"""Seconds after which the lists are written although members keep changing: a group that fills up over six seconds
costs its first status, two on the way and the last."""
LATEST_FILLING = 6.0
"""Seconds after which the lists are written although members have no verdict yet: of a group that fills up, the number
of those that can be served would be out of date with the next verdict."""

KINDS = ("MCPServers", "MCPRemoteProxies", "MCPServerEntries", "MCPRemoteEndpoints")
"""Plural names of the member kinds, in the order of the lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the status depends on.

    Attributes:
        generation: of the group.
        now: time of the decision.
        servers: names of the MCPServers, sorted; `proxies`, `entries` and `endpoints` likewise.
        proxies: names of the MCPRemoteProxies.
        entries: names of the MCPServerEntries.
        endpoints: names of the MCPRemoteEndpoints.
        served: how many of them a gateway of this group can serve: their checks passed and their URL is known.
        previous: conditions so far.
    """

    generation: int
    now: datetime
    servers: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    served: int = 0
    previous: Conditions = ()


def decide(snapshot: Snapshot) -> Mapping[str, Any]:
    """Return the fields of the status."""
    lists = (snapshot.servers, snapshot.proxies, snapshot.entries, snapshot.endpoints)
    kept = cut(lists, MAX_NAMES)
    listed = f"Successfully listed {_counted(lists)} in namespace"
    verdicts = [Verdict(Type.READY, True, Reason.GROUP_READY, "Members can join")]
    verdicts.append(Verdict(Type.MEMBERS_CHECKED, True, Reason.LIST_SUCCEEDED, listed))
    total, shown = sum(map(len, lists)), sum(map(len, kept))
    drop = []
    if shown < total:
        message = f"{shown} of {total} members are listed: more names do not fit into the status"
        verdicts.append(Verdict(Type.STATUS_TRUNCATED, True, Reason.TOO_MANY_MEMBERS, message))
    else:
        drop.append(Type.STATUS_TRUNCATED)
    conditions = fold(snapshot.previous, verdicts, drop=drop, generation=snapshot.generation, now=snapshot.now)
    return {
        "observedGeneration": snapshot.generation,
        "phase": str(Phase.READY),
        "memberCount": total,
        "servedCount": snapshot.served,
        "servers": list(kept[0]) or None,
        "serverCount": len(lists[0]),
        "remoteProxies": list(kept[1]) or None,
        "remoteProxyCount": len(lists[1]),
        "entries": list(kept[2]) or None,
        "entryCount": len(lists[2]),
        "remoteEndpoints": list(kept[3]) or None,
        "remoteEndpointCount": len(lists[3]),
        "conditions": conditions_json(conditions),
    }


def _counted(lists: tuple[tuple[str, ...], ...]) -> str:
    *first, last = (f"{len(names)} {kind}" for names, kind in zip(lists, KINDS, strict=True))
    return f"{', '.join(first)}, and {last}"


def cut(lists: tuple[tuple[str, ...], ...], limit: int) -> tuple[tuple[str, ...], ...]:
    """Shorten the lists, each by the same share, until their names take at most `limit` bytes of JSON."""
    sizes = [sum(len(name) + 3 for name in names) for names in lists]  # quotes and comma; names are ASCII
    total = sum(sizes)
    if total <= limit:
        return lists
    return tuple(_fit(names, limit * size // total) for names, size in zip(lists, sizes, strict=True))


def _fit(names: tuple[str, ...], budget: int) -> tuple[str, ...]:
    for count, name in enumerate(names):
        budget -= len(name) + 3
        if budget < 0:
            return names[:count]
    return names


@dataclass(frozen=True, slots=True)
class Pending:
    """A status that is not written yet.

    Attributes:
        wanted: what it will say.
        first: when something first changed, in seconds.
        last: when something last changed.
        looked: when the members were last looked at.
    """

    wanted: Mapping[str, Any]
    first: float
    last: float
    looked: float


def coalesce(pending: Pending | None, wanted: Mapping[str, Any], now: float) -> Pending:
    """Take note of what the status shall say now."""
    if pending is None:
        return Pending(wanted, now, now, now)
    quiet = _members(pending.wanted) == _members(wanted)
    return Pending(wanted, pending.first, pending.last if quiet else now, now)


def look_in(pending: Pending | None, now: float) -> float:
    """Return the seconds until the members must be looked at again; 0 or less: now.

    Looking costs time in proportion to the members. A burst of thousands wakes the group thousands of times; looking
    each time would make its cost quadratic.
    """
    return 0.0 if pending is None else pending.looked + QUIET - now


def may_fill(pending: Pending, now: float) -> bool:
    """Whether the status may still wait for members that have no verdict yet."""
    return now < pending.first + LATEST_FILLING


def changed(pending: Pending, now: float) -> Pending:
    """Take note of a change that was not looked at: members came that have no verdict yet."""
    return replace(pending, last=now, looked=now)


def due_in(pending: Pending, now: float) -> float:
    """Return the seconds until the status must be written; 0 or less: now."""
    return min(pending.last + QUIET, pending.first + LATEST) - now


def _members(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key != "conditions"}
