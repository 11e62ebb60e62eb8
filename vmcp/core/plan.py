"""Everything that the configuration decides, as one immutable value: a reload makes a new one and swaps it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from api.contract.defaults import DEFAULT_TIMEOUT
from vmcp.audit.interface import AuditLog
from vmcp.auth.interface import Authenticator
from vmcp.authz.interface import Authorizer
from vmcp.backend.interface import Backend, Provider
from vmcp.core.rules import AggregationRules
from vmcp.limits.interface import RateLimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the gateway works with.

    Attributes:
        name: The gateway's name towards clients.
        group: The group it serves; `group_ref` in `/status`.
        backends: By name: what runs in the background and is shown in `/status`.
        rules: How lists are merged.
        authenticator: Incoming authentication.
        authorizer: Policy.
        limiter: Rate limits; None = none.
        audit: The audit log.
        timeout: Seconds for a call.
        timeouts: Seconds for calls to single backends.
        fail_partial: A list is refused while a backend cannot answer; False = lists hold what is there.
        passthrough: Lower-case names of client headers that backends get.
        policed: There are policies: what they cannot judge is refused where it would pass otherwise (`relay`).
        trust_forwarded: The last address of `X-Forwarded-For` is the client's: a proxy that we trust adds it.
        others: Providers that are no backends, by name; where a backend has that name, it counts.
        providers: All whose lists are merged and whose items are called: backends and others.
        mark: By which gateways recognise this one (`vmcp.wire.lineage`); "" = lists bear none.
    """

    name: str
    group: str
    backends: Mapping[str, Backend]
    rules: AggregationRules
    authenticator: Authenticator
    authorizer: Authorizer
    limiter: RateLimiter | None
    audit: AuditLog
    timeout: float = DEFAULT_TIMEOUT.seconds
    timeouts: Mapping[str, float] = field(default_factory=dict)
    fail_partial: bool = False
    passthrough: frozenset[str] = frozenset()
    mark: str = ""
    policed: bool = False
    trust_forwarded: bool = False
    others: Mapping[str, Provider] = field(default_factory=dict)
    providers: Mapping[str, Provider] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "providers", {**self.others, **self.backends})

    def timeout_for(self, backend: str) -> float:
        """Return the seconds for a call to this backend."""
        return self.timeouts.get(backend, self.timeout)
