"""The kinds that make members backends, as the runtime names them."""

from __future__ import annotations

from api import v1beta1
from api.common.model import GROUP as API_GROUP
from api.common.model import STORAGE_VERSION
from api.common.model import Resource as Kind
from runtime import Resource


def _resource_of(kind: type[Kind]) -> Resource:
    return Resource(API_GROUP, STORAGE_VERSION, kind.model_fields["kind"].default, kind.definition.plural)


GROUP = _resource_of(v1beta1.MCPGroup)
SERVER = _resource_of(v1beta1.MCPServer)
PROXY = _resource_of(v1beta1.MCPRemoteProxy)
ENTRY = _resource_of(v1beta1.MCPServerEntry)
ENDPOINT = _resource_of(v1beta1.MCPRemoteEndpoint)
AUTH_CONFIG = _resource_of(v1beta1.MCPExternalAuthConfig)
TOOL_CONFIG = _resource_of(v1beta1.MCPToolConfig)
VMCP = _resource_of(v1beta1.VirtualMCPServer)

MEMBER_KINDS = (SERVER, PROXY, ENTRY, ENDPOINT)
OPTIONAL = frozenset({ENDPOINT, TOOL_CONFIG})
"""Kinds without which a gateway starts when it may not read them, or they are not installed: ToolHive's operator grants
no MCPRemoteEndpoints, and has none."""
