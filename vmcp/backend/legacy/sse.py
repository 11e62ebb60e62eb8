"""The HTTP+SSE transport of 2024-11-05: one GET stream carries everything that the server says, POSTs what we say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import quote, urljoin, urlsplit

from vmcp.auth.interface import Principal
from vmcp.backend.answers import SessionLost, answers, check_session, message_of, refusal_of
from vmcp.backend.endpoint import GET_HEADERS, POST_HEADERS, McpEndpoint
from vmcp.backend.errors import (
    BackendAuthFailed,
    BackendError,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
)
from vmcp.backend.legacy.cookies import Cookies
from vmcp.backend.legacy.inbox import ActiveCall, Inbox
from vmcp.backend.settings import HeaderList
from vmcp.backend.streams import MessageStream
from vmcp.http.client import Response
from vmcp.http.client.under_way import Held
from vmcp.tasks import Background
from vmcp.wire.jsonrpc import Message, RpcError
from vmcp.wire.protocol import JSON_TYPE

POST_TIMEOUT = 10.0

ACKNOWLEDGED = 1.0
"""Seconds that the acknowledgement of a request may take after its answer, before its connection is given up."""

_PATH = "/%:@!$&'()*+,;=~-._"
_QUERY = _PATH + "?"


class _Waiter:
    """A call that waits for its response on the shared stream, with a deadline that may be moved."""

    __slots__ = ("_deadline", "_timer", "future", "held")

    def __init__(self) -> None:
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.held: Held | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None

    @property
    def deadline(self) -> float | None:
        return self._deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self._deadline = value
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if value is None else self.future.get_loop().call_at(value, self._expire)

    def _expire(self) -> None:
        if not self.future.done():
            self.future.set_exception(BackendTimeout("", "the server did not answer in time"))


class SseChannel:
    """One session over HTTP+SSE. When the stream drops, the session is gone with everything that waits on it."""

    def __init__(
        self,
        endpoint: McpEndpoint,
        inbox: Callable[[], Inbox],
        *,
        principal: Principal | None,
        passthrough: HeaderList,
        max_event: int,
        on_lost: Callable[[], None],
    ) -> None:
        self._endpoint = endpoint
        self._inbox = inbox
        self._max_event = max_event
        self._on_lost = on_lost
        self._target = ""
        self._cookies = Cookies(secure=endpoint.url.startswith("https:"))
        self._tasks = Background(endpoint.name)
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, _Waiter] = {}
        self._lost = False
        self._lock = asyncio.Lock()
        self.principal = principal
        self.passthrough = passthrough

    def established(self, version: str) -> None:
        """Nothing travels in headers here."""

    async def exchange(self, body: bytes, id_: int, active: ActiveCall, *, idempotent: bool) -> tuple[Message, int]:
        """Send a request and wait for its response on the stream.

        Raises:
            SessionLost: The stream had dropped before the request was sent.
            BackendError: No answer.
        """
        await self._ensure(active.deadline)
        waiter = self._waiting[id_] = _Waiter()
        active.attach(waiter)
        sending = asyncio.ensure_future(self._send(body, active, idempotent=idempotent))
        try:
            # Servers exist that acknowledge a request only when its answer is out, or not at all.
            await asyncio.wait((sending, waiter.future), return_when=asyncio.FIRST_COMPLETED)
            if waiter.future.done() and waiter.future.exception() is None:
                self._tasks.spawn(_settle(sending), "acknowledgement")
                response = Response(202, {})
            else:
                response = await sending
            if response.status >= 300:
                return self._refusal(response, id_), response.status
            answer = _in_body(self._endpoint.name, response, id_)
            message = answer or await waiter.future
            active.call.held = waiter.held if answer is None else response.held
        except BackendAuthFailed as err:
            if idempotent or (said := refusal_of(err, id_)) is None:
                raise
            return said, err.status
        except BackendTimeout as err:
            raise BackendTimeout(self._endpoint.name, err.reason) from None
        finally:
            waiter.deadline = None
            waiter.future.cancel()
            self._waiting.pop(id_, None)
            if waiter.future.cancelled():
                sending.cancel()
        check_session(response, message, id_, self._target)
        return message, response.status

    async def _send(self, body: bytes, active: ActiveCall, *, idempotent: bool) -> Response:
        """Post a request, and read no more than whether it is taken, or refused, or answered at once."""
        response = await self._endpoint.send(
            "POST",
            body,
            POST_HEADERS + self._cookies.header,
            deadline=active.deadline,
            principal=self.principal,
            passthrough=active.call.headers or self.passthrough,
            trace=active.call.trace,
            target=self._target,
            idempotent=idempotent,
        )
        if response.stream is not None:
            response.stream.close()
        self._keep_cookies(response)
        return response

    def _refusal(self, response: Response, id_: int) -> Message:
        """Return the error in an answer that should have been an acknowledgement."""
        try:
            message = message_of(self._endpoint.name, response)
        except BackendError:
            check_session(response, None, id_, self._target)
            if response.status == 400:
                raise SessionLost from None  # "no transport for this session", in whatever words
            raise
        check_session(response, message, id_, self._target)
        return message

    def _keep_cookies(self, response: Response) -> None:
        said = response.headers.get("set-cookie")
        if said is not None:
            self._cookies.take(said)

    async def _ensure(self, deadline: float) -> None:
        async with self._lock:
            if self._lost:
                raise SessionLost
            if self._reader is None:
                await self._open(deadline)

    async def _open(self, deadline: float) -> None:
        response = await self._endpoint.send(
            "GET",
            None,
            GET_HEADERS,
            deadline=deadline,
            principal=self.principal,
            passthrough=self.passthrough,
            long_lived=True,
            idempotent=True,
        )
        self._keep_cookies(response)
        if response.stream is None:
            if response.status >= 500:
                raise BackendUnavailable(
                    self._endpoint.name, f"answered HTTP {response.status}", status=response.status
                )
            raise BackendProtocolError(
                self._endpoint.name, f"offers no event stream (HTTP {response.status})", status=response.status
            )
        stream = MessageStream(self._endpoint, response.stream, max_event=self._max_event)
        stream.deadline = deadline
        try:
            event = await stream.event()
            while event is not None and event.event != "endpoint":
                event = await stream.event()
            if event is None:
                raise BackendProtocolError(self._endpoint.name, "the stream ended before it named an endpoint")
            self._target = self._read_endpoint(event.data)
        except BaseException:
            stream.close()
            raise
        stream.deadline = None
        self._reader = self._tasks.spawn(self._read(stream), "event stream")

    def _read_endpoint(self, data: bytes) -> str:
        """Return the path that the server wants posts at. Another origin would get our credentials: refused."""
        said = data.decode("utf-8", "replace").strip()
        try:
            parts = urlsplit(said)
            joined = urlsplit(urljoin(self._endpoint.url, said))
        except ValueError:
            raise BackendProtocolError(self._endpoint.name, "names an endpoint that is no URL") from None
        if parts.scheme or parts.netloc:
            base = urlsplit(self._endpoint.url)
            if (parts.scheme or base.scheme, parts.netloc.lower()) != (base.scheme, base.netloc.lower()):
                raise BackendProtocolError(self._endpoint.name, "names an endpoint on another host")
        # What a request line cannot hold is encoded, as URLs in browsers are.
        return quote(joined.path, _PATH) + (f"?{quote(joined.query, _QUERY)}" if joined.query else "")

    async def _read(self, stream: MessageStream) -> None:
        error: BackendError = BackendUnavailable(self._endpoint.name, "the event stream ended")
        try:
            while (message := await stream.message()) is not None:
                await self._take(message, stream.held)
        except BackendError as err:
            error = err
        finally:
            stream.close()
            self._lost = True
            for waiter in self._waiting.values():
                if not waiter.future.done():
                    waiter.future.set_exception(error)
            self._on_lost()

    async def _take(self, message: Message, held: Held | None) -> None:
        if not message.is_response:
            await self._inbox().take(message, None)
            return
        waiter = self._waiter_of(message)
        if waiter is not None and not waiter.future.done():
            waiter.held = held
            waiter.future.set_result(message)

    def _waiter_of(self, message: Message) -> _Waiter | None:
        """Return whose response it is: by its id, or, for an error whose id is nobody's, if only one call waits."""
        if isinstance(message.id, int):
            return self._waiting.get(message.id)
        found = next((waiter for id_, waiter in self._waiting.items() if answers(message, id_)), None)
        if found is None and isinstance(message.error, RpcError) and len(self._waiting) == 1:
            return next(iter(self._waiting.values()))
        return found

    async def post(self, body: bytes) -> None:
        """Send a notification or an answer.

        Raises:
            BackendError: It could not be sent.
        """
        if self._lost or not self._target:
            raise BackendUnavailable(self._endpoint.name, "the session is gone", sent=False)
        deadline = asyncio.get_running_loop().time() + POST_TIMEOUT
        response = await self._endpoint.send(
            "POST",
            body,
            POST_HEADERS + self._cookies.header,
            deadline=deadline,
            principal=self.principal,
            passthrough=self.passthrough,
            for_others=True,
            target=self._target,
        )
        if response.stream is not None:
            response.stream.close()

    def drop(self) -> asyncio.Task[None] | None:
        """Drop the stream, which ends the session and all that waits on it; return the task that does so."""
        self._on_lost = _nothing
        if self._reader is None or self._reader is asyncio.current_task():
            return None
        self._reader.cancel()
        return self._reader

    async def close(self) -> None:
        """Drop the stream, and wait until it is gone."""
        self.drop()
        await self._tasks.close()


def _in_body(name: str, response: Response, id_: int) -> Message | None:
    """Return the answer to request `id_` where a server gives it right away instead of on the stream."""
    if response.media_type != JSON_TYPE or not response.body:
        return None
    try:
        message = message_of(name, response)
    except BackendError:
        return None
    return message if message.is_response and answers(message, id_) else None


async def _settle(sending: asyncio.Future[Response]) -> None:
    """Let the acknowledgement come when the answer is here already: its connection can serve again then."""
    with contextlib.suppress(BackendError, TimeoutError):
        async with asyncio.timeout(ACKNOWLEDGED):
            await sending


def _nothing() -> None:
    """Nobody is to be told any more."""
