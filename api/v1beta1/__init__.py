"""The typed client models of the API, version v1beta1 (the storage version).

from api.v1beta1 import MCPServerEntry

entry = MCPServerEntry(
    metadata={"name": "docs", "namespace": "default"},
    spec={"remoteUrl": "https://mcp.example.com/mcp", "transport": "streamable-http", "groupRef": {"name": "g"}},
)
body = entry.to_wire()                            # what to send
stored = MCPServerEntry.model_validate(answer)    # what came back; fields unknown to this version are kept
"""

from __future__ import annotations

from api.common.model import Condition, CustomResource, ObjectMeta
from api.v1beta1.embeddingserver import EmbeddingServer, EmbeddingServerSpec, EmbeddingServerStatus
from api.v1beta1.mcpauthzconfig import MCPAuthzConfig, MCPAuthzConfigSpec, MCPAuthzConfigStatus
from api.v1beta1.mcpexternalauthconfig import (
    MCPExternalAuthConfig,
    MCPExternalAuthConfigSpec,
    MCPExternalAuthConfigStatus,
)
from api.v1beta1.mcpgroup import MCPGroup, MCPGroupSpec, MCPGroupStatus
from api.v1beta1.mcpoidcconfig import MCPOIDCConfig, MCPOIDCConfigSpec, MCPOIDCConfigStatus
from api.v1beta1.mcpremoteendpoint import MCPRemoteEndpoint, MCPRemoteEndpointSpec, MCPRemoteEndpointStatus
from api.v1beta1.mcpremoteproxy import MCPRemoteProxy, MCPRemoteProxySpec, MCPRemoteProxyStatus
from api.v1beta1.mcpserver import MCPServer, MCPServerSpec, MCPServerStatus
from api.v1beta1.mcpserverentry import MCPServerEntry, MCPServerEntrySpec, MCPServerEntryStatus
from api.v1beta1.mcptelemetryconfig import MCPTelemetryConfig, MCPTelemetryConfigSpec, MCPTelemetryConfigStatus
from api.v1beta1.mcptoolconfig import MCPToolConfig, MCPToolConfigSpec, MCPToolConfigStatus
from api.v1beta1.virtualmcpcompositetooldefinition import (
    VirtualMCPCompositeToolDefinition,
    VirtualMCPCompositeToolDefinitionSpec,
    VirtualMCPCompositeToolDefinitionStatus,
)
from api.v1beta1.virtualmcpserver import VirtualMCPServer, VirtualMCPServerSpec, VirtualMCPServerStatus

KINDS: tuple[type[CustomResource], ...] = (
    EmbeddingServer,
    MCPAuthzConfig,
    MCPExternalAuthConfig,
    MCPGroup,
    MCPOIDCConfig,
    MCPRemoteEndpoint,
    MCPRemoteProxy,
    MCPServer,
    MCPServerEntry,
    MCPTelemetryConfig,
    MCPToolConfig,
    VirtualMCPCompositeToolDefinition,
    VirtualMCPServer,
)

__all__ = [
    "KINDS",
    "Condition",
    "EmbeddingServer",
    "EmbeddingServerSpec",
    "EmbeddingServerStatus",
    "MCPAuthzConfig",
    "MCPAuthzConfigSpec",
    "MCPAuthzConfigStatus",
    "MCPExternalAuthConfig",
    "MCPExternalAuthConfigSpec",
    "MCPExternalAuthConfigStatus",
    "MCPGroup",
    "MCPGroupSpec",
    "MCPGroupStatus",
    "MCPOIDCConfig",
    "MCPOIDCConfigSpec",
    "MCPOIDCConfigStatus",
    "MCPRemoteEndpoint",
    "MCPRemoteEndpointSpec",
    "MCPRemoteEndpointStatus",
    "MCPRemoteProxy",
    "MCPRemoteProxySpec",
    "MCPRemoteProxyStatus",
    "MCPServer",
    "MCPServerEntry",
    "MCPServerEntrySpec",
    "MCPServerEntryStatus",
    "MCPServerSpec",
    "MCPServerStatus",
    "MCPTelemetryConfig",
    "MCPTelemetryConfigSpec",
    "MCPTelemetryConfigStatus",
    "MCPToolConfig",
    "MCPToolConfigSpec",
    "MCPToolConfigStatus",
    "ObjectMeta",
    "VirtualMCPCompositeToolDefinition",
    "VirtualMCPCompositeToolDefinitionSpec",
    "VirtualMCPCompositeToolDefinitionStatus",
    "VirtualMCPServer",
    "VirtualMCPServerSpec",
    "VirtualMCPServerStatus",
]
