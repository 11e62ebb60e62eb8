"""MCPServerEntry: a remote MCP server as a catalogue entry, without infrastructure of its own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from api.common.headers import HeaderForwardConfig
from api.common.markers import AGE, REASON, Column, Definition, OneOf, ValueBounds
from api.common.model import Conditions, CustomResource, Int64, Struct
from api.common.references import CABundleSource, ExternalAuthConfigRef, MCPGroupRef

RemoteUrl = Annotated[str, ValueBounds(pattern=r"^https?://")]


class MCPServerEntrySpec(Struct):
    """Where the server is and how it is reached."""

    remote_url: RemoteUrl
    """URL of the MCP endpoint. Loopback, link-local and metadata addresses are refused by the operator."""
    allow_private_endpoint: bool = False
    """Accept addresses of private ranges, those of Services among them, and names that end in cluster.local. Other
    names, short ones of Services (server.ns.svc) among them, are accepted without it."""
    transport: Literal["sse", "streamable-http"]
    """MCP transport of the server."""
    group_ref: MCPGroupRef
    """Group that the server belongs to."""
    external_auth_config_ref: ExternalAuthConfigRef | None = None
    """How the gateway authenticates towards the server."""
    header_forward: HeaderForwardConfig | None = None
    """Headers added to requests towards the server."""
    ca_bundle_ref: CABundleSource | None = None
    """Certificate authorities trusted for the server, besides the system's."""


class MCPServerEntryStatus(Struct):
    """Whether the entry can be used."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    phase: Annotated[str, OneOf("Valid", "Pending", "Failed")] = "Pending"
    """Valid when every check has passed, Failed otherwise, Pending before the first check."""
    conditions: Conditions = ()
    """The checks one by one."""


class MCPServerEntry(CustomResource):
    """A remote MCP server that gateways of its group connect to directly. Nothing is deployed for it.

    Deprecated: superseded by MCPRemoteEndpoint of type direct.
    """

    definition: ClassVar[Definition] = Definition(
        plural="mcpserverentries",
        short_names=("mcpentry",),
        columns=(
            Column("Phase", ".status.phase"),
            Column("Transport", ".spec.transport"),
            Column("Remote URL", ".spec.remoteUrl"),
            Column("Group", ".spec.groupRef.name"),
            AGE,
            REASON,
        ),
        selectable=(
            ".spec.groupRef.name",
            ".spec.externalAuthConfigRef.name",
            ".spec.caBundleRef.configMapRef.name",
        ),
        reconciled=True,
    )

    kind: str = "MCPServerEntry"
    """Name of the kind."""
    spec: MCPServerEntrySpec
    """Where the server is and how it is reached."""
    status: MCPServerEntryStatus | None = None
    """Whether the entry can be used, written by the operator."""
