"""Each condition of a direct MCPRemoteEndpoint appears when its cause does, and goes when it is mended."""

from __future__ import annotations

import time

import pytest

from tests.envtest.controllers.kit import URL, Cluster, Object, certificate, conditions_of, encoded, header
from tests.envtest.controllers.kit import wait_for_the_next_second as next_second
from tests.envtest.controllers.lifecycles import shows

KIND = "MCPRemoteEndpoint"


async def test_an_endpoint_with_a_ready_group_is_ready_and_publishes_its_url(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.endpoint()
    found = await cluster.until(
        KIND,
        "d",
        phase="Ready",
        Ready="True/EndpointReady",
        ConfigurationValid="True/ConfigurationValid",
        GroupRefValid="True/GroupRefIsValid",
        AuthConfigValid="",
        CABundleValid="",
        HeaderSecretsValid="",
        ToolConfigValid="",
        DeploymentReady="",
    )
    assert found["status"]["url"] == URL
    assert found["status"]["observedGeneration"] == 1
    assert "finalizers" not in found["metadata"]
    assert await cluster.status_writes_at_rest("mcpremoteendpoints") == ["d"]


@shows(
    KIND,
    "ConfigurationValid=False/RemoteURLInvalid",
    "ConfigurationValid=True/ConfigurationValid",
    "Ready=False/RemoteURLInvalid",
    "Stalled=True/RemoteURLInvalid",
)
async def test_a_blocked_url_takes_the_url_out_of_the_status_until_it_is_mended(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.endpoint(remoteUrl="http://127.0.0.1:8080")
    failed = await cluster.until(
        KIND, "d", phase="Failed", ConfigurationValid="False/RemoteURLInvalid", Ready="False/RemoteURLInvalid"
    )
    assert "url" not in failed["status"]
    await cluster.patch(KIND, "d", {"spec": {"remoteUrl": URL}})
    mended = await cluster.until(KIND, "d", phase="Ready", ConfigurationValid="True/ConfigurationValid")
    assert mended["status"]["url"] == URL
    await cluster.patch(KIND, "d", {"spec": {"remoteUrl": "http://169.254.169.254"}})
    broken = await cluster.until(KIND, "d", phase="Failed", ConfigurationValid="False/RemoteURLInvalid")
    assert "url" not in broken["status"]


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "awsSts", "awsSts": {"region": "eu-west-1", "fallbackRoleArn": "arn:aws:iam::123456789012:role/R"}},
        {"type": "bearerToken", "bearerToken": {"tokenSecretRef": {"name": "s", "key": "k"}}},
        {"type": "obo", "obo": {}},
        {
            "type": "embeddedAuthServer",
            "embeddedAuthServer": {
                "issuer": "https://as.example.com",
                "upstreamProviders": [
                    {"name": "o", "type": "oidc", "oidcConfig": {"issuerUrl": "https://i.example", "clientId": "c"}}
                ],
            },
        },
    ],
    ids=lambda spec: spec["type"],
)
@shows(KIND, "ConfigurationValid=False/UnsupportedAuthTypeForDirectMode")
async def test_auth_that_a_gateway_cannot_apply_is_refused_until_it_is_another(cluster: Cluster, spec: Object) -> None:
    await cluster.group()
    await cluster.auth("a", **spec)
    await cluster.endpoint(externalAuthConfigRef={"name": "a"})
    await cluster.until(KIND, "d", phase="Failed", ConfigurationValid="False/UnsupportedAuthTypeForDirectMode")
    await cluster.patch("MCPExternalAuthConfig", "a", {"spec": {"type": "unauthenticated", spec["type"]: None}})
    await cluster.until(
        KIND, "d", phase="Ready", ConfigurationValid="True/ConfigurationValid", AuthConfigValid="True/AuthConfigValid"
    )


