"""Each condition of an MCPExternalAuthConfig appears and goes; deletion waits for all that refer to it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.envtest.controllers.kit import URL, Cluster, Object, conditions_of
from tests.envtest.controllers.lifecycles import shows

KIND = "MCPExternalAuthConfig"
FINALIZER = "mcpexternalauthconfig.toolhive.stacklok.dev/finalizer"
OIDC: Object = {"name": "o", "type": "oidc", "oidcConfig": {"issuerUrl": "https://idp.example.com", "clientId": "c"}}
WITH_SCOPE = OIDC | {"oidcConfig": OIDC["oidcConfig"] | {"additionalAuthorizationParams": {"scope": "x"}}}
OAUTH2 = {"authorizationEndpoint": "https://a.example/a", "tokenEndpoint": "https://a.example/t", "clientId": "c"}
ANONYMOUS = {"type": "anonymous"}


def server(**config: Any) -> Object:
    return {
        "type": "embeddedAuthServer",
        "embeddedAuthServer": {"issuer": "https://as.example.com", "upstreamProviders": [OIDC]} | config,
    }


async def test_a_good_config_is_valid_hashed_and_held(cluster: Cluster) -> None:
    await cluster.auth("a", type="tokenExchange", tokenExchange={"tokenUrl": "https://a.example/t", "audience": "x"})
    found = await cluster.until(KIND, "a", Valid="True/ValidationSucceeded", DeletionBlocked="", IdentitySynthesized="")
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert found["status"]["observedGeneration"] == 1
    first = found["status"]["configHash"]
    await cluster.patch(KIND, "a", {"spec": {"tokenExchange": {"audience": "y"}}})
    changed = await cluster.admin.wait_for(
        "toolhive.stacklok.dev/v1beta1",
        KIND,
        "a",
        namespace=cluster.namespace,
        until=lambda o: (o or {})["status"]["observedGeneration"] == 2,
    )
    assert changed is not None
    assert changed["status"]["configHash"] != first


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (server(upstreamProviders=[WITH_SCOPE]), "must not set scope"),
        (server(issuer="http://as.example.com"), "issuer must use https://"),
        (server(primaryUpstreamProvider="nobody"), 'primaryUpstreamProvider "nobody"'),
        (server(storage={"type": "redis"}), "storage.redis is required"),
    ],
)
@shows(KIND, "Valid=False/ValidationFailed")
async def test_what_only_the_operator_can_check_fails_validation_until_it_is_mended(
    cluster: Cluster, spec: Object, sentence: str
) -> None:
    await cluster.auth("a", **spec)
    failed = await cluster.until(KIND, "a", Valid="False/ValidationFailed")
    assert sentence in conditions_of(failed)["Valid"][1]
    assert "configHash" not in failed["status"]
    await cluster.patch(KIND, "a", {"spec": {"embeddedAuthServer": None, "type": "unauthenticated"}})
    await cluster.until(KIND, "a", Valid="True/ValidationSucceeded", IdentitySynthesized="")


@shows(
    KIND,
    "Valid=False/InvalidConfig",
    "Valid=True/ValidationSucceeded",
    "Ready=True/ConfigReady",
    "Ready=False/InvalidConfig",
    "Stalled=True/InvalidConfig",
)
async def test_a_strategy_that_the_gateway_would_refuse_is_invalid_until_it_is_mended(cluster: Cluster) -> None:
    await cluster.auth("a", type="awsSts", awsSts={"region": "eu-west-1"})
    failed = await cluster.until(KIND, "a", Valid="False/InvalidConfig")
    assert "fallbackRoleArn or roleMappings is required" in conditions_of(failed)["Valid"][1]
    await cluster.patch(KIND, "a", {"spec": {"awsSts": {"fallbackRoleArn": "arn:aws:iam::123456789012:role/R"}}})
    await cluster.until(KIND, "a", Valid="True/ValidationSucceeded")
    await cluster.patch(KIND, "a", {"spec": {"awsSts": {"fallbackRoleArn": None}}})
    await cluster.until(KIND, "a", Valid="False/InvalidConfig")


@shows(KIND, "Valid=False/EnterpriseRequired")
async def test_obo_needs_what_this_build_has_not_until_the_type_changes(cluster: Cluster) -> None:
    await cluster.auth("a", type="obo", obo={"tenantId": "example.com"})
    await cluster.until(KIND, "a", Valid="False/EnterpriseRequired")
    await cluster.patch(KIND, "a", {"spec": {"type": "unauthenticated", "obo": None}})
    await cluster.until(KIND, "a", Valid="True/ValidationSucceeded")


@shows(
    KIND,
    "IdentitySynthesized=True/OAuth2UpstreamWithoutUserInfo",
    "IdentitySynthesized=False/AllUpstreamsHaveUserInfo",
)
async def test_an_upstream_without_user_info_synthesizes_the_identity_until_it_has_one(cluster: Cluster) -> None:
    await cluster.auth("a", **server(upstreamProviders=[{"name": "o", "type": "oauth2", "oauth2Config": OAUTH2}]))
    await cluster.until(KIND, "a", IdentitySynthesized="True/OAuth2UpstreamWithoutUserInfo")
    told = OAUTH2 | {"userInfo": {"endpointUrl": "https://a.example/me"}}
    providers = [{"name": "o", "type": "oauth2", "oauth2Config": told}]
    await cluster.patch(KIND, "a", {"spec": {"embeddedAuthServer": {"upstreamProviders": providers}}})
    await cluster.until(KIND, "a", IdentitySynthesized="False/AllUpstreamsHaveUserInfo")
    await cluster.patch(KIND, "a", {"spec": {"type": "unauthenticated", "embeddedAuthServer": None}})
    await cluster.until(KIND, "a", IdentitySynthesized="")


REFERRERS: list[tuple[str, Object]] = [
    ("MCPServer", {"image": "i", "externalAuthConfigRef": {"name": "a"}}),
    ("MCPServer", {"image": "i", "authServerRef": {"name": "a"}}),
    ("MCPRemoteProxy", {"remoteUrl": URL, "externalAuthConfigRef": {"name": "a"}}),
    ("MCPRemoteProxy", {"remoteUrl": URL, "authServerRef": {"name": "a"}}),
    (
        "MCPServerEntry",
        {"remoteUrl": URL, "transport": "sse", "groupRef": {"name": "g"}, "externalAuthConfigRef": {"name": "a"}},
    ),
    (
        "MCPRemoteEndpoint",
        {
            "type": "direct",
            "remoteUrl": URL,
            "transport": "sse",
            "groupRef": {"name": "g"},
            "externalAuthConfigRef": {"name": "a"},
        },
    ),
    (
        "MCPRemoteEndpoint",
        {
            "type": "proxy",
            "remoteUrl": URL,
            "transport": "sse",
            "groupRef": {"name": "g"},
            "proxyConfig": {"oidcConfigRef": {"name": "o", "audience": "x"}, "authServerRef": {"name": "a"}},
        },
    ),
    (
        "VirtualMCPServer",
        {
            "groupRef": {"name": "g"},
            "incomingAuth": ANONYMOUS,
            "outgoingAuth": {"default": {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "a"}}},
        },
    ),
    (
        "VirtualMCPServer",
        {
            "groupRef": {"name": "g"},
            "incomingAuth": ANONYMOUS,
            "outgoingAuth": {
                "backends": {"b": {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "a"}}}
            },
        },
    ),
]


@shows(KIND, "DeletionBlocked=True/ReferencedByWorkloads", gone=True)
@pytest.mark.parametrize(("kind", "spec"), REFERRERS, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(REFERRERS)])
async def test_deletion_waits_for_the_referrer_and_ends_within_a_second_after_it(
    cluster: Cluster, kind: str, spec: Object
) -> None:
    await cluster.auth("a")
    await cluster.until(KIND, "a", Valid="True/ValidationSucceeded")
    await cluster.create(kind, "user", spec)
    await cluster.delete(KIND, "a")
    held = await cluster.until(KIND, "a", DeletionBlocked="True/ReferencedByWorkloads")
    assert conditions_of(held)["DeletionBlocked"][1] == f"Cannot delete: still referenced by {kind}/user"
    started = time.monotonic()
    await cluster.delete(kind, "user")
    await cluster.until(KIND, "a", gone=True)
    assert time.monotonic() - started < 1.0


async def test_a_referrer_that_drops_its_reference_releases_the_config(cluster: Cluster) -> None:
    await cluster.auth("a")
    await cluster.until(KIND, "a", Valid="True/ValidationSucceeded")
    await cluster.entry("e", externalAuthConfigRef={"name": "a"})
    await cluster.delete(KIND, "a")
    await cluster.until(KIND, "a", DeletionBlocked="True/ReferencedByWorkloads")
    await cluster.patch("MCPServerEntry", "e", {"spec": {"externalAuthConfigRef": None}})
    await cluster.until(KIND, "a", gone=True)


async def test_a_held_config_is_written_once_and_then_left_alone(cluster: Cluster) -> None:
    await cluster.auth("a")
    await cluster.until(KIND, "a", Valid="True/ValidationSucceeded")
    await cluster.create("MCPServer", "user", {"image": "i", "externalAuthConfigRef": {"name": "a"}})
    await cluster.delete(KIND, "a")
    await cluster.until(KIND, "a", DeletionBlocked="True/ReferencedByWorkloads")
    await cluster.event("a", "Warning", "DeletionBlocked")
    assert await cluster.status_writes_at_rest("mcpexternalauthconfigs") == ["a", "a"]
    await cluster.assert_idle()


@shows(KIND, "Valid=False/EnterpriseRequired")
async def test_events_tell_of_transitions(cluster: Cluster) -> None:
    await cluster.auth("a", type="obo", obo={})
    await cluster.until(KIND, "a", Valid="False/EnterpriseRequired")
    await cluster.patch(KIND, "a", {"spec": {"type": "unauthenticated", "obo": None}})
    await cluster.until(KIND, "a", Valid="True/ValidationSucceeded")
    for type_, reason in (("Warning", "ConfigInvalid"), ("Normal", "ConfigValid")):
        await cluster.event("a", type_, reason)
