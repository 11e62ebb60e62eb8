"""A world in which every field that may name a Secret names one of its own.

The fields are read from the models, so that a new one is missed by nobody: `edges_of` lists them, `world` has objects
that use them, and `test_secrets_stay_secret` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from api import v1beta1
from api.common.references import SecretKeyRef

API = "toolhive.stacklok.dev/v1beta1"
KEY = "value"
URL = "https://mcp.example.com/mcp"
KINDS: tuple[type[BaseModel], ...] = (
    v1beta1.MCPGroup,
    v1beta1.MCPServerEntry,
    v1beta1.MCPRemoteEndpoint,
    v1beta1.MCPExternalAuthConfig,
    v1beta1.VirtualMCPServer,
    v1beta1.MCPOIDCConfig,
    v1beta1.MCPTelemetryConfig,
    v1beta1.MCPToolConfig,
    v1beta1.MCPAuthzConfig,
    v1beta1.VirtualMCPCompositeToolDefinition,
)
"""The five kinds and those that a VirtualMCPServer resolves by itself."""
DEFAULT_REDIS = "redis-default"
"""The Secret of the operator-wide session store, which its environment names."""

Object = dict[str, Any]
Edge = tuple[str, str]
"""Kind and dotted path of a field that names a Secret."""


def edges_of(kind: type[BaseModel]) -> set[Edge]:
    """All fields of a kind that name a Secret."""
    return {(kind.__name__, path) for path in _paths(kind, "", ())}


def _paths(model: type[BaseModel], place: str, above: tuple[type[BaseModel], ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{place}.{field.alias or name}".removeprefix(".")
        if path.endswith("imagePullSecrets"):
            yield path
        for part in _models(field.annotation):
            if part is SecretKeyRef:
                yield path
            elif part not in above:
                yield from _paths(part, path, (*above, part))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) is not None:
        for part in get_args(annotation):
            yield from _models(part)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def used_edges(body: Object) -> dict[Edge, list[str]]:
    """The edges that an object uses, with the names of the Secrets."""
    model = next(kind for kind in KINDS if kind.__name__ == body["kind"])
    found = {edge: [ref["name"] for ref in _at(body, edge[1].split("."))] for edge in edges_of(model)}
    return {edge: names for edge, names in found.items() if names}


def _at(value: Any, path: list[str]) -> Iterator[Object]:
    if isinstance(value, list):
        for item in value:
            yield from _at(item, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def ref(name: str) -> Object:
    """A reference to a Secret of this world."""
    return {"name": name, "key": KEY}


def secret(name: str, namespace: str, value: str) -> Object:
    """A Secret of this world."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {KEY: value}}


def _header(name: str) -> Object:
    return {"addHeadersFromSecret": [{"headerName": "X-Api-Key", "valueSecretRef": ref(name)}]}


def _auth_server(prefix: str) -> Object:
    upstream: Object = {
        "clientId": "c",
        "authorizationEndpoint": "https://a.example/a",
        "tokenEndpoint": "https://a.example/t",
    }
    oauth2: Object = upstream | {"clientSecretRef": ref(f"{prefix}-oauth2")}
    registered = {key: value for key, value in upstream.items() if key != "clientId"}
    registered |= {"dcrConfig": {"discoveryUrl": "https://a.example/d", "initialAccessTokenRef": ref(f"{prefix}-dcr")}}
    oidc = {"issuerUrl": "https://i.example", "clientId": "c", "clientSecretRef": ref(f"{prefix}-oidc")}
    redis = {
        "sentinelConfig": {"masterName": "m", "sentinelAddrs": ["redis:26379"]},
        "aclUserConfig": {
            "usernameSecretRef": ref(f"{prefix}-redis-user"),
            "passwordSecretRef": ref(f"{prefix}-redis-password"),
        },
        "tls": {"caCertSecretRef": ref(f"{prefix}-redis-ca")},
        "sentinelTls": {"caCertSecretRef": ref(f"{prefix}-sentinel-ca")},
    }
    delegate = {"clientId": "d", "clientSecretRef": ref(f"{prefix}-delegate"), "scopes": ["s"], "audiences": [URL]}
    return {
        "issuer": "https://as.example.com",
        "signingKeySecretRefs": [ref(f"{prefix}-signing-1"), ref(f"{prefix}-signing-2")],
        "hmacSecretRefs": [ref(f"{prefix}-hmac")],
        "upstreamProviders": [
            {"name": "oidc", "type": "oidc", "oidcConfig": oidc},
            {"name": "oauth2", "type": "oauth2", "oauth2Config": oauth2},
            {"name": "registered", "type": "oauth2", "oauth2Config": registered},
        ],
        "storage": {"type": "redis", "redis": redis},
        "delegateClients": [delegate],
    }


