"""The auth configs of a gateway and of its members: each one's outcome, and the conditions that say it."""

from __future__ import annotations

from api.conditions import VirtualMCPServerCondition, VirtualMCPServerReason, named_condition_type
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfigSpec
from controllers.shared.verdicts import Unreadable
from controllers.virtualmcpserver.snapshot import Snapshot
from membership import Failure, Resolution, judge_auth_config
from runtime import Condition


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


def auth_conditions(snapshot: Snapshot, resolution: Resolution) -> list[Condition]:
    """Return one condition per reference: of the default, of each override, of each member."""
    found = []
    default = snapshot.references.default
    if default:
        found.append(_condition(str(VirtualMCPServerCondition.DEFAULT_AUTH_CONFIG), default, resolution))
    for backend, name in sorted(snapshot.references.overrides.items()):
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
    names |= {name for name in snapshot.references.overrides.values() if name}
    return (names | {snapshot.references.default}) - {""}


def _judge(snapshot: Snapshot, name: str) -> MCPExternalAuthConfigSpec | Failure:
    config = snapshot.auth_configs.get(name)
    if isinstance(config, Unreadable):
        return Failure(str(VirtualMCPServerReason.CONVERSION_FAILED), f"MCPExternalAuthConfig {name}: {config.message}")
    return judge_auth_config(name, config, snapshot.dialect)
