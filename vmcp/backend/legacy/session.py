"""A session with a legacy backend: one handshake, one session id, and a new handshake when the backend forgot it.

Serves both legacy transports; what differs between them is the channel. Servers that forget a session without saying so
are found out (`doubts`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog
from msgspec import UNSET

from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.backend.answers import SessionLost, reply_of
from vmcp.backend.backoff import RetryBackoff
from vmcp.backend.endpoint import McpEndpoint
from vmcp.backend.errors import BackendError, BackendProtocolError, BackendTimeout, BackendUnavailable
from vmcp.backend.handshake import WrongEra
from vmcp.backend.interface import Call, Reply, SessionSpec
from vmcp.backend.legacy.doubts import Doubts
from vmcp.backend.legacy.getstream import GetStream
from vmcp.backend.legacy.inbox import ActiveCall, Inbox
from vmcp.backend.legacy.link import Link, Lives, shake_hands
from vmcp.backend.legacy.sse import SseChannel
from vmcp.backend.legacy.streamable import StreamableChannel
from vmcp.backend.meta import are_legacy, legacy_params, progress_token
from vmcp.backend.model import Era, Handshake, Push
from vmcp.tasks import Background, SingleFlight, loop_time
from vmcp.turns import LARGE, turn
from vmcp.wire import jsonrpc, protocol
from vmcp.wire.jsonrpc import dumps, fields, loads_str
from vmcp.wire.protocol import (
    CANCELLED,
    INITIALIZE,
    PING,
    PROMPTS_LIST,
    RESOURCES_LIST,
    SET_LEVEL,
    TEMPLATES_LIST,
    TOOLS_LIST,
)

log = structlog.get_logger(__name__)

_IDEMPOTENT = frozenset({TOOLS_LIST, RESOURCES_LIST, TEMPLATES_LIST, PROMPTS_LIST, PING, INITIALIZE})

OWN_TIMEOUT = 2.0
"""Seconds that a call waits for a request that the gateway sends by itself before it."""


@dataclass(frozen=True, kw_only=True)
class LegacyOptions:
    """How a session behaves.

    Attributes:
        sse: The 2024-11-05 transport.
        max_event: Bytes of one event.
        listen: Keep the GET stream open from the beginning; otherwise from the first call that can be told something.
        probe: The session is the gateway's own: probe credentials instead of a principal's.
        on_handshake: Called after each handshake.
        on_notification: Sees what belongs to no call.
        on_push: See GetStream.
    """

    sse: bool = False
    max_event: int
    listen: bool = False
    probe: bool = False
    on_handshake: Callable[[Handshake], None] | None = None
    on_notification: Callable[[str, bytes], None] | None = None
    on_push: Callable[[Push, bool], None] | None = None


class LegacySession:
    """See the module."""

    def __init__(self, endpoint: McpEndpoint, spec: SessionSpec, options: LegacyOptions) -> None:
        self._endpoint = endpoint
        self._spec = spec
        self._options = options
        self._principal: Principal | None = None if options.probe else spec.principal
        self._link: Link | None = None
        self._opening_channel: StreamableChannel | SseChannel | None = None
        self._background = Background(endpoint.name)
        self._opening = SingleFlight[None, Link](f"{endpoint.name}: handshake", expected=(BackendError, WrongEra))
        self._reviving = SingleFlight[None, None](f"{endpoint.name}: revival")
        self._doubts = Doubts(
            endpoint.name, own=options.probe, ping=self._ping, forget=self._forget, replace=self._replace
        )
        self._lives = Lives(RetryBackoff())
        self._subscribed: dict[str, Call] = {}
        self._lost_id: str | None = None
        self._next_id = 0
        self._closed = False
        self._inbox = Inbox(endpoint.name, spec.events, self._post, options.on_notification)

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
            link = self._link
            if link is None or link.lost or self._doubts.asking:
                link = await self._ensure(deadline)
            try:
                if call.log_level is not None and call.log_level != link.level:
                    await self._sync_level(link, call, deadline)
                return await self._request(link, call, deadline)
            except SessionLost:
                self._lose(link)
        raise BackendProtocolError(self._endpoint.name, "loses every new session immediately")

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def _request(self, link: Link, call: Call, deadline: float) -> Reply:
        id_ = self._id()
        token = progress_token(call.params) if call.sink is not None else None
        if len(call.params) > LARGE:
            body = await self._large(id_, call, token)
        else:
            params = legacy_params(call.params, call.trace, token=None if token is None else dumps(id_))
            body = jsonrpc.request(id_, call.method, params)
        active = self._inbox.active[id_] = ActiveCall(call, token, deadline)
        link.channel.principal = self._principal
        if token is not None or call.bridge is not None:
            # Servers exist that send a call's progress and questions there instead of on the stream of its answer.
            self._listen(link)
        try:
            message, status = await link.channel.exchange(body, id_, active, idempotent=call.method in _IDEMPOTENT)
        except asyncio.CancelledError:
            self._cancel(link, id_)
            raise
        except BackendError as err:
            if isinstance(err, BackendTimeout):
                self._cancel(link, id_)
            self._doubts.failed(link, err)
            raise
        finally:
            self._inbox.end(id_)
        if message.result is not UNSET and len(message.result) > LARGE:
            await turn()
        reply = reply_of(self._endpoint.name, message, id_, status=status, era=Era.LEGACY)
        if reply.error is None:
            link.answered = True
            link.errors = 0
            self._remember(link, call)
        else:
            self._doubts.refused(link, call, reply)
        return reply

    @staticmethod
    async def _large(id_: int, call: Call, token: bytes | None) -> bytes:
        """Return a large request, written in turns with the loop's other work."""
        params, own = call.params, None if token is None else dumps(id_)
        await turn()
        if not are_legacy(params, call.trace, own):
            await turn()
            params = legacy_params(params, call.trace, token=own)
        await turn()
        return jsonrpc.request(id_, call.method, params)

    def _remember(self, link: Link, call: Call) -> None:
        """Keep what a new handshake must tell the server again."""
        match call.method:
            case protocol.SET_LEVEL:
                link.level = loads_str(fields(call.params).get("level"))
            case protocol.RESOURCES_SUBSCRIBE:
                uri = loads_str(fields(call.params).get("uri")) or ""
                self._subscribed[uri] = replace(call, sink=None, bridge=None, held=None)
                self._hand_on(link)
            case protocol.RESOURCES_UNSUBSCRIBE:
                self._subscribed.pop(loads_str(fields(call.params).get("uri")) or "", None)
                self._hand_on(link)

    async def _sync_level(self, link: Link, call: Call, deadline: float) -> None:
        """Tell the server the level that this call wants, when it is another than the session's.

        The client did not ask for this request, so nothing that becomes of it concerns the call. A server that answers
        every unknown method with a bare 404 seems to have lost the session: of one in which nothing was answered yet,
        the call itself will find out.

        Raises:
            SessionLost: The server does not know the session.
        """
        level = call.log_level
        if link.deaf or call.method == SET_LEVEL or not link.handshake.offers("logging"):
            return
        link.level = level
        params = dumps({"level": level})
        own = Call(method=SET_LEVEL, params=params, principal=call.principal, headers=call.headers)
        try:
            reply = await self._request(link, own, min(deadline, loop_time() + OWN_TIMEOUT))
            reason = "" if reply.error is None else f"error {reply.error.code}"
        except BackendError as err:
            reason = err.reason
        except SessionLost:
            if link.answered:
                raise
            reason = "the session is unknown"
        if reason:
            link.deaf = True
            log.info("a backend does not accept a log level", backend=self._endpoint.name, reason=reason)

    def _cancel(self, link: Link, id_: int) -> None:
        params = dumps({"requestId": id_, "reason": "the client is no longer waiting"})
        self._background.spawn(self._tell(link, jsonrpc.notification(CANCELLED, params)), "cancellation")

    async def _tell(self, link: Link, body: bytes) -> None:
        try:
            await link.channel.post(body)
        except BackendError as err:
            log.debug("a notification did not reach the backend", backend=self._endpoint.name, category=err.category)

    async def notify(self, method: str, params: bytes) -> None:
        """Send a notification of the client; nobody to tell = nothing to do.

        Raises:
            BackendError: It did not arrive.
        """
        if self._link is not None and not self._link.lost:
            await self._link.channel.post(jsonrpc.notification(method, params))

    async def _post(self, body: bytes) -> None:
        channel = self._opening_channel or (None if self._link is None else self._link.channel)
        if channel is not None:
            await channel.post(body)

    # --- handshake ---

    async def open(self, deadline: float) -> Handshake:
        """Make sure that there is a session.

        Raises:
            WrongEra, BackendError: There is none.
        """
        return (await self._ensure(deadline)).handshake

    async def _ensure(self, deadline: float) -> Link:
        """Return the session; one handshake at a time, and no caller's departure ends it for the others."""
        await self._doubts.settled(OWN_TIMEOUT)
        link = self._link
        if link is not None and not link.lost:
            return link
        if self._closed:
            raise BackendUnavailable(self._endpoint.name, "the session is closed", sent=False)
        now = loop_time()
        refused_for = self._lives.refuses(now)
        if refused_for > 0:
            reason = f"loses every new session immediately; the next is tried in {refused_for:.1f} s"
            raise BackendProtocolError(self._endpoint.name, reason, sent=False)
        try:
            return await self._opening.wait(None, self._open, deadline=deadline)
        except TimeoutError:
            raise BackendTimeout(self._endpoint.name, "the session could not be opened in time", sent=False) from None

    async def _open(self) -> Link:
        link = await self._take_up()
        if link is None:
            link = await self._shake_hands()
            self._install(link)
        return link

    async def _take_up(self) -> Link | None:
        """Go on with the session that another process opened for the same client; None where there is none.

        Not with the one that the server has just said that it does not know.
        """
        keeper = self._spec.links
        known = None if keeper is None or self._options.sse else await keeper.link(self._endpoint.name)
        if known is None or known.id == self._lost_id:
            return None
        channel = self._channel()
        assert isinstance(channel, StreamableChannel)
        link = Link(channel, channel.take_up(known), loop_time(), taken_up=True)
        for uri in known.subscriptions:
            call = Call(
                method=protocol.RESOURCES_SUBSCRIBE,
                params=dumps({"uri": uri}),
                principal=self._spec.principal,
                headers=self._spec.headers,
            )
            self._subscribed.setdefault(uri, call)
        self._link = link
        if self._options.listen:
            self._listen(link)
        return link

    def _hand_on(self, link: Link) -> None:
        """Let other processes that serve the client know of the session."""
        keeper = self._spec.links
        if keeper is None or not isinstance(link.channel, StreamableChannel):
            return
        known = link.channel.link(link.handshake, self._subscribed)
        if known is not None:
            keeper.linked(self._endpoint.name, known)

    async def _shake_hands(self) -> Link:
        # A server may ask for a sign of life before it answers the handshake (MCP 2025-11-25, lifecycle).
        channel = self._opening_channel = self._channel()
        try:
            handshake = await shake_hands(self._endpoint.name, channel, self._spec, self._id)
        finally:
            self._opening_channel = None
        return Link(channel, handshake, loop_time())

    def _install(self, link: Link) -> None:
        """Go on in a new session."""
        self._link = link
        self._hand_on(link)
        if self._options.listen:
            self._listen(link)
        if self._subscribed:
            self._background.spawn(self._subscribe_again(link), "subscriptions")
        if self._options.on_handshake is not None:
            self._options.on_handshake(link.handshake)

    async def _subscribe_again(self, link: Link) -> None:
        """Tell a new session what the old one was subscribed to."""
        for uri, call in list(self._subscribed.items()):
            try:
                reply = await self._request(link, call, loop_time() + self._spec.timeout)
            except (BackendError, SessionLost) as err:
                log.info("a subscription was not renewed", backend=self._endpoint.name, uri=uri, reason=str(err))
            else:
                if reply.error is not None:
                    log.info(
                        "a subscription was not renewed", backend=self._endpoint.name, uri=uri, reason=reply.error.code
                    )

    def _channel(self) -> StreamableChannel | SseChannel:
        if self._options.sse:
            channel = SseChannel(
                self._endpoint,
                lambda: self._inbox,
                principal=self._principal,
                passthrough=self._spec.headers,
                max_event=self._options.max_event,
                on_lost=lambda: self._on_lost(channel),
            )
            return channel
        return StreamableChannel(
            self._endpoint,
            lambda: self._inbox,
            principal=self._principal,
            passthrough=self._spec.headers,
            max_event=self._options.max_event,
        )

    def _listen(self, link: Link) -> None:
        if link.stream is not None or not isinstance(link.channel, StreamableChannel):
            return
        stream = GetStream(
            self._endpoint,
            link.channel,
            self._inbox,
            max_event=self._options.max_event,
            is_alive=lambda: self._doubts.is_alive(link),
            shared=link.taken_up,
            on_push=self._options.on_push,
        )
        link.stream = self._background.spawn(stream.run(), "stream")

    # --- loss ---

    async def _ping(self, link: Link, deadline: float) -> Reply:
        return await self._request(link, Call(method=PING, principal=self._principal or ANONYMOUS), deadline)

    async def _replace(self, link: Link) -> bool | None:
        try:
            async with asyncio.timeout(self._spec.timeout):
                fresh = await self._shake_hands()
        except (BackendError, WrongEra, TimeoutError):
            return None  # the server is in trouble, which says nothing about the session
        log.info("replaced a session that kept failing", backend=self._endpoint.name)
        self._lose(link)
        self._install(fresh)
        if not self._inbox.active:
            self._background.spawn(link.channel.close(), "end of a session")
        return False

    def _on_lost(self, channel: SseChannel) -> None:
        if self._link is not None and self._link.channel is channel:
            self._forget(self._link)

    def _forget(self, link: Link) -> None:
        """The backend dropped the session by itself: come back without waiting for a call, if somebody listens."""
        self._lose(link)
        if self._options.listen and not self._closed:
            self._reviving.start(None, self._revive)

    def _lose(self, link: Link) -> None:
        if link.lost:
            return
        link.lost = True
        if isinstance(link.channel, StreamableChannel):
            self._lost_id = link.channel.session_id
        if isinstance(link.channel, SseChannel) and (reader := link.channel.drop()) is not None:
            self._background.adopt(reader)
        self._lives.ended(link, loop_time())
        self._doubts.reset()
        if self._link is link:
            self._link = None
        if link.stream is not None and link.stream is not asyncio.current_task():
            link.stream.cancel()

    async def _revive(self) -> None:
        backoff = RetryBackoff()
        if (wait := self._lives.wait(loop_time())) > 0:
            await asyncio.sleep(wait)
        while not self._closed:
            try:
                await self._ensure(loop_time() + self._spec.timeout)
            except WrongEra:
                return
            except BackendProtocolError as err:
                log.info("the backend refuses a new session", backend=self._endpoint.name, reason=err.reason)
            except BackendError as err:
                log.debug("no new session yet", backend=self._endpoint.name, category=err.category)
            else:
                return
            await asyncio.sleep(backoff.next())

    async def close(self, *, leave: bool = False) -> None:
        """End streams and questions, and tell the backend unless the session is left to others. Bounded."""
        self._closed = True
        link, self._link = self._link, None
        tasks = (self._reviving, self._doubts, self._opening, self._background)
        await asyncio.gather(*(some.close() for some in tasks))
        await self._inbox.close()
        if link is not None and not (leave and isinstance(link.channel, StreamableChannel)):
            await link.channel.close()
