"""The configuration as the program uses it: resolved, checked, immutable, free of the file's shape.

`load` makes it, the composition root builds the parts from it, and a reload compares parts of two of them: what is
equal keeps running. Secret values live in `repr=False` fields only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from api.contract.defaults import DEFAULT_TIMEOUT
from api.contract.errors import ConfigError
from vmcp.audit.log import AuditSettings
from vmcp.auth.incoming import IncomingSettings
from vmcp.auth.outgoing.strategy import OutgoingSettings
from vmcp.authz.cedar import CedarSettings
from vmcp.backend.settings import BackendSettings
from vmcp.core.rules import AggregationRules
from vmcp.limits.bucket import RateLimits
from vmcp.sessions.settings import RedisSettings


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A backend of the configuration that cannot be used; the others are served without it.

    Attributes:
        name: Of the backend; its place in the file where it has none.
        errors: Why.
        reason: In one word (`MemberSkipReason`), where a member of the group did not become a backend; else "".
    """

    name: str
    errors: tuple[ConfigError, ...]
    reason: str = ""

    @property
    def missing(self) -> bool:
        """Whether only something that the file names is not there: a variable or a file.

        A running gateway keeps such a backend as it stood. The operator publishes a configuration for pods that it is
        about to roll; until then the old ones lack the new variables and mounts.
        """
        return all(error.missing for error in self.errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """What makes a proxy of a gateway: its one backend shows through.

    Attributes:
        trust_forwarded: The last address of `X-Forwarded-For` is the client's.
    """

    trust_forwarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a configuration file decides.

    Attributes:
        name: Of the gateway; serverInfo and `MCP::"<name>"` of policies.
        group: The MCPGroup that it serves.
        backends: In the order of the file; static headers with their secrets resolved.
        outgoing: Auth per backend; every backend has an entry.
        incoming: Who gets in.
        authz: Policies; None = everything is allowed to whoever gets in.
        aggregation: How lists become one.
        limits: Rate limits; None = none.
        audit: None = no audit log.
        timeout: Seconds for a call towards a backend.
        timeouts: Other seconds for single backends.
        fail_partial: Lists fail while a backend is missing (`partialFailureMode: fail`), else they hold what is there.
        passthrough: Client headers that go on to backends.
        metrics: `/metrics` is served.
        debug: Log at debug level.
        sealing: Secret that replicas share to open each other's cursors and request states; None = of this process.
        store: Where replicas share sessions; None = sessions live in this process.
        secrets: Every secret value in use, for the redactor.
        warnings: What works, but probably not as meant.
        left_out: Backends of the file that cannot be used, in the order of the file.
        proxy: Set for a proxy, which has exactly one backend; None = a gateway.
    """

    name: str
    group: str
    backends: tuple[BackendSettings, ...] = ()
    outgoing: Mapping[str, OutgoingSettings] = field(default_factory=dict)
    incoming: IncomingSettings = field(default_factory=IncomingSettings)
    authz: CedarSettings | None = None
    aggregation: AggregationRules = field(default_factory=AggregationRules)
    limits: RateLimits | None = None
    audit: AuditSettings | None = None
    timeout: float = DEFAULT_TIMEOUT.seconds
    timeouts: Mapping[str, float] = field(default_factory=dict)
    fail_partial: bool = False
    passthrough: tuple[str, ...] = ()
    metrics: bool = False
    debug: bool = False
    sealing: bytes | None = field(default=None, repr=False)
    store: RedisSettings | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    proxy: ProxySettings | None = None
