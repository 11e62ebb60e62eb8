"""Events when backends of a gateway go down and come back, drawn from its reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.contract.reports import NAMES_SHOWN, name_some
from controllers.virtualmcpserver.reports import GatewayReport, read_messages
from runtime import Key, Record, Recorder

AGAIN = 120.0
"""Seconds during which a backend that goes down once more is not told of again, nor that it came back."""


@dataclass(slots=True)
class _Known:
    """What was last heard of one gateway's backends.

    Attributes:
        uid: of the gateway's object.
        down: those that are down.
        told: those of which it was told that they are down.
        at: backend -> when that was told last; none older than `AGAIN`.
    """

    uid: str
    down: frozenset[str]
    told: frozenset[str] = frozenset()
    at: dict[str, float] = field(default_factory=dict)


class BackendEvents:
    """Tells of changes, several backends in one event. What was so when it first looked is no change."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float] = time.monotonic) -> None:
        self._recorder, self._clock = recorder, clock
        self._known: dict[Key, _Known] = {}

    def look(self, record: Record, status: Mapping[str, Any], report: GatewayReport) -> None:
        """Look at a report that is up to date, and tell what has changed since the last one.

        A backend of which nothing is known at the moment is as it was.
        """
        known = self._known.get(record.key)
        named = {backend.name for backend in report.backends}
        usable = {backend.name for backend in report.backends if backend.usable}
        if known is None or known.uid != record.meta.uid:
            self._known[record.key] = _Known(record.meta.uid, frozenset(report.down))
            return
        now = self._clock()
        known.at = {name: at for name, at in known.at.items() if now - at < AGAIN}
        # A list that has no room for all leaves out what is ready.
        whole = len(report.backends) == report.total
        gone = (known.down - named) if whole else frozenset()
        back = known.down & (usable if whole else usable | (known.down - named))
        fallen = frozenset(report.down) - known.down
        known.down = (known.down - back - gone) | fallen
        fallen -= known.at.keys()
        if fallen:
            known.at |= dict.fromkeys(fallen, now)
            self._say(record, "Warning", "BackendDown", _down_note(fallen, read_messages(status, fallen)))
        if recovered := back & known.told:
            self._say(record, "Normal", "BackendRecovered", _note(recovered, "came back"))
        known.told = (known.told - back - gone) | fallen

    def forget(self, key: Key) -> None:
        """The gateway is gone."""
        self._known.pop(key, None)

    def _say(self, record: Record, type_: Any, reason: str, note: str) -> None:
        self._recorder.event(record, type=type_, reason=reason, action="CheckBackends", note=note)


def _down_note(names: frozenset[str], messages: Mapping[str, str]) -> str:
    why = [f"{name}: {messages[name]}" for name in sorted(names)[:NAMES_SHOWN] if messages.get(name)]
    return _note(names, "went down") + (f" ({'; '.join(why)})" if why else "")


def _note(names: frozenset[str], what: str) -> str:
    found = sorted(names)
    return f"backend {found[0]} {what}" if len(found) == 1 else f"{len(found)} backends {what}: {name_some(found)}"
