"""Each condition of a VirtualMCPServer appears when its cause does, and goes when it is mended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.envtest.controllers.kit import certificate, conditions_of, header
from tests.envtest.controllers.lifecycles import shows
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways

CEDAR = "permit(principal, action, resource);"
STEPS = [{"id": "one", "tool": "e.search"}]
STOCK = {"annotations": {"toolhive.stacklok.dev/vmcp-dialect": "toolhive"}}
"""For what only the stock gateway can do."""
ISSUER = {"type": "inline", "inline": {"issuer": "https://issuer.example.com"}}


async def _settled(cluster: Gateways, **conditions: str) -> dict[str, Any]:
    return await cluster.until(KIND, "v", phase="Pending", Ready="False/DeploymentNotReady", **conditions)


async def _base(cluster: Gateways, **spec: Any) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.gateway(**spec)


@shows(KIND, "GroupRefValidated=False/GroupRefNotFound")
async def test_the_group_must_be_there_and_ready(cluster: Gateways) -> None:
    await cluster.gateway()
    await cluster.until(
        KIND, "v", phase="Failed", GroupRefValidated="False/GroupRefNotFound", Ready="False/GroupRefNotFound"
    )
    await cluster.group()
    await _settled(cluster, GroupRefValidated="True/GroupRefValid")


@shows(KIND, "GroupRefValidated=False/GroupRefNotReady")
async def test_a_group_that_is_not_ready_lets_the_gateway_wait(start: Callable[..., Awaitable[Gateways]]) -> None:
    cluster = await start(only=("virtualmcpserver",))
    await cluster.create("MCPGroup", "g")
    await cluster.gateway()
    await cluster.until(
        KIND, "v", phase="Pending", GroupRefValidated="False/GroupRefNotReady", Ready="False/GroupRefNotReady"
    )
    await cluster.patch("MCPGroup", "g", {"status": {"phase": "Ready"}}, status=True)
    await _settled(cluster, GroupRefValidated="True/GroupRefValid")


@shows(
    KIND,
    "Ready=False/DeploymentNotReady",
    "Ready=False/DeploymentFailed",
)
async def test_phase_and_ready_follow_the_pods(cluster: Gateways) -> None:
    await _base(cluster)
    await _settled(cluster)
    await cluster.pod("bad", phase="Failed", ready=False)
    await cluster.until(KIND, "v", phase="Failed", Ready="False/DeploymentFailed")
    await cluster.pod("good")
    await cluster.until(KIND, "v", phase="Ready", Ready="True/DeploymentReady")


@shows(
    KIND,
    "Ready=True/DeploymentReady",
    "Ready=False/BackendsUnavailable",
    "Ready=False/BackendsDegraded",
    "Ready=False/BackendsUnknown",
)
async def test_phase_and_ready_follow_what_the_gateway_reports(cluster: Gateways) -> None:
    await _base(cluster)
    await cluster.pod("p")
    await cluster.until(KIND, "v", phase="Ready", Ready="True/DeploymentReady")
    await cluster.report({"e": "unknown"})
    await cluster.until(KIND, "v", phase="Pending", Ready="False/BackendsUnknown")
    await cluster.report({"e": "unavailable", "f": "ready"})
    await cluster.until(KIND, "v", phase="Degraded", Ready="False/BackendsDegraded")
    await cluster.report({"e": "unavailable"})
    found = await cluster.until(KIND, "v", phase="Degraded", Ready="False/BackendsUnavailable")
    assert [item["name"] for item in found["status"]["discoveredBackends"]] == ["e"]
    await cluster.report({"e": "unauthenticated"})
    await cluster.until(KIND, "v", phase="Ready", Ready="True/DeploymentReady")


@shows(KIND, "Valid=False/ValidationFailed")
async def test_a_spec_that_the_gateway_would_refuse_is_not_valid(cluster: Gateways) -> None:
    await _base(cluster, config={"aggregation": {"conflictResolution": "priority"}})
    found = await cluster.until(KIND, "v", phase="Failed", Valid="False/ValidationFailed")
    assert "priorityOrder" in conditions_of(found)["Valid"][1]
    order = {"conflictResolution": "priority", "conflictResolutionConfig": {"priorityOrder": ["e"]}}
    await cluster.patch(KIND, "v", {"spec": {"config": {"aggregation": order}}})
    await _settled(cluster, Valid="True/ValidationSucceeded")


@shows(KIND, "PodTemplateSpecValid=False/InvalidPodTemplateSpec")
async def test_a_pod_template_must_be_mergeable(cluster: Gateways) -> None:
    broken = {"spec": {"containers": [{"name": "vmcp", "$patch": "delete"}]}}
    await _base(cluster, podTemplateSpec=broken)
    await cluster.until(KIND, "v", phase="Failed", PodTemplateSpecValid="False/InvalidPodTemplateSpec")
    await cluster.patch(KIND, "v", {"spec": {"podTemplateSpec": None}})
    await _settled(cluster, PodTemplateSpecValid="")
    labelled = {"metadata": {"labels": {"team": "a"}}}
    await cluster.patch(KIND, "v", {"spec": {"podTemplateSpec": labelled}})
    await _settled(cluster, PodTemplateSpecValid="True/PodTemplateSpecValid")
    await cluster.deployment(until=lambda found: found["spec"]["template"]["metadata"]["labels"].get("team") == "a")


@shows(KIND, "PodTemplateSpecValid=False/PodTemplateRestricted", "Stalled=True/PodTemplateRestricted")
async def test_a_restricted_pod_template_makes_no_pod_until_it_asks_for_less(start) -> None:
    cluster = await start(restrict_pod_templates=True)
    await _base(cluster, podTemplateSpec={"spec": {"hostNetwork": True}})
    found = await cluster.until(KIND, "v", phase="Failed", PodTemplateSpecValid="False/PodTemplateRestricted")
    assert "spec.hostNetwork: must not be true" in found["status"]["message"]
    assert await cluster.admin.list("apps/v1", "Deployment", namespace=cluster.namespace) == []
    await cluster.patch(
        KIND, "v", {"spec": {"podTemplateSpec": {"spec": {"hostNetwork": None, "priorityClassName": "a"}}}}
    )
    await _settled(cluster, PodTemplateSpecValid="True/PodTemplateSpecValid", Stalled="")
    await cluster.patch(KIND, "v", {"spec": {"serviceAccount": "default"}})
    await cluster.until(KIND, "v", phase="Failed", PodTemplateSpecValid="False/PodTemplateRestricted")


@shows(
    KIND,
    "EmbeddingServerReady=False/NotSupported",
    "AuthServerConfigValidated=False/NotSupported",
)
async def test_what_is_not_supported_says_so_and_stops_when_removed(cluster: Gateways) -> None:
    upstream = {"name": "u", "type": "oidc", "oidcConfig": {"issuerUrl": "https://i.example", "clientId": "c"}}
    server = {"issuer": "https://a.example", "upstreamProviders": [upstream]}
    await _base(cluster, authServerConfig=server, embeddingServerRef={"name": "x"})
    await cluster.until(
        KIND,
        "v",
        phase="Failed",
        AuthServerConfigValidated="False/NotSupported",
        EmbeddingServerReady="False/NotSupported",
    )
    await cluster.patch(KIND, "v", {"spec": {"authServerConfig": None, "embeddingServerRef": None}})
    await _settled(cluster, AuthServerConfigValidated="", EmbeddingServerReady="")


@shows(KIND, "AuthServerConfigValidated=False/AuthzPrimaryProviderRequiresAuthServer")
async def test_a_primary_upstream_needs_an_authorization_server(cluster: Gateways) -> None:
    inline = {"policies": [CEDAR], "primaryUpstreamProvider": "u"}
    auth = {"type": "anonymous", "authzConfig": {"type": "inline", "inline": inline}}
    await _base(cluster, incomingAuth=auth)
    await cluster.until(
        KIND, "v", phase="Failed", AuthServerConfigValidated="False/AuthzPrimaryProviderRequiresAuthServer"
    )
    await cluster.patch(
        KIND, "v", {"spec": {"incomingAuth": {"authzConfig": {"inline": {"primaryUpstreamProvider": None}}}}}
    )
    await _settled(cluster, AuthServerConfigValidated="", AuthConfigured="True/AuthValid")


@shows(
    KIND,
    "CompositeToolRefsValidated=False/CompositeToolRefNotFound",
    "CompositeToolRefsValidated=False/CompositeToolRefInvalid",
)
async def test_composite_tool_definitions_are_judged_in_place(cluster: Gateways) -> None:
    definition = "VirtualMCPCompositeToolDefinition"
    await _base(cluster, config={"compositeToolRefs": [{"name": "t"}]}, metadata=STOCK)
    await cluster.until(KIND, "v", phase="Failed", CompositeToolRefsValidated="False/CompositeToolRefNotFound")
    circle = [{"id": "one", "tool": "e.a", "dependsOn": ["one"]}]
    await cluster.create(definition, "t", {"name": "deploy", "description": "d", "steps": circle})
    await cluster.until(KIND, "v", phase="Failed", CompositeToolRefsValidated="False/CompositeToolRefInvalid")
    await cluster.patch(definition, "t", {"spec": {"steps": STEPS}})
    await _settled(cluster, CompositeToolRefsValidated="True/CompositeToolRefsValid")
    config = await cluster.config()
    assert [tool.name for tool in config.composite_tools] == ["deploy"]


@shows(
    KIND,
    "OIDCConfigRefValidated=True/OIDCConfigRefValid",
    "OIDCConfigRefValidated=False/OIDCConfigRefNotFound",
    "OIDCConfigRefValidated=False/OIDCConfigRefNotValid",
    "AuthConfigured=True/AuthValid",
    "AuthConfigured=False/AuthInvalid",
)
async def test_the_oidc_configuration_must_be_there_and_valid(cluster: Gateways) -> None:
    auth = {"type": "oidc", "oidcConfigRef": {"name": "o", "audience": "aud"}}
    await _base(cluster, incomingAuth=auth)
    await cluster.until(KIND, "v", phase="Failed", OIDCConfigRefValidated="False/OIDCConfigRefNotFound")
    bundle = {"configMapRef": {"name": "ca", "key": "ca.crt"}}
    secret = {"name": "client", "key": "secret"}
    inline = ISSUER["inline"] | {"clientId": "id", "clientSecretRef": secret, "caBundleRef": bundle}  # type: ignore[operator]
    await cluster.create("MCPOIDCConfig", "o", {"type": "inline", "inline": inline})
    await cluster.until(KIND, "v", phase="Failed", OIDCConfigRefValidated="False/OIDCConfigRefNotValid")
    await cluster.config_map("ca", **{"ca.crt": certificate()})
    await cluster.until(
        KIND, "v", phase="Failed", OIDCConfigRefValidated="True/OIDCConfigRefValid", AuthConfigured="False/AuthInvalid"
    )
    await cluster.secret("client", secret="hush")
    await _settled(cluster, OIDCConfigRefValidated="True/OIDCConfigRefValid", AuthConfigured="True/AuthValid")
    config = await cluster.config(until=lambda config: config.incoming_auth is not None)
    assert config.incoming_auth is not None
    assert config.incoming_auth.oidc is not None
    assert config.incoming_auth.oidc.client_secret_env == "VMCP_OIDC_CLIENT_SECRET"
    assert config.incoming_auth.oidc.ca_bundle_path == "/config/certs/ca/ca.crt"
    assert config.incoming_auth.oidc.resource == f"http://v.{cluster.namespace}.svc.cluster.local:4483"
    await cluster.patch(KIND, "v", {"spec": {"incomingAuth": {"type": "anonymous", "oidcConfigRef": None}}})
    await _settled(cluster, OIDCConfigRefValidated="")


@shows(
    KIND,
    "AuthzConfigRefValidated=True/AuthzConfigRefValid",
    "AuthzConfigRefValidated=False/AuthzConfigRefNotFound",
    "AuthzConfigRefValidated=False/AuthzConfigRefNotValid",
)
async def test_shared_policies_must_be_there_and_parse(cluster: Gateways) -> None:
    await _base(cluster, incomingAuth={"type": "anonymous", "authzConfigRef": {"name": "z"}})
    await cluster.until(KIND, "v", phase="Failed", AuthzConfigRefValidated="False/AuthzConfigRefNotFound")
    await cluster.create("MCPAuthzConfig", "z", {"type": "cedarv1", "config": {"policies": ["permit(who)"]}})
    await cluster.until(KIND, "v", phase="Failed", AuthzConfigRefValidated="False/AuthzConfigRefNotValid")
    await cluster.patch("MCPAuthzConfig", "z", {"spec": {"config": {"policies": [CEDAR]}}})
    await _settled(cluster, AuthzConfigRefValidated="True/AuthzConfigRefValid")
    await cluster.patch(KIND, "v", {"spec": {"incomingAuth": {"authzConfigRef": None}}})
    await _settled(cluster, AuthzConfigRefValidated="")


@shows(
    KIND,
    "AuthConfigured=False/AuthzConfigMapNotFound",
    "AuthConfigured=False/AuthzConfigMapInvalid",
)
async def test_a_config_map_with_policies_must_be_there_and_parse(cluster: Gateways) -> None:
    auth = {"type": "anonymous", "authzConfig": {"type": "configMap", "configMap": {"name": "p"}}}
    await _base(cluster, incomingAuth=auth)
    await cluster.until(KIND, "v", phase="Failed", AuthConfigured="False/AuthzConfigMapNotFound")
    await cluster.config_map("p", **{"authz.json": "{}"})
    await cluster.until(KIND, "v", phase="Failed", AuthConfigured="False/AuthzConfigMapInvalid")
    good = '{"version": "1.0", "type": "cedarv1", "cedar": {"policies": ["permit(principal, action, resource);"]}}'
    await cluster.patch("ConfigMap", "p", {"data": {"authz.json": good}})
    await _settled(cluster, AuthConfigured="True/AuthValid")


@shows(
    KIND,
    "TelemetryConfigRefValidated=True/TelemetryConfigRefValid",
    "TelemetryConfigRefValidated=False/TelemetryConfigRefNotFound",
    "TelemetryConfigRefValidated=False/TelemetryConfigRefInvalid",
)
async def test_the_telemetry_configuration_must_be_there_and_valid(cluster: Gateways) -> None:
    await _base(cluster, telemetryConfigRef={"name": "t"}, metadata=STOCK)
    await cluster.until(KIND, "v", phase="Failed", TelemetryConfigRefValidated="False/TelemetryConfigRefNotFound")
    otel = {"enabled": True, "endpoint": "otel:4318"}
    await cluster.create("MCPTelemetryConfig", "t", {"openTelemetry": otel})
    await cluster.until(KIND, "v", phase="Failed", TelemetryConfigRefValidated="False/TelemetryConfigRefInvalid")
    await cluster.patch("MCPTelemetryConfig", "t", {"spec": {"openTelemetry": {"tracing": {"enabled": True}}}})
    await _settled(cluster, TelemetryConfigRefValidated="True/TelemetryConfigRefValid")
    assert (await cluster.config()).telemetry is not None
    await cluster.patch(KIND, "v", {"spec": {"telemetryConfigRef": None}})
    await _settled(cluster, TelemetryConfigRefValidated="")


@shows(
    KIND,
    "ToolConfigRefsValidated=True/ToolConfigRefsValid",
    "ToolConfigRefsValidated=False/ToolConfigRefNotFound",
)
async def test_tool_configs_must_be_there(cluster: Gateways) -> None:
    tools = [{"workload": "e", "toolConfigRef": {"name": "t"}}]
    await _base(cluster, config={"aggregation": {"tools": tools}})
    await cluster.until(KIND, "v", phase="Failed", ToolConfigRefsValidated="False/ToolConfigRefNotFound")
    await cluster.create("MCPToolConfig", "t", {"toolsFilter": ["search"]})
    await _settled(cluster, ToolConfigRefsValidated="True/ToolConfigRefsValid")
    config = await cluster.config()
    assert config.aggregation is not None
    assert config.aggregation.tools[0].filter == ("search",)
    await cluster.patch(KIND, "v", {"spec": {"config": {"aggregation": {"tools": []}}}})
    await _settled(cluster, ToolConfigRefsValidated="")


@shows(
    KIND,
    "SessionStorageWarning=True/SessionStorageMissingForReplicas",
    "SessionStorageWarning=False/SessionStorageConfigured",
)
async def test_replicas_without_a_shared_store_are_warned_about(cluster: Gateways) -> None:
    await _base(cluster, replicas=2, metadata=STOCK)
    await _settled(cluster, SessionStorageWarning="True/SessionStorageMissingForReplicas")
    storage = {"provider": "redis", "address": "redis:6379"}
    await cluster.patch(KIND, "v", {"spec": {"sessionStorage": storage}})
    await _settled(cluster, SessionStorageWarning="False/SessionStorageConfigured")
    await cluster.patch(KIND, "v", {"spec": {"replicas": 1}})
    await _settled(cluster, SessionStorageWarning="False/SessionStorageWarningNotApplicable")


@shows(
    KIND,
    "DefaultAuthConfig=True/ConversionSucceeded",
    "DefaultAuthConfig=False/ConversionFailed",
    "BackendAuthConfig=True/ConversionSucceeded",
    "BackendAuthConfig=False/ConversionFailed",
    "DiscoveredAuthConfig=False/ConversionFailed",
    "DiscoveredAuthConfig=False/EnterpriseRequired",
)
async def test_every_reference_to_an_auth_config_has_its_condition(cluster: Gateways) -> None:
    reference = {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "a"}}
    outgoing = {"source": "inline", "default": reference, "backends": {"e": reference}}
    await _base(cluster, outgoingAuth=outgoing)
    await cluster.entry("f", externalAuthConfigRef={"name": "b"})
    failed = "False/ConversionFailed"
    await _settled(
        cluster, **{"DefaultAuthConfig": failed, "BackendAuthConfig-e": failed, "DiscoveredAuthConfig-f": failed}
    )
    await cluster.auth("a")
    await cluster.auth("b", type="bearerToken", bearerToken={"tokenSecretRef": {"name": "s", "key": "k"}})
    good = "True/ConversionSucceeded"
    await _settled(
        cluster, **{"DefaultAuthConfig": good, "BackendAuthConfig-e": good, "DiscoveredAuthConfig-f": failed}
    )
    await cluster.patch("MCPExternalAuthConfig", "b", {"spec": {"type": "obo", "bearerToken": None, "obo": {}}})
    await _settled(cluster, **{"DiscoveredAuthConfig-f": "False/EnterpriseRequired"})
    await cluster.patch(KIND, "v", {"spec": {"outgoingAuth": {"default": None, "backends": None}}})
    await cluster.delete("MCPServerEntry", "f")
    await _settled(cluster, **{"DefaultAuthConfig": "", "BackendAuthConfig-e": "", "DiscoveredAuthConfig-f": ""})


@shows(
    KIND,
    "BackendsIncluded=True/AllMembersIncluded",
    "BackendsIncluded=False/MembersSkipped",
)
async def test_one_broken_member_never_blocks_the_others(cluster: Gateways) -> None:
    await _base(cluster)
    await cluster.entry("broken", headerForward={"addHeadersFromSecret": [header("X-Key", "missing", "k")]})
    found = await _settled(cluster, BackendsIncluded="False/MembersSkipped")
    assert conditions_of(found)["BackendsIncluded"][1] == "1 member is skipped: broken (NotValid)"
    config = await cluster.config()
    assert [backend.name for backend in config.backends] == ["e"]
    deployment = await cluster.deployment()
    assert "missing" not in str(deployment["spec"]["template"])
    await cluster.secret("missing", k="v")
    await _settled(cluster, BackendsIncluded="True/AllMembersIncluded")
    config = await cluster.config(until=lambda config: len(config.backends) == 2)
    forward = config.backends[0].header_forward
    assert forward is not None
    (identifier,) = forward.add_headers_from_secret.values()
    assert identifier.startswith("HEADER_FORWARD_X_KEY_BROKEN_")


@shows(KIND, "DialectValidated=False/UnknownDialect")
async def test_an_unknown_dialect_is_named_and_the_default_used(cluster: Gateways) -> None:
    annotation = "toolhive.stacklok.dev/vmcp-dialect"
    await _base(cluster, metadata={"annotations": {annotation: "klingon"}})
    await _settled(cluster, DialectValidated="False/UnknownDialect")
    await cluster.patch(KIND, "v", {"metadata": {"annotations": {annotation: "toolhive"}}})
    await _settled(cluster, DialectValidated="")
    config = await cluster.config(until=lambda config: config.backends[0].type == "")
    assert config.backends[0].name == "e"


@shows(KIND, "ConfigPublished=False/NoUsableBackends", "ConfigPublished=True/ConfigWritten")
async def test_the_stock_gateway_gets_no_configuration_without_backends(
    start: Callable[..., Awaitable[Gateways]],
) -> None:
    cluster = await start(vmcp_dialect="toolhive")
    await cluster.group()
    await cluster.gateway()
    await cluster.until(KIND, "v", phase="Pending", ConfigPublished="False/NoUsableBackends")
    assert await cluster.admin.find("apps/v1", "Deployment", "v", namespace=cluster.namespace) is None
    await cluster.entry()
    await _settled(cluster, ConfigPublished="True/ConfigWritten")
    written = (await cluster.owned("v1", "ConfigMap", "v-vmcp-config"))["data"]
    await cluster.delete("MCPServerEntry", "e")
    await _settled(cluster, ConfigPublished="False/NoUsableBackends")
    kept = await cluster.owned("v1", "ConfigMap", "v-vmcp-config")
    assert kept["data"] == written, "what runs keeps running"


@shows(
    KIND,
    "ConfigPublished=True/ConfigCompressed",
    "ConfigPublished=False/ConfigTooLarge",
)
async def test_a_large_configuration_is_packed_and_a_huge_one_refused(cluster: Gateways) -> None:
    long = {"metadata": {"filler": "word " * 200_000}}
    await _base(cluster, config=long)
    await _settled(cluster, ConfigPublished="True/ConfigCompressed")
    assert (await cluster.config()).metadata["filler"].startswith("word ")
    await cluster.patch(KIND, "v", {"metadata": {"annotations": {"toolhive.stacklok.dev/vmcp-dialect": "toolhive"}}})
    await cluster.until(KIND, "v", ConfigPublished="False/ConfigTooLarge")
    await cluster.patch(KIND, "v", {"spec": {"config": {"metadata": None}}})
    await _settled(cluster, ConfigPublished="True/ConfigWritten")


@shows(KIND, "ObjectsApplied=False/ObjectRefused")
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"spec": {"containers": [{"name": "vmcp", "imagePullPolicy": "Sometimes"}]}}, "Sometimes"),
        ({"type": "x"}, ".spec.template.type: field not declared in schema"),
        ({"spec": {"tolerance": []}}, ".spec.template.spec.tolerance: field not declared in schema"),
        ({"spec": {"hostNetwork": "sure"}}, ".spec.template.spec.hostNetwork"),
    ],
    ids=["bad value", "unknown field", "unknown field of the pod", "wrong type"],
)
async def test_what_the_server_refuses_is_said(cluster: Gateways, broken: dict[str, Any], said: str) -> None:
    await _base(cluster, podTemplateSpec=broken)
    found = await cluster.until(KIND, "v", phase="Failed", ObjectsApplied="False/ObjectRefused")
    assert said in conditions_of(found)["ObjectsApplied"][1]
    await cluster.patch(KIND, "v", {"spec": {"podTemplateSpec": None}})
    await _settled(cluster, ObjectsApplied="True/ObjectsApplied")


@shows(
    KIND,
    "ObjectsApplied=True/ObjectsApplied",
    "ObjectsApplied=False/HMACSecretInvalid",
)
async def test_a_session_secret_that_is_damaged_is_not_used(cluster: Gateways) -> None:
    await _base(cluster)
    await _settled(cluster)
    await cluster.patch("Secret", "v-hmac-secret", {"data": {"hmac-secret": "c2hvcnQ="}})
    await cluster.until(KIND, "v", phase="Failed", ObjectsApplied="False/HMACSecretInvalid")
    await cluster.delete("Secret", "v-hmac-secret")
    await _settled(cluster, ObjectsApplied="True/ObjectsApplied")
