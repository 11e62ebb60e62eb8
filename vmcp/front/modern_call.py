"""One request of a modern client under way: what its backend says on the way, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.audit.interface import AuditResult
from vmcp.backend.interface import Era
from vmcp.core.items import LIST_METHOD
from vmcp.core.sessions import BackendSessions
from vmcp.core.snapshot import Route
from vmcp.core.types import DENIED_CODE, RequestOutcome
from vmcp.front.convert import error_to_modern, to_modern
from vmcp.front.envelope import check_mirrored
from vmcp.front.exchange import Exchange
from vmcp.front.request import McpRequest, Told, told
from vmcp.limits.interface import RATE_LIMITED_CODE
from vmcp.trace import TraceContext
from vmcp.wire.jsonrpc import RequestId, RpcError, dumps, error_response, notification, response
from vmcp.wire.levels import reaches
from vmcp.wire.protocol import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    MESSAGE,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    PARSE_ERROR,
    RESOURCES_READ,
    UNSUPPORTED_VERSION,
)

STATUS: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}
"""HTTP status by JSON-RPC code; everything else is 200."""


class ModernCall:
    """Implements `vmcp.front.calls.ClientCall`. The client cancels by closing the connection."""

    __slots__ = ("_exchange", "_level", "_request", "_sessions", "_trace")

    def __init__(
        self,
        request: McpRequest,
        exchange: Exchange,
        sessions: BackendSessions,
        *,
        level: str | None,
        trace: TraceContext | None,
    ) -> None:
        """Take the request, where its answer goes, the sessions that it uses, and what log messages it wants."""
        self._request = request
        self._exchange = exchange
        self._sessions = sessions
        self._level = level
        self._trace = trace

    def sink(self, method: str, params: bytes) -> None:
        """Take a notification of the call: progress always, log messages at the level that the request asked for."""
        if method != MESSAGE or _wanted(params, self._level):
            self._exchange.emit(notification(method, params))

    def verify(self, route: Route) -> RpcError | None:
        """Compare the headers with the tool's arguments that they mirror; return what is wrong."""
        return check_mirrored(self._request.arrival.scope["headers"], self._request.params, route)

    def begin(self, task: asyncio.Task[Any]) -> None:
        """See `ClientCall`."""
        self._sessions.busy += 1
        self._exchange.cancels = task

    def end(self, task: asyncio.Task[Any]) -> None:  # noqa: ARG002  the era has no use for it
        """See `ClientCall`."""
        self._sessions.busy -= 1
        self._exchange.cancels = None

    @property
    def cancelled(self) -> bool:
        """See `ClientCall`."""
        return self._exchange.gone

    async def abandon(self) -> None:
        """See `ClientCall`. Nobody is left to answer."""
        self._exchange.discard()

    def discard(self) -> None:
        """See `ClientCall`."""
        self._exchange.discard()

    def told(self) -> Told:
        """See `ClientCall`."""
        return told(self._request, trace=self._trace)

    def answer(self, outcome: RequestOutcome) -> tuple[int, bytes]:
        """See `ClientCall`."""
        request = self._request
        return modern_answer(request.id, outcome, hints=wants_hints(request.method))

    async def finish(self, status: int, body: bytes) -> None:
        """See `ClientCall`."""
        await self._exchange.finish(status, body)


def modern_answer(request_id: RequestId | None, outcome: RequestOutcome, *, hints: bool = False) -> tuple[int, bytes]:
    """Return HTTP status and body for an outcome; `hints` = results of this method carry cache hints."""
    error = outcome.error
    if error is None:
        assert outcome.result is not None
        result = outcome.result
        return 200, response(request_id, result if outcome.era is Era.MODERN else to_modern(result, cacheable=hints))
    if error.code == RATE_LIMITED_CODE and outcome.retry_after is not None:
        error = RpcError(error.code, error.message, Raw(dumps({"retryAfterSeconds": outcome.retry_after})))
        return 200, error_response(request_id, error)
    if error.code == DENIED_CODE and outcome.verdict is AuditResult.DENIED:
        return 403, error_response(request_id, error)
    error = error_to_modern(error)
    return STATUS.get(error.code, 200), error_response(request_id, error)


def wants_hints(method: str) -> bool:
    """Say whether a modern result of this method carries cache hints; a gateway's own lists come with theirs."""
    return method == RESOURCES_READ or method in LIST_METHOD


def _wanted(params: bytes, level: str | None) -> bool:
    if level is None:
        return False
    try:
        said = msgspec.json.decode(params, type=_LogParams).level
    except msgspec.DecodeError:
        return False
    return reaches(said, level)


class _LogParams(msgspec.Struct):
    level: str = "debug"
