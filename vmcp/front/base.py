"""What both eras' dispatchers share: the gateway, the settings, how a request is recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

import msgspec
from msgspec import Raw

from vmcp.audit.interface import AuditEvent, AuditResult, event_type
from vmcp.auth.interface import Unauthenticated
from vmcp.backend.interface import BackendError, BackendTimeout, CircuitOpen, Era, HeaderList
from vmcp.budget import FairBudget
from vmcp.core.gateway import Gateway
from vmcp.core.sessions import BackendSessions
from vmcp.core.types import Introduction, RequestOutcome
from vmcp.front.aside import Aside
from vmcp.front.convert import Rendering
from vmcp.front.exchange import Watches
from vmcp.front.request import Told
from vmcp.front.settings import FrontSettings
from vmcp.http.server.asgi import Refusal, text
from vmcp.observe.metrics import Metrics
from vmcp.trace import TraceContext
from vmcp.trace import parse as parse_trace
from vmcp.wire.jsonrpc import RequestId, RpcError, dumps
from vmcp.wire.protocol import INTERNAL_ERROR, TOOLS_CALL

MODERN_CAPABILITIES: Final = {
    "tools": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "prompts": {"listChanged": True},
    "completions": {},
    "logging": {},
}
"""What the gateway can do, whatever its backends offer at the moment: they may come and go."""
LONGEST_VIA: Final = 1024
"""Characters of a client's `Via` that are passed on."""
LARGE_REQUESTS: Final = 32 * 1024 * 1024
"""Bytes of the bodies beyond `vmcp.turns.LARGE` that wait for their answers: each is held several times over."""
LARGE_REQUESTS_EACH: Final = LARGE_REQUESTS // 2
"""Of these, of one caller."""
_OWN_CAPABILITIES: Final = dumps(MODERN_CAPABILITIES)


