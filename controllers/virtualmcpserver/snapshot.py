"""What observing gives: one look at the cache, what was learned of Secrets and ConfigMaps, and what stands already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.contract import Dialect
from api.v1beta1 import (
    MCPAuthzConfig,
    MCPExternalAuthConfig,
    MCPOIDCConfig,
    MCPTelemetryConfig,
    MCPToolConfig,
    VirtualMCPCompositeToolDefinition,
    VirtualMCPServerSpec,
)
from controllers.options import OperatorOptions
from controllers.shared.groups import GroupState
from controllers.shared.parts.learned import PolicyText
from controllers.shared.verdicts import Unreadable
from controllers.shared.workload.rollout import PodCounts
from membership import Member
from runtime import Condition, Record


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a gateway's spec says, and every object that it refers to. Only `resolve` takes it.

    Referenced objects are kept by name; one that does not exist is absent from its mapping, one that does not fit its
    model is `Unreadable`.
    """

    members: tuple[Member, ...] = ()
    name: str
    namespace: str
    spec: VirtualMCPServerSpec
    options: OperatorOptions
    dialect: Dialect
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the gateway."""
    unknown_dialect: str = ""
    """What the annotation says, when that is no dialect."""
    group: GroupState = GroupState.MISSING
    auth_configs: Mapping[str, MCPExternalAuthConfig | Unreadable] = field(default_factory=dict)
    tool_configs: Mapping[str, MCPToolConfig | Unreadable] = field(default_factory=dict)
    composite_tools: Mapping[str, VirtualMCPCompositeToolDefinition | Unreadable] = field(default_factory=dict)
    oidc_config: MCPOIDCConfig | Unreadable | None = None
    telemetry_config: MCPTelemetryConfig | Unreadable | None = None
    authz_config: MCPAuthzConfig | Unreadable | None = None
    policy_text: str | PolicyText | None = None
    """Content of the ConfigMap of incomingAuth.authzConfig; None when it names none."""


@dataclass(frozen=True, kw_only=True)
class Present:
    """What stands already: the object as it was seen, its pods, its objects. For the status and for writing.

    Attributes:
        vmcp: the gateway's own object.
        now: time of the look; no difference between two looks.
        previous: conditions so far.
        pods: the gateway's pods.
        config_exists: the gateway's ConfigMap is there.
        hmac_problem: what is wrong with an existing session Secret.
        policies_unread: the policies could not be read for a passing reason.
    """

    vmcp: Record
    now: datetime = field(compare=False)
    previous: tuple[Condition, ...] = ()
    pods: PodCounts = field(default_factory=PodCounts)
    config_exists: bool = False
    hmac_problem: str = ""
    policies_unread: bool = False

    @property
    def name(self) -> str:
        """Name of the VirtualMCPServer."""
        return self.vmcp.meta.name

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.vmcp.meta.namespace

    @property
    def generation(self) -> int:
        """Of its spec."""
        return self.vmcp.meta.generation

    @property
    def status(self) -> Mapping[str, Any]:
        """Its status."""
        status = self.vmcp.path("status")
        return status if isinstance(status, dict) else {}
