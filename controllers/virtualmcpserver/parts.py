"""What all references of a gateway come to: each gives one part, and says what it needs of Secrets and ConfigMaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from api.contract import OIDC, Authz, CompositeTool, Dialect, SessionStorage, Telemetry, VmcpConfig
from api.v1beta1 import MCPToolConfigSpec
from controllers.shared.parts.part import Need, Part
from controllers.shared.resources import CONFIG_MAP, SECRET
from controllers.shared.workload.pod import PodSettings
from membership import Member, Place, References, Resolution, has_ca


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """How backends are authenticated to.

    Attributes:
        references: what the spec says: the default, and overrides by backend.
        resolution: what the auth configs that it or a member names come to.
        open: a default was given that is no auth config: unauthenticated.
    """

    references: References = field(default_factory=References)
    resolution: Resolution = field(default_factory=Resolution)
    open: bool = False


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The gateway that is decided about, and what its spec and the installation ask of its pods and its Service.

    Attributes:
        name: of the VirtualMCPServer.
        namespace: its namespace.
        group: name of its group.
        dialect: which gateway it is.
        inline: its configuration lists the backends; otherwise it watches the group itself.
        incoming: type of its incoming authentication.
        passthrough_headers: of the spec.
        cluster_domain: what names of Services end in.
        service_type: of its Service.
        session_affinity: of its Service.
        isolated: whether a NetworkPolicy says what its pods may reach.
        pods: settings of its pods.
    """

    name: str
    namespace: str
    group: str
    dialect: Dialect
    inline: bool
    incoming: str
    passthrough_headers: tuple[str, ...]
    cluster_domain: str
    service_type: str
    session_affinity: str
    isolated: bool
    pods: PodSettings

    @property
    def finds_members(self) -> bool:
        """Whether our gateway watches the group: then nothing of a member is in its configuration or its pods."""
        return self.dialect is Dialect.NATIVE and not self.inline

    @property
    def place(self) -> Place:
        """Where its backends are written."""
        return Place(self.dialect, self.namespace, self.group)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that the references of a gateway come to.

    Attributes:
        subject: the gateway.
        members: of its group.
        config: spec.config as it stands.
        spec: what the spec says about pods and about what is not supported, and an annotation that names no dialect.
        sessions: where sessions are kept.
        group: the group itself.
        composite_tools: VirtualMCPCompositeToolDefinitions.
        oidc: MCPOIDCConfig.
        authz: policies, and whether incoming authentication as a whole is configured.
        telemetry: MCPTelemetryConfig.
        tools: MCPToolConfigs, of the spec and of members, by name.
        outgoing: MCPExternalAuthConfigs, of the spec and of members.
        hashes: of referenced configurations, by the status field that repeats them.
    """

    subject: Subject
    members: tuple[Member, ...]
    config: Part[VmcpConfig]
    spec: Part[None]
    sessions: Part[SessionStorage | None]
    group: Part[None]
    composite_tools: Part[tuple[CompositeTool, ...]]
    oidc: Part[OIDC | None]
    authz: Part[Authz | None]
    telemetry: Part[Telemetry | None]
    tools: Part[Mapping[str, MCPToolConfigSpec]]
    outgoing: Part[Outgoing]
    hashes: Mapping[str, str | None]

    @property
    def in_order(self) -> tuple[Part[object], ...]:
        """All parts; the first check that fails decides the phase."""
        return (
            self.config,
            self.spec,
            self.sessions,
            self.group,
            self.composite_tools,
            self.oidc,
            self.authz,
            self.telemetry,
            self.tools,
            self.outgoing,
        )

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The Secrets of which keys and versions matter, sorted."""
        names = {need.name for need in self._needs() if need.kind == SECRET}
        names |= {variable.secret for part in self.in_order for variable in part.variables}
        names |= {source.secret for source in self.outgoing.section.resolution.all_sources()}
        names |= {header.secret for member in self.members for header in member.secret_headers}
        return tuple(sorted(names - {""}))

    @cached_property
    def config_maps(self) -> tuple[str, ...]:
        """The ConfigMaps of which certificates matter, sorted."""
        names = {need.name for need in self._needs() if need.kind == CONFIG_MAP}
        names |= {member.ca_config_map for member in self.members if has_ca(member)}
        return tuple(sorted(names - {""}))

    @cached_property
    def read_by_name(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The Secrets and CA bundles that a gateway reads that finds its members itself, each sorted.

        Those of members that cannot be used are among them: it has to see for itself when that changes.
        """
        secrets = {source.secret for source in self.outgoing.section.resolution.all_sources()}
        secrets |= {header.secret for member in self.members for header in member.secret_headers}
        bundles = {member.ca_config_map for member in self.members if has_ca(member)}
        return tuple(sorted(secrets - {""})), tuple(sorted(bundles))

    def _needs(self) -> Iterator[Need]:
        return (check for part in self.in_order for check in part.checks if isinstance(check, Need))
