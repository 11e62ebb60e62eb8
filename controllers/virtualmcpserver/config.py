"""The gateway's configuration: spec.config, completed by what the references and the members come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from api.contract import (
    Aggregation,
    CompositeToolRef,
    ConflictResolutionConfig,
    Dialect,
    IncomingAuth,
    OutgoingAuth,
    Strategy,
    VmcpConfig,
    WorkloadTools,
    to_dialect,
    with_defaults,
)
from api.contract.defaults import DEFAULT_PREFIX_FORMAT
from api.v1beta1 import MCPToolConfigSpec
from controllers.virtualmcpserver.parts import Parts
from membership import EnvName, Member, backend_of, strategies_for, with_tool_config, with_tools_of_members


def build_config(parts: Parts, backends: tuple[Member, ...], env_name: EnvName) -> VmcpConfig:
    """Complete the configuration for the members that are backends.

    Args:
        parts: what the references come to.
        backends: usable members, sorted by name.
        env_name: the variable of each secret in this Deployment.
    """
    subject, base = parts.subject, parts.config.section
    place = subject.place
    config = with_defaults(
        base.model_copy(
            update={
                "name": subject.name,
                "group_ref": subject.group,
                "backends": tuple(backend_of(member, place, env_name) for member in backends) if subject.inline else (),
                "incoming_auth": IncomingAuth(
                    type=subject.incoming, oidc=parts.oidc.section, authz=parts.authz.section
                ),
                "outgoing_auth": _outgoing(parts, backends, env_name),
                "aggregation": _aggregation(parts, backends),
                "composite_tools": (*base.composite_tools, *parts.composite_tools.section),
                "composite_tool_refs": tuple(CompositeToolRef(name=ref.name) for ref in base.composite_tool_refs),
                "telemetry": parts.telemetry.section if parts.telemetry.section is not None else base.telemetry,
                "session_storage": parts.sessions.section,
                "passthrough_headers": subject.passthrough_headers or base.passthrough_headers,
            }
            | _audit(base, subject.name)
        ),
        subject.dialect,
    )
    return to_dialect(config, subject.dialect)


def _audit(base: VmcpConfig, name: str) -> dict[str, Any]:
    if base.audit is None or base.audit.component:
        return {}
    return {"audit": base.audit.model_copy(update={"component": name})}


def _outgoing(parts: Parts, backends: tuple[Member, ...], env_name: EnvName) -> OutgoingAuth:
    if parts.subject.finds_members:
        return OutgoingAuth(source="discovered")  # it reads the references of its VirtualMCPServer itself
    inline, given = parts.subject.inline, parts.outgoing.section
    references, resolution = given.references, given.resolution
    standing = resolution.strategy(references.default, env_name) if references.default else None
    if given.open:
        standing = Strategy(type="unauthenticated")
    # A gateway that watches the group finds the members' own references itself; it only gets the overrides.
    listed = backends if inline else tuple(member for member in backends if member.name in references.overrides)
    strategies = strategies_for(listed, references, resolution, env_name)
    return OutgoingAuth(source="inline" if inline else "discovered", default=standing, backends=strategies)


def _aggregation(parts: Parts, backends: tuple[Member, ...]) -> Aggregation:
    aggregation = parts.config.section.aggregation or Aggregation()
    settings = aggregation.conflict_resolution_config or ConflictResolutionConfig()
    strategy = aggregation.conflict_resolution or "prefix"
    if strategy.startswith("prefix") and not settings.prefix_format:
        settings = settings.model_copy(update={"prefix_format": DEFAULT_PREFIX_FORMAT})
    # Towards the stock gateway nothing is left to resolve; ours shows where the words come from.
    keep = parts.subject.dialect is not Dialect.TOOLHIVE
    return aggregation.model_copy(
        update={
            "conflict_resolution": strategy,
            "conflict_resolution_config": settings,
            "tools": _tools(aggregation.tools, backends, parts.tools.section, keep=keep),
        }
    )


def _tools(
    given: Iterable[WorkloadTools],
    backends: tuple[Member, ...],
    specs: Mapping[str, MCPToolConfigSpec],
    *,
    keep: bool,
) -> tuple[WorkloadTools, ...]:
    named = (
        with_tool_config(
            tools, tools.tool_config_ref.name if tools.tool_config_ref else "", specs.get, keep_reference=keep
        )
        for tools in given
    )
    return with_tools_of_members(named, backends, specs.get, keep_reference=keep)
