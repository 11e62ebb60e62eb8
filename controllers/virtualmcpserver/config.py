"""The gateway's configuration: spec.config, completed by what the references and the members say."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from api.contract import (
    Aggregation,
    CompositeToolRef,
    ConfigError,
    ConflictResolutionConfig,
    Dialect,
    IncomingAuth,
    OutgoingAuth,
    SessionStorage,
    Strategy,
    VmcpConfig,
    WorkloadTools,
    to_dialect,
    with_defaults,
)
from api.contract.defaults import DEFAULT_PREFIX_FORMAT
from api.contract.errors import join
from api.v1beta1 import MCPToolConfigSpec
from controllers.shared.verdicts import Unreadable
from controllers.virtualmcpserver.references import Referenced
from controllers.virtualmcpserver.snapshot import Snapshot
from membership import (
    EnvName,
    Member,
    Resolution,
    backend_of,
    strategy_for,
    with_tool_config,
    with_tools_of_members,
)


def base_config(snapshot: Snapshot) -> tuple[VmcpConfig, list[ConfigError]]:
    """Read spec.config; keys that the configuration does not have are dropped, as the API's schema says."""
    if snapshot.spec.config is None:
        return VmcpConfig(), []
    wire = snapshot.spec.config.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        return VmcpConfig.model_validate(wire, extra="ignore", by_alias=True, by_name=False), []
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return VmcpConfig(), [ConfigError(join("spec.config", *item["loc"]), item["msg"]) for item in found]


def build_config(
    snapshot: Snapshot,
    base: VmcpConfig,
    referenced: Referenced,
    resolution: Resolution,
    backends: tuple[Member, ...],
    env_name: EnvName,
) -> VmcpConfig:
    """Complete the configuration for the members that are backends.

    Args:
        snapshot: the world.
        base: from `base_config`.
        referenced: resolved references.
        resolution: resolved auth configs.
        backends: usable members, sorted by name.
        env_name: the variable of each secret in this Deployment.
    """
    spec, place = snapshot.spec, snapshot.place
    config = with_defaults(
        base.model_copy(
            update={
                "name": snapshot.name,
                "group_ref": spec.group_ref.name,
                "backends": tuple(backend_of(member, place, env_name) for member in backends)
                if snapshot.inline
                else (),
                "incoming_auth": IncomingAuth(
                    type=spec.incoming_auth.type, oidc=referenced.oidc, authz=referenced.authz
                ),
                "outgoing_auth": _outgoing(snapshot, resolution, backends, env_name),
                "aggregation": _aggregation(snapshot, base.aggregation, backends),
                "composite_tools": (*base.composite_tools, *referenced.composite_tools),
                "composite_tool_refs": tuple(CompositeToolRef(name=ref.name) for ref in base.composite_tool_refs),
                "telemetry": referenced.telemetry if referenced.telemetry is not None else base.telemetry,
                "session_storage": session_storage(snapshot, base),
                "passthrough_headers": spec.passthrough_headers or base.passthrough_headers,
            }
            | _audit(snapshot, base)
        ),
        snapshot.dialect,
    )
    return to_dialect(config, snapshot.dialect)


def session_storage(snapshot: Snapshot, base: VmcpConfig) -> SessionStorage | None:
    """Return where sessions are kept: the spec's word, else that in spec.config, else the operator's default Redis."""
    own = snapshot.spec.session_storage
    if own is not None:
        if own.provider == "memory":
            return None
        return SessionStorage(provider="redis", address=own.address or "", db=own.db, key_prefix=own.key_prefix or "")
    if base.session_storage is not None:
        return base.session_storage if base.session_storage.provider != "memory" else None
    # Nobody asked this gateway for the installation's store; one that cannot use it keeps its sessions in memory.
    default = snapshot.options.redis if snapshot.dialect is Dialect.TOOLHIVE else None
    return SessionStorage(provider="redis", address=default.address) if default is not None else None


def _audit(snapshot: Snapshot, base: VmcpConfig) -> dict[str, Any]:
    if base.audit is None or base.audit.component:
        return {}
    return {"audit": base.audit.model_copy(update={"component": snapshot.name})}


def _outgoing(
    snapshot: Snapshot, resolution: Resolution, backends: tuple[Member, ...], env_name: EnvName
) -> OutgoingAuth:
    default = snapshot.references.default
    auth = snapshot.spec.outgoing_auth
    standing = resolution.strategy(default, env_name) if default else None
    if auth is not None and auth.default is not None and not default:
        standing = Strategy(type="unauthenticated")
    strategies: dict[str, Strategy] = {}
    for member in backends:
        # A gateway that watches the group finds the members' own references itself; it only gets the overrides.
        if snapshot.inline or (auth is not None and member.name in auth.backends):
            strategy = strategy_for(member, snapshot.references, resolution, env_name)
            if strategy is not None:
                strategies[member.name] = strategy
    return OutgoingAuth(source="inline" if snapshot.inline else "discovered", default=standing, backends=strategies)


def _aggregation(snapshot: Snapshot, given: Aggregation | None, backends: tuple[Member, ...]) -> Aggregation:
    aggregation = given or Aggregation()
    settings = aggregation.conflict_resolution_config or ConflictResolutionConfig()
    strategy = aggregation.conflict_resolution or "prefix"
    if strategy.startswith("prefix") and not settings.prefix_format:
        settings = settings.model_copy(update={"prefix_format": DEFAULT_PREFIX_FORMAT})
    return aggregation.model_copy(
        update={
            "conflict_resolution": strategy,
            "conflict_resolution_config": settings,
            "tools": _tools(snapshot, aggregation.tools, backends),
        }
    )


def _tools(
    snapshot: Snapshot, given: tuple[WorkloadTools, ...], backends: tuple[Member, ...]
) -> tuple[WorkloadTools, ...]:
    keep = snapshot.dialect is not Dialect.TOOLHIVE

    def spec_of(name: str) -> MCPToolConfigSpec | None:
        config = snapshot.tool_configs.get(name)
        return None if config is None or isinstance(config, Unreadable) else config.spec

    named = (
        with_tool_config(
            tools, tools.tool_config_ref.name if tools.tool_config_ref else "", spec_of, keep_reference=keep
        )
        for tools in given
    )
    return with_tools_of_members(named, backends, spec_of, keep_reference=keep)
