"""Everything that one reconcile of a VirtualMCPServer looks at, in one immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cached_property

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
from controllers.shared.content import Content, Facts, Unknown
from controllers.shared.groups import GroupState
from controllers.shared.verdicts import Unreadable
from controllers.virtualmcpserver.rollout import PodCounts
from membership import Member, Place, References, references_of
from runtime import Condition, Record


class PolicyText(Enum):
    """Why a ConfigMap gives no policy document."""

    MISSING = "there is no such ConfigMap"
    NO_KEY = "the ConfigMap has no such key"
    UNREAD = "the ConfigMap could not be read for a passing reason"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One look at the world.

    Referenced objects are kept by name; one that does not exist is absent from its mapping, one that does not fit its
    model is `Unreadable`.
    """

    vmcp: Record
    spec: VirtualMCPServerSpec
    options: OperatorOptions
    dialect: Dialect
    unknown_dialect: str = ""
    """What the annotation says, when that is no dialect."""
    now: datetime
    previous: tuple[Condition, ...] = ()
    group: GroupState = GroupState.MISSING
    members: tuple[Member, ...] = ()
    auth_configs: Mapping[str, MCPExternalAuthConfig | Unreadable] = field(default_factory=dict)
    tool_configs: Mapping[str, MCPToolConfig | Unreadable] = field(default_factory=dict)
    composite_tools: Mapping[str, VirtualMCPCompositeToolDefinition | Unreadable] = field(default_factory=dict)
    oidc_config: MCPOIDCConfig | Unreadable | None = None
    telemetry_config: MCPTelemetryConfig | Unreadable | None = None
    authz_config: MCPAuthzConfig | Unreadable | None = None
    policy_text: str | PolicyText | None = None
    """Content of the ConfigMap of incomingAuth.authzConfig; None when it names none."""
    secrets: Mapping[str, Content] = field(default_factory=dict)
    config_maps: Mapping[str, Content] = field(default_factory=dict)
    secret_versions: Mapping[str, str] = field(default_factory=dict)
    """Secret -> uid and resourceVersion, never content; counts only where there are no hashes."""
    hashed: bool = False
    """Whether keyed hashes of the Secrets' values are known."""
    pods: PodCounts = field(default_factory=PodCounts)
    config_exists: bool = False
    """The gateway's ConfigMap is there."""
    hmac_problem: str = ""
    """What is wrong with an existing session Secret."""

    @property
    def name(self) -> str:
        """Name of the VirtualMCPServer."""
        return self.vmcp.meta.name

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.vmcp.meta.namespace

    @property
    def inline(self) -> bool:
        """Whether the configuration lists the backends; otherwise the gateway watches the group itself."""
        return self.spec.outgoing_auth is not None and self.spec.outgoing_auth.source == "inline"

    @cached_property
    def references(self) -> References:
        """What the spec says about the auth of backends."""
        return references_of(self.spec.outgoing_auth)

    @property
    def place(self) -> Place:
        """Where its backends are written."""
        return Place(self.dialect, self.namespace, self.spec.group_ref.name)

    def has_key(self, secret: str, key: str) -> bool:
        """Whether a Secret has a key. What could not be read for a passing reason counts as there."""
        return _has(self.secrets.get(secret, Unknown.MISSING), key)

    def unfit(self, secret: str, key: str, *, header: bool) -> str:
        """Say why the gateway cannot use the value of a Secret's key, in a header or as a credential; "" = it can."""
        content = self.secrets.get(secret)
        if not isinstance(content, Facts):
            return ""
        return (content.unfit_headers if header else content.unfit).get(key, "")

    def has_certificate(self, config_map: str, key: str) -> bool:
        """Whether a ConfigMap has a certificate under a key."""
        content = self.config_maps.get(config_map, Unknown.MISSING)
        return content is Unknown.UNREAD or (isinstance(content, Facts) and key in content.certificates)


def _has(content: Content, key: str) -> bool:
    return content is Unknown.UNREAD or (isinstance(content, Facts) and key in content.keys)
