"""A request on its way from bytes to something that can be served.

`Arrival` is what is known so far: enough to refuse it, and to record that. A `McpRequest` exists only once everything
is known and nothing can be refused any more for what it says of itself; whoever holds one need not ask again.
"""

from __future__ import annotations

import time

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vmcp.audit.interface import EventType
from vmcp.auth.interface import Principal
from vmcp.backend.interface import Era
from vmcp.core.requests import Target
from vmcp.http.server.asgi import Scope
from vmcp.trace import TraceContext
from vmcp.wire.jsonrpc import Message, RequestId, known_id


class Params(Target):
    """The members of params that decide what happens to a request.

    Attributes:
        meta: Raw `_meta`.
    """

    meta: Raw | UnsetType = msgspec.field(default=UNSET, name="_meta")


_params = msgspec.json.Decoder(Params)


def read_params(params: bytes | Raw | UnsetType) -> Params:
    """Read raw params; absent ones are empty.

    Raises:
        msgspec.ValidationError: A member has the wrong type.
        msgspec.DecodeError, RecursionError, UnicodeDecodeError: It is no JSON that can be read.
    """
    return _params.decode(b"{}" if params is UNSET else params)


class Arrival:
    """What is known of a request before it is understood.

    Attributes:
        scope: Of ASGI.
        headers: By lower-case name.
        started: `time.perf_counter()` of its arrival.
        era: By its version header, until its body has been read.
        principal: Who asks; None before that is known.
        message: Its body; None before that is known, and where it is not a single message.
        large: Whose, and bytes of the body, where it is counted as a large one (`Front.large`).
    """

    __slots__ = ("era", "headers", "large", "message", "principal", "scope", "started")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.started = time.perf_counter()
        self.headers: dict[bytes, bytes] = {}
        self.era = Era.LEGACY
        self.principal: Principal | None = None
        self.message: Message | None = None
        self.large: tuple[str, int] | None = None

    @property
    def method(self) -> str:
        """The JSON-RPC method where that is known, else the one of HTTP."""
        if self.message is not None and isinstance(self.message.method, str):
            return self.message.method
        return str(self.scope["method"])

    @property
    def id(self) -> RequestId | None:
        """The request's id where it is known."""
        return None if self.message is None else known_id(self.message)


class McpRequest(msgspec.Struct, frozen=True, gc=False):
    """One POST of one JSON-RPC request or notification.

    Attributes:
        arrival: Its HTTP side.
        principal: Who asks.
        era: The protocol of the client.
        method: JSON-RPC method.
        id: None = a notification.
        params: A raw JSON object; {} where there are none.
        target: What was read of the params already; None = nothing.
        json_only: The client takes no event streams.
    """

    arrival: Arrival
    principal: Principal
    era: Era
    method: str
    id: RequestId | None
    params: bytes
    target: Params | None = None
    json_only: bool = False


class Told(msgspec.Struct, frozen=True, gc=False):
    """What is recorded of a request, besides what came of it.

    Attributes:
        arrival: Its HTTP side.
        era: The protocol of the client.
        method: JSON-RPC method, or the one of HTTP.
        principal: Who asked; None = nobody knows.
        id: Of the request; None = it has none.
        session_id: Of a legacy session.
        trace: That it is part of.
        params: Raw.
        kind: Of the audit event; None = the method decides.
    """

    arrival: Arrival
    era: Era
    method: str
    principal: Principal | None = None
    id: RequestId | None = None
    session_id: str | None = None
    trace: TraceContext | None = None
    params: bytes | None = None
    kind: EventType | None = None


def told(
    request: McpRequest, *, session_id: str | None = None, trace: TraceContext | None = None, params: bool = True
) -> Told:
    """Return what is recorded of a request that was understood."""
    return Told(
        request.arrival,
        request.era,
        request.method,
        request.principal,
        request.id,
        session_id,
        trace,
        request.params if params else None,
    )
