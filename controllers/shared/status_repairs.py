"""Repairs of a status with a rate: the same rule as for generated objects (`contests`).

A status that somebody edited is written again at once. Against somebody who puts their own status back each time (a
second operator, of another version perhaps; a script with `kubectl patch --subresource=status`) that would never end:
both write as fast as they can, and every write wakes whoever watches the object. So the repairs become rare, and an
event names who writes there. No condition does: it would be lost with the rest of the status.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog

from controllers.shared.contests import Contest, Contests, contender
from controllers.shared.ownership import FIELD_MANAGER
from runtime import ApiError, Key, Manager, NotFoundError, Record, Recorder, Resource, TransportError

log = structlog.get_logger("controller")

REASON = "Contested"
"""Of events: the word of the condition that says it of generated objects."""
TELL_EVERY = 3600.0
"""Seconds between two events about one field manager in one namespace: it may contend for a thousand objects."""


class StatusRepairs:
    """The repairs of the statuses of one kind.

    Args:
        manager: for the connection, and for asking who writes.
        kind: whose statuses.
        recorder: says who contends.
        clock: seconds, monotonic.
    """

    def __init__(
        self, manager: Manager, kind: Resource, recorder: Recorder, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport, self._recorder, self._kind, self._clock = manager.transport, recorder, kind, clock
        self._contests = Contests(clock)
        self._said: dict[Key, tuple[str, int]] = {}
        self._waiting: dict[Key, float] = {}
        self._told: dict[tuple[str, str], float] = {}

    async def may_write(self, record: Record, wanted: Mapping[str, Any]) -> bool:
        """Whether a status that differs from the stored one may be written now; if not, `due_in` says when."""
        self._waiting.pop(record.key, None)
        if not self._again(record, wanted):
            return True
        place = (self._kind, record.key)
        if self._contests.unnamed(place):
            await self._blame(record, wanted)
        contest = self._contests.of(place)
        if contest is None or contest.repair:
            return True
        self._tell(record, contest)
        self._waiting[record.key] = self._clock() + contest.due
        return False

    def wrote(self, record: Record, wanted: Mapping[str, Any]) -> None:
        """Note what was written."""
        if self._again(record, wanted):
            self._contests.repaired((self._kind, record.key))
        self._said[record.key] = record.meta.uid, _view(wanted)

    def due_in(self, key: Key) -> float | None:
        """Seconds until an object must be looked at again because a repair of its status waits."""
        due = self._waiting.get(key)
        return max(due - self._clock(), 0.05) if due is not None else None

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._said.pop(key, None)
        self._waiting.pop(key, None)
        self._contests.forget((self._kind, key))

    def _again(self, record: Record, wanted: Mapping[str, Any]) -> bool:
        """Whether this is what was written last, so that somebody else must have changed it since."""
        uid, said = self._said.get(record.key, ("", 0))
        return uid == record.meta.uid and said == _view(wanted)

    async def _blame(self, record: Record, wanted: Mapping[str, Any]) -> None:
        manager, path = "", ""
        try:
            answer = await self._transport.request("GET", self._kind.object_path(record.key))
        except NotFoundError:
            return
        except (ApiError, TransportError) as error:
            log.debug("cannot determine who changes a status", error=str(error))
        else:
            managed = orjson.loads(answer.body)["metadata"].get("managedFields") or []
            manager, path = contender(managed, {"status": wanted}, FIELD_MANAGER, subresource="status")
            if not manager and _wrote_last(managed) == FIELD_MANAGER:
                manager = FIELD_MANAGER
        self._contests.blame((self._kind, record.key), manager, path)

    def _tell(self, record: Record, contest: Contest) -> None:
        said, now = (record.meta.namespace, contest.manager), self._clock()
        if now - self._told.get(said, -TELL_EVERY) < TELL_EVERY:
            return
        self._told[said] = now
        note = sentence(contest)
        log.warning("a status is contested", kind=self._kind.kind, object=str(record.key), note=note)
        self._recorder.event(record, type="Warning", reason=REASON, action="WriteStatus", note=note)


def sentence(contest: Contest) -> str:
    """Say who contends for a status, for users."""
    if contest.manager == FIELD_MANAGER:
        who = f'somebody who writes as this operator does (field manager "{FIELD_MANAGER}"; a second one?)'
    else:
        who = f'the field manager "{contest.manager}"' if contest.manager else "something else"
    what = contest.path or "the status"
    return (
        f"{who} keeps changing {what} of {contest.resource.kind} {contest.key.name}, and perhaps of others in this "
        "namespace; the status is repaired less and less often until that stops"
    )


def _wrote_last(managed: list[Mapping[str, Any]]) -> str:
    statuses = [entry for entry in managed if entry.get("subresource") == "status"]
    return str(max(statuses, key=lambda entry: str(entry.get("time") or ""), default={}).get("manager") or "")


def _view(wanted: Mapping[str, Any]) -> int:
    """Return a hash, good for this process, of what a status says, without the times at which conditions changed."""
    shown = {name: value for name, value in wanted.items() if value is not None}
    if conditions := shown.get("conditions"):
        shown["conditions"] = [item | {"lastTransitionTime": ""} for item in conditions]
    return hash(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS))
