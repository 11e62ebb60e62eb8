"""Outgoing authentication: what the MCPExternalAuthConfigs of a gateway and of its members come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from api.conditions import VirtualMCPServerCondition, VirtualMCPServerReason, named_condition_type
from api.contract import Dialect
from api.v1beta1 import MCPExternalAuthConfig
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfigSpec
from api.v1beta1.virtualmcpserver import OutgoingAuthConfig
from controllers.shared.verdicts import Unreadable
from controllers.virtualmcpserver.parts import Outgoing, Part
from membership import Failure, Member, References, Resolution, judge_auth_config, references_of
from runtime import Condition

Configs = Mapping[str, MCPExternalAuthConfig | Unreadable]


def auth_config_names(auth: OutgoingAuthConfig | None, members: Iterable[Member]) -> set[str]:
    """Return the auth configs that a spec and the members of its group name."""
    references = references_of(auth)
    names = {member.auth_config for member in members} | {references.default}
    return (names | {name for name in references.overrides.values() if name}) - {""}


def resolve_auth_configs(
    auth: OutgoingAuthConfig | None, members: tuple[Member, ...], configs: Configs, dialect: Dialect
) -> Part[Outgoing]:
    """Judge every auth config, each once; a condition per reference says what came of it."""
    references = references_of(auth)
    specs: dict[str, MCPExternalAuthConfigSpec] = {}
    failures: dict[str, Failure] = {}
    for name in sorted(auth_config_names(auth, members)):
        outcome = _judge(name, configs.get(name), dialect)
        if isinstance(outcome, Failure):
            failures[name] = outcome
        else:
            specs[name] = outcome
    resolution = Resolution(specs, failures)
    open_ = auth is not None and auth.default is not None and not references.default
    section = Outgoing(references=references, resolution=resolution, open=open_)
    return Part(section=section, advice=tuple(_conditions(references, members, failures)))


def _judge(
    name: str, config: MCPExternalAuthConfig | Unreadable | None, dialect: Dialect
) -> MCPExternalAuthConfigSpec | Failure:
    if isinstance(config, Unreadable):
        return Failure(str(VirtualMCPServerReason.CONVERSION_FAILED), f"MCPExternalAuthConfig {name}: {config.message}")
    return judge_auth_config(name, config, dialect)


def _conditions(
    references: References, members: Iterable[Member], failures: Mapping[str, Failure]
) -> Iterable[Condition]:
    """Return one condition per reference: of the default, of each override, of each member."""
    found = []
    if references.default:
        type_ = str(VirtualMCPServerCondition.DEFAULT_AUTH_CONFIG)
        found.append(_condition(type_, references.default, failures))
    for backend, name in sorted(references.overrides.items()):
        if name:
            type_ = named_condition_type(str(VirtualMCPServerCondition.BACKEND_AUTH_CONFIG), backend)
            found.append(_condition(type_, name, failures))
    named = (member for member in members if member.auth_config)
    for member in sorted(named, key=lambda member: member.name):
        type_ = named_condition_type(str(VirtualMCPServerCondition.DISCOVERED_AUTH_CONFIG), member.name)
        found.append(_condition(type_, member.auth_config, failures))
    # Two members of different kinds may share a name; one condition speaks for both.
    return {condition.type: condition for condition in found}.values()


def _condition(type_: str, name: str, failures: Mapping[str, Failure]) -> Condition:
    failure = failures.get(name)
    if failure is not None:
        return Condition(type_, "False", failure.reason, failure.message)
    message = f"MCPExternalAuthConfig {name} became a strategy"
    return Condition(type_, "True", str(VirtualMCPServerReason.CONVERSION_SUCCEEDED), message)
