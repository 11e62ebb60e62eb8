"""From a look at the group to a configuration: the gateway's own, with the backends that `membership` chooses.

Pure: no IO, no clock. Values of Secrets are not in the configuration; it names variables, as one that the operator
writes, and `Composed.values` holds what they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from api.conditions import MemberSkipReason
from api.contract import Aggregation, Dialect, OutgoingAuth, StaticBackend, Strategy, VmcpConfig
from api.contract.identifiers import EnvInput, assign_env_names
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfigSpec
from membership import (
    Failure,
    GatewayTraits,
    Member,
    Place,
    References,
    Resolution,
    Skipped,
    backend_of,
    ca_volume,
    choose,
    has_ca,
    judge_auth_config,
    member_sources,
    strategy_for,
    with_tools_of_members,
)
from vmcp.kube.view import GroupView, UnreadableObject


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A configuration, and what it stands on.

    Attributes:
        config: With backends.
        values: Variable -> value of a Secret.
        bundles: Path of a CA bundle in the configuration -> its content.
        skipped: Members that are no backends. Those that are being read for the first time are not among them.
        auth_configs: Backend -> MCPExternalAuthConfig that decides; those without one are absent.
    """

    config: VmcpConfig
    values: Mapping[str, str] = field(repr=False)
    bundles: Mapping[str, bytes]
    skipped: tuple[Skipped, ...]
    auth_configs: Mapping[str, str] = field(default_factory=dict)


def compose(base: VmcpConfig, view: GroupView, namespace: str) -> Composed:
    """Complete the gateway's configuration by the members of its group.

    Args:
        base: What the gateway's ConfigMap, or file, says.
        view: A look at the group.
        namespace: Of the group.
    """
    references = view.references or References()
    resolution = _resolve(view)
    gateway = GatewayTraits(
        dialect=Dialect.NATIVE, inline=False, references=references, resolution=resolution, material=view
    )
    chosen = choose(view.members if view.group_exists else (), gateway)
    sources = {source.input: source for member in chosen.backends for source in member_sources(member, gateway)}
    names = assign_env_names(sources)

    def env_name(item: EnvInput) -> str:
        return names[item]

    place = Place(Dialect.NATIVE, namespace, base.group_ref)
    strategies = _strategies(base, view, chosen.backends, resolution, names)
    aggregation = base.aggregation or Aggregation()
    tools = with_tools_of_members(aggregation.tools, chosen.backends, view.tool_configs.get, keep_reference=True)
    config = base.model_copy(
        update={
            "backends": tuple(_anonymous(backend_of(member, place, env_name)) for member in chosen.backends),
            "outgoing_auth": OutgoingAuth(source="discovered", backends=strategies),
            "aggregation": aggregation.model_copy(update={"tools": tools}),
        }
    )
    return Composed(
        config=config,
        values={names[item]: view.value(source.secret, source.key) for item, source in sources.items()},
        bundles={
            ca_volume(member, place.dialect).path(member.ca_key): view.config_maps[member.ca_config_map][member.ca_key]
            for member in chosen.backends
            if has_ca(member)
        },
        skipped=tuple(_told(chosen.skipped, view, resolution, references)),
        auth_configs={member.name: name for member in chosen.backends if (name := references.of(member))},
    )


def _anonymous(backend: StaticBackend) -> StaticBackend:
    """Leave out the metadata: nothing here reads it, and a passing phase is no change of the configuration."""
    return backend.model_copy(update={"metadata": {}})


def _resolve(view: GroupView) -> Resolution:
    specs: dict[str, MCPExternalAuthConfigSpec] = {}
    failures: dict[str, Failure] = {}
    references = view.references or References()
    for name in sorted(({member.auth_config for member in view.members} - {""}) | references.names):
        config = view.auth_configs.get(name)
        if isinstance(config, UnreadableObject):
            failures[name] = Failure("ConversionFailed", f"MCPExternalAuthConfig {name}: {config.message}")
            continue
        outcome = judge_auth_config(name, config, Dialect.NATIVE)
        if isinstance(outcome, Failure):
            failures[name] = outcome
        else:
            specs[name] = outcome
    return Resolution(specs, failures)


def _strategies(
    base: VmcpConfig,
    view: GroupView,
    backends: tuple[Member, ...],
    resolution: Resolution,
    names: Mapping[EnvInput, str],
) -> dict[str, Strategy]:
    """Return the strategy of each backend that has one.

    The VirtualMCPServer's words come first: its override, the member's own reference, its default. Where there is no
    such object, the configuration's own `outgoingAuth` gives override and default.
    """
    references = view.references or References()
    given = base.outgoing_auth if view.references is None else None
    found: dict[str, Strategy] = {}
    for member in backends:
        strategy = given.backends.get(member.name) if given is not None else None
        strategy = strategy or strategy_for(member, references, resolution, names.__getitem__)
        if strategy is None:
            default = references.of(member)
            fallback = given.default if given is not None else None
            strategy = resolution.strategy(default, names.__getitem__) if default else fallback
        if strategy is not None:
            found[member.name] = strategy
    return found


def _told(
    skipped: tuple[Skipped, ...], view: GroupView, resolution: Resolution, references: References
) -> list[Skipped]:
    """Say of a member whose Secret or CA bundle could not be read why, instead of that it does not exist."""
    by_name: dict[str, list[Member]] = {}
    for member in view.members:
        by_name.setdefault(member.name, []).append(member)
    told: list[Skipped] = []
    for item in skipped:
        reasons = [
            (kind, name, view.unread[kind, name])
            for member in by_name.get(item.name, ())
            for kind, name in _needed(member, resolution, references)
            if (kind, name) in view.unread
        ]
        missing = item.reason in (MemberSkipReason.SECRET_NOT_FOUND, MemberSkipReason.CA_BUNDLE_NOT_FOUND)
        if not missing or not reasons:
            told.append(item)
        elif all(why for _, _, why in reasons):
            kind, name, why = reasons[0]
            told.append(Skipped(item.name, item.reason, f'{kind} "{name}" cannot be read: {why}'))
    return told


def _needed(member: Member, resolution: Resolution, references: References) -> list[tuple[str, str]]:
    needed = [("Secret", header.secret) for header in member.secret_headers]
    reference = references.of(member)
    needed += [("Secret", source.secret) for source in resolution.sources([reference] if reference else [])]
    return [*needed, ("ConfigMap", member.ca_config_map)]
