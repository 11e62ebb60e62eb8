"""The kinds that the controllers read and write."""

from __future__ import annotations

from api.common.model import GROUP as API_GROUP
from api.common.model import STORAGE_VERSION
from runtime.wire.gvk import Resource


def _own(kind: str, plural: str) -> Resource:
    return Resource(API_GROUP, STORAGE_VERSION, kind, plural)


MCP_GROUP = _own("MCPGroup", "mcpgroups")
MCP_SERVER = _own("MCPServer", "mcpservers")
MCP_REMOTE_PROXY = _own("MCPRemoteProxy", "mcpremoteproxies")
MCP_SERVER_ENTRY = _own("MCPServerEntry", "mcpserverentries")
MCP_REMOTE_ENDPOINT = _own("MCPRemoteEndpoint", "mcpremoteendpoints")
VIRTUAL_MCP_SERVER = _own("VirtualMCPServer", "virtualmcpservers")
MCP_EXTERNAL_AUTH_CONFIG = _own("MCPExternalAuthConfig", "mcpexternalauthconfigs")
MCP_TOOL_CONFIG = _own("MCPToolConfig", "mcptoolconfigs")
MCP_OIDC_CONFIG = _own("MCPOIDCConfig", "mcpoidcconfigs")
MCP_TELEMETRY_CONFIG = _own("MCPTelemetryConfig", "mcptelemetryconfigs")
MCP_AUTHZ_CONFIG = _own("MCPAuthzConfig", "mcpauthzconfigs")
COMPOSITE_TOOL_DEFINITION = _own("VirtualMCPCompositeToolDefinition", "virtualmcpcompositetooldefinitions")
EMBEDDING_SERVER = _own("EmbeddingServer", "embeddingservers")

CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")
SECRET = Resource("", "v1", "Secret", "secrets")
SERVICE = Resource("", "v1", "Service", "services")
SERVICE_ACCOUNT = Resource("", "v1", "ServiceAccount", "serviceaccounts")
POD = Resource("", "v1", "Pod", "pods")
DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments")
ROLE = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")

MEMBERS = (MCP_SERVER, MCP_REMOTE_PROXY, MCP_SERVER_ENTRY, MCP_REMOTE_ENDPOINT)
"""Kinds that can be members of a group."""
