"""Each CEL rule refuses one object with its message and lets a slightly different one pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hack.controlplane.rest import Kube, KubeError
from tests.envtest.api.samples import BUCKET, DELETE, KINDS, OIDC_REF, REDIS, Builder, put, shown

GROUP = "toolhive.stacklok.dev"

POLICIES = {"policies": ["permit(principal, action, resource);"]}
REF = {"name": "s", "key": "k"}
BINDING = {"subject": "s", "allowedResources": ["https://r.example"]}
GRANT = {"maxAssertionAge": "5m", "subjectBindings": [BINDING]}
DELEGATE = {"clientId": "c", "clientSecretRef": REF, "scopes": ["s"], "audiences": ["a"]}
PER_USER = {"rateLimiting": {"perUser": BUCKET}, "sessionStorage": REDIS}
PER_TOOL = {"rateLimiting": {"tools": [{"name": "t", "perUser": BUCKET}]}, "sessionStorage": REDIS}
OAUTH2 = {"authorizationEndpoint": "https://a.example/a", "tokenEndpoint": "https://a.example/t"}

Changes = dict[str, Any]
# (start of the message) -> (changes at the rule's object that make it refuse, changes with which it passes)
RULES: dict[str, tuple[Changes, Changes]] = {
    "authzConfig and authzConfigRef are mutually": (
        {"authzConfig": {"type": "inline", "inline": POLICIES}, "authzConfigRef": {"name": "a"}},
        {"authzConfigRef": {"name": "a"}},
    ),
    "configMap must be set when type": (
        {"type": "inline", "configMap": {"name": "c"}},
        {"type": "configMap", "configMap": {"name": "c"}, "inline": DELETE},
    ),
    "inline must be set when type is 'inline', and must not be set otherwise": (
        {"type": "inline", "inline": DELETE, "configMap": DELETE},
        {"type": "inline", "inline": POLICIES, "configMap": DELETE},
    ),
    "address is required": ({"provider": "redis", "address": DELETE}, {"provider": "redis", "address": "r:6379"}),
    "rateLimiting requires sessionStorage": (
        {"rateLimiting": {"shared": BUCKET}, "sessionStorage": {"provider": "memory"}},
        {"rateLimiting": {"shared": BUCKET}, "sessionStorage": REDIS},
    ),
    "rateLimiting.perUser requires authentication": (PER_USER, PER_USER | {"oidcConfigRef": OIDC_REF}),
    "per-tool perUser rate limiting requires authentication": (
        PER_TOOL,
        PER_TOOL | {"externalAuthConfigRef": {"name": "e"}},
    ),
    "at least one of shared, perUser, or tools": ({"shared": DELETE, "tools": []}, {"perUser": BUCKET}),
    "at least one of shared or perUser": ({"shared": DELETE}, {"shared": DELETE, "perUser": BUCKET}),
    "no configuration must be set": (
        {"type": "unauthenticated", "bearerToken": {"tokenSecretRef": REF}},
        {"type": "unauthenticated"},
    ),
    "allowConfidentialClientRegistration cannot": (
        {"allowConfidentialClientRegistration": True, "insecureAllowHTTP": True},
        {"allowConfidentialClientRegistration": True, "insecureAllowHTTP": False},
    ),
    "delegateClients require an https": (
        {"delegateClients": [DELEGATE], "issuer": "http://a.example"},
        {"delegateClients": [], "issuer": "http://a.example"},
    ),
    "forceConfidentialRedirectUris requires": (
        {"forceConfidentialRedirectUris": ["https://a.example/cb"]},
        {"forceConfidentialRedirectUris": ["https://a.example/cb"], "allowConfidentialClientRegistration": True},
    ),
    "clientSecretRef.name and clientSecretRef.key": ({"clientSecretRef": {"name": "s", "key": ""}}, {}),
    "exactly one of addr or sentinelConfig": ({"sentinelConfig": {"masterName": "m"}}, {}),
    "clusterMode requires addr": (
        {"clusterMode": True, "addr": DELETE, "sentinelConfig": {"masterName": "m"}},
        {"clusterMode": True},
    ),
    "allowedDelegateClients must not combine": (
        {"allowedDelegateClients": ["*", "c"]},
        {"allowedDelegateClients": ["*"]},
    ),
    "allowMayAct must not be enabled": (
        {"allowMayAct": True, "allowedDelegateClients": ["*"]},
        {"allowMayAct": True, "allowedDelegateClients": ["c"]},
    ),
    "actorClaim must name a readable claim": ({"actorClaim": "may_act"}, {"actorClaim": "azp"}),
    "allowPrivateIPs requires jwksUrl": (
        {"allowPrivateIPs": True, "jwksUrl": DELETE},
        {"allowPrivateIPs": True, "jwksUrl": "https://i.example/keys"},
    ),
    "expectedAudience is required unless": (
        {"expectedAudience": DELETE, "jwtBearerGrant": GRANT, "allowedActors": ["a"]},
        {"expectedAudience": DELETE, "jwtBearerGrant": GRANT},
    ),
    "allowedDelegateClients is required when": (
        {"expectedAudience": DELETE, "jwtBearerGrant": GRANT, "allowMayAct": True, "allowedDelegateClients": DELETE},
        {"expectedAudience": DELETE, "jwtBearerGrant": GRANT, "allowMayAct": False, "allowedDelegateClients": DELETE},
    ),
    "maxAssertionAge must be greater": ({"maxAssertionAge": "0s"}, {"maxAssertionAge": "1ms"}),
    "subjectBindings must not contain duplicate": (
        {"subjectBindings": [BINDING, BINDING]},
        {"subjectBindings": [BINDING, BINDING | {"subject": "t"}]},
    ),
    "type must be 'oidc' or 'oauth2'": (
        {"type": "oauth2"},
        {"type": "oauth2", "oidcConfig": DELETE, "oauth2Config": OAUTH2 | {"clientId": "c"}},
    ),
    "exactly one of clientId or dcrConfig": ({"clientId": DELETE}, {}),
    "clientSecretRef must not be set when dcrConfig": (
        {"clientId": DELETE, "dcrConfig": {"discoveryUrl": "https://a.example/d"}, "clientSecretRef": REF},
        {"clientId": DELETE, "dcrConfig": {"discoveryUrl": "https://a.example/d"}},
    ),
    "exactly one of discoveryUrl": ({"registrationEndpoint": "https://a.example/r"}, {}),
    "kubernetesServiceAccount must be set": (
        {"kubernetesServiceAccount": {}},
        {"type": "kubernetesServiceAccount", "kubernetesServiceAccount": {}, "inline": DELETE},
    ),
    "a header name cannot appear in both": (
        {"headers": {"X-A": "1"}, "sensitiveHeaders": [{"name": "X-A", "secretKeyRef": REF}]},
        {"headers": {"X-A": "1"}, "sensitiveHeaders": [{"name": "X-B", "secretKeyRef": REF}]},
    ),
    "config.rateLimiting requires sessionStorage": (
        {"config": {"rateLimiting": {"shared": BUCKET}}},
        {"config": {"rateLimiting": {"shared": BUCKET}}, "sessionStorage": REDIS},
    ),
    "config.rateLimiting.perUser requires": (
        {"config": {"rateLimiting": {"perUser": BUCKET}}, "sessionStorage": REDIS},
        {
            "config": {"rateLimiting": {"perUser": BUCKET}},
            "sessionStorage": REDIS,
            "incomingAuth": {"type": "oidc", "oidcConfigRef": OIDC_REF},
        },
    ),
    "per-tool perUser rate limiting requires incomingAuth": (
        {"config": {"rateLimiting": {"tools": [{"name": "t", "perUser": BUCKET}]}}, "sessionStorage": REDIS},
        {"config": {"rateLimiting": {"tools": [{"name": "t", "shared": BUCKET}]}}, "sessionStorage": REDIS},
    ),
    "embeddingServerRef provisions": (
        {"embeddingServerRef": {"name": "e"}, "config": {"optimizer": {"embeddingProvider": "openai"}}},
        {"embeddingServerRef": {"name": "e"}, "config": {"optimizer": {"embeddingProvider": "tei"}}},
    ),
    "timeout must be >= 1s": ({"": "999ms"}, {"": "1s"}),
    "embeddingHeaders is only supported": (
        {"embeddingHeaders": {"X-A": "1"}},
        {"embeddingHeaders": {"X-A": "1"}, "embeddingProvider": "openai"},
    ),
    "embeddingHeaders names must be valid": (
        {"embeddingHeaders": {"aUTHORIZATION": "1"}, "embeddingProvider": "openai"},
        {"embeddingHeaders": {"X-Authorization": "1"}, "embeddingProvider": "openai"},
    ),
    "spec.incomingAuth.oidcConfigRef is required": ({"type": "oidc"}, {"type": "oidc", "oidcConfigRef": OIDC_REF}),
    "proxyConfig is required when": (
        {"type": "proxy", "proxyConfig": DELETE},
        {"type": "proxy", "proxyConfig": {"oidcConfigRef": OIDC_REF}},
    ),
    "proxyConfig must not be set": ({"type": "direct", "proxyConfig": {"oidcConfigRef": OIDC_REF}}, {"type": "direct"}),
}
IMMUTABLE = "type is immutable; delete the endpoint and create it anew to change it"
EVERY = [(kind, on, message) for kind, t in KINDS.items() for on, message in t["refusals"] if message != IMMUTABLE]


def changes_for(message: str) -> tuple[Changes, Changes]:
    if "must be set if and only if type is" in message:
        name = message.split(maxsplit=1)[0]
        return {"type": name, name: DELETE}, {"^": f"spec.{name}"}
    if message.startswith("inline must") and "kubernetes" not in message:
        return RULES["inline must be set when type is 'inline', and must not be set otherwise"]
    (found,) = [rule for start, rule in RULES.items() if message.startswith(start)]
    return found


def build(kind: str, on: str, message: str, changes: Changes) -> dict[str, Any]:
    builder = Builder(kind)
    if "^" in changes:
        return builder.around(changes["^"])
    # MCPOIDCConfig's "inline" holds an issuer where an authorization config's holds policies.
    if kind == "MCPOIDCConfig" and changes.get("inline") == POLICIES:
        changes = {"type": "inline", "inline": {"issuer": "https://idp.example.com"}}
    doc = builder.around(on)
    for name, value in changes.items():
        put(doc, f"{on}.{name}" if name else on, copy.deepcopy(value))
    return doc


@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1"])
@pytest.mark.parametrize("kind", KINDS)
async def test_each_rule_refuses_with_its_message_and_lets_the_mended_object_pass(
    admin: Kube, namespace: str, kind: str, version: str
) -> None:
    if (kind, version) == ("MCPRemoteEndpoint", "v1alpha1"):
        pytest.skip("not served")
    head = {"apiVersion": f"{GROUP}/{version}", "kind": kind, "metadata": {"name": "a", "namespace": namespace}}
    for _, on, message in [rule for rule in EVERY if rule[0] == kind]:
        bad, good = changes_for(message)
        with pytest.raises(KubeError) as refused:
            await admin.create(head | build(kind, on, message, bad), dry_run=True)
        assert refused.value.status == 422
        causes = [cause["message"] for cause in refused.value.body["details"]["causes"]]
        assert [cause for cause in causes if cause.endswith(f": {message}")]
        assert shown(on) in refused.value.message
        await admin.create(head | build(kind, on, message, good), dry_run=True)


@pytest.mark.parametrize("name", ["a b", "x:y", "é", "Content-type", ""])
async def test_names_of_embedding_headers_are_tokens_and_not_the_two_that_are_ours(
    admin: Kube, namespace: str, name: str
) -> None:
    doc = Builder("VirtualMCPServer").around("spec.config.optimizer.embeddingHeaders")
    doc["spec"]["config"]["optimizer"]["embeddingHeaders"] = {name: "v"}
    metadata = {"name": "a", "namespace": namespace}
    head = {"apiVersion": f"{GROUP}/v1beta1", "kind": "VirtualMCPServer", "metadata": metadata}
    with pytest.raises(KubeError, match="embeddingHeaders names must be valid HTTP header names"):
        await admin.create(head | doc, dry_run=True)


async def test_the_type_of_an_endpoint_cannot_be_changed_not_even_by_removing_the_spec(
    admin: Kube, namespace: str
) -> None:
    doc = Builder("MCPRemoteEndpoint").around("spec.type")
    api = f"{GROUP}/v1beta1"
    head = {"apiVersion": api, "kind": "MCPRemoteEndpoint", "metadata": {"name": "a", "namespace": namespace}}
    stored = await admin.create(head | doc)
    assert stored["spec"]["type"] == "direct"
    changed = {"spec": {"type": "proxy", "proxyConfig": {"oidcConfigRef": OIDC_REF}}}
    with pytest.raises(KubeError, match=IMMUTABLE):
        await admin.patch(api, "MCPRemoteEndpoint", "a", changed, namespace=namespace)
    with pytest.raises(KubeError, match="spec: Required value"):
        await admin.patch(api, "MCPRemoteEndpoint", "a", {"spec": None}, namespace=namespace)


async def test_only_a_rule_with_a_duration_reads_the_empty_text_as_unset(admin: Kube, namespace: str) -> None:
    """The pattern of durations refuses it before: the rule's own exception for it is for other writers' schemas."""
    path = "spec.config.operational.failureHandling.circuitBreaker.timeout"
    doc = Builder("VirtualMCPServer").with_value(path, "")
    metadata = {"name": "a", "namespace": namespace}
    with pytest.raises(KubeError, match="should match"):
        await admin.create(
            {"apiVersion": f"{GROUP}/v1beta1", "kind": "VirtualMCPServer", "metadata": metadata} | doc, dry_run=True
        )


def test_every_rule_of_this_file_is_in_the_table() -> None:
    messages = {message for _, _, message in EVERY}
    assert [start for start in RULES if not any(message.startswith(start) for message in messages)] == []
