"""What both eras' dispatchers share: the gateway, the settings, how a request is recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

import msgspec

from vmcp.audit.interface import AuditEvent, AuditResult, event_type
from vmcp.auth.interface import Unauthenticated
from vmcp.backend.interface import Era, HeaderList
from vmcp.core.gateway import Gateway
from vmcp.core.types import Outcome
from vmcp.front.convert import Rendering
from vmcp.front.exchange import Watches
from vmcp.front.request import Told
from vmcp.front.settings import FrontSettings
from vmcp.http.server.asgi import Refusal, text
from vmcp.observe.metrics import Metrics
from vmcp.trace import TraceContext
from vmcp.trace import parse as parse_trace
from vmcp.wire.jsonrpc import dumps
from vmcp.wire.protocol import TOOLS_CALL

MODERN_CAPABILITIES: Final = {
    "tools": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "prompts": {"listChanged": True},
    "completions": {},
    "logging": {},
}
"""What the gateway can do, whatever its backends offer at the moment: they may come and go."""


@dataclass(slots=True)
class Front:
    """The parts that every request needs."""

    gateway: Gateway
    settings: FrontSettings
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        self.watches = Watches()
        self.refresh()

    def refresh(self) -> None:
        """Take over what the plan says of the gateway itself."""
        self.server_info = dumps({"name": self.gateway.plan.name, "version": self.settings.version})
        self.rendering = Rendering(self.server_info)

    watches: Watches = field(init=False)
    server_info: bytes = b"{}"
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
            return ()
        return tuple(
            (name, value) for name in sorted(wanted) if (value := text(headers, name.encode("latin-1"))) is not None
        )

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

    def record(self, told: Told, outcome: Outcome, status: int) -> None:
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
            client_ip=client[0] if client else None,
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

    def _count(self, metrics: Metrics, method: str, era: Era, outcome: Outcome, seconds: float) -> None:
        verdict, route = outcome.verdict.value, outcome.route
        metrics.request(method, era.value, verdict, seconds)
        if outcome.retry_after is not None:
            metrics.rate_limited.inc()
        elif route is not None and verdict != "denied" and method == TOOLS_CALL:
            metrics.tool_call(route.name, route.backend, verdict)

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


def rejected(err: Refusal) -> Outcome:
    """Return the outcome of a request that was refused before it was understood."""
    return Outcome(error=err.error, verdict=AuditResult.FAILURE if err.status < 500 else AuditResult.ERROR)


def decode_params(params: object) -> bytes:
    """Return raw params, {} where there are none."""
    return bytes(params) if isinstance(params, msgspec.Raw) else b"{}"
