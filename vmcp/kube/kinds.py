"""The kinds that make members backends, as the runtime names them."""

from __future__ import annotations

from api import v1beta1
from runtime import Resource

GROUP = Resource(*v1beta1.MCPGroup.coordinates())
SERVER = Resource(*v1beta1.MCPServer.coordinates())
PROXY = Resource(*v1beta1.MCPRemoteProxy.coordinates())
ENTRY = Resource(*v1beta1.MCPServerEntry.coordinates())
ENDPOINT = Resource(*v1beta1.MCPRemoteEndpoint.coordinates())
AUTH_CONFIG = Resource(*v1beta1.MCPExternalAuthConfig.coordinates())
TOOL_CONFIG = Resource(*v1beta1.MCPToolConfig.coordinates())
VMCP = Resource(*v1beta1.VirtualMCPServer.coordinates())

MEMBER_KINDS = (SERVER, PROXY, ENTRY, ENDPOINT)
OPTIONAL = frozenset({ENDPOINT, TOOL_CONFIG})
"""Kinds without which a gateway starts when it may not read them, or they are not installed: ToolHive's operator grants
no MCPRemoteEndpoints, and has none."""
