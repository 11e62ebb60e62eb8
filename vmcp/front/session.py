"""The life of a legacy session in this process: streams, questions, tasks, and sessions with backends.

What the session is (`vmcp.sessions.record`) can be kept elsewhere and outlive the process; this cannot.

What backends say outside of calls is judged when it is said, by the policy and the caller's claims of that moment.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import UNSET

from vmcp.auth.interface import Principal
from vmcp.backend.interface import LIST_KINDS, BackendLink, Era, HeaderList, Kind, RpcFault, SessionSpec
from vmcp.core.bridging import CAPABILITY
from vmcp.core.offers import Watcher
from vmcp.core.sessions import BackendSessions
from vmcp.core.url_elicitation import legacy_params
from vmcp.front.streams import Streams
from vmcp.sessions.record import Change, SessionRecord
from vmcp.sessions.store import SessionStore
from vmcp.wire.jsonrpc import Message, RpcError, fields, loads_str, notification, request
from vmcp.wire.levels import reaches
from vmcp.wire.protocol import (
    ELICITATION_COMPLETE,
    INTERNAL_ERROR,
    MESSAGE,
    METHOD_NOT_FOUND,
    PROGRESS,
    RESOURCE_UPDATED,
)

_CHANGES = frozenset(spec.changed for spec in LIST_KINDS.values())
_ALL_KINDS = frozenset(Kind)  # one for all sessions
_FORWARDED = frozenset({RESOURCE_UPDATED, PROGRESS, ELICITATION_COMPLETE})
MAX_ASKED: Final = 64
"""Questions to one client that may be open at the same time."""


@dataclass(eq=False, kw_only=True)
class ClientSession:
    """One session of a legacy client, as this process serves it.

    Attributes:
        record: What it is; replaced when that changes.
        principal: Who uses it, with the newest claims; always the record's owner.
        headers: Passthrough headers for what its sessions with backends send by themselves.
        ask_timeout: Seconds that the client has to answer a question.
        ends_at: `time.monotonic()` at which the session is over, however much it is used.
        may_read: What policy says of a resource, now.
        tells: Whether a notification that nobody here knows passes, now.
        announces: Whether changes of the gateway's lists are told, now; else those that its backends tell are all.
        backends: Its sessions towards backends.
        streams: Its event streams.
        inflight: What can be cancelled, by request id.
        active: Requests and streams under way.
        used_at: `time.monotonic()` of the last request.
        touched_at: `time.monotonic()` at which the store was last told that the session is in use.
        unsaved: Changes of the record that the store does not have yet.
        refresh: Takes over what the store knows better; None = there are no others.
        stored_in: The store that has its record; another one than the gateway's, where that has just been changed.
        renewing: Another process subscribed to resources for the session; this one has yet to.
        retiring: It was idle for too long, and the store is being asked whether it is in use elsewhere.
        saving: Held while the record is being saved.
        elsewhere: Gives other replicas what their streams may be open for; None = there are no others.
    """

    record: SessionRecord
    principal: Principal
    headers: HeaderList
    ask_timeout: float
    ends_at: float
    may_read: Callable[[Principal, str], bool]
    tells: Callable[[str], bool]
    announces: Callable[[], bool]
    streams: Streams = field(default_factory=Streams)
    inflight: dict[object, asyncio.Task[object]] = field(default_factory=dict)
    used_at: float = field(default_factory=time.monotonic)
    touched_at: float = field(default_factory=time.monotonic)
    active: int = 0
    unsaved: list[Change] = field(default_factory=list)
    elsewhere: Callable[[ClientSession, bytes], None] | None = None
    refresh: Callable[[ClientSession], Awaitable[None]] | None = None
    stored_in: SessionStore | None = None
    renewing: bool = False
    retiring: bool = False
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.backends = BackendSessions(
            SessionSpec(
                principal=self.principal,
                client_capabilities=self.record.capabilities,
                client_info=self.record.info,
                headers=self.headers,
                events=self,
                links=None if self.elsewhere is None else self,
                era=Era.LEGACY,
            )
        )
        self._declared = fields(self.record.capabilities)
        self._asked: dict[str, asyncio.Future[bytes]] = {}
        self._count = 0
        self._replica = secrets.token_urlsafe(6)
        if self.elsewhere is not None:
            self.streams = Streams(f".{self._replica}")
        self._used: dict[str, BackendLink] = {}
        self.watcher = Watcher(self.principal, _ALL_KINDS, self._lists_changed)

    @property
    def id(self) -> str:
        """The session's id, as the client knows it."""
        return self.record.id

    def seconds_left(self) -> float:
        """Return the seconds until the session is over, however much it is used."""
        return self.ends_at - time.monotonic()

    def renew(self, principal: Principal) -> None:
        """Take the newest claims of the caller: a new token may say less than the one that opened the session."""
        if principal is not self.principal:
            self.principal = principal
            self.watcher.principal = principal

    # --- towards the client ---

    def wants(self, params: bytes) -> bool:
        """Say whether a log message reaches the level that the client asked for."""
        level = self.record.level
        return level is None or reaches(loads_str(fields(params).get("level")), level)

    def notification(self, backend: str, method: str, params: bytes) -> None:
        """Take what a backend says outside of any call: it goes to the session's own stream."""
        if method == RESOURCE_UPDATED and not self._may_hear_of(params):
            return
        if method in _FORWARDED or (method == MESSAGE and self.wants(params)):
            self._say(notification(method, params))
        elif method in _CHANGES:
            # Perhaps a list of this session alone; the shared ones are watched elsewhere.
            self.backends.own.changed(backend)
            self._say(notification(method))
        elif method != MESSAGE and self.tells(method):
            self._say(notification(method, params))

    def _say(self, message: bytes) -> None:
        """Send something on the session's own stream; where it is open nowhere, it is kept here."""
        if self.elsewhere is not None and not self.streams.own.attached:
            self.elsewhere(self, message)
        self.streams.own.emit(message)

    def _put(self, question: bytes) -> None:
        """Send a question on the session's own stream. It is sent once, since it would be answered twice."""
        if self.elsewhere is not None and not self.streams.own.attached:
            self.elsewhere(self, question)
        else:
            self.streams.own.emit(question, droppable=False)

    def _may_hear_of(self, params: bytes) -> bool:
        uri = loads_str(fields(params).get("uri"))
        return uri is not None and self.may_read(self.principal, uri)

    async def request(self, backend: str, method: str, params: bytes) -> bytes:  # noqa: ARG002
        """Ask the client something that belongs to no call."""
        return await self.ask(method, params, self._put)

    async def ask(self, method: str, params: bytes, send: Callable[[bytes], None]) -> bytes:
        """Send a request to the client and wait for its answer.

        Raises:
            RpcFault: The client cannot be asked this, refused, or said nothing in time.
        """
        if CAPABILITY.get(method) not in self._declared:
            raise RpcFault(RpcError(METHOD_NOT_FOUND, f"the client does not support {method}"))
        if len(self._asked) >= MAX_ASKED:
            raise RpcFault(RpcError(INTERNAL_ERROR, "too many requests are waiting for the client"))
        self._count += 1
        key = f"vmcp-{self._replica}-{self._count}"
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[key] = answer
        try:
            send(request(key, method, legacy_params(method, params)))
            async with asyncio.timeout(self.ask_timeout):
                return await answer
        except TimeoutError:
            raise RpcFault(RpcError(INTERNAL_ERROR, "the client did not answer in time")) from None
        finally:
            del self._asked[key]

    def answered(self, message: Message) -> bool:
        """Take the client's answer to a question; return whether this process asked it."""
        answer = self._asked.get(message.id) if isinstance(message.id, str) else None
        if answer is None:
            return False
        if answer.done():
            return True
        if message.result is not UNSET:
            answer.set_result(bytes(message.result))
        elif isinstance(message.error, RpcError):
            answer.set_exception(RpcFault(message.error))
        return True

    def _lists_changed(self, kinds: frozenset[Kind]) -> None:
        if not self.announces():
            return
        for method in sorted({LIST_KINDS[kind].changed for kind in kinds}):
            self.streams.own.emit(notification(method))

    # --- the record ---

    def change(self, change: Change) -> None:
        """Go on with a changed record; `Sessions.save` keeps it."""
        record = change(self.record)
        if record != self.record:
            self.record = record
            self.unsaved.append(change)

    def share(
        self,
        elsewhere: Callable[[ClientSession, bytes], None] | None,
        refresh: Callable[[ClientSession], Awaitable[None]] | None,
    ) -> None:
        """Let other processes go on with the session from now on, or no more. Sessions with backends stay here."""
        self.elsewhere, self.refresh = elsewhere, refresh
        self.backends.spec = replace(self.backends.spec, links=None if elsewhere is None else self)

    def replace(self, record: SessionRecord) -> None:
        """Go on with what is kept of the session, and with what was changed here meanwhile.

        Where another process has opened another session with a backend, that one is used from now on.
        """
        for change in self.unsaved:
            record = change(record)
        self.record = record
        for backend, link in list(self._used.items()):
            known = record.links.get(backend)
            if known is not None and known.id != link.id:
                del self._used[backend]
                self.backends.retire(backend)

    async def link(self, backend: str) -> BackendLink | None:
        """See `LinkKeeper`.

        What another process has just opened may not have been heard of yet, so the store is asked: a client that sends
        its next request elsewhere must meet the session that its last one used.
        """
        if self.refresh is not None:
            await self.refresh(self)
        known = self.record.links.get(backend)
        if known is not None:
            self._used[backend] = known
        return known

    def linked(self, backend: str, link: BackendLink) -> None:
        """See `LinkKeeper`. One that the record has no room for is of this process alone."""
        before = self.record.links.get(backend)
        if self.record.with_link(backend, link, before).fits:
            self._used[backend] = link
            self.change(lambda record: record.with_link(backend, link, before))

    async def close(self, *, leave: bool = False) -> None:
        """Cancel what is under way and end the sessions towards backends; with `leave`, others go on with them."""
        for task in list(self.inflight.values()):
            task.cancel()
        for answer in self._asked.values():
            answer.cancel()
        self.streams.finish()
        await self.backends.close(leave=leave)
        # What refers back to the session would keep it until the collector looks at everything, which is rare.
        self.watcher.callback = _nobody
        self.backends.spec = replace(self.backends.spec, events=None, links=None)
        self.elsewhere = self.refresh = None


def _nobody(kinds: frozenset[Kind]) -> None:
    """Hear of changes for a session that ended."""
