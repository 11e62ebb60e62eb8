"""One request of a legacy session under way: what its backend says on the way, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from vmcp.audit.interface import AuditResult
from vmcp.backend.interface import Era
from vmcp.core.types import DENIED_CODE, RequestOutcome
from vmcp.front.convert import to_legacy
from vmcp.front.exchange import Exchange
from vmcp.front.request import McpRequest, Told, told
from vmcp.front.session import ClientSession
from vmcp.front.sessions import Sessions
from vmcp.front.streams import EventStream
from vmcp.limits.interface import RATE_LIMITED_CODE
from vmcp.trace import TraceContext
from vmcp.wire.jsonrpc import RpcError, dumps, error_response, notification, response
from vmcp.wire.protocol import MESSAGE

PRIMED: Final = "2025-11-25"
"""Since this version a stream begins with an event that only carries an id."""


class LegacyCall:
    """Implements `vmcp.front.calls.ClientCall`; one of a batch has no exchange, and is answered with the others."""

    __slots__ = ("_exchange", "_request", "_session", "_sessions", "_stream", "_trace")

    def __init__(
        self,
        request: McpRequest,
        session: ClientSession,
        exchange: Exchange | None,
        sessions: Sessions,
        *,
        trace: TraceContext | None,
    ) -> None:
        """Take the request, the session that it belongs to, where its answer goes, and what keeps the session."""
        self._request = request
        self._session = session
        self._sessions = sessions
        self._exchange = exchange
        self._stream: EventStream | None = None
        self._trace = trace
        if exchange is not None:
            exchange.on_open = self._opened

    def begin(self, task: asyncio.Task[Any]) -> None:
        """See `ClientCall`."""
        self._session.inflight[self._request.id] = task
        self._session.active += 1

    def end(self, task: asyncio.Task[Any]) -> None:
        """See `ClientCall`."""
        session, request_id = self._session, self._request.id
        session.active -= 1
        if session.inflight.get(request_id) is task:
            del session.inflight[request_id]

    @property
    def cancelled(self) -> bool:
        """See `ClientCall`. By the client, or at the end of the session: the protocol wants no answer to that."""
        return True

    def told(self) -> Told:
        """See `ClientCall`."""
        return told(self._request, session_id=self._session.record.id, trace=self._trace)

    def answer(self, outcome: RequestOutcome) -> tuple[int, bytes]:
        """See `ClientCall`."""
        return legacy_answer(self._request.id, outcome)

    def sink(self, method: str, params: bytes) -> None:
        """Pass a notification of the call."""
        if method != MESSAGE or self._session.wants(params):
            self._emit(notification(method, params), droppable=True)

    async def bridge(self, method: str, params: bytes) -> bytes:
        """Ask the client on the call's own stream."""
        return await self._session.ask(method, params, lambda message: self._emit(message, droppable=False))

    def _emit(self, message: bytes, *, droppable: bool) -> None:
        if self._exchange is None:
            self._session.streams.own.emit(message, droppable=droppable)
            return
        self._exchange.emit(message, droppable=droppable)

    def _opened(self) -> bytes | None:
        """The answer becomes a stream: one that can be taken up again."""
        assert self._exchange is not None
        self._stream = self._session.streams.for_post()
        self._exchange.frame = self._stream.relay
        return self._stream.prime() if self._session.record.version >= PRIMED else None

    async def finish(self, status: int, body: bytes) -> None:
        """See `ClientCall`."""
        exchange = self._exchange
        assert exchange is not None
        if self._session.unsaved:
            # The client may send its next request elsewhere as soon as it has the answer.
            await self._sessions.save(self._session)
        await exchange.finish(status, body)
        exchange.on_open = None  # else the two would keep each other until the collector comes
        if self._stream is not None:
            self._stream.finish()

    async def abandon(self) -> None:
        """See `ClientCall`."""
        exchange = self._exchange
        assert exchange is not None
        if self._stream is not None:
            self._stream.finish()
        await exchange.end()
        exchange.on_open = None

    def discard(self) -> None:
        """See `ClientCall`."""
        if self._exchange is not None:
            self._exchange.discard()


def legacy_answer(request_id: Any, outcome: RequestOutcome) -> tuple[int, bytes]:
    """Return HTTP status and body for an outcome."""
    error = outcome.error
    if error is None:
        assert outcome.result is not None
        result = to_legacy(outcome.result) if outcome.era is Era.MODERN else outcome.result
        return 200, response(request_id, result)
    if error.code == RATE_LIMITED_CODE and outcome.retry_after is not None:
        return 200, response(request_id, _limited(outcome.retry_after, error))
    return (403 if error.code == DENIED_CODE and outcome.verdict is AuditResult.DENIED else 200), error_response(
        request_id, error
    )


def _limited(retry_after: float, error: RpcError) -> bytes:
    """A tool result: legacy clients show it to the model, which can wait."""
    data = {"code": RATE_LIMITED_CODE, "message": error.message, "data": {"retryAfterSeconds": retry_after}}
    said = f"{error.message}; retry after {retry_after:.1f} s"
    return dumps({"content": [{"type": "text", "text": said}], "structuredContent": data, "isError": True})
