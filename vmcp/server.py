"""The gateway as a process: started, given another configuration, drained, closed. Its parts come from `assembly`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from vmcp.assembly import Assembly, BackendFactory, RunningParts, kept
from vmcp.auth.outgoing.strategy import TokenEndpoints
from vmcp.backend.interface import Circuit, Reply
from vmcp.backend.settings import Resolve
from vmcp.config.settings import Settings
from vmcp.core.gateway import Gateway
from vmcp.core.outcomes import CLIENTS_FAULT
from vmcp.core.relay import Relay
from vmcp.core.seal import Sealer
from vmcp.front.app import App
from vmcp.front.base import Front
from vmcp.front.legacy import LegacyFront
from vmcp.front.modern import ModernFront
from vmcp.front.service import Service, ServiceApp
from vmcp.front.sessions import Sessions
from vmcp.front.settings import FrontSettings
from vmcp.http.server.sweep import sweep
from vmcp.limits.bucket import RateLimits
from vmcp.limits.interface import RateLimiter
from vmcp.observe.metrics import BackendSample, Metrics
from vmcp.sessions.calls import SharedCalls
from vmcp.sessions.limits import SharedRateLimiter
from vmcp.sessions.settings import RedisSettings
from vmcp.sessions.store import ProcessStore, SessionStore
from vmcp.tasks import Background

log = structlog.get_logger(__name__)

LINGER = 60.0
"""Seconds that replaced parts live on for calls that are under way."""
RELOAD_WAIT = 3.0
"""Seconds that a reload waits for new backends; slower ones join when they are heard."""
SWEEP = 1.0
"""Seconds between two looks at slow connections and expired sessions."""
_UP = frozenset({Circuit.CLOSED, Circuit.HALF_OPEN})


class Server:
    """A gateway that runs.

    Attributes:
        app: The ASGI application.
        service_app: The service endpoints alone, for a port of their own.
        gateway: The core.
        metrics: Of this process.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        make_backend: BackendFactory,
        front: FrontSettings | None = None,
        resolve: Resolve | None = None,
        overrides: Mapping[tuple[str, int], str] | None = None,
        token_endpoints: TokenEndpoints | None = None,
        metrics: Metrics | None = None,
        secrets: tuple[bytes, ...] = (),
    ) -> None:
        """Build everything; nothing runs before `start`.

        Args:
            settings: The configuration.
            make_backend: Makes a backend of its settings and its auth.
            front: Limits and addresses of the listener.
            resolve: Addresses to use for (host, port) of backends, as curl's `--resolve`.
            overrides: The same for issuers.
            token_endpoints: Where token endpoints may be, and what is known of their tokens; None = as by default.
            metrics: Where to count; None = own ones.
            secrets: Seal session ids, cursors and request state; the first seals, all open. Empty = of this process.

        Raises:
            OSError: A file that the settings name cannot be read.
        """
        self.metrics = metrics or Metrics()
        self._assembly = Assembly(
            make_backend=make_backend,
            resolve=resolve or {},
            overrides=overrides,
            token_endpoints=token_endpoints or TokenEndpoints(),
            audit_dropped=self.metrics.audit_dropped.inc,
            share_limits=self._share_limits,
        )
        self._parts = self._assembly.build(settings)
        sealer = Sealer(secrets)
        self.gateway = (Gateway if settings.proxy is None else Relay)(self._parts.plan(), sealer)
        front = front or FrontSettings()
        self._front = Front(self.gateway, front)
        self._count(settings)
        self._sealer = sealer
        self._idle = front.session_ttl
        self._calls = SharedCalls(self.gateway.parked, sealer, lambda: self._store.part.link)
        self.gateway.reach(self._calls)
        self._store = kept(None, settings.store, self._make_store)
        self._sessions = Sessions(self.gateway, front, self._store.part)
        self._legacy = LegacyFront(self._front, self._sessions)
        self._modern = ModernFront(self._front)
        self._service = Service(self.gateway, front, self._show_metrics, self._sessions)
        self.app = App(self._front, self._legacy, self._modern, self._service)
        self.service_app = ServiceApp(self._service)
        self.metrics.watch_backends(self._samples)
        self._background = Background("gateway")
        self._connections: set[Any] = set()
        self._others: set[Any] = set()

    # --- life ---

    async def start(self) -> None:
        """Start backends and housekeeping. Waits for nobody."""
        for running in self._parts.backends.values():
            await running.backend.start()
        self._sessions.start()
        self._background.spawn(self._keep_house(), "housekeeping")

    async def apply(self, settings: Settings) -> frozenset[str]:
        """Swap the configuration in: what is equal keeps running, what is under way ends as it began.

        The old configuration serves until the new backends were heard, or a few seconds passed: a backend whose
        address changes must not take its tools away in between.

        Returns:
            The backends that go on as they stood: see `LeftOut.missing`.

        Raises:
            OSError: A file that the settings name cannot be read; everything stays as it was.
        """
        old, new = self._parts, self._assembly.build(settings, self._parts)
        fresh = new.missing_in(old)
        for running in fresh:
            await running.backend.start()
        await asyncio.gather(*(running.backend.wait_known(RELOAD_WAIT) for running in fresh))
        for running in set(new.backends.values()) - set(old.backends.values()) - set(fresh):
            running.backend.reconfigure(running.settings)
        self._parts = new
        self.gateway.replace(new.plan())
        self._front.refresh()
        self._count(settings)
        await self._follow_store(settings)
        self._modern.drop(self.gateway.has)
        for session in self._sessions.all():
            session.backends.drop(self.gateway.has)
        if old.authenticator is not new.authenticator:
            # Whoever may no longer come in must not go on listening.
            self._modern.end_streams()
            for session in self._sessions.all():
                session.streams.interrupt()
        removed = old.backends.keys() - new.backends.keys()
        for name in removed:
            old.backends[name].backend.on_call = None  # calls that still end must not bring the series back
        self.metrics.forget_backends(removed)
        self._background.spawn(_retire(old, new), "replaced parts")
        return new.standing

    def _make_store(self, settings: RedisSettings | None) -> SessionStore:
        if settings is None:
            return ProcessStore()
        from vmcp.sessions.redis import RedisStore  # its client is for gateways that have a use for one

        store = RedisStore(settings, self._sealer, idle=self._idle)
        self._calls.listen(store.link)
        return store

    def _share_limits(self, limits: RateLimits) -> RateLimiter:
        return SharedRateLimiter(limits, lambda: self._store.part.link, self.metrics.rate_limits_apart.inc)

    async def _follow_store(self, settings: Settings) -> None:
        """Go on with the store that a reloaded configuration names."""
        old = self._store
        self._store = kept(old, settings.store, self._make_store)
        if self._store is not old:
            log.info("the session store has changed", shared=self._store.part.shared)
            await self._sessions.switch(self._store.part)

    def _count(self, settings: Settings) -> None:
        """Count requests only where somebody can read the figures: it costs a tenth of a call."""
        self._front.metrics = self.metrics if settings.metrics else None
        for running in self._parts.backends.values():
            running.backend.on_call = self._called if settings.metrics else None

    def _called(self, backend: str, method: str, seconds: float, reply: Reply | None) -> None:
        failed = reply is None or (reply.error is not None and reply.error.code not in CLIENTS_FAULT)
        self.metrics.backend_request(backend, method, seconds, failed=failed)

    def show_config(self, config: Callable[[], dict[str, object]], pending: Callable[[], str] | None = None) -> None:
        """Let `/status` say what `config` says, and `/readyz` why the backends are not known yet; "" = they are."""
        self._service.config = config
        self._service.pending = pending

    def drain(self) -> None:
        """Say that this process is about to end: not ready any more, streams end in good order."""
        self._service.draining = True

    def end_streams(self) -> None:
        """End the streams that would never end by themselves."""
        self._modern.end_streams()
        for session in self._sessions.all():
            session.streams.finish()

    async def close(self) -> None:
        """End sessions, backends and the rest. Bounded by what the parts promise."""
        await self._background.close()
        await self._calls.close()
        await self._sessions.close()
        await self.gateway.close()
        await self._parts.close()
        self._front.aside.close()

    # --- housekeeping ---

    def watch(self, connections: set[Any], others: set[Any] | None = None) -> None:
        """Look after the slow ones of these connections; `others` are not those of clients."""
        self._connections = connections
        self._others = set() if others is None else others
        self.metrics.connections.set_function(lambda: len(connections))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            try:
                sweep([*self._connections, *self._others])
                self._sessions.sweep()
                self.gateway.shared.sweep(lambda sessions: bool(sessions.busy))
                self.metrics.sessions.set(len(self._sessions))
                self.metrics.session_store.set(0 if self._sessions.trouble else 1)
            except Exception:
                log.exception("housekeeping failed")

    def _samples(self) -> list[BackendSample]:
        return [
            BackendSample(
                name,
                up=backend.catalogue.known and backend.state.circuit in _UP,
                circuit_open=backend.state.circuit not in _UP,
                lists_failing=len(backend.state.failing),
                entries_left_out=sum(map(len, backend.state.left_out.values())),
                answers_refused=backend.state.answers_refused,
            )
            for name, backend in self.gateway.plan.backends.items()
        ]

    def _show_metrics(self) -> tuple[bytes, str] | None:
        if not self._parts.settings.metrics:
            return None
        kind, body = self.metrics.render()
        return body, kind


async def _retire(old: RunningParts, new: RunningParts) -> None:
    """End what a reload replaced, after the calls that still use it."""
    try:
        await asyncio.sleep(LINGER)
    finally:
        await old.close_what_ended(new)
