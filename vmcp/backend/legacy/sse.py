"""The HTTP+SSE transport of 2024-11-05: one GET stream carries everything that the server says, POSTs what we say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from vmcp.auth.interface import Principal
from vmcp.backend.answers import SessionLost, message_of
from vmcp.backend.errors import BackendError, BackendProtocolError, BackendTimeout, BackendUnavailable
from vmcp.backend.legacy.inbox import ActiveCall, Inbox
from vmcp.backend.settings import HeaderList
from vmcp.backend.streams import MessageStream
from vmcp.backend.wire import GET_HEADERS, POST_HEADERS, Wire
from vmcp.wire.jsonrpc import JsonRpcError, Message, RequestId, parse

POST_TIMEOUT = 10.0


class _Waiter:
    """A call that waits for its response on the shared stream, with a deadline that may be moved."""

    __slots__ = ("_deadline", "_timer", "future")

    def __init__(self) -> None:
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
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
        wire: Wire,
        inbox: Callable[[], Inbox],
        *,
        principal: Principal | None,
        passthrough: HeaderList,
        max_event: int,
        on_lost: Callable[[], None],
    ) -> None:
        self._wire = wire
        self._inbox = inbox
        self._max_event = max_event
        self._on_lost = on_lost
        self._target = ""
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[RequestId, _Waiter] = {}
        self._lost = False
        self._lock = asyncio.Lock()
        self.principal = principal
        self.passthrough = passthrough

    def established(self, version: str) -> None:
        """Nothing travels in headers here."""

    async def exchange(
        self, body: bytes, id_: RequestId, active: ActiveCall, *, idempotent: bool
    ) -> tuple[Message, int]:
        """Send a request and wait for its response on the stream.

        Raises:
            SessionLost: The stream had dropped before the request was sent.
            BackendError: No answer.
        """
        await self._ensure(active.deadline)
        waiter = self._waiting[id_] = _Waiter()
        active.attach(waiter)
        try:
            response = await self._wire.send(
                "POST",
                body,
                POST_HEADERS,
                deadline=active.deadline,
                principal=self.principal,
                passthrough=active.call.headers or self.passthrough,
                trace=active.call.trace,
                target=self._target,
                idempotent=idempotent,
            )
            if response.stream is not None:
                response.stream.close()
            if response.status in {400, 404, 410} and not response.body.startswith(b"{"):
                raise SessionLost
            if response.status >= 300:
                return message_of(self._wire.name, response), response.status
            return await waiter.future, response.status
        except BackendTimeout as err:
            raise BackendTimeout(self._wire.name, err.reason) from None
        finally:
            waiter.deadline = None
            waiter.future.cancel()
            self._waiting.pop(id_, None)

    async def _ensure(self, deadline: float) -> None:
        async with self._lock:
            if self._lost:
                raise SessionLost
            if self._reader is None:
                await self._open(deadline)

    async def _open(self, deadline: float) -> None:
        response = await self._wire.send(
            "GET",
            None,
            GET_HEADERS,
            deadline=deadline,
            principal=self.principal,
            passthrough=self.passthrough,
            long_lived=True,
            idempotent=True,
        )
        if response.stream is None:
            if response.status >= 500:
                raise BackendUnavailable(self._wire.name, f"answered HTTP {response.status}", status=response.status)
            raise BackendProtocolError(
                self._wire.name, f"offers no event stream (HTTP {response.status})", status=response.status
            )
        stream = MessageStream(self._wire, response.stream, max_event=self._max_event)
        stream.deadline = deadline
        try:
            event = await stream.event()
            while event is not None and event.event != "endpoint":
                event = await stream.event()
            if event is None:
                raise BackendProtocolError(self._wire.name, "the stream ended before it named an endpoint")
            self._target = self._endpoint(event.data)
        except BaseException:
            stream.close()
            raise
        stream.deadline = None
        self._reader = asyncio.get_running_loop().create_task(self._read(stream))

    def _endpoint(self, data: bytes) -> str:
        """Return the path that the server wants posts at. Another origin would get our credentials: refused."""
        said = data.decode("utf-8", "replace").strip()
        parts = urlsplit(said)
        if parts.scheme or parts.netloc:
            base = urlsplit(self._wire.url)
            if (parts.scheme or base.scheme, parts.netloc.lower()) != (base.scheme, base.netloc.lower()):
                raise BackendProtocolError(self._wire.name, "names an endpoint on another host")
        joined = urlsplit(urljoin(self._wire.url, said))
        return joined.path + (f"?{joined.query}" if joined.query else "")

    async def _read(self, stream: MessageStream) -> None:
        error: BackendError = BackendUnavailable(self._wire.name, "the event stream ended")
        try:
            while (event := await stream.event()) is not None:
                if event.event == "message" and event.data:
                    await self._take(stream, parse(event.data))
        except BackendError as err:
            error = err
        except JsonRpcError as err:
            error = BackendProtocolError(self._wire.name, f"an event of the stream is no message: {err}")
        finally:
            stream.close()
            self._lost = True
            for waiter in self._waiting.values():
                if not waiter.future.done():
                    waiter.future.set_exception(error)
            self._on_lost()

    async def _take(self, stream: MessageStream, message: Message) -> None:
        if not message.is_response:
            await stream.pay(1)
            await self._inbox().take(message, None)
            return
        waiter = None if not isinstance(message.id, int) else self._waiting.get(message.id)
        if waiter is not None and not waiter.future.done():
            waiter.future.set_result(message)

    async def post(self, body: bytes) -> None:
        """Send a notification or an answer.

        Raises:
            BackendError: It could not be sent.
        """
        if self._lost or not self._target:
            raise BackendUnavailable(self._wire.name, "the session is gone", sent=False)
        deadline = asyncio.get_running_loop().time() + POST_TIMEOUT
        response = await self._wire.send(
            "POST",
            body,
            POST_HEADERS,
            deadline=deadline,
            principal=self.principal,
            passthrough=self.passthrough,
            target=self._target,
        )
        if response.stream is not None:
            response.stream.close()

    async def close(self) -> None:
        """Drop the stream: that ends the session."""
        self._on_lost = _nothing
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)


def _nothing() -> None:
    """Nobody is to be told any more."""