AUTH_CONFIGS: dict[str, Object] = {
    "exchange": {
        "type": "tokenExchange",
        "tokenExchange": {
            "tokenUrl": "https://login.example.com/token",
            "audience": "a",
            "clientId": "c",
            "clientSecretRef": ref("token-exchange"),
        },
    },
    "injection": {
        "type": "headerInjection",
        "headerInjection": {"headerName": "X-Injected", "valueSecretRef": ref("injected-header")},
    },
    "xaa": {
        "type": "xaa",
        "xaa": {
            "idpTokenUrl": "https://idp.example.com/token",
            "idpClientId": "c",
            "idpClientSecretRef": ref("xaa-idp"),
            "targetTokenUrl": "https://target.example.com/token",
            "targetClientId": "c",
            "targetClientSecretRef": ref("xaa-target"),
            "targetAudience": "a",
            "subjectProviderName": "idp",
        },
    },
    "bearer": {"type": "bearerToken", "bearerToken": {"tokenSecretRef": ref("bearer-token")}},
    "obo": {"type": "obo", "obo": {"clientSecretRef": ref("obo-client")}},
    "server": {"type": "embeddedAuthServer", "embeddedAuthServer": _auth_server("server")},
}

_REMOTE: Object = {"remoteUrl": URL, "transport": "streamable-http", "groupRef": {"name": "secrets"}}
_PROXY: Object = {
    "oidcConfigRef": {"name": "oidc", "audience": "a"},
    "sessionStorage": {"provider": "redis", "address": "redis:6379", "passwordRef": ref("proxy-redis")},
    "resourceOverrides": {"proxyDeployment": {"imagePullSecrets": [{"name": "proxy-pull"}]}},
}


def _use(name: str) -> Object:
    return {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": name}}


def _specs() -> Iterator[tuple[str, str, Object]]:
    """Kind, name and spec of every object."""
    for name, spec in AUTH_CONFIGS.items():
        yield "MCPExternalAuthConfig", name, spec
        yield "MCPServerEntry", f"entry-{name}", _REMOTE | {"externalAuthConfigRef": {"name": name}}
    yield "MCPServerEntry", "entry-header", _REMOTE | {"headerForward": _header("entry-header")}
    yield "MCPRemoteEndpoint", "direct", _REMOTE | {"type": "direct", "headerForward": _header("endpoint-header")}
    yield "MCPRemoteEndpoint", "proxy", _REMOTE | {"type": "proxy", "proxyConfig": _PROXY}
    inline = {"issuer": "https://issuer.example.com", "clientId": "c", "clientSecretRef": ref("oidc-client")}
    yield "MCPOIDCConfig", "oidc", {"type": "inline", "inline": inline}
    telemetry = {
        "enabled": True,
        "endpoint": "otel:4318",
        "tracing": {"enabled": True},
        "sensitiveHeaders": [{"name": "X-Otel-Key", "secretKeyRef": ref("otel-header")}],
    }
    yield "MCPTelemetryConfig", "otel", {"openTelemetry": telemetry}
    gateway: Object = {"groupRef": {"name": "secrets"}, "incomingAuth": {"type": "anonymous"}}
    yield (
        "VirtualMCPServer",
        "every-edge",
        gateway
        | {
            "incomingAuth": {"type": "oidc", "oidcConfigRef": {"name": "oidc", "audience": "a"}},
            "telemetryConfigRef": {"name": "otel"},
            "outgoingAuth": {
                "source": "inline",
                "default": _use("injection"),
                "backends": {"entry-header": _use("xaa"), "direct": _use("bearer")},
            },
            "sessionStorage": {"provider": "redis", "address": "redis:6379", "passwordRef": ref("redis-own")},
            "imagePullSecrets": [{"name": "pull"}],
        },
    )
    yield "VirtualMCPServer", "defaults", gateway | {"outgoingAuth": {"source": "inline"}}
    yield "VirtualMCPServer", "auth-server", gateway | {"authServerConfig": _auth_server("own-server")}


def world(namespace: str, value: str) -> list[Object]:
    """Secrets that all hold the value, and the objects that name them.

    Args:
        namespace: of all.
        value: of every Secret's key.
    """
    bodies: list[Object] = [
        {"apiVersion": API, "kind": "MCPGroup", "metadata": {"name": "secrets", "namespace": namespace}}
    ]
    for kind, name, spec in _specs():
        metadata = {"name": name, "namespace": namespace}
        bodies.append({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec})
    names = {name for body in bodies for found in used_edges(body).values() for name in found}
    return [secret(name, namespace, value) for name in sorted(names | {DEFAULT_REDIS})] + bodies
