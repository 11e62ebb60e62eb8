"""Legacy sessions: who opened one, what it declared, what is under way in it.

The id is sealed: it cannot be guessed or made, and what it says is compared with who uses it. The session itself lives
in this process. It ends after a while without requests, after a day at the latest, or when there are too many.

What backends say outside of calls is judged when it is said, by the policy and the caller's claims of that moment.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
from msgspec import UNSET

from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.backend.interface import LIST_KINDS, Era, HeaderList, Kind, RpcFault, SessionSpec
from vmcp.core.bridging import CAPABILITY
from vmcp.core.offers import Watcher
from vmcp.core.seal import Purpose, Sealer
from vmcp.core.sessions import BackendSessions
from vmcp.core.url_elicitation import legacy_params
from vmcp.front.settings import FrontSettings
from vmcp.front.streams import Streams
from vmcp.tasks import Background
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
_FORWARDED = frozenset({RESOURCE_UPDATED, PROGRESS, ELICITATION_COMPLETE})
MAX_ASKED: Final = 64
"""Questions to one client that may be open at the same time."""


class _Id(msgspec.Struct, array_like=True):
    owner: str
    nonce: str


@dataclass(eq=False)
class ClientSession:
    """One session of a legacy client.

    Attributes:
        id: As the client knows it.
        principal: Who opened it; only the same principal may use it.
        version: The negotiated protocol version.
        capabilities: Raw, as declared.
        info: Raw `clientInfo`.
        log_level: As set by `logging/setLevel`; None = never set.
        backends: Its sessions towards backends.
        streams: Its event streams.
        inflight: What can be cancelled, by request id.
        subscribed: URIs that it asked to hear of.
        may_read: What policy says of a resource, now; None = everything.
        used_at, made_at: On `time.monotonic()`.
    """

    id: str
    principal: Principal
    version: str
    capabilities: bytes
    info: bytes | None
    headers: HeaderList
    ask_timeout: float
    log_level: str | None = None
    streams: Streams = field(default_factory=Streams)
    inflight: dict[object, asyncio.Task[object]] = field(default_factory=dict)
    subscribed: set[str] = field(default_factory=set)
    may_read: Callable[[Principal, str], bool] | None = None
    made_at: float = field(default_factory=time.monotonic)
    used_at: float = field(default_factory=time.monotonic)
    active: int = 0

    def __post_init__(self) -> None:
        self.backends = BackendSessions(
            SessionSpec(
                principal=self.principal,
                client_capabilities=self.capabilities,
                client_info=self.info,
                headers=self.headers,
                events=self,
                era=Era.LEGACY,
            )
        )
        self._declared = fields(self.capabilities)
        self._asked: dict[str, asyncio.Future[bytes]] = {}
        self._count = 0
        self.watcher = Watcher(self.principal, frozenset(Kind), self._lists_changed)

    def renew(self, principal: Principal) -> None:
        """Take the newest claims of the caller: a new token may say less than the one that opened the session."""
        if principal is not self.principal:
            self.principal = principal
            self.watcher.principal = principal

    # --- towards the client ---

    def wants(self, params: bytes) -> bool:
        """Say whether a log message reaches the level that the client asked for."""
        return self.log_level is None or reaches(loads_str(fields(params).get("level")), self.log_level)

    def notification(self, backend: str, method: str, params: bytes) -> None:
        """Take what a backend says outside of any call: it goes to the session's own stream."""
        if method == RESOURCE_UPDATED and not self._may_hear_of(params):
            return
        if method in _FORWARDED or (method == MESSAGE and self.wants(params)):
            self.streams.own.emit(notification(method, params))
        elif method in _CHANGES:
            # Perhaps a list of this session alone; the shared ones are watched elsewhere.
            self.backends.own.changed(backend)
            self.streams.own.emit(notification(method))

    def _may_hear_of(self, params: bytes) -> bool:
        uri = loads_str(fields(params).get("uri"))
        return uri is not None and (self.may_read is None or self.may_read(self.principal, uri))

    async def request(self, backend: str, method: str, params: bytes) -> bytes:  # noqa: ARG002
        """Ask the client something that belongs to no call."""
        return await self.ask(method, params, lambda message: self.streams.own.emit(message, droppable=False))

    async def ask(self, method: str, params: bytes, send: Callable[[bytes], None]) -> bytes:
        """Send a request to the client and wait for its answer.

        Raises:
            RpcFault: The client cannot be asked this, refused, or said nothing in time.
        """
        if CAPABILITY.get(method) not in self._declared:
            raise RpcFault(RpcError(METHOD_NOT_FOUND, f"the client does not support {method}"))
        if len(self._asked) >= MAX_ASKED:
            raise RpcFault(RpcError(INTERNAL_ERROR, "too many questions wait for the client"))
        self._count += 1
        key = f"vmcp-{self._count}"
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

    def answered(self, message: Message) -> None:
        """Take the client's answer to a question; answers to nothing that was asked are ignored."""
        answer = self._asked.get(message.id) if isinstance(message.id, str) else None
        if answer is None or answer.done():
            return
        if message.result is not UNSET:
            answer.set_result(bytes(message.result))
        elif isinstance(message.error, RpcError):
            answer.set_exception(RpcFault(message.error))

    def _lists_changed(self, kinds: frozenset[Kind]) -> None:
        for method in sorted({LIST_KINDS[kind].changed for kind in kinds}):
            self.streams.own.emit(notification(method))

    async def close(self) -> None:
        """Cancel what is under way and end the sessions towards backends."""
        for task in list(self.inflight.values()):
            task.cancel()
        for answer in self._asked.values():
            answer.cancel()
        self.streams.finish()
        await self.backends.close()
        # What refers back to the session would keep it until the collector looks at everything, which is rare.
        self.watcher.callback = _nobody
        self.backends.spec = replace(self.backends.spec, events=None)


