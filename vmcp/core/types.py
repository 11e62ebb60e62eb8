"""What front and core say to each other: who asks, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vmcp.audit.interface import AuditResult
from vmcp.auth.interface import Principal
from vmcp.backend.interface import (
    EMPTY_OBJECT,
    Era,
    HeaderList,
    NotificationSink,
    ServerRequestBridge,
)
from vmcp.core.sessions import BackendSessions
from vmcp.core.snapshot import Route
from vmcp.trace import TraceContext
from vmcp.wire.jsonrpc import RpcError

DENIED_CODE: Final = 403
"""JSON-RPC code of a call that policy refuses."""


@dataclass(slots=True, kw_only=True)
class Caller:
    """One request's asker.

    Attributes:
        principal: Who it is.
        era: The protocol of the client.
        sessions: The sessions towards backends that this client uses.
        capabilities: Raw JSON object that the client declared.
        info: Raw JSON object `clientInfo`; None = not said.
        headers: Passthrough headers of this request.
        trace: Trace context of this request.
        log_level: The client's level; None = it wants no log messages.
        sink: Takes notifications of this call; None = nobody listens.
        bridge: Asks the client while the call is open; None = impossible for this client.
        verify: Compares what a request says outside of its body with the tool that it calls; None = nothing to do.
    """

    principal: Principal
    era: Era
    sessions: BackendSessions
    capabilities: bytes = EMPTY_OBJECT
    info: bytes | None = None
    headers: HeaderList = ()
    trace: TraceContext | None = None
    log_level: str | None = None
    sink: NotificationSink | None = None
    bridge: ServerRequestBridge | None = None
    verify: Callable[[Route], RpcError | None] | None = None


@dataclass(slots=True, kw_only=True)
class RequestOutcome:
    """What came of a request: `result` or `error`.

    Attributes:
        result: Raw JSON object.
        error: JSON-RPC error.
        era: Whose rules the result follows; None = plain members, to be stamped as the client's era wants it.
        verdict: For audit and metrics.
        name: The advertised name that was asked for.
        route: Where it went; None when it went nowhere.
        backend_status: HTTP status of the backend.
        retry_after: Seconds, of a call that was limited.
        held: See `Reply`.
    """

    result: bytes | None = None
    error: RpcError | None = None
    era: Era | None = None
    verdict: AuditResult = AuditResult.SUCCESS
    name: str | None = None
    route: Route | None = None
    backend_status: int | None = None
    retry_after: float | None = None
    held: object | None = None


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a server says of itself, in the era of the client that asks.

    Attributes:
        capabilities: Raw JSON object, of those that are carried.
        server_info: Raw JSON object; None = it said none.
        instructions: For models; None = none.
    """

    capabilities: bytes
    server_info: bytes | None
    instructions: str | None


def failed(
    code: int, message: str, *, verdict: AuditResult = AuditResult.FAILURE, name: str | None = None
) -> RequestOutcome:
    """Return an outcome that is an error."""
    return RequestOutcome(error=RpcError(code, message), verdict=verdict, name=name)
