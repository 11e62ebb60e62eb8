"""Outgoing authentication: what the MCPExternalAuthConfigs of a gateway and of its members come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from api.conditions import VirtualMCPServerCondition, VirtualMCPServerReason, named_condition_type
from api.contract import Dialect
from api.v1beta1 import MCPExternalAuthConfig
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfigSpec
from api.v1beta1.virtualmcpserver import OutgoingAuthConfig
from controllers.shared.parts.part import Part
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.virtualmcpserver.parts import Outgoing
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
    """Judge every auth config, each once; a condition per reference says what came of it.

    A failed one costs the members that it counts for. The exception is a stock gateway that finds its members itself:
    it would serve them all the same, without the default or the override that its configuration lacks. There a failed
    reference of the gateway's own stops everything, and what is published stays.
    """
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
    inline = auth is not None and auth.source == "inline"
    falls_through = dialect is Dialect.TOOLHIVE and not inline
    stopping = tuple(_stopping(references, failures)) if falls_through else ()
    stopped = {verdict.type for verdict in stopping}
    said = _conditions(references, members, failures)
    advice = tuple(condition for condition in said if condition.type not in stopped)
    return Part(section=section, checks=stopping, advice=advice)


def _stopping(references: References, failures: Mapping[str, Failure]) -> Iterable[Verdict]:
    """Yield the failed references of the gateway itself as checks."""
    for condition in _own_conditions(references, failures):
        if condition.status == "False":
            message = f"{condition.message}; nothing is published, as backends would be called without its credentials"
            yield Verdict(condition.type, False, condition.reason, message)


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
    found = list(_own_conditions(references, failures))
    named = (member for member in members if member.auth_config)
    for member in sorted(named, key=lambda member: member.name):
        type_ = named_condition_type(str(VirtualMCPServerCondition.DISCOVERED_AUTH_CONFIG), member.name)
        found.append(_condition(type_, member.auth_config, failures))
    # Two members of different kinds may share a name; one condition speaks for both.
    return {condition.type: condition for condition in found}.values()


def _own_conditions(references: References, failures: Mapping[str, Failure]) -> Iterable[Condition]:
    """Yield one condition for the default, and for each override."""
    if references.default:
        yield _condition(str(VirtualMCPServerCondition.DEFAULT_AUTH_CONFIG), references.default, failures)
    for backend, name in sorted(references.overrides.items()):
        if name:
            type_ = named_condition_type(str(VirtualMCPServerCondition.BACKEND_AUTH_CONFIG), backend)
            yield _condition(type_, name, failures)


def _condition(type_: str, name: str, failures: Mapping[str, Failure]) -> Condition:
    failure = failures.get(name)
    if failure is not None:
        return Condition(type_, "False", failure.reason, failure.message)
    message = f"MCPExternalAuthConfig {name} was converted to a strategy"
    return Condition(type_, "True", str(VirtualMCPServerReason.CONVERSION_SUCCEEDED), message)
