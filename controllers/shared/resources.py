"""The kinds that controllers read and write, as the runtime names them."""

from __future__ import annotations

from api import v1beta1
from api.common.model import GROUP as API_GROUP
from api.common.model import STORAGE_VERSION
from api.common.model import Resource as Kind
from runtime import Resource


def resource_of(kind: type[Kind]) -> Resource:
    """Return the runtime's name of a kind of the API, in its storage version."""
    return Resource(API_GROUP, STORAGE_VERSION, kind.model_fields["kind"].default, kind.definition.plural)


GROUP = resource_of(v1beta1.MCPGroup)
ENTRY = resource_of(v1beta1.MCPServerEntry)
ENDPOINT = resource_of(v1beta1.MCPRemoteEndpoint)
SERVER = resource_of(v1beta1.MCPServer)
PROXY = resource_of(v1beta1.MCPRemoteProxy)
VMCP = resource_of(v1beta1.VirtualMCPServer)
AUTH_CONFIG = resource_of(v1beta1.MCPExternalAuthConfig)
TOOL_CONFIG = resource_of(v1beta1.MCPToolConfig)
OIDC_CONFIG = resource_of(v1beta1.MCPOIDCConfig)
TELEMETRY_CONFIG = resource_of(v1beta1.MCPTelemetryConfig)
AUTHZ_CONFIG = resource_of(v1beta1.MCPAuthzConfig)
COMPOSITE_TOOL = resource_of(v1beta1.VirtualMCPCompositeToolDefinition)
EMBEDDING_SERVER = resource_of(v1beta1.EmbeddingServer)

SECRET = Resource("", "v1", "Secret", "secrets")
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")
SERVICE = Resource("", "v1", "Service", "services")
SERVICE_ACCOUNT = Resource("", "v1", "ServiceAccount", "serviceaccounts")
POD = Resource("", "v1", "Pod", "pods")
DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments")
POD_DISRUPTION_BUDGET = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
ROLE = Resource("rbac.authorization.k8s.io", "v1", "Role", "roles")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")

MEMBER_KINDS = (SERVER, PROXY, ENTRY, ENDPOINT)
"""Kinds that can be members of a group, in the order in which they win a name inside a running gateway."""