@dataclass(slots=True)
class Front:
    """The parts that every request needs."""

    gateway: Gateway
    settings: FrontSettings
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        self.watches = Watches()
        self.aside = Aside()
        self.large = FairBudget(LARGE_REQUESTS, LARGE_REQUESTS_EACH)
        self.refresh()

    def refresh(self) -> None:
        """Take over what the plan says of the gateway itself."""
        self.server_info = dumps({"name": self.gateway.plan.name, "version": self.settings.version})
        self.rendering = Rendering(self.server_info)
        # A proxy waits for its remote, so one that is its own remote would wait for itself (RFC 9110, 7.6.3).
        self.via = self.gateway.plan.mark.encode() if self.gateway.transparent else b""
        self._only_via: HeaderList = (("via", f"1.1 {self.gateway.plan.mark}"),)

    watches: Watches = field(init=False)
    aside: Aside = field(init=False)
    large: FairBudget = field(init=False)
    server_info: bytes = b"{}"
    via: bytes = b""
    _only_via: HeaderList = ()
    rendering: Rendering = field(default_factory=lambda: Rendering(b"{}"))

    @property
    def recording(self) -> bool:
        """Somebody wants to know of every request."""
        return self.metrics is not None or self.gateway.plan.audit.enabled

    def unauthenticated(self, err: Unauthenticated) -> Refusal:
        """Return the refusal of a caller whose credentials are not accepted: 401 or 503, with what it needs to know."""
        if self.metrics is not None:
            self.metrics.unauthenticated.inc()
        headers = []
        if err.www_authenticate is not None:
            headers.append((b"www-authenticate", err.www_authenticate.encode("latin-1", "replace")))
        if err.retry_after is not None:
            headers.append((b"retry-after", str(err.retry_after).encode()))
        message = "authentication is required" if err.status == 401 else "authentication is temporarily unavailable"
        return Refusal(err.status, err.status, message, headers=headers)

    def passthrough(self, headers: dict[bytes, bytes]) -> HeaderList:
        """Return the client's headers that backends get."""
        wanted = self.gateway.plan.passthrough
        if not wanted:
            if not self.via:
                return ()
            if b"via" not in headers:
                return self._only_via
        passed = tuple(
            (name, value) for name in sorted(wanted) if (value := text(headers, name.encode("latin-1"))) is not None
        )
        return (*passed, ("via", self._via(headers))) if self.via else passed

    def _via(self, headers: dict[bytes, bytes]) -> str:
        """Return the proxies that a request came through, and this one."""
        said, own = text(headers, b"via") or "", f"1.1 {self.via.decode()}"
        return f"{said}, {own}" if 0 < len(said) <= LONGEST_VIA else own

    def check_loop(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a request that came through this proxy already.

        Raises:
            Refusal: 508.
        """
        if self.via in headers.get(b"via", b""):
            raise Refusal(508, INTERNAL_ERROR, "the remote of this proxy leads back to it")

    def trace(self, headers: dict[bytes, bytes], meta: dict[str, str] | None = None) -> TraceContext | None:
        """Return the trace that a request is part of; `_meta` wins over headers."""
        if meta:
            found = parse_trace(meta)
            if found is not None:
                return found
        if b"traceparent" not in headers:
            return None
        names = ("traceparent", "tracestate", "baggage")
        return parse_trace({name: text(headers, name.encode()) or "" for name in names})

    def record(self, told: Told, outcome: RequestOutcome, status: int) -> None:
        """Count a request that ended, and write its audit line."""
        arrival = told.arrival
        seconds = time.perf_counter() - arrival.started
        if self.metrics is not None:
            self._count(self.metrics, told.method, told.era, outcome, seconds)
        audit = self.gateway.plan.audit
        if not audit.enabled:
            return
        client, route = arrival.scope.get("client"), outcome.route
        event = AuditEvent(
            told.kind or event_type(told.method),
            outcome.verdict,
            principal=told.principal,
            method=told.method,
            name=outcome.name,
            request_id=None if told.id is None else str(told.id),
            session_id=told.session_id,
            client_ip=self._client_ip(arrival.headers, client[0] if client else None),
            user_agent=(text(arrival.headers, b"user-agent") or "")[:256] or None,
            era=told.era.value,
            status=status,
            duration_ms=seconds * 1000,
            trace_id=None if told.trace is None else told.trace.trace_id,
            error=None if outcome.error is None else outcome.error.message,
            request_data=told.params,
            response_data=outcome.result,
        )
        if route is not None:
            event.backend = route.backend
            event.backend_tool = route.original
            event.remote_status = outcome.backend_status
            backend = self.gateway.plan.backends.get(route.backend)
            if backend is not None:
                event.remote_url = backend.url
                event.auth_method = backend.auth_method
        audit.write(event)

    def _client_ip(self, headers: dict[bytes, bytes], peer: str | None) -> str | None:
        """Return who sent a request: the peer, or whom the proxy in front of us names. Only its own entry counts."""
        if not self.gateway.plan.trust_forwarded:
            return peer
        said = (text(headers, b"x-forwarded-for") or "").rpartition(",")[2].strip()
        try:
            return str(ip_address(said))
        except ValueError:
            return peer

    def _count(self, metrics: Metrics, method: str, era: Era, outcome: RequestOutcome, seconds: float) -> None:
        verdict, route = outcome.verdict.value, outcome.route
        metrics.request(method, era.value, verdict, seconds)
        if outcome.retry_after is not None:
            metrics.rate_limited.inc()
        elif route is not None and verdict != "denied" and method == TOOLS_CALL:
            metrics.tool_call(route.name, route.backend, verdict)

    async def introduction(self, sessions: BackendSessions) -> Introduction:
        """Return what clients are told of the server: of the gateway, or of the remote that shows through.

        Raises:
            BackendError: The remote cannot be asked.
        """
        said = await self.gateway.introduction(sessions)
        return said or Introduction(_OWN_CAPABILITIES, None, self.instructions())

    def instructions(self) -> str | None:
        """Return what the backends tell models about themselves, each under its name where there are several."""
        said = {
            name: text
            for name, backend in sorted(self.gateway.plan.backends.items())
            if (text := backend.catalogue.instructions)
        }
        if not said:
            return None
        if len(self.gateway.plan.backends) == 1:
            return next(iter(said.values()))
        return "\n\n".join(f"## {name}\n{text}" for name, text in said.items())


def rejected(err: Refusal) -> RequestOutcome:
    """Return the outcome of a request that was refused before it was understood."""
    return RequestOutcome(error=err.error, verdict=AuditResult.FAILURE if err.status < 500 else AuditResult.ERROR)


def decode_params(params: object) -> bytes:
    """Return raw params, {} where there are none: serializers that write every member say `null`."""
    found = bytes(params) if isinstance(params, msgspec.Raw) else b"{}"
    return b"{}" if found == b"null" else found


def no_remote(err: BackendError, request_id: RequestId | None) -> Refusal:
    """Return the refusal of a request that needs what the remote of a proxy does not say.

    A remote that refuses the proxy's credentials is no reason for a 401: the client's own were good, and it must not
    look for another authorization server.
    """
    status = 504 if isinstance(err, BackendTimeout) else 503 if isinstance(err, CircuitOpen) else 502
    refusal = Refusal(status, INTERNAL_ERROR, str(err), id=request_id)
    refusal.error = RpcError(INTERNAL_ERROR, str(err), Raw(dumps({"backend": err.backend, "category": err.category})))
    return refusal
