"""Each condition of a proxy MCPRemoteEndpoint appears when its cause does, and goes when it is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controllers.shared.timing import Timing
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from runtime.testing.faultproxy import FaultProxy
from runtime.testing.faults import status
from runtime.transport.config import load_endpoint
from tests.envtest.controllers.conftest import MINE
from tests.envtest.controllers.kit import Object, certificate, conditions_of, encoded, header
from tests.envtest.controllers.lifecycles import shows
from tests.envtest.controllers.mcpremoteendpoint.conftest import ISSUER, KIND, OWNED, ProxyCluster
from tests.support.eventually import eventually
from tests.support.operator import launch, trying_again_within

Start = Callable[..., Awaitable[ProxyCluster]]


@shows(KIND, "OIDCConfigValid=True/OIDCConfigValid", "DeploymentReady=True/DeploymentReady", gone=True)
@shows(KIND, "ObjectsApplied=True/ObjectsApplied", gone=True)
@shows(KIND, "DeploymentReady=False/DeploymentNotReady", "Ready=False/DeploymentNotReady")
async def test_a_proxy_is_ready_and_has_a_url_once_a_pod_serves(proxies: ProxyCluster) -> None:
    proxies.rollouts.clear()
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy()
    waiting = await proxies.until(
        KIND,
        "p",
        phase="Pending",
        Ready="False/DeploymentNotReady",
        DeploymentReady="False/DeploymentNotReady",
        ObjectsApplied="True/ObjectsApplied",
        Stalled="",
    )
    assert "url" not in waiting["status"]
    await proxies.finish()
    found = await proxies.until(
        KIND,
        "p",
        phase="Ready",
        Ready="True/EndpointReady",
        DeploymentReady="True/DeploymentReady",
        OIDCConfigValid="True/OIDCConfigValid",
        ConfigurationValid="True/ConfigurationValid",
        AuthzConfigValid="",
        TelemetryConfigValid="",
        SessionStorageWarning="",
    )
    assert found["status"]["url"] == f"http://mcp-p-remote-proxy.{proxies.namespace}.svc.cluster.local:8080"
    owner = {"kind": KIND, "name": "p", "uid": found["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
    for api, kind, name in OWNED:
        made = await proxies.object(api, kind, name)
        assert [owner.items() <= one.items() for one in made["metadata"]["ownerReferences"]] == [True], kind
    await proxies.assert_idle()
    await proxies.delete(KIND, "p")  # the garbage collector does the rest, for all of them have this owner
    await proxies.until(KIND, "p", gone=True)


async def test_the_url_follows_the_port(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy()
    await proxies.ready()
    await proxies.patch(KIND, "p", {"spec": {"proxyConfig": {"proxyPort": 9000}}})
    await proxies.admin.wait_for(
        "toolhive.stacklok.dev/v1beta1",
        KIND,
        "p",
        namespace=proxies.namespace,
        until=lambda found: found is not None and found["status"].get("url", "").endswith(":9000"),
        timeout=20,
    )
    service = await proxies.object("v1", "Service", "mcp-p-remote-proxy")
    assert [port["port"] for port in service["spec"]["ports"]] == [9000]
    assert service["spec"]["sessionAffinity"] == "ClientIP"


@shows(KIND, "OIDCConfigValid=False/OIDCConfigNotFound", "Stalled=True/OIDCConfigNotFound")
async def test_a_missing_oidc_config_stops_a_proxy_until_it_comes(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.proxy()
    await proxies.until(KIND, "p", phase="Failed", OIDCConfigValid="False/OIDCConfigNotFound")
    await proxies.oidc()
    await proxies.ready()


@shows(KIND, "OIDCConfigValid=False/OIDCConfigInvalid")
async def test_an_oidc_config_without_its_bundle_stops_a_proxy_until_that_comes(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc(caBundleRef={"configMapRef": {"name": "pki", "key": "ca.crt"}})
    await proxies.proxy()
    await proxies.until(KIND, "p", phase="Failed", OIDCConfigValid="False/OIDCConfigInvalid")
    await proxies.config_map("pki", **{"ca.crt": certificate()})
    await proxies.ready()


@shows(KIND, "AuthzConfigValid=False/AuthzConfigNotFound", "AuthzConfigValid=False/AuthzConfigInvalid")
@shows(KIND, "AuthzConfigValid=True/AuthzConfigValid")
async def test_policies_of_a_config_map_count_once_they_are_there_and_parse(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy(proxy={"authzConfig": {"type": "configMap", "configMap": {"name": "policies"}}})
    await proxies.until(KIND, "p", phase="Failed", AuthzConfigValid="False/AuthzConfigNotFound")
    await proxies.config_map("policies", **{"authz.json": "nonsense"})
    await proxies.until(KIND, "p", phase="Failed", AuthzConfigValid="False/AuthzConfigInvalid")
    text = '{"version": "1.0", "type": "cedarv1", "cedar": {"policies": ["permit(principal, action, resource);"]}}'
    await proxies.patch("ConfigMap", "policies", {"data": {"authz.json": text}})
    await proxies.until(KIND, "p", phase="Ready", AuthzConfigValid="True/AuthzConfigValid")
    document = await proxies.document()
    assert document.incoming_auth.authz.policies == ("permit(principal, action, resource);",)
    await proxies.patch(KIND, "p", {"spec": {"proxyConfig": {"authzConfig": None}}})
    await proxies.until(KIND, "p", phase="Ready", AuthzConfigValid="")
    assert (await proxies.document(until=lambda found: found.incoming_auth.authz is None)).name == "p"


@shows(KIND, "TelemetryConfigValid=False/TelemetryConfigNotFound", "TelemetryConfigValid=False/TelemetryConfigInvalid")
@shows(KIND, "TelemetryConfigValid=True/TelemetryConfigValid")
async def test_telemetry_counts_once_its_config_is_there_and_good(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy(proxy={"telemetryConfigRef": {"name": "t"}})
    await proxies.until(KIND, "p", phase="Failed", TelemetryConfigValid="False/TelemetryConfigNotFound")
    spec = {"openTelemetry": {"enabled": True, "endpoint": "https://otel.example.com"}, "prometheus": {"enabled": True}}
    await proxies.create("MCPTelemetryConfig", "t", spec)
    await proxies.until(KIND, "p", phase="Failed", TelemetryConfigValid="False/TelemetryConfigInvalid")
    await proxies.patch("MCPTelemetryConfig", "t", {"spec": {"openTelemetry": None}})
    await proxies.until(KIND, "p", phase="Ready", TelemetryConfigValid="True/TelemetryConfigValid")
    assert (await proxies.document()).telemetry.enable_prometheus_metrics_path
    await proxies.patch(KIND, "p", {"spec": {"proxyConfig": {"telemetryConfigRef": None}}})
    await proxies.until(KIND, "p", phase="Ready", TelemetryConfigValid="")


@pytest.mark.parametrize(
    ("proxy", "mended", "word"),
    [
        ({"endpointPrefix": "/x"}, {"endpointPrefix": None}, "endpointPrefix"),
        ({"authServerRef": {"name": "as"}}, {"authServerRef": None}, "authServerRef"),
        ({"podTemplateSpec": {"spec": {"containers": "x"}}}, {"podTemplateSpec": None}, "podTemplateSpec"),
        (
            {"sessionStorage": {"provider": "redis", "address": "r:6379"}},
            {"sessionStorage": None},
            "Redis",
        ),
    ],
    ids=["endpoint prefix", "authorization server", "pod template", "Redis"],
)
@shows(KIND, "ConfigurationValid=False/ProxyConfigInvalid")
async def test_what_the_program_or_the_platform_would_refuse_is_said_first(
    proxies: ProxyCluster, proxy: Object, mended: Object, word: str
) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy(proxy=proxy)
    found = await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/ProxyConfigInvalid")
    (message,) = [c["message"] for c in found["status"]["conditions"] if c["type"] == "ConfigurationValid"]
    assert word in message
    assert await proxies.admin.find("apps/v1", "Deployment", "p", namespace=proxies.namespace) is None
    await proxies.patch(KIND, "p", {"spec": {"proxyConfig": mended}})
    await proxies.ready()


async def test_token_introspection_is_refused_by_the_oidc_configs_own_words(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc(introspectionUrl="https://login.example.com/introspect")
    await proxies.proxy()
    await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/ProxyConfigInvalid")
    await proxies.patch("MCPOIDCConfig", "o", {"spec": {"inline": {"introspectionUrl": None}}})
    await proxies.ready()


async def test_auth_that_a_proxy_cannot_apply_is_refused_and_a_missing_secret_stops_it(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    injection = {"headerName": "X-Key", "valueSecretRef": {"name": "s", "key": "k"}}
    await proxies.auth("a", type="bearerToken", bearerToken={"tokenSecretRef": {"name": "s", "key": "k"}})
    await proxies.proxy(externalAuthConfigRef={"name": "a"})
    await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/ProxyConfigInvalid")
    await proxies.patch(
        "MCPExternalAuthConfig",
        "a",
        {"spec": {"type": "headerInjection", "bearerToken": None, "headerInjection": injection}},
    )
    await proxies.until(KIND, "p", phase="Failed", AuthConfigValid="False/AuthConfigInvalid")
    await proxies.secret("s", k="v")
    await proxies.until(KIND, "p", phase="Ready", AuthConfigValid="True/AuthConfigValid")
    deployment = await proxies.deployment()
    env = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    name = (await proxies.document()).remote.auth.header_injection.header_value_env
    assert env[name]["valueFrom"]["secretKeyRef"] == {"name": "s", "key": "k"}


@shows(KIND, "ConfigurationValid=False/ProxyModeNotSupported", gone=True)
async def test_another_image_than_this_projects_runs_no_proxy(start: Start) -> None:
    cluster = await start(vmcp_dialect="toolhive", vmcp_image="ghcr.example/vmcp:1")
    await cluster.group()
    await cluster.oidc()
    await cluster.proxy()
    await cluster.until(KIND, "p", phase="Failed", ConfigurationValid="False/ProxyModeNotSupported")
    assert await cluster.admin.find("apps/v1", "Deployment", "p", namespace=cluster.namespace) is None
    await cluster.delete(KIND, "p")
    await cluster.until(KIND, "p", gone=True)


@shows(KIND, "SessionStorageWarning=True/SessionStorageMissing")
async def test_several_replicas_are_warned_about(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy(proxy={"replicas": 2})
    await proxies.until(KIND, "p", phase="Ready", SessionStorageWarning="True/SessionStorageMissing")
    await proxies.patch(KIND, "p", {"spec": {"proxyConfig": {"replicas": 1}}})
    await proxies.until(KIND, "p", phase="Ready", SessionStorageWarning="")


@shows(KIND, "ObjectsApplied=False/ForeignObject")
async def test_an_object_of_somebody_else_is_left_alone_until_it_is_gone(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.config_map("p-runconfig", mine="1")
    await proxies.proxy()
    await proxies.until(KIND, "p", phase="Failed", ObjectsApplied="False/ForeignObject")
    await proxies.delete("ConfigMap", "p-runconfig")
    await proxies.until(KIND, "p", phase="Ready", ObjectsApplied="True/ObjectsApplied")


@shows(KIND, "ObjectsApplied=False/ObjectRefused")
async def test_a_template_that_the_server_refuses_is_said_until_it_is_mended(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy(proxy={"podTemplateSpec": {"spec": {"restartPolicy": "Never"}}})
    await proxies.until(KIND, "p", phase="Pending", ObjectsApplied="False/ObjectRefused")
    await proxies.patch(KIND, "p", {"spec": {"proxyConfig": {"podTemplateSpec": None}}})
    await proxies.until(KIND, "p", phase="Ready", ObjectsApplied="True/ObjectsApplied")


@shows(KIND, "ObjectsApplied=False/ApplyFailed")
async def test_what_does_not_work_at_the_moment_is_said_and_takes_no_url_of_this_generation_away(
    proxies: ProxyCluster,
) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.secret("s", k="one")
    await proxies.proxy(headerForward={"addHeadersFromSecret": [header("X-Key", "s", "k")]})
    await proxies.ready()
    async with proxies.broken_webhook() as webhook:
        await proxies.proxy("new")
        found = await proxies.until(
            KIND, "new", phase="Pending", ObjectsApplied="False/ApplyFailed", Ready="False/ApplyFailed", Stalled=""
        )
        assert webhook in conditions_of(found)["ObjectsApplied"][1]
        await proxies.patch("Secret", "s", {"data": encoded(k="two")})
        found = await proxies.until(KIND, "p", phase="Ready", ObjectsApplied="False/ApplyFailed")
        assert found["status"]["url"], "what is served is what the spec says; only the rotation waits"
        # An edit that could not be applied: not Ready for it, though the pods of before serve.
        await proxies.patch(KIND, "p", {"spec": {"remoteUrl": "https://mcp.example.com/other"}})
        found = await proxies.until(
            KIND, "p", phase="Pending", Ready="False/ApplyFailed", DeploymentReady="False/DeploymentNotReady"
        )
        assert "url" not in found["status"]
    for name in ("p", "new"):
        await proxies.until(KIND, name, phase="Ready", ObjectsApplied="True/ObjectsApplied", timeout=90)


async def test_pods_of_an_earlier_spec_do_not_make_a_mended_one_ready(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy()
    await proxies.ready()
    proxies.rollouts.clear()
    telemetry = {"proxyConfig": {"telemetryConfigRef": {"name": "t"}}}
    await proxies.patch(KIND, "p", {"spec": telemetry})
    await proxies.until(KIND, "p", phase="Failed", DeploymentReady="False/DeploymentNotReady")
    await proxies.create("MCPTelemetryConfig", "t", {"prometheus": {"enabled": True}})
    found = await proxies.until(
        KIND, "p", TelemetryConfigValid="True/TelemetryConfigValid", ObjectsApplied="True/ObjectsApplied"
    )
    assert conditions_of(found)["DeploymentReady"][0] == "False/DeploymentNotReady"
    assert "url" not in found["status"]
    await proxies.finish()
    await proxies.ready()


async def test_a_rotated_secret_rolls_the_pods_and_takes_no_url_away(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.secret("s", k="one")
    await proxies.proxy(headerForward={"addHeadersFromSecret": [header("X-Key", "s", "k")]})
    await proxies.ready()
    before = await proxies.deployment()
    proxies.rollouts.clear()
    await proxies.patch("Secret", "s", {"data": encoded(k="two")})
    after = await proxies.deployment(
        until=lambda found: found["metadata"]["generation"] > before["metadata"]["generation"]
    )
    assert after["spec"]["template"] != before["spec"]["template"]
    assert "two" not in str(after)
    await proxies.come_to_rest()
    found = await proxies.until(KIND, "p", phase="Ready", DeploymentReady="True/DeploymentReady")
    assert found["status"]["url"]


async def test_a_secret_that_is_only_touched_rolls_nothing(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.secret("s", k="one")
    await proxies.proxy(headerForward={"addHeadersFromSecret": [header("X-Key", "s", "k")]})
    await proxies.ready()
    before = await proxies.deployment()
    await proxies.patch("Secret", "s", {"metadata": {"labels": {"touched": "yes"}}})
    await proxies.come_to_rest()
    assert (await proxies.deployment())["metadata"]["generation"] == before["metadata"]["generation"]


async def test_a_header_secret_that_goes_fails_a_proxy_and_leaves_its_pods(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.secret("s", k="one")
    await proxies.proxy(headerForward={"addHeadersFromSecret": [header("X-Key", "s", "k")]})
    await proxies.ready()
    before: dict[str, Any] = await proxies.deployment()
    await proxies.delete("Secret", "s")
    found = await proxies.until(KIND, "p", phase="Failed", HeaderSecretsValid="False/HeaderSecretNotFound")
    assert "url" not in found["status"]
    assert (await proxies.deployment())["metadata"]["generation"] == before["metadata"]["generation"]
    await proxies.secret("s", k="one")
    await proxies.ready()
    assert (await proxies.deployment())["metadata"]["generation"] == before["metadata"]["generation"]


async def test_every_issuer_change_reaches_the_document(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy()
    await proxies.ready()
    assert (await proxies.document()).incoming_auth.oidc.issuer == ISSUER
    await proxies.patch("MCPOIDCConfig", "o", {"spec": {"inline": {"issuer": "https://other.example.com"}}})
    await proxies.document(until=lambda found: found.incoming_auth.oidc.issuer == "https://other.example.com")


async def test_a_deployment_that_was_deleted_after_changes_becomes_ready_again(proxies: ProxyCluster) -> None:
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy()
    for path in ("a", "b"):
        await proxies.patch(KIND, "p", {"spec": {"remoteUrl": f"https://mcp.example.com/{path}"}})
        await proxies.document(until=lambda found, path=path: found.remote.url.endswith(path))
        await proxies.ready()
    proxies.rollouts.clear()
    await proxies.admin.delete("apps/v1", "Deployment", "p", namespace=proxies.namespace)
    await proxies.until(KIND, "p", phase="Pending", DeploymentReady="False/DeploymentNotReady")
    await proxies.finish()
    await proxies.ready()


@shows(KIND, "ObjectsApplied=False/Contested")
async def test_somebody_who_sticks_to_another_value_is_named_and_takes_no_url_away(
    start: Start,
) -> None:
    proxies = await start(timing=Timing(peace=2.0))
    await proxies.group()
    await proxies.oidc()
    await proxies.proxy()
    await proxies.ready()
    stop = asyncio.Event()

    async def stick() -> None:
        path = await proxies.admin.path("apps/v1", "Deployment", "p", namespace=proxies.namespace)
        while not stop.is_set():
            found = await proxies.deployment()
            if found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] != 77:
                await proxies.admin.request(
                    "PATCH",
                    path,
                    body={"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 77}}}},
                    content_type="application/strategic-merge-patch+json",
                    params={"fieldManager": "argocd-controller"},
                )
            await asyncio.sleep(0.02)  # as fast as it can

    other = asyncio.create_task(stick())
    found = await proxies.until(KIND, "p", phase="Ready", ObjectsApplied="False/Contested")
    assert 'the field manager "argocd-controller"' in conditions_of(found)["ObjectsApplied"][1]
    assert found["status"]["url"]
    stop.set()
    await other
    await proxies.until(KIND, "p", phase="Ready", ObjectsApplied="True/ObjectsApplied", timeout=30)


async def test_pods_of_a_proxy_that_failed_a_check_are_there_after_a_restart(
    admin: Kube, namespace: str, control_plane: Handle, rollouts: asyncio.Event, operator_kubeconfig: Path
) -> None:
    cluster = ProxyCluster(admin, namespace, control_plane, rollouts)
    endpoint = await load_endpoint(str(operator_kubeconfig))
    before = await launch(endpoint, namespace, only=MINE)
    await cluster.group()
    await cluster.oidc()
    await cluster.proxy()
    await cluster.ready()
    await cluster.delete("MCPOIDCConfig", "o")
    await cluster.until(KIND, "p", phase="Failed", DeploymentReady="True/DeploymentReady")
    await cluster.come_to_rest()
    stood = (await cluster.get(KIND, "p"))["status"]
    await before.stop()
    after = await launch(endpoint, namespace, only=MINE)
    await cluster.come_to_rest()
    assert (await cluster.get(KIND, "p"))["status"] == stood
    await after.stop()


async def test_policies_that_cannot_be_read_after_a_restart_leave_a_proxy_as_it_stands(
    admin: Kube,
    namespace: str,
    control_plane: Handle,
    rollouts: asyncio.Event,
    operator_kubeconfig: Path,
) -> None:
    """The operator tries again within a second here, not within a minute."""
    cluster = ProxyCluster(admin, namespace, control_plane, rollouts)
    endpoint = await load_endpoint(str(operator_kubeconfig))
    before = await launch(endpoint, namespace, only=MINE)
    await cluster.group()
    await cluster.oidc()
    text = '{"version": "1.0", "type": "cedarv1", "cedar": {"policies": ["permit(principal, action, resource);"]}}'
    await cluster.config_map("policies", **{"authz.json": text})
    await cluster.proxy(proxy={"authzConfig": {"type": "configMap", "configMap": {"name": "policies"}}})
    await cluster.ready()
    await cluster.come_to_rest()
    stood = (await cluster.get(KIND, "p"))["status"]
    await before.stop()
    async with FaultProxy(endpoint) as faults:
        rule = faults.on(
            lambda exchange: exchange.method == "GET" and exchange.path.endswith("/configmaps/policies"),
            status(403, "Forbidden"),
        )
        after = await launch(replace(endpoint, url=faults.url), namespace, only=MINE, settings=trying_again_within(1.0))
        await eventually(lambda: rule.hits >= 3)
        assert (await cluster.get(KIND, "p"))["status"] == stood
        assert (await cluster.document()).incoming_auth.authz is not None
        await cluster.patch(KIND, "p", {"spec": {"proxyConfig": {"sessionAffinity": "None"}}})
        rule.stop()
        await cluster.object(
            "v1", "Service", "mcp-p-remote-proxy", lambda found: found["spec"]["sessionAffinity"] == "None"
        )
        assert (await cluster.document()).incoming_auth.authz is not None
        await after.stop()
