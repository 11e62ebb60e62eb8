"""The gateway as a whole: parts built from settings, swapped by a reload, closed in good order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from vmcp.audit.interface import AuditLog
from vmcp.audit.log import NoAudit, ThreadedAuditLog
from vmcp.auth.incoming import build_authenticator
from vmcp.auth.interface import Authenticator, OutgoingAuth
from vmcp.auth.outgoing.strategy import OutgoingSettings, TokenEndpoints
from vmcp.authz.cedar import AllowAll, CedarAuthorizer
from vmcp.authz.interface import Authorizer
from vmcp.backend.interface import Backend, Circuit, Reply
from vmcp.backend.settings import BackendSettings, Resolve
from vmcp.config.settings import Settings
from vmcp.core.gateway import Gateway
from vmcp.core.outcomes import CLIENTS_FAULT
from vmcp.core.plan import Plan
from vmcp.core.seal import Sealer
from vmcp.front.app import App
from vmcp.front.base import Front
from vmcp.front.legacy import LegacyFront
from vmcp.front.modern import ModernFront
from vmcp.front.service import Service, ServiceApp
from vmcp.front.session import LegacySession, SessionStore
from vmcp.front.settings import FrontSettings
from vmcp.http.server.protocol import sweep
from vmcp.limits.bucket import MemoryRateLimiter
from vmcp.limits.interface import RateLimiter
from vmcp.observe.metrics import BackendSample, Metrics
from vmcp.wire.lineage import gateway_mark

log = structlog.get_logger(__name__)

LINGER = 60.0
"""Seconds that replaced parts live on for calls that are under way."""
RELOAD_WAIT = 3.0
"""Seconds that a reload waits for new backends; slower ones join when they are heard."""
SWEEP = 1.0
"""Seconds between two looks at slow connections and expired sessions."""
_UP = frozenset({Circuit.CLOSED, Circuit.HALF_OPEN})

BackendFactory = Callable[[BackendSettings, OutgoingAuth, Resolve], Backend]


@dataclass(slots=True)
class _Built:
    """A running backend and what it was built from."""

    settings: BackendSettings
    outgoing: OutgoingSettings
    auth: OutgoingAuth
    backend: Backend


@dataclass(slots=True)
class _Parts:
    """What a plan consists of, to be compared with the next one."""

    settings: Settings
    authenticator: Authenticator
    authorizer: Authorizer
    limiter: RateLimiter | None
    audit: AuditLog
    built: dict[str, _Built] = field(default_factory=dict)


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
        self._make_backend = make_backend
        self._resolve = resolve or {}
        self._overrides = overrides
        self._token_endpoints = token_endpoints or TokenEndpoints()
        self._parts = self._build(settings, None)
        sealer = Sealer(secrets)
        self.gateway = Gateway(_plan(self._parts), sealer)
        front = front or FrontSettings()
        self._front = Front(self.gateway, front)
        self._count(settings)
        self._sessions = SessionStore(sealer, front, self._session_ended)
        self._legacy = LegacyFront(self._front, self._sessions)
        self._modern = ModernFront(self._front)
        self._service = Service(self.gateway, front, self._show_metrics)
        self.app = App(self._front, self._legacy, self._modern, self._service)
        self.service_app = ServiceApp(self._service)
        self.metrics.watch_backends(self._samples)
        self._background: set[asyncio.Task[None]] = set()
        self._housekeeper: asyncio.Task[None] | None = None
        self._connections: set[Any] = set()
        self._others: set[Any] = set()

    # --- life ---

    async def start(self) -> None:
        """Start backends and housekeeping. Waits for nobody."""
        for built in self._parts.built.values():
            await built.backend.start()
        self._housekeeper = asyncio.create_task(self._keep_house(), name="housekeeping")

    async def apply(self, settings: Settings) -> None:
        """Swap the configuration in: what is equal keeps running, what is under way ends as it began.

        The old configuration serves until the new backends were heard, or a few seconds passed: a backend whose
        address changes must not take its tools away in between.

        Raises:
            OSError: A file that the settings name cannot be read; everything stays as it was.
        """
        old, new = self._parts, self._build(settings, self._parts)
        fresh = [built.backend for name, built in new.built.items() if not _same(old.built.get(name), built)]
        for backend in fresh:
            await backend.start()
        await asyncio.gather(*(backend.wait_known(RELOAD_WAIT) for backend in fresh))
        for name, built in new.built.items():
            if built is not old.built.get(name) and built.backend not in fresh:
                built.backend.reconfigure(built.settings)
        self._parts = new
        self.gateway.replace(_plan(new))
        self._front.refresh()
        self._count(settings)
        self._modern.drop(self.gateway.has)
        for session in self._sessions.all():
            session.backends.drop(self.gateway.has)
        if old.authenticator is not new.authenticator:
            # Whoever may no longer come in must not go on listening.
            self._modern.end_streams()
            for session in self._sessions.all():
                session.streams.interrupt()
        gone = [built for name, built in old.built.items() if not _same(new.built.get(name), built)]
        removed = old.built.keys() - new.built.keys()
        for name in removed:
            old.built[name].backend.on_call = None  # calls that still end must not bring the series back
        self.metrics.forget_backends(removed)
        self._spawn(_retire(gone, old, new))

    def _count(self, settings: Settings) -> None:
        """Count requests only where somebody can read the figures: it costs a tenth of a call."""
        self._front.metrics = self.metrics if settings.metrics else None
        for built in self._parts.built.values():
            built.backend.on_call = self._called if settings.metrics else None

    def _called(self, backend: str, method: str, seconds: float, reply: Reply | None) -> None:
        failed = reply is None or (reply.error is not None and reply.error.code not in CLIENTS_FAULT)
        self.metrics.backend_request(backend, method, seconds, failed=failed)

    def show_config(self, config: Callable[[], dict[str, object]]) -> None:
        """Let `/status` say what `config` says."""
        self._service.config = config

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
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        retiring = list(self._background)
        for task in retiring:
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        await self._sessions.close()
        await self.gateway.close()
        parts = self._parts
        await asyncio.gather(*(_close_built(built) for built in parts.built.values()), return_exceptions=True)
        await parts.authenticator.close()
        parts.audit.close()

    # --- building ---

    def _build(self, settings: Settings, old: _Parts | None) -> _Parts:
        """Build the parts of `settings`, taking over from `old` what is equal."""
        was = None if old is None else old.settings
        keep = old is not None and was is not None
        parts = _Parts(
            settings,
            old.authenticator
            if old is not None and was is not None and was.incoming == settings.incoming
            else build_authenticator(settings.incoming, self._overrides),
            old.authorizer
            if old is not None and was is not None and was.authz == settings.authz
            else (AllowAll() if settings.authz is None else CedarAuthorizer(settings.authz)),
            old.limiter
            if old is not None and was is not None and was.limits == settings.limits
            else (None if settings.limits is None else MemoryRateLimiter(settings.limits)),
            old.audit if old is not None and was is not None and was.audit == settings.audit else self._audit(settings),
        )
        mark = _mark(settings)
        for configured in settings.backends:
            backend = replace(configured, gateway=mark)
            outgoing = settings.outgoing[backend.name]
            known = old.built.get(backend.name) if keep and old is not None else None
            if known is not None and known.settings == backend and known.outgoing == outgoing:
                parts.built[backend.name] = known
            elif known is not None and known.settings.same_connections(backend) and known.outgoing == outgoing:
                parts.built[backend.name] = _Built(backend, outgoing, known.auth, known.backend)
            else:
                auth = outgoing.build(self._token_endpoints)
                try:
                    made = self._make_backend(backend, auth, self._resolve)
                except ValueError:
                    # The configuration's checks let through what they should not have: it costs this backend.
                    log.exception("backend cannot be served", backend=backend.name)
                    continue
                parts.built[backend.name] = _Built(backend, outgoing, auth, made)
        for left_out in settings.left_out:
            known = old.built.get(left_out.name) if old is not None else None
            if known is not None and left_out.missing:
                parts.built[left_out.name] = known  # as it stood: see `LeftOut.missing`
        return parts

    def _audit(self, settings: Settings) -> AuditLog:
        if settings.audit is None:
            return NoAudit()
        return ThreadedAuditLog(settings.audit, dropped=self.metrics.audit_dropped.inc)

    # --- housekeeping ---

    def watch(self, connections: set[Any], others: set[Any] | None = None) -> None:
        """Look after the slow ones of these connections; `others` are not those of clients."""
        self._connections = connections
        self._others = set() if others is None else others
        self.metrics.connections.set_function(lambda: len(connections))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            sweep([*self._connections, *self._others])
            self._sessions.sweep()
            self.gateway.shared.sweep(lambda sessions: bool(sessions.busy))
            self.metrics.sessions.set(len(self._sessions))

    def _session_ended(self, session: LegacySession) -> None:
        self.gateway.offers.unwatch(session.watcher)

    def _samples(self) -> list[BackendSample]:
        return [
            BackendSample(
                name,
                up=backend.catalogue.known and backend.state.circuit in _UP,
                circuit_open=backend.state.circuit not in _UP,
                lists_failing=len(backend.state.failing),
                entries_left_out=sum(map(len, backend.state.left_out.values())),
            )
            for name, backend in self.gateway.plan.backends.items()
        ]

    def _show_metrics(self) -> tuple[bytes, str] | None:
        if not self._parts.settings.metrics:
            return None
        kind, body = self.metrics.render()
        return body, kind

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _plan(parts: _Parts) -> Plan:
    settings = parts.settings
    return Plan(
        name=settings.name,
        group=settings.group,
        backends={name: built.backend for name, built in parts.built.items()},
        rules=settings.aggregation,
        authenticator=parts.authenticator,
        authorizer=parts.authorizer,
        limiter=parts.limiter,
        audit=parts.audit,
        timeout=settings.timeout,
        timeouts=settings.timeouts,
        fail_partial=settings.fail_partial,
        passthrough=frozenset(name.lower() for name in settings.passthrough),
        mark=_mark(settings),
    )


def _mark(settings: Settings) -> str:
    return gateway_mark(settings.name, settings.group, ((backend.name, backend.url) for backend in settings.backends))


def _same(one: _Built | None, other: _Built | None) -> bool:
    """Whether both run the same backend, maybe with other numbers."""
    return one is not None and other is not None and one.backend is other.backend


async def _retire(gone: list[_Built], old: _Parts, new: _Parts) -> None:
    """Close what a reload replaced, after the calls that still use it."""
    try:
        await asyncio.sleep(LINGER)
    finally:
        await asyncio.gather(*(_close_built(built) for built in gone), return_exceptions=True)
        if old.authenticator is not new.authenticator:
            await old.authenticator.close()
        if old.audit is not new.audit:
            await asyncio.to_thread(old.audit.close)


async def _close_built(built: _Built) -> None:
    await built.backend.close()
    await built.auth.close()