def _nobody(kinds: frozenset[Kind]) -> None:
    """Hear of changes for a session that ended."""


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


class SessionStore:
    """The legacy sessions of this process.

    When there are too many, one of the caller that has most of them goes: first those that were never used, then the
    one that was idle longest, but none that was in use just now. So nobody ends the sessions of others.
    """

    def __init__(self, sealer: Sealer, settings: FrontSettings, ended: Callable[[ClientSession], None]) -> None:
        """Take what seals ids, the bounds, and what to call with a session that ended."""
        self._sealer = sealer
        self._settings = settings
        self._ended = ended
        self._sessions: dict[str, ClientSession] = {}
        self._owners: dict[str, _Owned] = {}
        self._closing = Background("sessions of clients")

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[ClientSession]:
        """Return every session."""
        return list(self._sessions.values())

    def open(
        self, principal: Principal, version: str, capabilities: bytes, info: bytes | None, headers: HeaderList
    ) -> ClientSession:
        """Open a session.

        Raises:
            TooManySessions: All that could go for it are in use.
        """
        self._make_room(principal)
        content = msgspec.json.encode(_Id(principal.key, secrets.token_urlsafe(12)))
        session = ClientSession(
            self._sealer.seal(Purpose.SESSION, content),
            principal,
            version,
            capabilities,
            info,
            headers,
            self._settings.ask_timeout,
        )
        self._sessions[session.id] = session
        self._owners.setdefault(principal.key, _Owned()).fresh[session.id] = session
        return session

    def find(self, session_id: str, principal: Principal) -> ClientSession | None:
        """Return the session of this id if it is this principal's; None says nothing about why."""
        session = self._sessions.get(session_id)
        if session is None or session.principal.key != principal.key or self._expired(session):
            return None
        session.used_at = time.monotonic()
        session.renew(principal)
        owned = self._owners[principal.key]
        if owned.fresh.pop(session_id, None) is not None:
            owned.used[session_id] = session
        else:
            owned.used.move_to_end(session_id)
        return session

    def seconds_left(self, session: ClientSession) -> float:
        """Return the seconds until the session's life is over."""
        return session.made_at + self._settings.session_life - time.monotonic()

    def end(self, session: ClientSession) -> None:
        """End a session, in the background."""
        if self._sessions.pop(session.id, None) is None:
            return
        owned = self._owners[session.principal.key]
        owned.fresh.pop(session.id, None)
        owned.used.pop(session.id, None)
        if not owned:
            del self._owners[session.principal.key]
        self._ended(session)
        self._closing.spawn(session.close(), "one that ended")

    def sweep(self) -> None:
        """End what expired."""
        for session in self.all():
            if self._expired(session):
                self.end(session)

    async def close(self) -> None:
        """End all."""
        for session in self.all():
            self.end(session)
        await self._closing.join()

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
                self.end(session)
                return
        for session in owned.used.values():
            if session.used_at > recent:
                break
            if not session.active:
                self.end(session)
                return
        raise TooManySessions

    def _expired(self, session: ClientSession) -> bool:
        now = time.monotonic()
        idle = now - session.used_at > self._settings.session_ttl and not session.active
        return idle or now - session.made_at > self._settings.session_life
