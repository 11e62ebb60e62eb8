"""Outgoing authentication: which auth config decides for a member, and the strategy that it becomes.

Order for one member: the override in `outgoingAuth.backends`, then the member's own reference, then the default. A
reference that cannot be resolved never falls through to the next: the member is left out (fail closed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from api.conditions import VirtualMCPServerReason
from api.contract import Dialect, Strategy
from api.contract.identifiers import EnvInput
from api.contract.strategies import Converted, EnvSource, NotConverted, convert_strategy, secret_sources
from api.contract.support import unsupported_strategy
from api.contract.validation.auth import check_strategy
from api.contract.validation.report import Findings
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfig, MCPExternalAuthConfigSpec
from api.v1beta1.virtualmcpserver import OutgoingAuthConfig
from membership.member import Member

UNAUTHENTICATED = Strategy(type="unauthenticated")


@dataclass(frozen=True, slots=True)
class Failure:
    """An auth config that gives no strategy; the reason may be another object's."""

    reason: str
    message: str


@dataclass(frozen=True)
class References:
    """What a gateway says about the auth of its backends.

    Attributes:
        default: auth config of `outgoingAuth.default`; "" for none.
        overrides: backend -> auth config of `outgoingAuth.backends`; None where the backend's own reference counts.
    """

    default: str = ""
    overrides: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """The auth configs that the gateway itself names."""
        return {self.default, *(name for name in self.overrides.values() if name)} - {""}

    def of(self, member: Member) -> str | None:
        """Return the auth config that decides; "" for none at all, None when unauthenticated was asked for."""
        if not self.overrides:
            return member.auth_config or self.default
        override = self.overrides.get(member.name)
        if override:
            return override
        if member.auth_config:
            return member.auth_config
        return None if member.name in self.overrides else self.default


@dataclass(frozen=True)
class Resolution:
    """The outcome for all auth configs of a gateway.

    Attributes:
        specs: usable auth configs by name.
        failures: the others.
    """

    specs: Mapping[str, MCPExternalAuthConfigSpec] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)

    def sources(self, names: Iterable[str]) -> list[EnvSource]:
        """Return the variables that these auth configs read."""
        return [source for name in sorted(set(names)) for source in self._sources.get(name, ())]

    def all_sources(self) -> list[EnvSource]:
        """Return the variables that all usable auth configs read."""
        return [source for sources in self._sources.values() for source in sources]

    @cached_property
    def _sources(self) -> Mapping[str, tuple[EnvSource, ...]]:
        return {name: secret_sources(name, spec) for name, spec in self.specs.items()}

    def strategy(self, name: str, env_name: Callable[[EnvInput], str]) -> Strategy | None:
        """Return the strategy of an auth config; None when it has none."""
        if name not in self.specs:
            return None
        converted = convert_strategy(name, self.specs[name], env_name)
        return converted.strategy if isinstance(converted, Converted) else None


def references_of(auth: OutgoingAuthConfig | None) -> References:
    """Return what a VirtualMCPServer's spec says about the auth of its backends."""
    if auth is None:
        return References()
    default = auth.default.external_auth_config_ref if auth.default is not None else None
    overrides: dict[str, str | None] = {}
    for name, backend in auth.backends.items():
        own = backend.external_auth_config_ref
        overrides[name] = own.name if backend.type == "externalAuthConfigRef" and own is not None else None
    return References(default.name if default is not None else "", overrides)


def is_judged(config: MCPExternalAuthConfig) -> bool:
    """Whether its controller's verdict is about this spec; True where there is no verdict at all."""
    valid = next((c for c in (config.status.conditions if config.status else ()) if c.type == "Valid"), None)
    return valid is None or valid.observed_generation in (None, 0, config.metadata.generation)


def judge_auth_config(
    name: str, config: MCPExternalAuthConfig | None, dialect: Dialect
) -> MCPExternalAuthConfigSpec | Failure:
    """Return the spec of an auth config that can be used by a gateway of the dialect, or why it cannot.

    Args:
        name: of the auth config.
        config: the auth config; None when there is none.
        dialect: of the gateway.
    """
    if config is None:
        return Failure(str(VirtualMCPServerReason.CONVERSION_FAILED), f"MCPExternalAuthConfig {name} does not exist")
    valid = next((c for c in (config.status.conditions if config.status else ()) if c.type == "Valid"), None)
    if valid is not None and valid.status == "False":
        reason = valid.reason or str(VirtualMCPServerReason.INVALID_EXTERNAL_AUTH_CONFIG)
        return Failure(reason, f"MCPExternalAuthConfig {name} is not valid: {valid.message}")
    converted = convert_strategy(name, config.spec)
    if isinstance(converted, NotConverted):
        return Failure(str(converted.reason), converted.message)
    if dialect is Dialect.NATIVE and (refused := unsupported_strategy(converted.strategy)):
        message = f"MCPExternalAuthConfig {name}: {refused[0].message}"
        return Failure(str(VirtualMCPServerReason.CONVERSION_FAILED), message)
    report = Findings()
    check_strategy(converted.strategy, name, report)
    if report.errors:
        message = f"MCPExternalAuthConfig {report.errors[0]}"
        return Failure(str(VirtualMCPServerReason.INVALID_EXTERNAL_AUTH_CONFIG), message)
    return config.spec


def strategy_for(
    member: Member, references: References, resolution: Resolution, env_name: Callable[[EnvInput], str]
) -> Strategy | None:
    """Return a member's own strategy; None when the default applies, whatever that is."""
    return strategies_for((member,), references, resolution, env_name).get(member.name)


def strategies_for(
    members: Iterable[Member], references: References, resolution: Resolution, env_name: Callable[[EnvInput], str]
) -> dict[str, Strategy]:
    """Return the strategies of members that have one of their own, by name.

    Args:
        members: of the group.
        references: which auth config counts for whom.
        resolution: the auth configs that those name; each is converted once. One without a strategy leaves its member
            out.
        env_name: gives the environment variable that holds a Secret's value.
    """
    found: dict[str, Strategy] = {}
    converted: dict[str, Strategy | None] = {}
    for member in members:
        reference = references.of(member)
        if reference is None:
            found[member.name] = UNAUTHENTICATED
        elif reference and (reference != references.default or member.auth_config):
            if reference not in converted:
                converted[reference] = resolution.strategy(reference, env_name)
            if (strategy := converted[reference]) is not None:
                found[member.name] = strategy
    return found
