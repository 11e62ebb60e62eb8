"""What a backend shows to one client's session alone: tools that the session enabled, and the like.

The shared lists come from a session of the gateway's own, so what a client's session enables for itself is in none of
them. When such a session says that a list changed, or its client uses a name that nobody knows, the lists are asked for
in that session, and where they differ from the shared ones they are laid over them, for this client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from vmcp.auth.interface import Principal
from vmcp.backend.interface import BackendError, BackendSession, Call, Catalogue, Era, HeaderList, Kind, Provider, Reply
from vmcp.backend.model import Handshake
from vmcp.backend.shelf import Fetched, assemble, differences, fetch_lists
from vmcp.core.offers import Offers
from vmcp.core.views import ListViews
from vmcp.wire.jsonrpc import fields

log = structlog.get_logger(__name__)

AGAIN: Final = 5.0
"""Seconds between two looks at one backend's lists: for names that nobody knows, or after one was not to be had."""
FRESH: Final = 60.0
"""Seconds after which own lists are asked for again: their backend may have told of a change while nobody listened."""
WAIT: Final = 5.0
"""Seconds that a client waits for them."""
MAX_OWN: Final = 256 * 1024
"""Bytes of entries that one backend shows to one client and not to everybody; more of them are not kept."""


class Asker(Protocol):
    """The client whose own lists these are (`Caller`)."""

    @property
    def principal(self) -> Principal:
        """Who asks."""
        ...

    @property
    def headers(self) -> HeaderList:
        """Passthrough headers."""
        ...

    @property
    def sessions(self) -> AskersSessions:
        """Its sessions towards backends."""
        ...


class AskersSessions(Protocol):
    """What is needed of a client's sessions (`BackendSessions`, which own these lists)."""

    def live(self) -> list[tuple[Provider, BackendSession]]:
        """Return what is open now."""
        ...

    def get(self, backend: Provider) -> BackendSession:
        """Return the session with a backend."""
        ...


@dataclass(frozen=True, slots=True)
class _Own:
    """What a session is shown where that is not what everybody is shown.

    Attributes:
        lists: As the session was told.
        base: What everybody was shown when they were asked for. Once that is another, they are too old to hide it.
    """

    lists: Catalogue
    base: Catalogue


