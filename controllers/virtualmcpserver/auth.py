"""Outgoing authentication: which strategy each backend gets, and which backends have none and are left out.

Order for one backend: the override in `outgoingAuth.backends`, then the member's own reference, then the default. A
reference that cannot be resolved never falls through to the next: the backend is skipped (fail closed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from api.conditions import MemberSkipReason, VirtualMCPServerCondition, VirtualMCPServerReason, named_condition_type
from api.contract import Dialect, Strategy
from api.contract.identifiers import EnvInput, SecretPurpose
from api.contract.strategies import Converted, NotConverted, SecretSource, convert_strategy, secret_sources
from api.contract.support import unsupported_strategy
from api.contract.validation.auth import check_strategy
from api.contract.validation.report import Report
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfigSpec
from controllers.shared.verdicts import Unreadable
from controllers.virtualmcpserver.members import Member, Skipped
from controllers.virtualmcpserver.snapshot import Snapshot
from runtime import Condition

UNAUTHENTICATED = Strategy(type="unauthenticated")


@dataclass(frozen=True, slots=True)
class Failure:
    """An auth config that gives no strategy; the reason may be another object's."""

    reason: str
    message: str


@dataclass(frozen=True)
class Resolution:
    """The outcome for all auth configs of a gateway.

    Attributes:
        specs: usable auth configs by name.
        failures: the others.
    """

    specs: Mapping[str, MCPExternalAuthConfigSpec] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)

    def sources(self, names: Iterable[str]) -> list[SecretSource]:
        """Return the variables that these auth configs read."""
        return [
            source
            for name in sorted(set(names))
            if name in self.specs
            for source in secret_sources(name, self.specs[name])
        ]


def resolve_auth_configs(snapshot: Snapshot) -> Resolution:
    """Judge every auth config that the gateway or a member names."""
    specs: dict[str, MCPExternalAuthConfigSpec] = {}
    failures: dict[str, Failure] = {}
    for name in sorted(_names(snapshot)):
        outcome = _judge(snapshot, name)
        if isinstance(outcome, Failure):
            failures[name] = outcome
        else:
            specs[name] = outcome
    return Resolution(specs, failures)


def reference_of(snapshot: Snapshot, member: Member) -> str | None:
    """Return the auth config that decides for a member; "" for none at all, None when unauthenticated was asked for."""
    chosen = snapshot.overrides
    if chosen.get(member.name):
        return chosen[member.name]
    if member.auth_config:
        return member.auth_config
    if member.name in chosen:
        return None
    return snapshot.default_reference


def judge_auth(snapshot: Snapshot, member: Member, resolution: Resolution) -> Skipped | None:
    """Say why a member has no usable authentication."""
    reference = reference_of(snapshot, member)
    if not reference:
        return None
    failure = resolution.failures.get(reference)
    if failure is not None:
        return Skipped(member.name, MemberSkipReason.AUTH_CONFIG_FAILED, failure.message)
    missing = missing_secrets(snapshot, resolution.sources([reference]))
    if missing:
        return Skipped(member.name, MemberSkipReason.SECRET_NOT_FOUND, missing[0])
    unfit = _unfit_secrets(snapshot, resolution.sources([reference]))
    return Skipped(member.name, MemberSkipReason.AUTH_CONFIG_FAILED, unfit[0]) if unfit else None


def _unfit_secrets(snapshot: Snapshot, sources: Iterable[SecretSource]) -> list[str]:
    """Return a sentence for each source whose value the gateway cannot use."""
    found = []
    for source in sources:
        header = source.input.purpose is SecretPurpose.HEADER_INJECTION
        problem = snapshot.unfit(source.secret, source.key, header=header)
        if problem:
            found.append(f'the value of key "{source.key}" in Secret "{source.secret}" {problem}')
    return found


def missing_secrets(snapshot: Snapshot, sources: Iterable[SecretSource]) -> list[str]:
    """Return a sentence for each source whose Secret or key is not there."""
    return [
        f'Secret "{source.secret}" has no key "{source.key}" or does not exist'
        for source in sources
        if not snapshot.has_key(source.secret, source.key)
    ]


