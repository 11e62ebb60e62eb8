"""The standing GET stream of a legacy session: optional, kept with back-off while the session lives, and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from vmcp.backend.backoff import RetryBackoff
from vmcp.backend.endpoint import McpEndpoint
from vmcp.backend.errors import BackendError
from vmcp.backend.legacy.inbox import Inbox
from vmcp.backend.legacy.streamable import StreamableChannel
from vmcp.backend.model import Push
from vmcp.backend.streams import OPEN_TIMEOUT, MessageStream
from vmcp.http.client import LATER, Response
from vmcp.tasks import loop_time

log = structlog.get_logger(__name__)

NOT_OFFERED = frozenset({405, 501})
"""What a server without the stream answers by the specification, or by HTTP."""

CONFLICT = 409
"""What the SDKs' servers answer while somebody else reads the session's stream."""


class GetStream:
    """Keeps the stream open. `run` ends when the server offers none, or no longer knows the session.

    A refusal says little: the frameworks of POST-only servers answer GET with 404, others do so when the session is
    gone. So the session itself is asked, with a request that every server understands.
    """

    def __init__(
        self,
        endpoint: McpEndpoint,
        channel: StreamableChannel,
        inbox: Inbox,
        *,
        max_event: int,
        is_alive: Callable[[], Awaitable[bool | None]],
        shared: bool = False,
        on_push: Callable[[Push, bool], None] | None = None,
    ) -> None:
        """Make a stream; opens nothing.

        Args:
            endpoint: To the backend.
            channel: Of the session.
            inbox: Takes what comes.
            max_event: Bytes of one event.
            is_alive: Asks whether the server knows the session; None = it cannot be said now.
            shared: Another process may have the stream of this session: servers refuse a second one with 409.
            on_push: Told of each attempt: how the stream is, and whether something may have been missed before it.
        """
        self._endpoint = endpoint
        self._channel = channel
        self._inbox = inbox
        self._max_event = max_event
        self._is_alive = is_alive
        self._shared = shared
        self._on_push = on_push
        self._backoff = RetryBackoff()
        self._last_id: str | None = None
        self._was_open = False
        self._tried = False

    async def run(self) -> None:
        """Open, read, resume."""
        while True:
            retry: float | None = None
            try:
                response = await self._open()
                if response.stream is not None:
                    # A server that gives its events ids repeats what came meanwhile.
                    self._tell(Push.OPEN, missed=self._tried and self._last_id is None)
                    self._was_open = True
                    retry = await self._read(MessageStream(self._endpoint, response.stream, max_event=self._max_event))
                elif not await self._goes_on(response.status):
                    return
                else:
                    self._tell(Push.DOWN)
            except BackendError as err:
                log.debug("the session's stream broke", backend=self._endpoint.name, category=err.category)
                self._tell(Push.DOWN)
            self._tried = True
            await asyncio.sleep(self._backoff.next(retry))

    def _tell(self, push: Push, *, missed: bool = False) -> None:
        if self._on_push is not None:
            self._on_push(push, missed)

    async def _open(self) -> Response:
        deadline = loop_time() + OPEN_TIMEOUT
        return await self._channel.get(self._last_id, deadline=deadline)

    async def _goes_on(self, status: int) -> bool:
        """Decide by the status of an answer that is not a stream."""
        if status in NOT_OFFERED or status < 400:
            return False
        if status >= 500 or status in LATER or (self._shared and status == CONFLICT):
            return True
        alive = await self._is_alive()
        if alive:
            log.debug("the backend offers no stream for the session", backend=self._endpoint.name, status=status)
        # A stream that was there may come back; one that was never there is not offered.
        return alive is None or (alive and self._was_open)

    async def _read(self, stream: MessageStream) -> float | None:
        """Read to the end; return the server's `retry`, in seconds."""
        try:
            while (message := await stream.message()) is not None:
                self._backoff.reset()
                if not message.is_response:
                    await self._inbox.take(message, None)
        except BackendError as err:
            log.debug("the session's stream broke", backend=self._endpoint.name, category=err.category)
        finally:
            self._last_id = stream.last_id or self._last_id
            stream.close()
        return stream.retry
