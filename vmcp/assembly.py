"""From settings to the parts of a gateway. A reload builds the next parts from the last ones: what is equal is kept.

Everything that a configuration decides is made here. What a change costs can be read off `Assembly.build`: a part is
made anew when its own settings differ, and only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import structlog

from vmcp.audit.interface import AuditLog
from vmcp.audit.log import AuditSettings, NoAudit, ThreadedAuditLog
from vmcp.auth.fetch import Overrides
from vmcp.auth.incoming import IncomingSettings, build_authenticator
from vmcp.auth.interface import Authenticator, BackendAuth
from vmcp.auth.outgoing.strategy import OutgoingSettings, TokenEndpoints
from vmcp.authz.cedar import AllowAll, CedarAuthorizer, CedarSettings
from vmcp.authz.interface import Authorizer
from vmcp.backend.interface import Backend
from vmcp.backend.settings import BackendSettings, Resolve
from vmcp.config.settings import Settings
from vmcp.core.plan import Plan
from vmcp.limits.bucket import MemoryRateLimiter, RateLimits
from vmcp.limits.interface import RateLimiter
from vmcp.wire.lineage import gateway_mark

log = structlog.get_logger(__name__)

BackendFactory = Callable[[BackendSettings, BackendAuth, Resolve], Backend]

S = TypeVar("S")
P = TypeVar("P")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Made(Generic[S, P]):
    """A part, and the settings that it was made of."""

    settings: S
    part: P


def kept(old: Made[S, P] | None, settings: S, make: Callable[[S], P]) -> Made[S, P]:
    """Return the old part where its settings are equal, else a new one."""
    if old is not None and old.settings == settings:
        return old
    return Made(settings, make(settings))


@dataclass(frozen=True, slots=True, eq=False)
class RunningBackend:
    """A backend, its auth, and what both were made of."""

    settings: BackendSettings
    outgoing: OutgoingSettings
    auth: BackendAuth
    backend: Backend

    async def close(self) -> None:
        """End both."""
        await self.backend.close()
        await self.auth.close()


@dataclass(frozen=True, slots=True)
class RunningParts:
    """What a configuration consists of, made.

    Attributes:
        settings: All of them.
        mark: By which gateways recognise this one (`vmcp.wire.lineage`).
        backends: By name, in the order of the configuration.
        standing: Those of them that go on as they stood: see `LeftOut.missing`.
    """

    settings: Settings
    mark: str
    authenticator: Made[IncomingSettings, Authenticator]
    authorizer: Made[CedarSettings | None, Authorizer]
    limiter: Made[tuple[RateLimits | None, bool], RateLimiter | None]
    audit: Made[AuditSettings | None, AuditLog]
    backends: dict[str, RunningBackend] = field(default_factory=dict)
    standing: frozenset[str] = frozenset()

    def plan(self) -> Plan:
        """Return what the core works with."""
        settings = self.settings
        return Plan(
            name=settings.name,
            group=settings.group,
            backends={name: running.backend for name, running in self.backends.items()},
            rules=settings.aggregation,
            authenticator=self.authenticator.part,
            authorizer=self.authorizer.part,
            limiter=self.limiter.part,
            audit=self.audit.part,
            timeout=settings.timeout,
            timeouts=settings.timeouts,
            fail_partial=settings.fail_partial,
            passthrough=frozenset(name.lower() for name in settings.passthrough),
            mark=self.mark,
            policed=settings.authz is not None,
            trust_forwarded=settings.proxy is not None and settings.proxy.trust_forwarded,
        )

    def missing_in(self, other: RunningParts) -> list[RunningBackend]:
        """Return the backends that do not run in `other`, not even with other numbers."""
        there = {id(running.backend) for running in other.backends.values()}
        return [running for running in self.backends.values() if id(running.backend) not in there]

    async def close(self) -> None:
        """End everything."""
        await asyncio.gather(*(running.close() for running in self.backends.values()), return_exceptions=True)
        await self.authenticator.part.close()
        self.audit.part.close()

    async def close_what_ended(self, new: RunningParts) -> None:
        """End what `new` does not go on with."""
        await asyncio.gather(*(running.close() for running in self.missing_in(new)), return_exceptions=True)
        if self.authenticator is not new.authenticator:
            await self.authenticator.part.close()
        if self.audit is not new.audit:
            await asyncio.to_thread(self.audit.part.close)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What parts are made with, besides their settings; the same for the life of the process.

    Attributes:
        make_backend: Makes a backend of its settings and its auth.
        resolve: Addresses to use for (host, port) of backends, as curl's `--resolve`.
        overrides: The same for issuers.
        token_endpoints: Where token endpoints may be, and what is known of their tokens.
        audit_dropped: Called for each event that the audit log had no room for.
        share_limits: Makes the limiter of a gateway whose replicas share a store.
    """

    make_backend: BackendFactory
    resolve: Resolve
    overrides: Overrides | None
    token_endpoints: TokenEndpoints
    audit_dropped: Callable[[], None]
    share_limits: Callable[[RateLimits], RateLimiter]

    def build(self, settings: Settings, old: RunningParts | None = None) -> RunningParts:
        """Return the parts of `settings`; starts nothing, and leaves `old` as it is.

        Raises:
            OSError: A file that the settings name cannot be read.
        """
        running = {} if old is None else old.backends
        standing = [one.name for one in settings.left_out if one.missing and one.name in running]
        if old is not None and standing:
            settings = _with_rules_of(settings, old.settings, standing)
        parts = RunningParts(
            settings,
            gateway_mark(settings.name, settings.group, ((backend.name, backend.url) for backend in settings.backends)),
            kept(old.authenticator if old else None, settings.incoming, self._authenticator),
            kept(old.authorizer if old else None, settings.authz, _authorizer),
            kept(old.limiter if old else None, (settings.limits, settings.store is not None), self._limiter),
            kept(old.audit if old else None, settings.audit, self._audit),
            standing=frozenset(standing),
        )
        for configured in settings.backends:
            outgoing = settings.outgoing[configured.name]
            own = replace(configured, gateway=parts.mark)
            made = self._backend(running.get(configured.name), own, outgoing)
            if made is not None:
                parts.backends[configured.name] = made
        for name in standing:
            parts.backends[name] = running[name]
        return parts

    def _backend(
        self, old: RunningBackend | None, settings: BackendSettings, outgoing: OutgoingSettings
    ) -> RunningBackend | None:
        """Keep a backend, keep it with other numbers, or make one; None where it cannot be made."""
        if old is not None and old.outgoing == outgoing:
            if old.settings == settings:
                return old
            if old.settings.same_connections(settings):
                return replace(old, settings=settings)
        auth = outgoing.build(self.token_endpoints)
        try:
            return RunningBackend(settings, outgoing, auth, self.make_backend(settings, auth, self.resolve))
        except ValueError:
            # The configuration's checks let through what they should not have: it costs this backend.
            log.exception("backend cannot be served", backend=settings.name)
            return None

    def _limiter(self, settings: tuple[RateLimits | None, bool]) -> RateLimiter | None:
        limits, shared = settings
        if limits is None:
            return None
        return self.share_limits(limits) if shared else MemoryRateLimiter(limits)

    def _authenticator(self, settings: IncomingSettings) -> Authenticator:
        return build_authenticator(settings, self.overrides)

    def _audit(self, settings: AuditSettings | None) -> AuditLog:
        return NoAudit() if settings is None else ThreadedAuditLog(settings, dropped=self.audit_dropped)


def _with_rules_of(settings: Settings, old: Settings, names: Iterable[str]) -> Settings:
    """Return settings that say of some backends what the old ones say of them.

    The new rules are for the backend that the new configuration describes: a filter that is taken away with the move to
    another URL must not open the server at the old one.
    """
    changed, timeouts = dict(settings.aggregation.workloads), dict(settings.timeouts)
    for name in names:
        _take(changed, old.aggregation.workloads, name)
        _take(timeouts, old.timeouts, name)
    return replace(settings, aggregation=replace(settings.aggregation, workloads=changed), timeouts=timeouts)


def _take(into: dict[str, Value], given: Mapping[str, Value], name: str) -> None:
    if name in given:
        into[name] = given[name]
    else:
        into.pop(name, None)


def _authorizer(settings: CedarSettings | None) -> Authorizer:
    return AllowAll() if settings is None else CedarAuthorizer(settings)