def strategy_for(
    snapshot: Snapshot, member: Member, resolution: Resolution, env_name: Callable[[EnvInput], str]
) -> Strategy | None:
    """Return a member's own strategy; None when the default applies, whatever that is."""
    reference = reference_of(snapshot, member)
    if reference is None:
        return UNAUTHENTICATED
    if not reference or (reference == snapshot.default_reference and not member.auth_config):
        return None
    return strategy_of(reference, resolution, env_name)


def strategy_of(name: str, resolution: Resolution, env_name: Callable[[EnvInput], str]) -> Strategy | None:
    """Return the strategy of an auth config; None when it has none."""
    if name not in resolution.specs:
        return None
    converted = convert_strategy(name, resolution.specs[name], env_name)
    return converted.strategy if isinstance(converted, Converted) else None


def auth_conditions(snapshot: Snapshot, resolution: Resolution) -> list[Condition]:
    """Return one condition per reference: of the default, of each override, of each member."""
    found = []
    default = snapshot.default_reference
    if default:
        found.append(_condition(str(VirtualMCPServerCondition.DEFAULT_AUTH_CONFIG), default, resolution))
    for backend, name in sorted(snapshot.overrides.items()):
        if name:
            type_ = named_condition_type(str(VirtualMCPServerCondition.BACKEND_AUTH_CONFIG), backend)
            found.append(_condition(type_, name, resolution))
    for member in sorted(snapshot.members, key=lambda member: member.name):
        if member.auth_config:
            type_ = named_condition_type(str(VirtualMCPServerCondition.DISCOVERED_AUTH_CONFIG), member.name)
            found.append(_condition(type_, member.auth_config, resolution))
    # Two members of different kinds may share a name; one condition speaks for both.
    return list({condition.type: condition for condition in found}.values())


def _condition(type_: str, name: str, resolution: Resolution) -> Condition:
    failure = resolution.failures.get(name)
    if failure is not None:
        return Condition(type_, "False", failure.reason, failure.message)
    message = f"MCPExternalAuthConfig {name} became a strategy"
    return Condition(type_, "True", str(VirtualMCPServerReason.CONVERSION_SUCCEEDED), message)


def _names(snapshot: Snapshot) -> set[str]:
    names = {member.auth_config for member in snapshot.members}
    names |= {name for name in snapshot.overrides.values() if name}
    return (names | {snapshot.default_reference}) - {""}


def _judge(snapshot: Snapshot, name: str) -> MCPExternalAuthConfigSpec | Failure:
    config = snapshot.auth_configs.get(name)
    if config is None:
        return Failure(str(VirtualMCPServerReason.CONVERSION_FAILED), f"MCPExternalAuthConfig {name} does not exist")
    if isinstance(config, Unreadable):
        return Failure(str(VirtualMCPServerReason.CONVERSION_FAILED), f"MCPExternalAuthConfig {name}: {config.message}")
    valid = next((c for c in (config.status.conditions if config.status else ()) if c.type == "Valid"), None)
    if valid is not None and valid.status == "False":
        reason = valid.reason or str(VirtualMCPServerReason.INVALID_EXTERNAL_AUTH_CONFIG)
        return Failure(reason, f"MCPExternalAuthConfig {name} is not valid: {valid.message}")
    converted = convert_strategy(name, config.spec)
    if isinstance(converted, NotConverted):
        return Failure(str(converted.reason), converted.message)
    if snapshot.dialect is Dialect.NATIVE and (refused := unsupported_strategy(converted.strategy)):
        message = f"MCPExternalAuthConfig {name}: {refused[0].message}"
        return Failure(str(VirtualMCPServerReason.CONVERSION_FAILED), message)
    report = Report()
    check_strategy(converted.strategy, name, report)
    if report.errors:
        message = f"MCPExternalAuthConfig {report.errors[0]}"
        return Failure(str(VirtualMCPServerReason.INVALID_EXTERNAL_AUTH_CONFIG), message)
    return config.spec
