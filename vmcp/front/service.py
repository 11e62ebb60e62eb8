"""The endpoints beside MCP: liveness, readiness, status, backend health, metrics, RFC 9728 metadata.

Shapes and status codes are ToolHive's, so that probes and dashboards keep working. None of them needs authentication,
and none of them shows more than names, health and kinds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from vmcp.backend.interface import Backend, Circuit, Health
from vmcp.core.gateway import Gateway
from vmcp.front.guard import check_addressee
from vmcp.front.sessions import Sessions
from vmcp.front.settings import FrontSettings
from vmcp.http.server.asgi import JSON, Receive, Refusal, Scope, Send, answer, answer_error, read_headers
from vmcp.sessions.store import CONNECTING

_HEALTHY = frozenset({Health.HEALTHY, Health.DEGRADED})
_STATUS_HEADERS = (JSON, (b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
INSIDE = frozenset({"/status", "/api/backends/health", "/metrics"})
"""What operators and monitoring look at: not for clients, and not for pages in somebody's browser."""
_NOT_FOUND = b'{"error":"not_found"}'


class Service:
    """Answers the service endpoints.

    Attributes:
        draining: The process is about to end: not ready any more.
        config: What `/status` says about the configuration; None = nothing.
        pending: Says why the backends are not known yet, "" = they are; None = the configuration lists them.
    """

    def __init__(
        self,
        gateway: Gateway,
        settings: FrontSettings,
        metrics: Callable[[], tuple[bytes, str] | None],
        sessions: Sessions,
    ) -> None:
        """Take what to report on, and what renders metrics (body and content type; None = not served)."""
        self._sessions = sessions
        self._gateway = gateway
        self._settings = settings
        self._metrics = metrics
        self._started = time.monotonic()
        self._heard_once = False
        self.draining = False
        self.config: Callable[[], dict[str, object]] | None = None
        self.pending: Callable[[], str] | None = None

    async def handle(self, scope: Scope, send: Send, *, apart: bool = False) -> bool:
        """Answer when the path is one of ours; return whether it was.

        Args:
            scope: Of the request.
            send: Of ASGI.
            apart: The request came by the port that serves nothing else.
        """
        method, path = scope["method"], scope["path"]
        if path in INSIDE:
            if self._settings.service_apart and not apart:
                await answer(send, 404, _NOT_FOUND)
                return True
            try:
                check_addressee(read_headers(scope["headers"]), self._settings)
            except Refusal as refusal:
                await answer_error(send, refusal)
                return True
        match path:
            case "/health" | "/ping":
                await answer(send, 200, b'{"status":"ok"}')
            case "/readyz":
                await self._ready(send)
            case "/status":
                await self._status(method, send)
            case "/api/backends/health":
                await answer(send, 200, orjson.dumps(self._health()), _STATUS_HEADERS)
            case "/metrics":
                await self._show_metrics(send)
            case _ if path.startswith("/.well-known/"):
                await self._well_known(method, path, send)
            case _:
                return False
        return True

    def ready(self) -> str | None:
        """Return why the gateway is not ready; None = it is."""
        if self.draining:
            return "shutting_down"
        if self.pending is not None and (reason := self.pending()):
            return reason
        if self._sessions.trouble == CONNECTING and self._is_young:
            return "session_store_pending"
        if not self._heard_once:
            if self._pending() and self._is_young:
                return "backends_pending"
            self._heard_once = True
        return None

    @property
    def _is_young(self) -> bool:
        return time.monotonic() - self._started < self._settings.ready_wait

    def _pending(self) -> bool:
        """Say whether the first list that a client asks for would lack a backend that is about to be heard."""
        offers = self._gateway.offers
        if offers.pending:
            return True
        states = [backend.state for backend in self._gateway.plan.backends.values()]
        return bool(offers.unknown()) and any(state.last_check is None for state in states)

    async def _ready(self, send: Send) -> None:
        reason = self.ready()
        mode = "static" if self.pending is None else "dynamic"
        if reason is None:
            # Ready all the same while the store is away: modern clients and sessions that are here need none.
            store = {"session_store": self._store_state()} if self._sessions.shared else {}
            await answer(send, 200, orjson.dumps({"status": "ready", "mode": mode, **store}))
        else:
            await answer(send, 503, orjson.dumps({"status": "not_ready", "mode": mode, "reason": reason}))

    async def _status(self, method: str, send: Send) -> None:
        if method not in {"GET", "HEAD"}:
            await answer(send, 405, b'{"error":"method_not_allowed"}', (JSON, (b"allow", b"GET, HEAD")))
            return
        plan = self._gateway.plan
        backends = [
            {
                "name": name,
                "health": backend.state.health.value,
                "transport": backend.transport,
                "auth_type": backend.auth_method,
                "mcp_revision": backend.state.version,
            }
            for name, backend in sorted(plan.backends.items())
        ]
        body: dict[str, object] = {
            "backends": backends,
            "healthy": any(backend.state.health in _HEALTHY for backend in plan.backends.values()),
            "version": self._settings.version,
            "group_ref": plan.group,
        }
        if self._sessions.shared:
            body["session_store"] = self._store_state()
        if self.config is not None:
            body["config"] = self.config()
        await answer(send, 200, b"" if method == "HEAD" else orjson.dumps(body), _STATUS_HEADERS)

    def _store_state(self) -> str:
        return self._sessions.trouble or "available"

    def _health(self) -> dict[str, Any]:
        plan = self._gateway.plan
        counts = dict.fromkeys(Health, 0)
        for backend in plan.backends.values():
            counts[backend.state.health] += 1
        summary = {"Total": len(plan.backends)}
        summary |= {health.value.capitalize(): count for health, count in counts.items()}
        return {
            "monitoring_enabled": True,
            "summary": summary,
            "backends": {name: _backend_health(backend) for name, backend in sorted(plan.backends.items())},
        }

    async def _show_metrics(self, send: Send) -> None:
        rendered = self._metrics()
        if rendered is None:
            await answer(send, 404, _NOT_FOUND)
            return
        body, kind = rendered
        await answer(send, 200, body, ((b"content-type", kind.encode()),))

    async def _well_known(self, method: str, path: str, send: Send) -> None:
        resource = self._gateway.plan.authenticator.protected_resource()
        if resource is not None and path in resource.paths and method in {"GET", "HEAD"}:
            await answer(send, 200, resource.body)
        else:
            await answer(send, 404, _NOT_FOUND)


class ServiceApp:
    """The service endpoints as an application of their own, for a port of their own."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        """Serve one request."""
        if scope["type"] == "http" and not await self._service.handle(scope, send, apart=True):
            await answer(send, 404, _NOT_FOUND)


def _backend_health(backend: Backend) -> dict[str, Any]:
    state = backend.state
    shown: dict[str, Any] = {
        "Status": state.health.value,
        "ConsecutiveFailures": state.failures,
        "LastCheckTime": _moment(state.last_check),
        "LastErrorCategory": state.last_error_category,
        "LastTransitionTime": _moment(state.circuit_changed),
        "CircuitState": state.circuit.value,
        "MCPRevision": state.version,
    }
    if state.circuit is not Circuit.CLOSED:
        shown["CircuitLastChanged"] = _moment(state.circuit_changed)
    age = backend.catalogue.age
    if state.failing:
        shown["ListsFailing"] = {kind.value: reason for kind, reason in sorted(state.failing.items())}
    if any(state.left_out.values()):
        shown["EntriesLeftOut"] = [sentence for kind in sorted(state.left_out) for sentence in state.left_out[kind]]
    shown["CatalogueAgeSeconds"] = None if age == float("inf") else round(age, 3)
    return shown


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
