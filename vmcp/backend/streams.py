"""Reads JSON-RPC messages out of an event stream."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from vmcp.backend.allowance import LINE
from vmcp.backend.endpoint import McpEndpoint
from vmcp.backend.errors import BackendProtocolError, BackendTimeout
from vmcp.http.client import BodyStream, HttpError, HttpTimeout, NoRoom
from vmcp.http.client.under_way import Held
from vmcp.turns import LARGE, turn
from vmcp.wire.jsonrpc import JsonRpcError, Message
from vmcp.wire.mending import read_batch, read_message
from vmcp.wire.sse import SseError, SseEvent, SseParser

log = structlog.get_logger(__name__)

OPEN_TIMEOUT = 3600.0
"""Seconds for the head of a standing stream: a server may hold it back until it has something to say."""

MAX_EVENT_ID = 1024
"""Bytes of an event's id with which a stream can be resumed: it travels in a header."""

LINGER = 1.0
"""Seconds that the end of a stream may take after its last message, before its connection is given up."""


class MessageStream:
    """Events of one HTTP answer.

    Attributes:
        last_id: The newest event id, for resumption; None = the server sends none that a header can carry.
        retry: Seconds that the server asks us to wait before we come back; None = no wish.
        messages: How many came.
        noise: Words to append to a complaint: that events were skipped; "" = none were.
        held: What counts the bytes of the newest event, where it is large: to be kept as long as they are.
    """

    __slots__ = (
        "_batch",
        "_endpoint",
        "_events",
        "_growing",
        "_parser",
        "_stream",
        "held",
        "last_id",
        "messages",
        "noise",
        "retry",
    )

    def __init__(self, endpoint: McpEndpoint, stream: BodyStream, *, max_event: int) -> None:
        self._endpoint = endpoint
        self._stream = stream
        self._parser = SseParser(max_event=max_event)
        self._events: deque[SseEvent] = deque()
        self._batch: deque[Message] = deque()
        self.last_id: str | None = None
        self.retry: float | None = None
        self.messages = 0
        self.noise = ""
        self.held: Held | None = None
        self._growing: Held | None = None  # of the event that is not complete yet

    @property
    def deadline(self) -> float | None:
        """Loop time after which reading fails."""
        return self._stream.deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self._stream.deadline = value

    async def event(self, *, idle: float | None = None) -> SseEvent | None:
        """Return the next event, None at the end of the stream.

        Raises:
            BackendError: The stream broke, was silent for too long, or an event is too large.
        """
        while not self._events:
            try:
                chunk = await self._stream.chunk(idle=idle)
                if chunk is None:
                    # Its last event may lack the empty line behind it. A message that is not whole is no JSON.
                    last = self._parser.end()
                    if last is None:
                        return None
                    self._events.append(last)
                    break
                self._events.extend(self._parser.feed(chunk))
                if self._parser.pending > LARGE:
                    self._hold(self._parser.pending)
                await self.pay((chunk.count(b"\n") + chunk.count(b"\r")) * LINE)
            except HttpTimeout as err:
                if idle is None:
                    # The stream may have said a lot: what passed is the deadline.
                    raise BackendTimeout(self._endpoint.name, "the answer was not complete in time") from err
                raise self._endpoint.translate(err) from err
            except NoRoom as err:
                self._stream.close()
                raise self._endpoint.translate(err) from err
            except HttpError as err:
                raise self._endpoint.translate(err) from err
            except SseError as err:
                self._stream.close()
                raise BackendProtocolError(self._endpoint.name, str(err)) from err
            self.retry = self._parser.retry
        event = self._events.popleft()
        self.held = None
        if len(event.data) > LARGE:
            self.held, self._growing = self._growing, None
        if event.id is not None and _travels(event.id):
            self.last_id = event.id
        return event

    def _hold(self, size: int) -> None:
        if self._growing is None:
            self._growing = self._endpoint.answers.hold(size)
        else:
            self._growing.reach(size)

    async def message(self, *, idle: float | None = None) -> Message | None:
        """Return the next JSON-RPC message, None at the end.

        Events without data only carry ids. Events whose data is no message cost themselves and nothing else: servers
        and proxies send heartbeats of many kinds.

        Raises:
            BackendError: As `event`.
        """
        while True:
            message = self._batch.popleft() if self._batch else None
            if message is None:
                event = await self.event(idle=idle)
                if event is None:
                    return None
                if not event.data or event.event not in {"message", ""}:
                    continue
                message = await self._read(event.data)
            if message is None:
                continue
            self.messages += 1
            if not message.is_response:
                await self.pay(1)
            return message

    async def _read(self, data: bytes) -> Message | None:
        """Return the message in an event; None where there is none, or an array whose messages come next."""
        if len(data) > LARGE:
            await turn()
        try:
            return read_message(data)
        except JsonRpcError as err:
            self._batch.extend(read_batch(data))
            if not self._batch:
                if not self.noise:
                    log.debug(
                        "an event that is not a message was skipped", backend=self._endpoint.name, reason=str(err)
                    )
                self.noise = f", and one of its events is not a message: {err}"
                await self.pay(1)
        return None

    async def pay(self, messages: float) -> None:
        """Charge the backend for what it sent unasked; wait when it sends more than it may.

        Raises:
            BackendTimeout: The deadline passed meanwhile.
        """
        wait = self._endpoint.allowance.spend(messages)
        if not wait:
            return
        await asyncio.sleep(wait)
        deadline = self.deadline
        if deadline is not None and asyncio.get_running_loop().time() >= deadline:
            self._stream.close()
            raise BackendTimeout(self._endpoint.name, "sent too many other messages before the answer")

    def close(self) -> None:
        """Give up the rest. Ends the connection, which a modern server takes as a cancellation."""
        self._stream.close()

    def finish(self) -> None:
        """The answer is here: wait a moment for the stream's end, so that its connection can serve again."""
        self._stream.discard(LINGER)


def _travels(event_id: str) -> bool:
    """Tell whether a header can carry an event's id."""
    return len(event_id.encode()) <= MAX_EVENT_ID and event_id.isprintable()
