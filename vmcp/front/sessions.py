"""The legacy sessions of this process: opened, found, bounded, ended.

The id is sealed: it cannot be guessed or made, and what it says is compared with who uses it. A session ends after a
while without requests, after a day at the latest, or when there are too many.

A request of a session whose life is here finds it without waiting (`here`). Only for another one the store is asked.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict

import msgspec

from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.backend.interface import HeaderList
from vmcp.core.gateway import Gateway
from vmcp.core.seal import Purpose
from vmcp.front.session import ClientSession
from vmcp.front.settings import FrontSettings
from vmcp.sessions.record import SessionRecord
from vmcp.sessions.store import ProcessStore, SessionStore
from vmcp.tasks import Background


class _Id(msgspec.Struct, array_like=True):
    owner: str
    nonce: str


class TooManySessions(Exception):  # noqa: N818  it is an answer, not a bug
    """No session can be opened now without ending one that is in use."""


class _Owned:
    """The sessions of one caller.

    Attributes:
        fresh: Not used since they were opened, oldest first: most of these are nobody's any more.
        used: In the order of their last use.
    """

    __slots__ = ("fresh", "used")

    def __init__(self) -> None:
        self.fresh: OrderedDict[str, ClientSession] = OrderedDict()
        self.used: OrderedDict[str, ClientSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self.fresh) + len(self.used)


class Sessions:
    """The sessions whose life is in this process.

    When there are too many, one of the caller that has most of them goes: first those that were never used, then the
    one that was idle longest, but none that was in use just now. So nobody ends the sessions of others.
    """

    def __init__(self, gateway: Gateway, settings: FrontSettings, store: SessionStore | None = None) -> None:
        """Begin without any.

        Args:
            gateway: Tells sessions when lists change, judges what they may hear of, and seals their ids.
            settings: The bounds.
            store: Keeps records; None = a session lives and dies with this process.
        """
        self._gateway = gateway
        self._settings = settings
        self._store: SessionStore = ProcessStore() if store is None else store
        self._sessions: dict[str, ClientSession] = {}
        self._owners: dict[str, _Owned] = {}
        self._closing = Background("sessions of clients")

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[ClientSession]:
        """Return every session whose life is here."""
        return list(self._sessions.values())

    async def open(
        self, principal: Principal, version: str, capabilities: bytes, info: bytes | None, headers: HeaderList
    ) -> ClientSession:
        """Open a session.

        Raises:
            TooManySessions: All that could go for it are in use.
            StoreUnavailable: It could not be kept, so there is none.
        """
        self._make_room(principal)
        content = msgspec.json.encode(_Id(principal.key, secrets.token_urlsafe(12)))
        record = SessionRecord(
            id=self._gateway.sealer.seal(Purpose.SESSION, content),
            owner=principal.key,
            version=version,
            capabilities=capabilities,
            info=info,
            expires_at=time.time() + self._settings.session_life,
        )
        await self._store.open(record)
        return self._begin(record, principal, headers)

    def here(self, session_id: str, principal: Principal) -> ClientSession | None:
        """Return the session of this id if its life is here and it is this principal's. No IO.

        None says nothing about why; `find` knows more.
        """
        session = self._sessions.get(session_id)
        if session is None or session.record.owner != principal.key or self._expired(session):
            return None
        session.used_at = time.monotonic()
        session.renew(principal)
        owned = self._owners[principal.key]
        if owned.fresh.pop(session_id, None) is not None:
            owned.used[session_id] = session
        else:
            owned.used.move_to_end(session_id)
        return session

    async def find(self, session_id: str, principal: Principal, headers: HeaderList) -> ClientSession | None:
        """Return the session of this id if it is this principal's, wherever it was served until now.

        Args:
            session_id: As the client sent it.
            principal: Who asks.
            headers: As for `open`, where its life has to begin here.

        Raises:
            TooManySessions: It would have to be served here, and all that could go for it are in use.
            StoreUnavailable: Whether there is such a session cannot be known now.
        """
        found = self.here(session_id, principal)
        if found is not None or session_id in self._sessions:
            return found
        record = await self._store.find(session_id, principal.key)
        if record is None:
            return None
        if session_id not in self._sessions:  # another request of it may have been first
            self._make_room(principal)
            self._begin(record, principal, headers)
        return self.here(session_id, principal)

    async def save(self, session: ClientSession) -> None:
        """Keep a record that changed.

        Raises:
            StoreUnavailable: It is not known to be kept.
        """
        await self._store.save(session.record)

    async def end(self, session: ClientSession) -> None:
        """End a session, wherever it may be served; its life ends in the background.

        Raises:
            StoreUnavailable: It may go on.
        """
        await self._store.end(session.record)
        self._drop(session)

    def sweep(self) -> None:
        """End what expired."""
        for session in self.all():
            if self._expired(session):
                self._drop(session)

    async def close(self) -> None:
        """End all."""
        for session in self.all():
            self._drop(session)
        await self._closing.join()

    def _begin(self, record: SessionRecord, principal: Principal, headers: HeaderList) -> ClientSession:
        """Begin the life of a session in this process."""
        session = ClientSession(
            record=record,
            principal=principal,
            headers=headers,
            ask_timeout=self._settings.ask_timeout,
            ends_at=time.monotonic() + record.expires_at - time.time(),
            may_read=self._gateway.may_read,
            tells=self._gateway.tells,
            announces=self._gateway.announces,
        )
        self._sessions[session.id] = session
        self._owners.setdefault(record.owner, _Owned()).fresh[session.id] = session
        self._gateway.offers.watch(session.watcher)
        return session

    def _drop(self, session: ClientSession) -> None:
        """End the life of a session, in the background."""
        if self._sessions.pop(session.id, None) is None:
            return
        owned = self._owners[session.record.owner]
        owned.fresh.pop(session.id, None)
        owned.used.pop(session.id, None)
        if not owned:
            del self._owners[session.record.owner]
        self._gateway.offers.unwatch(session.watcher)
        self._closing.spawn(session.close(), "one that ended")

    def _make_room(self, principal: Principal) -> None:
        settings = self._settings
        own = self._owners.get(principal.key)
        if own is not None and len(own) >= settings.max_sessions_each and principal is not ANONYMOUS:
            self._spare_one(own)
        elif len(self._sessions) >= settings.max_sessions:
            average = len(self._sessions) / len(self._owners)
            self._spare_one(own if own and len(own) >= average else max(self._owners.values(), key=len))

    def _spare_one(self, owned: _Owned) -> None:
        recent = time.monotonic() - self._settings.spare_seconds
        for session in owned.fresh.values():
            if not session.active:
                self._drop(session)
                return
        for session in owned.used.values():
            if session.used_at > recent:
                break
            if not session.active:
                self._drop(session)
                return
        raise TooManySessions

    def _expired(self, session: ClientSession) -> bool:
        now = time.monotonic()
        idle = now - session.used_at > self._settings.session_ttl and not session.active
        return idle or now > session.ends_at
