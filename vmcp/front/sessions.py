"""The legacy sessions of this process: opened, found, bounded, ended.

The id is sealed: it cannot be guessed or made, and what it says is compared with who uses it. A session ends after a
while without requests, after a day at the latest, or when there are too many.

A request of a session whose life is here finds it without waiting (`here`). Only for another one the store is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
import structlog

from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.backend.interface import HeaderList
from vmcp.core.gateway import Gateway
from vmcp.core.seal import Purpose, SealError
from vmcp.front.session import ClientSession
from vmcp.front.settings import FrontSettings
from vmcp.sessions.record import SessionRecord
from vmcp.sessions.store import Note, NoteKind, ProcessStore, SessionStore, StoreUnavailable
from vmcp.tasks import Background
from vmcp.wire.jsonrpc import loads_id, parse

log = structlog.get_logger(__name__)

TOUCH_EVERY: Final = 30.0
"""Seconds after which the store is told again that a session is in use, at the latest."""
MAX_ENDED: Final = 4096
"""Sessions that are remembered as ended: a record of one may be on its way here, or be put into another store."""
MAX_WORK: Final = 1024
"""Tasks for records and notes at the same time, beyond which notes are lost."""
MAX_UNTOLD: Final = 16 * 1024 * 1024
"""Bytes that notes hold while they wait for the store, beyond which more are lost: clients have got their 202 by then,
so nothing else bounds what they send."""

Elsewhere = Callable[[ClientSession, bytes], None]
Refresh = Callable[[ClientSession], Awaitable[None]]


class _Id(msgspec.Struct, array_like=True):
    owner: str
    nonce: str


_id_decoder = msgspec.json.Decoder(_Id)


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
    """The sessions whose life is in this process. Implements `vmcp.sessions.store.StoreListener`.

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
        self.store: SessionStore = ProcessStore() if store is None else store
        self.store.listener = self
        self._touch_every = min(TOUCH_EVERY, settings.session_ttl / 4)
        self._sessions: dict[str, ClientSession] = {}
        self._owners: dict[str, _Owned] = {}
        self._ended: OrderedDict[str, float] = OrderedDict()
        self._to_end: dict[str, float] = {}
        self._untold = 0
        self._closing = Background("sessions of clients")
        self._work = Background("records of sessions")

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def shared(self) -> bool:
        """Whether other processes may go on with the sessions."""
        return self.store.shared

    @property
    def trouble(self) -> str:
        """Why sessions of other processes cannot be found at the moment, in one word; "" = they can."""
        return self.store.trouble

    def all(self) -> list[ClientSession]:
        """Return every session whose life is here."""
        return list(self._sessions.values())

    def start(self) -> None:
        """Begin to hear of other processes."""
        self.store.start()

    async def switch(self, store: SessionStore) -> None:
        """Keep records in another store from now on; sessions that are here go on, and get there once it answers."""
        old, self.store = self.store, store
        old.listener = None
        store.listener = self
        for session in self.all():
            session.share(*self._sharing())
        if store.shared:
            self._to_end = dict(self._ended)
        store.start()
        await old.close()

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
        store = self.store
        await store.open(record)
        return self._begin(record, principal, headers, store)

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
        if found is not None:
            return found
        idle = self._sessions.get(session_id)
        if idle is not None:
            if not self.store.shared or idle.record.owner != principal.key:
                return None
            await self._retire_unless_used(idle)
        store = self.store
        record = await store.find(session_id, principal.key)
        if record is None or session_id in self._ended:
            return None
        if session_id not in self._sessions:  # another request of it may have been first
            self._make_room(principal)
            self._begin(record, principal, headers, store, renewing=bool(record.subscriptions))
        return self.here(session_id, principal)

    async def save(self, session: ClientSession) -> None:
        """Keep what changed of a record. That it could not be kept fails no request: it is tried again later."""
        try:
            await self._save(session)
        except StoreUnavailable as err:
            log.info("a changed session could not be stored yet", reason=str(err))

    async def _save(self, session: ClientSession) -> None:
        async with session.saving:
            changes, session.unsaved = session.unsaved, []
            if not changes:
                return
            try:
                await self._put(session)
                kept = await self.store.save(session.record, changes)
            except BaseException:
                session.unsaved = [*changes, *session.unsaved]
                raise
            if kept is None:
                self._drop(session)
            else:
                session.replace(kept)

    async def end(self, session: ClientSession) -> None:
        """End a session, wherever it may be served; its life ends in the background.

        Raises:
            StoreUnavailable: It may go on.
        """
        record = session.record
        await self.store.end(record.id, record.owner, record.expires_at)
        self._note_end(record.id, record.expires_at)
        self._drop(session)

    def pass_on(self, session: ClientSession, kind: NoteKind, body: bytes) -> None:
        """Give other processes what may be meant for what they serve of a session; lost where that is not possible."""
        if self.store.shared and len(self._work) < MAX_WORK and self._untold + len(body) <= MAX_UNTOLD:
            self._untold += len(body)
            self._work.spawn(self._tell(Note(kind=kind, session=session.id, body=body)), "note")

    def spawn(self, session: ClientSession, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do something for a session in the background, until it ends."""
        task = self._work.spawn(work, name)
        session.inflight[task] = task
        task.add_done_callback(session.inflight.pop)

    def sweep(self) -> None:
        """End what expired, and tell the store what is in use and what changed."""
        now = time.monotonic()
        used: list[ClientSession] = []
        for session in self.all():
            if now > session.ends_at:
                self._drop(session)
            elif self._expired(session):
                self._retire(session)
            elif self.store.shared:
                if session.unsaved and not self.store.trouble and not session.saving.locked():
                    self._work.spawn(self.save(session), "record")
                in_use = session.active or session.used_at > session.touched_at
                if in_use and now - session.touched_at > self._touch_every:
                    used.append(session)
        if used:
            self._touch(used)

    async def close(self) -> None:
        """Give up all: where other processes may go on with them, they are left to those, else they end."""
        if self.store.shared:
            await asyncio.gather(*(self.save(session) for session in self.all() if session.unsaved))
        await self._work.close()
        for session in self.all():
            self._drop(session, leave=self.store.shared)
        await self._closing.join()
        await self.store.close()

    # --- what other processes tell ---

    def heard(self, note: Note) -> None:
        """See `Listener`."""
        if note.kind is NoteKind.ENDED:
            self._note_end(note.session, time.time() + self._settings.session_life)
        session = self._sessions.get(note.session)
        if session is None:
            return
        match note.kind:
            case NoteKind.ENDED:
                self._touch([session])  # a note alone ends nothing
            case NoteKind.CHANGED:
                if note.revision > session.record.revision:
                    self._work.spawn(self._reload(session), "record")
            case NoteKind.ANSWER:
                session.answered(parse(note.body))
            case NoteKind.CANCELLED:
                request_id = loads_id(note.body)
                task = None if request_id is None else session.inflight.get(request_id)
                if task is not None:
                    task.cancel()
            case NoteKind.NEWS:
                if session.streams.own.attached:
                    session.streams.own.emit(note.body)

    def missed(self) -> None:
        """See `Listener`."""
        if self._to_end:
            self._work.spawn(self._end_again(), "ended sessions")
        self._touch(self.all())

    def _note_end(self, session_id: str, until: float) -> None:
        self._ended[session_id] = until
        if len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)

    async def _end_again(self) -> None:
        """End in a new store what ended while there was another one: a replica may have put it there before."""
        while self._to_end:
            session_id, until = self._to_end.popitem()
            try:
                owner = _id_decoder.decode(self._gateway.sealer.open(Purpose.SESSION, session_id)).owner
                if until > time.time():
                    await self.store.end(session_id, owner, until)
            except (SealError, msgspec.DecodeError):
                continue  # of a process with another secret: nobody else can go on with it
            except StoreUnavailable:
                self._to_end[session_id] = until
                return  # once it answers again, this is done again

    async def _tell(self, note: Note) -> None:
        try:
            with contextlib.suppress(StoreUnavailable):
                await self.store.tell(note)
        finally:
            self._untold -= len(note.body)

    def _elsewhere(self, session: ClientSession, message: bytes) -> None:
        self.pass_on(session, NoteKind.NEWS, message)

    def _sharing(self) -> tuple[Elsewhere, Refresh] | tuple[None, None]:
        """Return what a session needs that other processes may go on with."""
        return (self._elsewhere, self._reload) if self.store.shared else (None, None)

    def _touch(self, sessions: list[ClientSession]) -> None:
        now = time.monotonic()
        for session in sessions:
            session.touched_at = now
        self._work.spawn(self._look(sessions), "touch")

    async def _look(self, sessions: list[ClientSession]) -> None:
        """Tell the store that sessions are in use, and take what it knows better."""
        try:
            for session in sessions:
                await self._put(session)
            kept = await self.store.touch([session.record for session in sessions])
        except StoreUnavailable:
            return  # once it answers again, everything is looked at
        for session, revision in zip(sessions, kept, strict=True):
            if revision is None:
                self._drop(session)
            elif revision > session.record.revision:
                await self._reload(session)

    async def _put(self, session: ClientSession) -> None:
        """Let the store know of a session that it does not have yet, because it took the place of another store."""
        store = self.store
        if session.stored_in is not store and session.id not in self._ended:
            await store.open(session.record)
            session.stored_in = store

    async def _reload(self, session: ClientSession) -> None:
        try:
            await self._put(session)
            record = await self.store.find(session.id, session.record.owner)
        except StoreUnavailable:
            return
        if record is None:
            self._drop(session)
        elif record.revision > session.record.revision:
            session.replace(record)

    def _retire(self, session: ClientSession) -> None:
        """Let go of a session that was idle here for too long; it ends unless it is in use elsewhere."""
        if not self.store.shared:
            self._drop(session)
        elif not session.retiring:
            session.retiring = True
            self._work.spawn(self._retire_unless_used(session), "idle session")

    async def _retire_unless_used(self, session: ClientSession) -> None:
        try:
            ended = await self.store.retire(session.record, time.monotonic() - session.touched_at)
        except StoreUnavailable:
            ended = False  # the store ends it by itself
        self._drop(session, leave=not ended)

    # --- lives ---

    def _begin(
        self,
        record: SessionRecord,
        principal: Principal,
        headers: HeaderList,
        store: SessionStore,
        *,
        renewing: bool = False,
    ) -> ClientSession:
        """Begin the life of a session in this process."""
        elsewhere, refresh = self._sharing()
        session = ClientSession(
            record=record,
            principal=principal,
            headers=headers,
            ask_timeout=self._settings.ask_timeout,
            ends_at=time.monotonic() + record.expires_at - time.time(),
            may_read=self._gateway.may_read,
            tells=self._gateway.tells,
            announces=self._gateway.announces,
            elsewhere=elsewhere,
            refresh=refresh,
            stored_in=store,
            renewing=renewing,
        )
        self._sessions[session.id] = session
        self._owners.setdefault(record.owner, _Owned()).fresh[session.id] = session
        self._gateway.offers.watch(session.watcher)
        return session

    def _drop(self, session: ClientSession, *, leave: bool = False) -> None:
        """End the life of a session, in the background; with `leave`, the session goes on elsewhere."""
        if self._sessions.pop(session.id, None) is None:
            return
        owned = self._owners[session.record.owner]
        owned.fresh.pop(session.id, None)
        owned.used.pop(session.id, None)
        if not owned:
            del self._owners[session.record.owner]
        self._gateway.offers.unwatch(session.watcher)
        self._closing.spawn(session.close(leave=leave), "one that ended")

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
                self._drop(session, leave=self.store.shared)
                return
        for session in owned.used.values():
            if session.used_at > recent:
                break
            if not session.active:
                self._drop(session, leave=self.store.shared)
                return
        raise TooManySessions

    def _expired(self, session: ClientSession) -> bool:
        now = time.monotonic()
        idle = now - session.used_at > self._settings.session_ttl and not session.active
        return idle or now > session.ends_at
