"""The configuration of a gateway, config.yaml, in both dialects.

Keys and their order: the stock gateway's (`native` adds per backend `type` and `headerForward`, and the aggregation
`prefixOnConflict`).
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from api.contract.auth import IncomingAuth, OutgoingAuth
from api.contract.composite import Annotations, CompositeTool, CompositeToolRef
from api.contract.operations import (
    Audit,
    CodeMode,
    Operational,
    Optimizer,
    RateLimiting,
    SessionStorage,
    Telemetry,
)
from api.contract.section import Flag, Section, Text


class Dialect(StrEnum):
    """Which gateway a document is for."""

    NATIVE = "native"
    """This project's."""
    TOOLHIVE = "toolhive"
    """The stock ToolHive gateway: its strict parser refuses every key that it does not know."""


class HeaderForward(Section):
    """Headers added to every request to a backend (native only; the stock gateway takes them from env)."""

    add_plaintext_headers: dict[Text, Text] = Field(default_factory=dict)
    """Header name -> value."""
    add_headers_from_secret: dict[Text, Text] = Field(default_factory=dict)
    """Header name -> identifier; the value is in the environment variable `TOOLHIVE_SECRET_<identifier>`."""


class StaticBackend(Section):
    """A backend with a fixed address."""

    name: Text = ""
    url: Text = ""
    transport: Text = ""
    """`sse` or `streamable-http`."""
    type: Text = ""
    """container (MCPServer), proxy (MCPRemoteProxy), entry (MCPServerEntry), direct (MCPRemoteEndpoint) or empty."""
    ca_bundle_path: Text = ""
    """File with certificates to trust in addition to the system's; only with type entry or direct."""
    metadata: dict[Text, Text] = Field(default_factory=dict)
    header_forward: HeaderForward | None = None


class ConflictResolutionConfig(Section):
    """Settings of the conflict resolution."""

    prefix_format: Text = ""
    """Prefix of names; `{workload}` stands for the backend."""
    priority_order: tuple[Text, ...] = ()


class ToolConfigRef(Section):
    """An MCPToolConfig that the operator has resolved."""

    name: Text = ""


class ToolOverride(Section):
    """What clients see instead of a tool's own words."""

    name: Text = ""
    description: Text = ""
    annotations: Annotations | None = None


class WorkloadTools(Section):
    """Which tools of one backend are shown, and how."""

    workload: Text = ""
    tool_config_ref: ToolConfigRef | None = None
    filter: tuple[Text, ...] = ()
    overrides: dict[Text, ToolOverride] = Field(default_factory=dict)
    exclude_all: Flag = False


class Aggregation(Section):
    """How the capabilities of many backends become one list."""

    conflict_resolution: Text = ""
    """prefix, priority, manual, or (native) prefixOnConflict."""
    conflict_resolution_config: ConflictResolutionConfig | None = None
    tools: tuple[WorkloadTools, ...] = ()
    exclude_all_tools: Flag = False
    default_tool_visibility: Text = ""
    """`allow` (default) or `deny`."""


class VmcpConfig(Section):
    """The whole document."""

    name: Text = ""
    group_ref: Text = ""
    backends: tuple[StaticBackend, ...] = ()
    """Non-empty: static mode."""
    incoming_auth: IncomingAuth | None = None
    outgoing_auth: OutgoingAuth | None = None
    aggregation: Aggregation | None = None
    composite_tools: tuple[CompositeTool, ...] = ()
    composite_tool_refs: tuple[CompositeToolRef, ...] = ()
    operational: Operational | None = None
    """After loading never None: defaults are filled in."""
    metadata: dict[Text, Text] = Field(default_factory=dict)
    telemetry: Telemetry | None = None
    audit: Audit | None = None
    optimizer: Optimizer | None = None
    code_mode: CodeMode | None = None
    session_storage: SessionStorage | None = None
    rate_limiting: RateLimiting | None = None
    passthrough_headers: tuple[Text, ...] = ()