@shows(KIND, "ConfigurationValid=False/RestrictedHeader")
async def test_restricted_headers_are_refused_until_they_are_gone(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.endpoint(headerForward={"addPlaintextHeaders": {"X-Forwarded-For": "1.2.3.4"}})
    await cluster.until(KIND, "d", phase="Failed", ConfigurationValid="False/RestrictedHeader")
    await cluster.patch(KIND, "d", {"spec": {"headerForward": None}})
    await cluster.until(KIND, "d", phase="Ready", ConfigurationValid="True/ConfigurationValid")


@pytest.mark.parametrize("rival", ["MCPServerEntry", "MCPServer", "MCPRemoteProxy"])
@shows(KIND, "ConfigurationValid=False/NameCollision")
async def test_an_endpoint_waits_for_an_older_workload_of_its_name_and_takes_over_within_a_second(
    cluster: Cluster, rival: str
) -> None:
    await cluster.group()
    spec = {
        "MCPServerEntry": {"remoteUrl": URL, "transport": "sse", "groupRef": {"name": "g"}},
        "MCPServer": {"image": "i"},
        "MCPRemoteProxy": {"remoteUrl": URL},
    }[rival]
    await cluster.create(rival, "d", spec)
    await next_second(cluster, rival, "d")
    await cluster.endpoint()
    failed = await cluster.until(KIND, "d", phase="Failed", ConfigurationValid="False/NameCollision")
    assert rival in conditions_of(failed)["ConfigurationValid"][1]
    started = time.monotonic()
    await cluster.delete(rival, "d")
    await cluster.until(KIND, "d", phase="Ready", ConfigurationValid="True/ConfigurationValid")
    assert time.monotonic() - started < 1.0


@shows(
    KIND,
    "GroupRefValid=True/GroupRefIsValid",
    "GroupRefValid=False/GroupRefNotFound",
)
async def test_a_missing_group_and_a_group_that_goes_fail_the_endpoint(cluster: Cluster) -> None:
    await cluster.endpoint()
    await cluster.until(KIND, "d", phase="Failed", GroupRefValid="False/GroupRefNotFound")
    await cluster.group()
    await cluster.until(KIND, "d", phase="Ready", GroupRefValid="True/GroupRefIsValid")
    await cluster.delete("MCPGroup", "g")
    await cluster.until(KIND, "d", phase="Failed", GroupRefValid="False/GroupRefNotFound")


@shows(KIND, "GroupRefValid=False/GroupRefNotReady")
async def test_a_group_that_is_not_ready_leaves_the_endpoint_pending(admin, namespace, control_plane, start_operator):
    """The group's status is written here as its controller would write it when it cannot list."""
    await start_operator(only=["mcpremoteendpoint"])
    cluster = Cluster(admin, namespace, control_plane)
    await cluster.create("MCPGroup", "g")
    await cluster.endpoint()
    pending = await cluster.until(KIND, "d", phase="Pending", GroupRefValid="False/GroupRefNotReady")
    assert "url" not in pending["status"]
    await cluster.patch("MCPGroup", "g", {"status": {"phase": "Ready"}}, status=True)
    await cluster.until(KIND, "d", phase="Ready", GroupRefValid="True/GroupRefIsValid")


@shows(
    KIND,
    "AuthConfigValid=True/AuthConfigValid",
    "AuthConfigValid=False/AuthConfigNotFound",
    "AuthConfigValid=False/AuthConfigInvalid",
)
async def test_an_auth_config_must_exist_and_be_valid(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.endpoint(externalAuthConfigRef={"name": "a"})
    await cluster.until(KIND, "d", phase="Failed", AuthConfigValid="False/AuthConfigNotFound")
    await cluster.auth("a", type="tokenExchange", tokenExchange={"tokenUrl": "nonsense", "audience": "x"})
    await cluster.until(KIND, "d", phase="Failed", AuthConfigValid="False/AuthConfigInvalid")
    await cluster.patch("MCPExternalAuthConfig", "a", {"spec": {"tokenExchange": {"tokenUrl": "https://a.example/t"}}})
    await cluster.until(KIND, "d", phase="Ready", AuthConfigValid="True/AuthConfigValid")
    await cluster.patch(KIND, "d", {"spec": {"externalAuthConfigRef": None}})
    await cluster.until(KIND, "d", phase="Ready", AuthConfigValid="")


@shows(
    KIND,
    "CABundleValid=True/CABundleValid",
    "CABundleValid=False/CABundleRefNotFound",
    "CABundleValid=False/CABundleKeyNotFound",
    "CABundleValid=False/CABundleInvalid",
)
async def test_a_ca_bundle_is_judged_by_config_map_key_and_certificate(cluster: Cluster) -> None:
    await cluster.group()
    created = await cluster.endpoint(caBundleRef={"configMapRef": {"name": "c"}})
    assert created["spec"]["caBundleRef"]["configMapRef"]["key"] == "ca.crt"
    await cluster.until(KIND, "d", phase="Failed", CABundleValid="False/CABundleRefNotFound")
    await cluster.config_map(other="x")
    await cluster.until(KIND, "d", phase="Failed", CABundleValid="False/CABundleKeyNotFound")
    await cluster.patch("ConfigMap", "c", {"data": {"ca.crt": "no certificate"}})
    await cluster.until(KIND, "d", phase="Failed", CABundleValid="False/CABundleInvalid")
    await cluster.patch("ConfigMap", "c", {"data": {"ca.crt": certificate()}})
    await cluster.until(KIND, "d", phase="Ready", CABundleValid="True/CABundleValid")
    await cluster.patch(KIND, "d", {"spec": {"caBundleRef": None}})
    await cluster.until(KIND, "d", phase="Ready", CABundleValid="")


@shows(
    KIND,
    "HeaderSecretsValid=True/HeaderSecretsValid",
    "HeaderSecretsValid=False/HeaderSecretNotFound",
)
async def test_header_secrets_and_their_keys_must_be_there(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.endpoint(headerForward={"addHeadersFromSecret": [header("X-A", "s", "k")]})
    await cluster.until(KIND, "d", phase="Failed", HeaderSecretsValid="False/HeaderSecretNotFound")
    await cluster.secret("s", other="1")
    await cluster.until(KIND, "d", phase="Failed", HeaderSecretsValid="False/HeaderSecretNotFound")
    await cluster.patch("Secret", "s", {"data": encoded(k="1")})
    await cluster.until(KIND, "d", phase="Ready", HeaderSecretsValid="True/HeaderSecretsValid")
    await cluster.patch(KIND, "d", {"spec": {"headerForward": None}})
    await cluster.until(KIND, "d", phase="Ready", HeaderSecretsValid="")


@shows(
    KIND,
    "ToolConfigValid=True/ToolConfigValid",
    "ToolConfigValid=False/ToolConfigNotFound",
)
async def test_a_tool_config_must_exist(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.endpoint(toolConfigRef={"name": "t"})
    await cluster.until(KIND, "d", phase="Failed", ToolConfigValid="False/ToolConfigNotFound")
    await cluster.create("MCPToolConfig", "t", {})
    await cluster.until(KIND, "d", phase="Ready", ToolConfigValid="True/ToolConfigValid")
    await cluster.patch(KIND, "d", {"spec": {"toolConfigRef": None}})
    await cluster.until(KIND, "d", phase="Ready", ToolConfigValid="")


@shows(
    KIND,
    "Ready=True/EndpointReady",
    "Ready=False/BackendUnavailable",
)
async def test_an_endpoint_is_unavailable_while_every_gateway_reports_its_circuit_open(cluster: Cluster) -> None:
    """The reports are written here as running gateways would write them."""
    await cluster.group()
    await cluster.endpoint()
    for name, state in (("w", "closed"), ("v", "open")):
        await cluster.create(
            "VirtualMCPServer", name, {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}}
        )
        await cluster.patch("VirtualMCPServer", name, report(state), status=True)
    await cluster.patch("VirtualMCPServer", "w", report("open"), status=True)
    down = await cluster.until(KIND, "d", phase="Failed", Ready="False/BackendUnavailable", Stalled="")
    assert conditions_of(down)["Ready"][1] == "circuit open in v, w"
    assert down["status"]["url"] == URL
    assert await cluster.status_writes_at_rest("mcpremoteendpoints") == ["d", "d"], (
        "one open circuit of two says nothing"
    )
    await cluster.patch("VirtualMCPServer", "w", report("half-open"), status=True)
    assert await cluster.status_writes_at_rest("mcpremoteendpoints") == ["d", "d"], "a probe is no recovery"
    await cluster.patch("VirtualMCPServer", "w", report("closed"), status=True)
    await cluster.until(KIND, "d", phase="Ready", Ready="True/EndpointReady")


async def test_an_endpoint_that_somebody_holds_is_terminating_until_it_is_let_go(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.endpoint()
    await cluster.patch(KIND, "d", {"metadata": {"finalizers": ["example.com/held"]}})
    await cluster.until(KIND, "d", phase="Ready")
    await cluster.delete(KIND, "d")
    going = await cluster.until(KIND, "d", phase="Terminating")
    assert "url" not in going["status"]
    await cluster.patch(KIND, "d", {"metadata": {"finalizers": []}})
    await cluster.until(KIND, "d", gone=True)


async def test_settled_endpoints_ask_nothing_of_the_server(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.auth("a")
    await cluster.config_map(**{"ca.crt": certificate()})
    await cluster.endpoint("good", externalAuthConfigRef={"name": "a"}, caBundleRef={"configMapRef": {"name": "c"}})
    await cluster.endpoint("bad", headerForward={"addHeadersFromSecret": [header("X-A", "s", "k")]})
    await cluster.until(KIND, "good", phase="Ready")
    await cluster.until(KIND, "bad", phase="Failed")
    await cluster.admin.wait_for(
        "toolhive.stacklok.dev/v1beta1",
        "MCPGroup",
        "g",
        namespace=cluster.namespace,
        until=lambda found: (found or {}).get("status", {}).get("remoteEndpointCount") == 2,
    )
    await cluster.assert_idle()


def report(state: str) -> Object:
    return {"status": {"discoveredBackends": [{"name": "d", "status": "unavailable", "circuitBreakerState": state}]}}
