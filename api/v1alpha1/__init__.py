"""The kinds in version v1alpha1: served, deprecated, the same structures as v1beta1.

MCPRemoteEndpoint is not among them: it has no v1alpha1 yet.
"""

from __future__ import annotations

from api import v1beta1
from api.common.model import GROUP, CustomResource

DEPRECATION_WARNING = f"{GROUP}/v1alpha1 is deprecated; use v1beta1"
_API_VERSION = f"{GROUP}/v1alpha1"


class EmbeddingServer(v1beta1.EmbeddingServer):
    """EmbeddingServer in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPAuthzConfig(v1beta1.MCPAuthzConfig):
    """MCPAuthzConfig in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPExternalAuthConfig(v1beta1.MCPExternalAuthConfig):
    """MCPExternalAuthConfig in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPGroup(v1beta1.MCPGroup):
    """MCPGroup in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPOIDCConfig(v1beta1.MCPOIDCConfig):
    """MCPOIDCConfig in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPRemoteProxy(v1beta1.MCPRemoteProxy):
    """MCPRemoteProxy in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPServer(v1beta1.MCPServer):
    """MCPServer in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPServerEntry(v1beta1.MCPServerEntry):
    """MCPServerEntry in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPTelemetryConfig(v1beta1.MCPTelemetryConfig):
    """MCPTelemetryConfig in version v1alpha1."""

    api_version: str = _API_VERSION


class MCPToolConfig(v1beta1.MCPToolConfig):
    """MCPToolConfig in version v1alpha1."""

    api_version: str = _API_VERSION


class VirtualMCPCompositeToolDefinition(v1beta1.VirtualMCPCompositeToolDefinition):
    """VirtualMCPCompositeToolDefinition in version v1alpha1."""

    api_version: str = _API_VERSION


class VirtualMCPServer(v1beta1.VirtualMCPServer):
    """VirtualMCPServer in version v1alpha1."""

    api_version: str = _API_VERSION


KINDS: tuple[type[CustomResource], ...] = (
    EmbeddingServer,
    MCPAuthzConfig,
    MCPExternalAuthConfig,
    MCPGroup,
    MCPOIDCConfig,
    MCPRemoteProxy,
    MCPServer,
    MCPServerEntry,
    MCPTelemetryConfig,
    MCPToolConfig,
    VirtualMCPCompositeToolDefinition,
    VirtualMCPServer,
)
