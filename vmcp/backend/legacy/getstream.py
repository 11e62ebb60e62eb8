"""The standing GET stream of a legacy session: resumed where it ended, with back-off, while the session lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from vmcp.backend.backoff import Backoff
from vmcp.backend.errors import BackendError
from vmcp.backend.legacy.inbox import Inbox
from vmcp.backend.legacy.streamable import StreamableChannel
from vmcp.backend.streams import OPEN_TIMEOUT, MessageStream
from vmcp.backend.wire import Wire
from vmcp.http.client import Response

log = structlog.get_logger(__name__)

_PASSING = frozenset({408, 425, 429})


class GetStream:
    """Keeps the stream open. `run` ends when the server offers none, or no longer knows the session."""

    def __init__(
        self,
        wire: Wire,
        channel: StreamableChannel,
        inbox: Inbox,
        *,
        max_event: int,
        on_lost: Callable[[], None],
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._wire = wire
        self._channel = channel
        self._inbox = inbox
        self._max_event = max_event
        self._on_lost = on_lost
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._last_id: str | None = None

    async def run(self) -> None:
        """Open, read, resume."""
        while True:
            retry: float | None = None
            try:
                response = await self._open()
                if response.stream is None:
                    if not self._goes_on(response):
                        return
                else:
                    retry = await self._read(MessageStream(self._wire, response.stream, max_event=self._max_event))
            except BackendError as err:
                log.debug("the session's stream broke", backend=self._wire.name, category=err.category)
            await self._sleep(self._backoff.next(retry))

    async def _open(self) -> Response:
        deadline = asyncio.get_running_loop().time() + OPEN_TIMEOUT
        return await self._channel.get(self._last_id, deadline=deadline)

    def _goes_on(self, response: Response) -> bool:
        """Decide by the status of an answer that is no stream."""
        if response.status == 404 and self._channel.session_id is not None:
            self._on_lost()
            return False
        return response.status >= 500 or response.status in _PASSING

    async def _read(self, stream: MessageStream) -> float | None:
        """Read to the end; return the server's `retry`, in seconds."""
        try:
            while (message := await stream.message()) is not None:
                self._backoff.reset()
                if not message.is_response:
                    await self._inbox.take(message, None)
        except BackendError as err:
            log.debug("the session's stream broke", backend=self._wire.name, category=err.category)
        finally:
            self._last_id = stream.last_id or self._last_id
            stream.close()
        return stream.retry
