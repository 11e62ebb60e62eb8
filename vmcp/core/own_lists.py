"""What a backend shows to one client's session alone: tools that the session enabled, and the like.

The shared lists come from a session of the gateway's own, so what a client's session enables for itself is in none of
them. When such a session says that a list changed, or its client uses a name that nobody knows, the lists are asked for
in that session, and where they differ from the shared ones they are laid over them, for this client.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

import structlog

from vmcp.auth.interface import Principal
from vmcp.backend.interface import BackendError, BackendSession, Call, Catalogue, Era, HeaderList, Kind, Provider, Reply
from vmcp.backend.model import Handshake
from vmcp.backend.shelf import differences, fetch_catalogue
from vmcp.core.offers import Offers
from vmcp.core.views import Views
from vmcp.wire.jsonrpc import fields

log = structlog.get_logger(__name__)

AGAIN: Final = 5.0
"""Seconds between two looks at one backend's lists for names that nobody knows."""
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


class OwnLists:
    """The own lists of one client, by backend."""

    __slots__ = ("_asked", "_changed", "_found", "_lock", "_views")

    def __init__(self) -> None:
        self._changed: set[str] = set()
        self._found: dict[str, Catalogue] = {}
        self._asked: dict[str, float] = {}
        self._views: tuple[Views, Views] | None = None
        self._lock = asyncio.Lock()

    def __bool__(self) -> bool:
        """Whether this client's lists may differ from the shared ones."""
        return bool(self._changed or self._found)

    def changed(self, backend: str) -> None:
        """A session of this client says that a list changed."""
        self._changed.add(backend)

    async def views(self, caller: Asker, offers: Offers, shared: Views, mark: str, *, search: bool = False) -> Views:
        """Return the views of this client.

        Args:
            caller: Whose.
            offers: Of the gateway.
            shared: What everybody sees.
            mark: Of the gateway.
            search: Also ask backends that said nothing, because a name is unknown.
        """
        async with self._lock:
            asked = await self._refresh(caller, mark, search=search)
        if asked and offers.pending:
            # What the session was told of may be what everybody is shown in a moment: the client asks because it heard.
            offers.rebuild()
            shared = await offers.views_for(caller.principal, caller.headers)
        if not self._found:
            return shared
        if self._views is None or self._views[0] is not shared:
            self._views = (shared, offers.views_with(self._found))
        return self._views[1]

    async def _refresh(self, caller: Asker, mark: str, *, search: bool) -> bool:
        """Ask for the lists that are due; say whether any was."""
        live = {backend.name: backend for backend, _ in caller.sessions.live()}
        now = time.monotonic()
        due = {name for name in self._found if now - self._asked[name] > FRESH} | self._changed
        if search:
            due |= {name for name in live if now - self._asked.get(name, -AGAIN) >= AGAIN}
        if due:
            self._views = None
        self._changed -= due
        await asyncio.gather(*(self._ask(caller, live[name], mark) for name in due & live.keys()))
        for name in self._found.keys() - live.keys():
            del self._found[name]
        return bool(due)

    async def _ask(self, caller: Asker, backend: Provider, mark: str) -> None:
        shared = backend.catalogue
        self._asked[backend.name] = time.monotonic()
        if not backend.state.has_sessions or not shared.known:
            return
        session = caller.sessions.get(backend)

        async def ask(method: str, params: bytes) -> Reply:
            return await session.call(
                Call(method=method, params=params, principal=caller.principal, headers=caller.headers, timeout=WAIT)
            )

        handshake = Handshake(
            shared.version, frozenset(fields(shared.capabilities)), shared.capabilities, shared.server_info
        )
        try:
            found, failure = await fetch_catalogue(backend.name, Era.LEGACY, handshake, ask, before=shared, own=mark)
        except BackendError as err:
            failure = err
        if failure is not None:
            log.debug("a session's own lists could not be fetched", backend=backend.name, category=failure.category)
            return
        if _extra(shared, found) > MAX_OWN:
            log.info("a session's own lists are too large", backend=backend.name)
            self._found.pop(backend.name, None)
        elif differences(shared, found):
            self._found[backend.name] = found
        else:
            self._found.pop(backend.name, None)


def _extra(shared: Catalogue, found: Catalogue) -> int:
    """Return the bytes of what is not in the shared lists."""
    return sum(len(item.raw) for kind in Kind for item in set(found.items(kind)).difference(shared.items(kind)))
