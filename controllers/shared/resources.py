"""The kinds that controllers read and write, as the runtime names them."""

from __future__ import annotations

from api import v1beta1
from runtime import Resource

GROUP = Resource(*v1beta1.MCPGroup.coordinates())
ENTRY = Resource(*v1beta1.MCPServerEntry.coordinates())
ENDPOINT = Resource(*v1beta1.MCPRemoteEndpoint.coordinates())
SERVER = Resource(*v1beta1.MCPServer.coordinates())
PROXY = Resource(*v1beta1.MCPRemoteProxy.coordinates())
VMCP = Resource(*v1beta1.VirtualMCPServer.coordinates())
AUTH_CONFIG = Resource(*v1beta1.MCPExternalAuthConfig.coordinates())
TOOL_CONFIG = Resource(*v1beta1.MCPToolConfig.coordinates())
OIDC_CONFIG = Resource(*v1beta1.MCPOIDCConfig.coordinates())
TELEMETRY_CONFIG = Resource(*v1beta1.MCPTelemetryConfig.coordinates())
AUTHZ_CONFIG = Resource(*v1beta1.MCPAuthzConfig.coordinates())
COMPOSITE_TOOL = Resource(*v1beta1.VirtualMCPCompositeToolDefinition.coordinates())
EMBEDDING_SERVER = Resource(*v1beta1.EmbeddingServer.coordinates())

SECRET = Resource("", "v1", "Secret", "secrets")
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")
SERVICE = Resource("", "v1", "Service", "services")
SERVICE_ACCOUNT = Resource("", "v1", "ServiceAccount", "serviceaccounts")
POD = Resource("", "v1", "Pod", "pods")
DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments")
POD_DISRUPTION_BUDGET = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
ROLE = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")

MEMBER_KINDS = (SERVER, PROXY, ENTRY, ENDPOINT)
"""Kinds that can be members of a group, in the order in which they win a name inside a running gateway."""