class OwnLists:
    """The own lists of one client, by backend.

    A client that was told of a change, and then lists, sees the change. So what it is shown is put together after its
    session was asked, since the shared lists may have moved on meanwhile, and what it was told of stays noted until an
    answer came. A backend that shows nothing without a caller's credentials (`Provider.personal`) is not asked here.
    """

    __slots__ = ("_asked", "_changed", "_failing", "_found", "_lock", "_views")

    def __init__(self) -> None:
        self._changed: frozenset[str] = frozenset()  # an empty one takes nothing: each session has one
        self._failing: dict[str, int] = {}
        self._found: Mapping[str, _Own] = {}  # replaced, never changed: what is made of it is kept beside it
        self._asked: dict[str, float] = {}
        self._views: tuple[ListViews, Mapping[str, _Own], ListViews] | None = None
        self._lock = asyncio.Lock()

    def __bool__(self) -> bool:
        """Whether this client's lists may differ from the shared ones: also while that is being found out."""
        return bool(self._changed or self._found or self._failing or self._lock.locked())

    def changed(self, backend: str) -> None:
        """A session of this client says that a list changed."""
        self._changed |= {backend}

    async def views(self, caller: Asker, offers: Offers, mark: str, *, search: bool = False) -> ListViews:
        """Return the views of this client.

        Args:
            caller: Whose.
            offers: Of the gateway.
            mark: Of the gateway.
            search: Also ask backends that said nothing, because a name is unknown.
        """
        # Whoever waits here for another's search shares what it found, also nothing: a slow backend is waited for once.
        came = time.monotonic() if search else None
        async with self._lock:
            moved = await self._refresh(caller, mark, came)
        if moved and offers.pending:
            # What the session was told of may be what everybody is shown in a moment: the client asks because it heard.
            offers.rebuild()
        shared = offers.views_now() or await offers.views_for(caller.principal, caller.headers)
        found = self._found
        if not found:
            return shared
        if self._views is None or self._views[0] is not shared or self._views[1] is not found:
            personal = await offers.personal_lists(caller.principal, caller.headers)
            own = {name: one.lists for name, one in found.items()}
            self._views = (shared, found, offers.views_with({**personal, **own}))
        return self._views[2]

    async def _refresh(self, caller: Asker, mark: str, came: float | None) -> bool:
        """Ask for the lists that are due; say whether any was, or follows the shared ones from now on.

        Args:
            caller: Whose.
            mark: Of the gateway.
            came: When somebody began to look for an unknown name; None = nobody does.
        """
        live = {backend.name: backend for backend, _ in caller.sessions.live()}
        forgotten = self._forget(live)
        now = time.monotonic()
        due = (self._changed | self._outdated(live, now)) & live.keys()
        if came is not None:
            due |= {name for name in live if came - self._asked.get(name, -FRESH) >= _pause(self._failing.get(name, 1))}
        moved = forgotten or bool(self._changed or due)
        self._changed = frozenset()
        try:
            await asyncio.gather(*(self._ask(caller, live[name], mark) for name in due))
        except BaseException:
            self._changed |= due  # the client gave up: what it was told of is still to be shown
            raise
        return moved

    def _forget(self, live: Mapping[str, Provider]) -> bool:
        """Drop what belongs to no session any more, or is shown to everybody by now; say whether anything was shown."""
        for name in self._failing.keys() - live.keys():
            del self._failing[name]
        kept = {
            name: own
            for name, own in self._found.items()
            if name in live and differences(live[name].catalogue, own.lists)
        }
        if len(kept) == len(self._found):
            return False
        self._found = kept
        return True

    def _outdated(self, live: Mapping[str, Provider], now: float) -> set[str]:
        """Return the backends whose own lists are old, hide a change of the shared ones, or could not be fetched."""
        due = {name for name, times in self._failing.items() if now - self._asked[name] >= _pause(times)}
        for name, own in self._found.items():
            if now - self._asked[name] > FRESH or differences(own.base, live[name].catalogue):
                due.add(name)
        return due

    async def _ask(self, caller: Asker, backend: Provider, mark: str) -> None:
        before = backend.catalogue
        self._asked[backend.name] = time.monotonic()
        if not backend.state.has_sessions or not before.known:
            return
        session = caller.sessions.get(backend)

        async def ask(method: str, params: bytes) -> Reply:
            return await session.call(
                Call(method=method, params=params, principal=caller.principal, headers=caller.headers, timeout=WAIT)
            )

        handshake = Handshake(
            before.version, frozenset(fields(before.capabilities)), before.capabilities, before.server_info
        )
        fetched = await fetch_lists(backend.name, handshake, ask, before=before, own=mark)
        self._take(backend, before, fetched, handshake)

    def _take(self, backend: Provider, before: Catalogue, fetched: Fetched, handshake: Handshake) -> None:
        """Keep what differs from what everybody is shown now. A list that could not be fetched costs no other."""
        name, shared = backend.name, backend.catalogue
        failures = {kind: found for kind, found in fetched.items() if isinstance(found, BackendError)}
        for kind, failure in failures.items():
            log.debug(
                "a session's own list could not be fetched", backend=name, list=kind.value, category=failure.category
            )
        if failures.keys() - backend.state.failing.keys():
            self._failing[name] = self._failing.get(name, 0) + 1
        else:  # where nobody can have the list, everybody is told when it comes
            self._failing.pop(name, None)
        if failures and backend.personal:
            return  # the shared list cannot stand in for one that each caller has of its own
        known = self._found.get(name)
        kept = known is not None and not differences(known.base, shared)
        found = assemble(known.lists if known is not None and kept else shared, fetched, Era.LEGACY, handshake)
        others = {other: own for other, own in self._found.items() if other != name}
        if _extra(shared, found) > MAX_OWN:
            log.info("a session's own lists are too large", backend=name)
            self._found = others
        elif differences(shared, found):
            self._found = {**others, name: _Own(found, before)}
        else:
            self._found = others


def _pause(times: int) -> float:
    """Return seconds until lists that could not be fetched so many times in a row are asked for again."""
    return min(AGAIN * 2.0 ** min(times - 1, 10), FRESH)


def _extra(shared: Catalogue, found: Catalogue) -> int:
    """Return the bytes of what is not in the shared lists."""
    return sum(len(item.raw) for kind in Kind for item in set(found.items(kind)).difference(shared.items(kind)))
