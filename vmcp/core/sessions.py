"""The sessions towards backends that belong to one client.

Opened on first use and kept, so that a stateful backend keeps its state between calls. A backend that a reload replaced
gets a new session at the next use; one that a reload kept keeps its session.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable

from vmcp.auth.interface import Principal
from vmcp.backend.interface import BackendSession, HeaderList, Provider, SessionSpec
from vmcp.core.links import Links
from vmcp.core.own_lists import OwnLists
from vmcp.tasks import Background

LINGER = 60.0
"""Seconds that a session with a replaced backend lives on for calls that are under way."""


SHARED_EACH = 256
"""Sets of shared sessions that one principal may have."""


class BackendSessions:
    """One client's sessions, by backend name.

    Attributes:
        spec: On whose behalf they are opened.
        used_at: `time.monotonic()` of the last use.
        busy: Requests that use them now.
        links: What answers to this client handed out.
        own: Lists that backends show to these sessions alone.
    """

    __slots__ = ("_closing", "_open", "busy", "links", "own", "spec", "used_at")

    def __init__(self, spec: SessionSpec) -> None:
        self.spec = spec
        self.busy = 0
        self.links = Links()
        self.own = OwnLists()
        self.used_at = time.monotonic()
        self._open: dict[str, tuple[Provider, BackendSession]] = {}
        self._closing = Background("sessions with backends")

    def get(self, backend: Provider) -> BackendSession:
        """Return the session with `backend`; opens it when there is none. No IO."""
        known = self._open.get(backend.name)
        if known is not None:
            if known[0] is backend:
                return known[1]
            self._retire(known[1])
        session = backend.open(self.spec)
        self._open[backend.name] = (backend, session)
        return session

    def live(self) -> list[tuple[Provider, BackendSession]]:
        """Return what is open now."""
        return list(self._open.values())

    def drop(self, keep: Callable[[Provider], bool]) -> None:
        """End the sessions with backends that are no longer there."""
        for name, (backend, session) in list(self._open.items()):
            if not keep(backend):
                del self._open[name]
                self._retire(session)

    def retire(self, backend: str) -> None:
        """Open another session with a backend at the next use; calls under way end in the one that there is."""
        known = self._open.pop(backend, None)
        if known is not None:
            self._retire(known[1])

    async def close(self, *, leave: bool = False) -> None:
        """End all; with `leave`, not at the backends. Never raises."""
        sessions = [session for _, session in self._open.values()]
        self._open.clear()
        await asyncio.gather(
            *(session.close(leave=leave) for session in sessions), self._closing.close(), return_exceptions=True
        )

    def _retire(self, session: BackendSession) -> None:
        self._closing.spawn(_close_later(session), "one that was replaced")


async def _close_later(session: BackendSession) -> None:
    try:
        await asyncio.sleep(LINGER)
    finally:
        await session.close()


class SharedSessions:
    """Sessions of clients that have none of their own: modern clients, per principal and declared capabilities.

    Two clients share sessions only when they are the same principal, declare the same capabilities and send the same
    passthrough headers. Idle ones end; when there are too many, the least recently used one of the principal with most.
    """

    def __init__(self, *, limit: int = 2048, each: int = SHARED_EACH, idle: float = 600.0) -> None:
        """Take the most sets that are kept, in all and of one principal, and seconds after which an unused one ends."""
        self._limit = limit
        self._each = each
        self._owners: Counter[str] = Counter()
        self._idle = idle
        self._sets: OrderedDict[Hashable, BackendSessions] = OrderedDict()
        self._closing = Background("sessions with backends")

    def find(self, key: Hashable) -> BackendSessions | None:
        """Return the set of this key, if there is one."""
        found = self._sets.get(key)
        if found is not None:
            self._sets.move_to_end(key)
            found.used_at = time.monotonic()
        return found

    def get(self, key: Hashable, make: Callable[[], SessionSpec]) -> BackendSessions:
        """Return the set of this key; `make` says what a new one declares."""
        found = self.find(key)
        if found is None:
            found = self._sets[key] = BackendSessions(make())
            owner = found.spec.principal.key
            self._owners[owner] += 1
            if self._owners[owner] > self._each:
                self._end_idle(owner, key)
            elif len(self._sets) > self._limit:
                self._end_idle(self._owners.most_common(1)[0][0], key)
        return found

    def _end_idle(self, owner: str, newest: Hashable) -> None:
        """End what a principal has not used for longest. Sets in use stay: requests under way bound how many."""
        for key, sessions in self._sets.items():
            if sessions.spec.principal.key == owner and not sessions.busy and key != newest:
                self._end(key)
                return

    def __len__(self) -> int:
        return len(self._sets)

    def all(self) -> list[BackendSessions]:
        """Return every set."""
        return list(self._sets.values())

    def sweep(self, busy: Callable[[BackendSessions], bool]) -> None:
        """End what was not used for a while, except what `busy` says is in use."""
        limit = time.monotonic() - self._idle
        for key, sessions in list(self._sets.items()):
            if sessions.used_at > limit:
                break
            if not busy(sessions):
                self._end(key)

    async def close(self) -> None:
        """End all."""
        for key in list(self._sets):
            self._end(key)
        await self._closing.join()

    def _end(self, key: Hashable) -> None:
        ended = self._sets.pop(key)
        owner = ended.spec.principal.key
        self._owners[owner] -= 1
        if not self._owners[owner]:
            del self._owners[owner]
        self._closing.spawn(ended.close(), "those of a client")


def sharing_key(principal: Principal, capabilities: bytes, headers: HeaderList) -> Hashable:
    """Return what two clients must have in common to share sessions."""
    return (principal.key, capabilities, headers)
