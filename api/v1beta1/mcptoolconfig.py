"""MCPToolConfig: tool filter and overrides that servers share."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from api.common.markers import AGE, Definition, condition_column
from api.common.model import Conditions, CustomResource, Int64, SetList, Struct
from api.common.tools import ToolOverride


class MCPToolConfigSpec(Struct):
    """Which tools are shown, and how."""

    tools_filter: SetList[str] = ()
    """Tools to show, by their names after overrides; all when empty."""
    tools_override: dict[str, ToolOverride] = Field(default_factory=dict)
    """What to show instead, by the server's own tool name."""


class MCPToolConfigStatus(Struct):
    """Whether the configuration can be used."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    config_hash: str | None = None
    """Hash of the spec; changes when the configuration does."""
    conditions: Conditions = ()
    """Aspects of the object's state."""


class MCPToolConfig(CustomResource):
    """Tool filter and overrides that servers share."""

    definition: ClassVar[Definition] = Definition(
        plural="mcptoolconfigs",
        short_names=("tc", "toolconfig"),
        columns=(condition_column("Valid", "Valid"), AGE),
    )

    kind: str = "MCPToolConfig"
    """Name of the kind."""
    spec: MCPToolConfigSpec = Field(default_factory=MCPToolConfigSpec)
    """Which tools are shown, and how."""
    status: MCPToolConfigStatus | None = None
    """Whether the configuration can be used, written by the operator."""
