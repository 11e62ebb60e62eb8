"""MCPGroup: MCP servers that belong together."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from api.common.markers import AGE, Column, Definition, OneOf, condition_column
from api.common.model import Conditions, CustomResource, Int32, Int64, SetList, Struct


class MCPGroupSpec(Struct):
    """What a user says about the group. Members are not listed here: they name the group in their groupRef."""

    description: str | None = None
    """What the group is for."""


class MCPGroupStatus(Struct):
    """Members of the group, by kind, sorted by name."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    phase: Annotated[str, OneOf("Ready", "Pending", "Failed")] = "Pending"
    """Ready when the members could be listed, also when there are none; their health plays no part."""
    servers: SetList[str] = ()
    """Names of the MCPServers."""
    server_count: Int32 | None = None
    """Number of the MCPServers."""
    remote_proxies: SetList[str] = ()
    """Names of the MCPRemoteProxies."""
    remote_proxy_count: Int32 | None = None
    """Number of the MCPRemoteProxies."""
    entries: SetList[str] = ()
    """Names of the MCPServerEntries."""
    entry_count: Int32 | None = None
    """Number of the MCPServerEntries."""
    remote_endpoints: SetList[str] = ()
    """Names of the MCPRemoteEndpoints."""
    remote_endpoint_count: Int32 | None = None
    """Number of the MCPRemoteEndpoints."""
    member_count: Int32 | None = None
    """Number of the members of all kinds."""
    served_count: Int32 | None = None
    """Number of the members that a VirtualMCPServer can serve: their checks passed and their URL is known."""
    conditions: Conditions = ()
    """Aspects of the group's state."""


class MCPGroup(CustomResource):
    """MCP servers that belong together; a VirtualMCPServer puts one group behind one endpoint."""

    definition: ClassVar[Definition] = Definition(
        plural="mcpgroups",
        short_names=("mcpg", "mcpgroup"),
        columns=(
            Column("Servers", ".status.serverCount", "integer"),
            Column("Proxies", ".status.remoteProxyCount", "integer"),
            Column("Phase", ".status.phase"),
            condition_column("Checked", "MCPServersChecked"),
            AGE,
            Column("Members", ".status.memberCount", "integer"),
            Column("Served", ".status.servedCount", "integer"),
        ),
        reconciled=True,
    )

    kind: str = "MCPGroup"
    """Name of the kind."""
    spec: MCPGroupSpec = Field(default_factory=MCPGroupSpec)
    """What a user says about the group."""
    status: MCPGroupStatus | None = None
    """Members of the group, written by the operator."""
