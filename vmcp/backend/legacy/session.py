"""A session with a legacy backend: one handshake, one session id, and a new handshake when the backend forgot it.

Serves both legacy transports; what differs between them is a `Channel`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from vmcp.auth.interface import Principal
from vmcp.backend.answers import SessionLost, reply_of
from vmcp.backend.backoff import Backoff
from vmcp.backend.errors import BackendError, BackendProtocolError, BackendTimeout, BackendUnavailable
from vmcp.backend.handshake import Handshake, WrongEra, initialize_params, read_initialize
from vmcp.backend.interface import Call, Reply, SessionSpec
from vmcp.backend.legacy.getstream import GetStream
from vmcp.backend.legacy.inbox import ActiveCall, Inbox
from vmcp.backend.legacy.sse import SseChannel
from vmcp.backend.legacy.streamable import StreamableChannel
from vmcp.backend.meta import legacy_params, progress_token
from vmcp.backend.model import Era
from vmcp.backend.wire import Wire
from vmcp.wire import jsonrpc, protocol
from vmcp.wire.jsonrpc import dumps, fields, loads_str
from vmcp.wire.protocol import (
    CANCELLED,
    INITIALIZE,
    INITIALIZED,
    PING,
    PROMPTS_LIST,
    RESOURCES_LIST,
    SET_LEVEL,
    TEMPLATES_LIST,
    TOOLS_LIST,
)

log = structlog.get_logger(__name__)

_IDEMPOTENT = frozenset({TOOLS_LIST, RESOURCES_LIST, TEMPLATES_LIST, PROMPTS_LIST, PING, INITIALIZE})


@dataclass(frozen=True, kw_only=True)
class LegacyOptions:
    """How a session behaves.

    Attributes:
        sse: The 2024-11-05 transport.
        max_event: Bytes of one event.
        listen: Keep the GET stream open.
        probe: The session is the gateway's own: probe credentials instead of a principal's.
        on_handshake: Called after each handshake.
        on_notification: Sees what belongs to no call.
        sleep: For tests.
        backoff: For tests.
    """

    sse: bool = False
    max_event: int
    listen: bool = False
    probe: bool = False
    on_handshake: Callable[[Handshake], None] | None = None
    on_notification: Callable[[str, bytes], None] | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    backoff: Callable[[], Backoff] = Backoff


@dataclass(slots=True, eq=False)
class _Link:
    """One life of the session: from a handshake until the backend forgets it."""

    channel: StreamableChannel | SseChannel
    handshake: Handshake
    stream: asyncio.Task[None] | None = None
    level: str | None = None
    lost: bool = False


class LegacySession:
    """See the module."""

    def __init__(self, wire: Wire, spec: SessionSpec, options: LegacyOptions) -> None:
        self._wire = wire
        self._spec = spec
        self._options = options
        self._principal: Principal | None = None if options.probe else spec.principal
        self._link: _Link | None = None
        self._opening: asyncio.Task[_Link] | None = None
        self._reviving: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._subscribed: dict[str, Call] = {}
        self._next_id = 0
        self._closed = False
        self._inbox = Inbox(wire.name, spec.events, self._post, options.on_notification)

    @property
    def handshake(self) -> Handshake | None:
        """What the server said last; None before the first handshake and after a loss."""
        return None if self._link is None else self._link.handshake

    # --- calls ---

    async def call(self, call: Call, deadline: float) -> Reply:
        """Send a request, after a handshake where one is needed.

        Args:
            call: The request.
            deadline: Loop time.

        Raises:
            WrongEra: The backend is modern; nothing was executed.
            BackendError: No answer.
        """
        if not self._options.probe:
            self._principal = call.principal
        for _ in range(2):
            link = await self._ensure(deadline)
            try:
                await self._sync_level(link, call, deadline)
                return await self._request(link, call, deadline)
            except SessionLost:
                self._lose(link)
        raise BackendUnavailable(self._wire.name, "forgets every session at once")

    async def _request(self, link: _Link, call: Call, deadline: float) -> Reply:
        self._next_id = id_ = self._next_id + 1
        token = progress_token(call.params) if call.sink is not None else None
        params = legacy_params(call.params, call.trace, token=None if token is None else dumps(id_))
        body = jsonrpc.request(id_, call.method, params)
        active = self._inbox.active[id_] = ActiveCall(call, token, deadline)
        link.channel.principal = self._principal
        try:
            message, status = await link.channel.exchange(body, id_, active, idempotent=call.method in _IDEMPOTENT)
        except (asyncio.CancelledError, BackendTimeout):
            self._cancel(link, id_)
            raise
        finally:
            self._inbox.end(id_)
        reply = reply_of(self._wire.name, message, id_, status=status, era=Era.LEGACY)
        self._remember(link, call, reply)
        return reply

    def _remember(self, link: _Link, call: Call, reply: Reply) -> None:
        """Keep what a new handshake must tell the server again."""
        if reply.error is not None:
            return
        match call.method:
            case protocol.SET_LEVEL:
                link.level = loads_str(fields(call.params).get("level"))
            case protocol.RESOURCES_SUBSCRIBE:
                uri = loads_str(fields(call.params).get("uri")) or ""
                self._subscribed[uri] = replace(call, sink=None, bridge=None)
            case protocol.RESOURCES_UNSUBSCRIBE:
                self._subscribed.pop(loads_str(fields(call.params).get("uri")) or "", None)

    async def _sync_level(self, link: _Link, call: Call, deadline: float) -> None:
        """Tell the server the level that this call wants, when it is another than the session's."""
        level = call.log_level
        if level is None or level == link.level or call.method == SET_LEVEL or not link.handshake.offers("logging"):
            return
        link.level = level
        await self._request(
            link,
            Call(method=SET_LEVEL, params=dumps({"level": level}), principal=call.principal, headers=call.headers),
            deadline,
        )

    def _cancel(self, link: _Link, id_: int) -> None:
        params = dumps({"requestId": id_, "reason": "the client is no longer waiting"})
        self._spawn(self._tell(link, jsonrpc.notification(CANCELLED, params)))

    async def _tell(self, link: _Link, body: bytes) -> None:
        try:
            await link.channel.post(body)
        except BackendError as err:
            log.debug("a notification did not reach the backend", backend=self._wire.name, category=err.category)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def notify(self, method: str, params: bytes) -> None:
        """Send a notification of the client; nobody to tell = nothing to do.

        Raises:
            BackendError: It did not arrive.
        """
        if self._link is not None and not self._link.lost:
            await self._link.channel.post(jsonrpc.notification(method, params))

    async def _post(self, body: bytes) -> None:
        if self._link is not None:
            await self._link.channel.post(body)

    # --- handshake ---

    async def open(self, deadline: float) -> Handshake:
        """Make sure that there is a session.

        Raises:
            WrongEra, BackendError: There is none.
        """
        return (await self._ensure(deadline)).handshake

    async def _ensure(self, deadline: float) -> _Link:
        """Return the session; one handshake at a time, and no caller's departure ends it for the others."""
        link = self._link
        if link is not None and not link.lost:
            return link
        if self._closed:
            raise BackendUnavailable(self._wire.name, "the session is closed", sent=False)
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opened)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(self._opening)
        except TimeoutError:
            raise BackendTimeout(self._wire.name, "the session could not be opened in time", sent=False) from None

    def _opened(self, task: asyncio.Task[_Link]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # waiters have it; without any it is nobody's concern

    async def _open(self) -> _Link:
        channel = self._channel()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._spec.timeout
        params = initialize_params(self._spec.client_capabilities, self._spec.client_info)
        self._next_id = id_ = self._next_id + 1
        active = ActiveCall(Call(method=INITIALIZE), None, deadline)
        try:
            message, status = await channel.exchange(
                jsonrpc.request(id_, INITIALIZE, params), id_, active, idempotent=True
            )
            handshake = read_initialize(self._wire.name, message, status)
            channel.established(handshake.version)
            await channel.post(jsonrpc.notification(INITIALIZED))
        except SessionLost:
            await channel.close()
            raise BackendUnavailable(self._wire.name, "lost the session while opening it") from None
        except BaseException:
            await channel.close()
            raise
        link = self._link = _Link(channel, handshake)
        self._listen(link)
        for call in list(self._subscribed.values()):
            await self._request(link, call, loop.time() + self._spec.timeout)
        if self._options.on_handshake is not None:
            self._options.on_handshake(handshake)
        return link

    def _channel(self) -> StreamableChannel | SseChannel:
        if self._options.sse:
            return SseChannel(
                self._wire,
                lambda: self._inbox,
                principal=self._principal,
                passthrough=self._spec.headers,
                max_event=self._options.max_event,
                on_lost=self._on_lost,
            )
        return StreamableChannel(
            self._wire,
            lambda: self._inbox,
            principal=self._principal,
            passthrough=self._spec.headers,
            max_event=self._options.max_event,
        )

    def _listen(self, link: _Link) -> None:
        if not self._options.listen or not isinstance(link.channel, StreamableChannel):
            return
        stream = GetStream(
            self._wire,
            link.channel,
            self._inbox,
            max_event=self._options.max_event,
            on_lost=lambda: self._forget(link),
            backoff=self._options.backoff(),
            sleep=self._options.sleep,
        )
        link.stream = asyncio.get_running_loop().create_task(stream.run())

    # --- loss ---

    def _on_lost(self) -> None:
        if self._link is not None:
            self._forget(self._link)

    def _forget(self, link: _Link) -> None:
        """The backend dropped the session by itself: come back without waiting for a call, if somebody listens."""
        self._lose(link)
        if self._options.listen and not self._closed and (self._reviving is None or self._reviving.done()):
            self._reviving = asyncio.get_running_loop().create_task(self._revive())

    def _lose(self, link: _Link) -> None:
        link.lost = True
        if self._link is link:
            self._link = None
        if link.stream is not None and link.stream is not asyncio.current_task():
            link.stream.cancel()

    async def _revive(self) -> None:
        backoff = self._options.backoff()
        loop = asyncio.get_running_loop()
        while not self._closed:
            try:
                await self._ensure(loop.time() + self._spec.timeout)
            except WrongEra:
                return
            except BackendProtocolError as err:
                log.info("the backend refuses a new session", backend=self._wire.name, reason=err.reason)
            except BackendError as err:
                log.debug("no new session yet", backend=self._wire.name, category=err.category)
            else:
                return
            await self._options.sleep(backoff.next())

    async def close(self) -> None:
        """End streams and questions, tell the backend. Bounded to a few seconds."""
        self._closed = True
        tasks = [self._opening, self._reviving, *self._background]
        link, self._link = self._link, None
        if link is not None:
            tasks.append(link.stream)
        live = [task for task in tasks if task is not None and not task.done()]
        for task in live:
            task.cancel()
        await asyncio.gather(*live, return_exceptions=True)
        await self._inbox.close()
        if link is not None:
            await link.channel.close()
