"""Each condition of an MCPRemoteProxy appears when its cause does, and goes when it is mended."""

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
from tests.envtest.controllers.kit import (
    API,
    URL,
    Object,
    conditions_of,
    encoded,
    header,
    wait_for_the_next_second,
)
from tests.envtest.controllers.lifecycles import shows
from tests.envtest.controllers.mcpremoteendpoint.conftest import OWNED
from tests.envtest.controllers.mcpremoteendpoint.test_proxy_workload import WAITING, pod, until_said
from tests.envtest.controllers.mcpremoteproxy.conftest import KIND, RemoteProxyCluster
from tests.support.operator import launch, trying_again_within

Start = Callable[..., Awaitable[RemoteProxyCluster]]
POLICY = "permit(principal, action, resource);"
DOCUMENT = '{"version": "1.0", "type": "cedarv1", "cedar": {"policies": ["permit(principal, action, resource);"]}}'


@shows(KIND, "OIDCConfigRefValidated=True/OIDCConfigRefValid", "Ready=True/DeploymentReady", gone=True)
@shows(KIND, "ObjectsApplied=True/ObjectsApplied", "DeploymentReady=True/DeploymentReady", gone=True)
@shows(KIND, "DeploymentReady=False/DeploymentNotReady", "Ready=False/DeploymentNotReady")
async def test_a_proxy_is_ready_and_has_a_url_once_a_pod_serves(proxies: RemoteProxyCluster) -> None:
    proxies.rollouts.clear()
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
    assert (await proxies.event("p", "Warning", "Deprecated"))["note"].startswith("MCPRemoteProxy is deprecated")
    await proxies.finish()
    found = await proxies.until(
        KIND,
        "p",
        phase="Ready",
        Ready="True/DeploymentReady",
        DeploymentReady="True/DeploymentReady",
        OIDCConfigRefValidated="True/OIDCConfigRefValid",
        ConfigurationValid="True/ConfigurationValid",
        SessionStorageWarning="False/SessionStorageWarningNotApplicable",
        GroupRefValidated="",
        ToolConfigValidated="",
        TelemetryConfigRefValidated="",
        ExternalAuthConfigValidated="",
        AuthzConfigRefValidated="",
        PodTemplateValid="",
    )
    assert found["status"]["url"] == f"http://mcp-p-remote-proxy.{proxies.namespace}.svc.cluster.local:8080"
    assert found["status"]["message"] == "Remote proxy is running"
    owner = {"kind": KIND, "name": "p", "uid": found["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
    for api, kind, name in OWNED:
        made = await proxies.object(api, kind, name)
        assert [owner.items() <= one.items() for one in made["metadata"]["ownerReferences"]] == [True], kind
    service = await proxies.object("v1", "Service", "mcp-p-remote-proxy")
    assert {"app": "mcpremoteproxy", "toolhive-name": "p"}.items() <= service["spec"]["selector"].items()
    await proxies.assert_idle()
    await proxies.delete(KIND, "p")  # the garbage collector does the rest, for all of them have this owner
    await proxies.until(KIND, "p", gone=True)


async def test_the_url_follows_the_port_and_conditions_of_another_operator_go(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.proxy()
    ready = await proxies.ready()
    stale = {
        "type": "AuthConfigured",
        "status": "False",
        "reason": "AuthInvalid",
        "message": "it was once",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    await proxies.patch(KIND, "p", {"status": {"conditions": [*ready["status"]["conditions"], stale]}}, status=True)
    await proxies.patch(KIND, "p", {"spec": {"proxyPort": 9000}})
    await proxies.admin.wait_for(
        API,
        KIND,
        "p",
        namespace=proxies.namespace,
        until=lambda found: found is not None and found["status"].get("url", "").endswith(":9000"),
        timeout=20,
    )
    await proxies.until(KIND, "p", phase="Ready", AuthConfigured="")


async def test_who_calls_is_not_asked_where_the_spec_does_not_say_how(proxies: RemoteProxyCluster) -> None:
    await proxies.proxy(oidcConfigRef=None)
    await proxies.until(KIND, "p", phase="Ready", OIDCConfigRefValidated="")
    assert (await proxies.document()).incoming_auth.type == "anonymous"


@shows(KIND, "OIDCConfigRefValidated=False/OIDCConfigRefNotFound", "Stalled=True/OIDCConfigRefNotFound")
@shows(KIND, "Ready=False/OIDCConfigRefNotFound", "OIDCConfigRefValidated=False/OIDCConfigRefNotValid")
async def test_without_its_oidc_config_no_proxy_lets_anybody_in(proxies: RemoteProxyCluster) -> None:
    await proxies.proxy()
    await proxies.until(KIND, "p", phase="Failed", OIDCConfigRefValidated="False/OIDCConfigRefNotFound")
    assert await proxies.admin.find("apps/v1", "Deployment", "p", namespace=proxies.namespace) is None
    await proxies.oidc(clientId="c", clientSecretRef={"name": "s", "key": "k"})
    await proxies.until(KIND, "p", phase="Failed", OIDCConfigRefValidated="False/OIDCConfigRefNotValid")
    await proxies.secret("s", k="v")
    await proxies.ready()


@shows(KIND, "AuthzConfigRefValidated=False/AuthzConfigRefNotFound")
@shows(KIND, "AuthzConfigRefValidated=False/AuthzConfigRefNotValid")
@shows(KIND, "AuthzConfigRefValidated=True/AuthzConfigRefValid")
async def test_shared_policies_count_once_they_are_there_and_parse(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.proxy(authzConfigRef={"name": "z"})
    await proxies.until(KIND, "p", phase="Failed", AuthzConfigRefValidated="False/AuthzConfigRefNotFound")
    config = {"version": "1.0", "type": "cedarv1", "cedar": {"policies": ["nonsense"]}}
    await proxies.create("MCPAuthzConfig", "z", {"type": "cedarv1", "config": config})
    await proxies.until(KIND, "p", phase="Failed", AuthzConfigRefValidated="False/AuthzConfigRefNotValid")
    await proxies.patch("MCPAuthzConfig", "z", {"spec": {"config": {"cedar": {"policies": [POLICY]}}}})
    await proxies.until(KIND, "p", phase="Ready", AuthzConfigRefValidated="True/AuthzConfigRefValid")
    await proxies.patch(KIND, "p", {"spec": {"authzConfigRef": None}})
    await proxies.until(KIND, "p", phase="Ready", AuthzConfigRefValidated="")


@shows(KIND, "ConfigurationValid=False/AuthzPolicySyntaxInvalid", "ConfigurationValid=False/AuthzConfigMapNotFound")
@shows(KIND, "ConfigurationValid=False/AuthzConfigMapInvalid")
@shows(KIND, "ConfigurationValid=True/ConfigurationValid")
async def test_policies_of_its_own_are_part_of_a_proxys_configuration(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.proxy(authzConfig={"type": "inline", "inline": {"policies": ["nonsense"]}})
    await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/AuthzPolicySyntaxInvalid")
    of_a_map = {"type": "configMap", "configMap": {"name": "policies"}, "inline": None}
    await proxies.patch(KIND, "p", {"spec": {"authzConfig": of_a_map}})
    await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/AuthzConfigMapNotFound")
    await proxies.config_map("policies", **{"authz.json": "nonsense"})
    await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/AuthzConfigMapInvalid")
    await proxies.patch("ConfigMap", "policies", {"data": {"authz.json": DOCUMENT}})
    await proxies.until(KIND, "p", phase="Ready", ConfigurationValid="True/ConfigurationValid")
    assert (await proxies.document()).incoming_auth.authz.policies == (POLICY,)
    await proxies.delete("ConfigMap", "policies")
    await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/AuthzConfigMapNotFound")


@shows(KIND, "TelemetryConfigRefValidated=False/TelemetryConfigRefNotFound")
@shows(KIND, "TelemetryConfigRefValidated=False/TelemetryConfigRefInvalid")
@shows(KIND, "TelemetryConfigRefValidated=True/TelemetryConfigRefValid")
@shows(KIND, "ToolConfigValidated=False/ToolConfigNotFound", "ToolConfigValidated=True/ToolConfigValid")
async def test_telemetry_and_tools_count_once_their_configs_are_there(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.proxy(telemetryConfigRef={"name": "t"}, toolConfigRef={"name": "t"})
    await proxies.until(
        KIND,
        "p",
        phase="Failed",
        TelemetryConfigRefValidated="False/TelemetryConfigRefNotFound",
        ToolConfigValidated="False/ToolConfigNotFound",
    )
    spec = {"openTelemetry": {"enabled": True, "endpoint": "https://otel.example.com"}, "prometheus": {"enabled": True}}
    await proxies.create("MCPTelemetryConfig", "t", spec)
    await proxies.create("MCPToolConfig", "t", {"toolsFilter": ["a"]})
    await proxies.until(KIND, "p", phase="Failed", TelemetryConfigRefValidated="False/TelemetryConfigRefInvalid")
    await proxies.patch("MCPTelemetryConfig", "t", {"spec": {"openTelemetry": None}})
    await proxies.until(
        KIND,
        "p",
        phase="Ready",
        TelemetryConfigRefValidated="True/TelemetryConfigRefValid",
        ToolConfigValidated="True/ToolConfigValid",
    )
    document = await proxies.document()
    assert (document.telemetry.enable_prometheus_metrics_path, document.tools.filter) == (True, ("a",))
    await proxies.patch(KIND, "p", {"spec": {"telemetryConfigRef": None, "toolConfigRef": None}})
    await proxies.until(KIND, "p", phase="Ready", TelemetryConfigRefValidated="", ToolConfigValidated="")


@shows(KIND, "ConfigurationValid=False/ExternalAuthConfigNotFound", "ConfigurationValid=False/ProxyConfigInvalid")
@shows(KIND, "ExternalAuthConfigValidated=False/ExternalAuthConfigNotFound")
@shows(KIND, "ExternalAuthConfigValidated=False/InvalidConfig")
@shows(KIND, "ExternalAuthConfigValidated=True/ExternalAuthConfigValid")
async def test_auth_towards_the_remote_is_there_and_of_a_type_that_a_proxy_applies(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.proxy(externalAuthConfigRef={"name": "a"})
    await proxies.until(
        KIND,
        "p",
        phase="Failed",
        ConfigurationValid="False/ExternalAuthConfigNotFound",
        ExternalAuthConfigValidated="False/ExternalAuthConfigNotFound",
    )
    await proxies.auth("a", type="bearerToken", bearerToken={"tokenSecretRef": {"name": "s", "key": "k"}})
    await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/ProxyConfigInvalid")
    injection = {"headerName": "X-Key", "valueSecretRef": {"name": "s", "key": "k"}}
    change = {"type": "headerInjection", "bearerToken": None, "headerInjection": injection}
    await proxies.patch("MCPExternalAuthConfig", "a", {"spec": change})
    await proxies.until(KIND, "p", phase="Failed", ExternalAuthConfigValidated="False/InvalidConfig")
    await proxies.secret("s", k="v")
    await proxies.until(KIND, "p", phase="Ready", ExternalAuthConfigValidated="True/ExternalAuthConfigValid")
    await proxies.patch(KIND, "p", {"spec": {"externalAuthConfigRef": None}})
    await proxies.until(KIND, "p", phase="Ready", ExternalAuthConfigValidated="")


@pytest.mark.parametrize(
    ("wrong", "reason", "word"),
    [
        pytest.param(wrong, reason, word, marks=shows(KIND, f"ConfigurationValid=False/{reason}"), id=reason + word)
        for wrong, reason, word in (
            ({"remoteUrl": "http://169.254.169.254/mcp"}, "RemoteURLInvalid", "169.254"),
            ({"headerForward": {"addPlaintextHeaders": {"Host": "x"}}}, "RestrictedHeader", "Host"),
            (
                {"headerForward": {"addHeadersFromSecret": [header("X-Key", "gone", "k")]}},
                "HeaderSecretNotFound",
                "gone",
            ),
            ({"endpointPrefix": "/x"}, "ProxyConfigInvalid", "endpointPrefix"),
            ({"authServerRef": {"name": "as"}}, "ProxyConfigInvalid", "authServerRef"),
        )
    ],
)
async def test_what_could_not_be_served_is_said_before_a_pod_starts(
    proxies: RemoteProxyCluster, wrong: Object, reason: str, word: str
) -> None:
    await proxies.oidc()
    await proxies.proxy(**wrong)
    found = await proxies.until(KIND, "p", phase="Failed", ConfigurationValid=f"False/{reason}")
    assert word in conditions_of(found)["ConfigurationValid"][1]
    assert await proxies.admin.find("apps/v1", "Deployment", "p", namespace=proxies.namespace) is None
    await proxies.patch(KIND, "p", {"spec": {"remoteUrl": URL} | dict.fromkeys(wrong.keys() - {"remoteUrl"})})
    await proxies.ready()


@shows(KIND, "PodTemplateValid=False/InvalidPodTemplateSpec", "PodTemplateValid=True/ValidPodTemplateSpec")
@shows(KIND, "ObjectsApplied=False/ObjectRefused")
async def test_a_pod_template_is_merged_or_it_is_said_why_not(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.proxy(podTemplateSpec={"spec": {"containers": "x"}})
    await proxies.until(KIND, "p", phase="Failed", PodTemplateValid="False/InvalidPodTemplateSpec")
    await proxies.patch(
        KIND, "p", {"spec": {"podTemplateSpec": {"spec": {"containers": None, "restartPolicy": "Never"}}}}
    )
    await proxies.until(
        KIND,
        "p",
        phase="Pending",
        PodTemplateValid="True/ValidPodTemplateSpec",
        ObjectsApplied="False/ObjectRefused",
    )
    await proxies.patch(KIND, "p", {"spec": {"podTemplateSpec": None}})
    await proxies.until(KIND, "p", phase="Ready", PodTemplateValid="", ObjectsApplied="True/ObjectsApplied")


@shows(KIND, "GroupRefValidated=False/GroupRefNotFound", "GroupRefValidated=True/GroupRefIsValid")
async def test_a_missing_group_is_said_and_stops_nothing(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.proxy(groupRef={"name": "g"})
    await proxies.until(KIND, "p", phase="Ready", GroupRefValidated="False/GroupRefNotFound", Stalled="")
    await proxies.group()
    await proxies.until(KIND, "p", phase="Ready", GroupRefValidated="True/GroupRefIsValid")
    await proxies.patch(KIND, "p", {"spec": {"groupRef": None}})
    await proxies.until(KIND, "p", phase="Ready", GroupRefValidated="")


@shows(KIND, "GroupRefValidated=False/GroupRefNotReady", gone=True)
async def test_a_group_that_nobody_reconciles_is_not_ready(start: Start) -> None:
    cluster = await start(only=("mcpremoteproxy",))
    await cluster.create("MCPGroup", "g")
    await cluster.proxy(oidcConfigRef=None, groupRef={"name": "g"})
    await cluster.until(KIND, "p", phase="Ready", GroupRefValidated="False/GroupRefNotReady")
    await cluster.delete(KIND, "p")
    await cluster.until(KIND, "p", gone=True)


@shows(KIND, "SessionStorageWarning=True/SessionStorageMissingForReplicas")
@shows(KIND, "SessionStorageWarning=False/SessionStorageWarningNotApplicable")
async def test_several_replicas_are_warned_about(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.proxy(replicas=1)
    await proxies.until(KIND, "p", phase="Ready", SessionStorageWarning="False/SessionStorageWarningNotApplicable")
    await proxies.patch(KIND, "p", {"spec": {"replicas": 2}})
    await proxies.until(KIND, "p", phase="Ready", SessionStorageWarning="True/SessionStorageMissingForReplicas")
    await proxies.patch(KIND, "p", {"spec": {"replicas": 1}})
    await proxies.until(KIND, "p", phase="Ready", SessionStorageWarning="False/SessionStorageWarningNotApplicable")


@pytest.mark.parametrize("rival", ["MCPServerEntry", "MCPServer", "MCPRemoteEndpoint"])
@shows(KIND, "ConfigurationValid=False/NameCollision")
async def test_a_proxy_waits_for_an_older_workload_of_its_name(proxies: RemoteProxyCluster, rival: str) -> None:
    await proxies.oidc()
    remote = {"remoteUrl": URL, "transport": "sse", "groupRef": {"name": "g"}}
    spec = {"MCPServerEntry": remote, "MCPServer": {"image": "i"}, "MCPRemoteEndpoint": remote | {"type": "direct"}}
    await proxies.create(rival, "p", spec[rival])
    await wait_for_the_next_second(proxies, rival, "p")
    await proxies.proxy()
    found = await proxies.until(KIND, "p", phase="Failed", ConfigurationValid="False/NameCollision")
    assert rival in conditions_of(found)["ConfigurationValid"][1]
    await proxies.delete(rival, "p")
    await proxies.ready()


@shows(KIND, "ConfigurationValid=False/ProxyModeNotSupported", gone=True)
async def test_pods_of_another_operator_keep_their_url_where_this_ones_image_is_not_installed(start: Start) -> None:
    cluster = await start(vmcp_dialect="toolhive", vmcp_image="ghcr.example/vmcp:1")
    await cluster.oidc()
    made = await cluster.proxy()
    await cluster.until(KIND, "p", phase="Failed", ConfigurationValid="False/ProxyModeNotSupported")
    owner = {"apiVersion": API, "kind": KIND, "name": "p", "uid": made["metadata"]["uid"], "controller": True}
    labels = {"app": "mcpremoteproxy"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "toolhive", "image": "proxyrunner"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    await cluster.create("Deployment", "p", spec, api="apps/v1", metadata={"ownerReferences": [owner]})
    url = "http://mcp-p-remote-proxy.n.svc.cluster.local:8080"
    await cluster.finish()
    await cluster.patch(KIND, "p", {"status": {"url": url}}, status=True)
    await cluster.patch(KIND, "p", {"spec": {"sessionAffinity": "None"}})
    found = await cluster.admin.wait_for(
        API,
        KIND,
        "p",
        namespace=cluster.namespace,
        until=lambda one: one is not None and one["status"]["observedGeneration"] == one["metadata"]["generation"],
        timeout=20,
    )
    assert found is not None
    assert found["status"]["url"] == url
    await cluster.delete(KIND, "p")
    await cluster.until(KIND, "p", gone=True)


async def test_new_and_changed_proxies_are_told_that_the_kind_is_deprecated_and_a_restart_repeats_nothing(
    proxies: RemoteProxyCluster, start_operator: Callable[..., Awaitable[Any]]
) -> None:
    """A second manager stands in for the restarted one: it knows no more than that."""

    async def told() -> int:
        await proxies.come_to_rest()
        return sum(request["objectRef"]["resource"] == "events" for request in proxies.requests())

    await proxies.proxy(remoteUrl="http://localhost")
    await proxies.event("p", "Warning", "Deprecated")
    once = await told()
    await proxies.patch(KIND, "p", {"metadata": {"labels": {"touched": "yes"}}})
    assert await told() == once
    await start_operator(only=MINE)
    assert await told() == once
    await proxies.patch(KIND, "p", {"spec": {"transport": "sse"}})
    assert await told() > once


@shows(KIND, "ObjectsApplied=False/ForeignObject")
async def test_an_object_of_somebody_else_is_left_alone_until_it_is_gone(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.config_map("p-runconfig", mine="1")
    await proxies.proxy()
    await proxies.until(KIND, "p", phase="Failed", ObjectsApplied="False/ForeignObject")
    await proxies.delete("ConfigMap", "p-runconfig")
    await proxies.until(KIND, "p", phase="Ready", ObjectsApplied="True/ObjectsApplied")


@shows(KIND, "ObjectsApplied=False/ApplyFailed")
async def test_what_does_not_work_at_the_moment_takes_no_url_away(proxies: RemoteProxyCluster) -> None:
    await proxies.oidc()
    await proxies.secret("s", k="one")
    await proxies.proxy(headerForward={"addHeadersFromSecret": [header("X-Key", "s", "k")]})
    await proxies.ready()
    async with proxies.broken_webhook() as webhook:
        await proxies.patch("Secret", "s", {"data": encoded(k="two")})
        found = await proxies.until(KIND, "p", phase="Ready", ObjectsApplied="False/ApplyFailed")
        assert webhook in conditions_of(found)["ObjectsApplied"][1]
        assert found["status"]["url"]
    await proxies.until(KIND, "p", phase="Ready", ObjectsApplied="True/ObjectsApplied", timeout=90)


@shows(KIND, "ObjectsApplied=False/Contested")
async def test_somebody_who_sticks_to_another_value_is_named_and_takes_no_url_away(
    start: Start,
) -> None:
    proxies = await start(timing=Timing(peace=2.0))
    await proxies.oidc()
    await proxies.proxy()
    await proxies.ready()
    stop = asyncio.Event()
    path = await proxies.admin.path("v1", "Service", "mcp-p-remote-proxy", namespace=proxies.namespace)

    async def stick() -> None:
        while not stop.is_set():
            await proxies.admin.request(
                "PATCH",
                path,
                body={"spec": {"sessionAffinity": "None"}},
                content_type="application/merge-patch+json",
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


@shows(KIND, "ConfigurationValid=Unknown/ReadFailed", "Ready=Unknown/ReadFailed")
async def test_policies_that_cannot_be_read_start_no_pod(
    admin: Kube,
    namespace: str,
    control_plane: Handle,
    rollouts: asyncio.Event,
    operator_kubeconfig: Path,
) -> None:
    """The operator tries again within a second here, not within a minute."""
    cluster = RemoteProxyCluster(admin, namespace, control_plane, rollouts)
    endpoint = await load_endpoint(str(operator_kubeconfig))
    async with FaultProxy(endpoint) as faults:
        rule = faults.on(
            lambda exchange: exchange.method == "GET" and exchange.path.endswith("/configmaps/policies"),
            status(403, "Forbidden"),
        )
        running: Any = await launch(
            replace(endpoint, url=faults.url), namespace, only=MINE, settings=trying_again_within(1.0)
        )
        await cluster.config_map("policies", **{"authz.json": DOCUMENT})
        await cluster.oidc()
        await cluster.proxy(authzConfig={"type": "configMap", "configMap": {"name": "policies"}})
        await cluster.until(
            KIND, "p", phase="Pending", ConfigurationValid="Unknown/ReadFailed", Ready="Unknown/ReadFailed", Stalled=""
        )
        assert await admin.find("apps/v1", "Deployment", "p", namespace=namespace) is None
        rule.stop()
        await cluster.ready()
        await running.stop()


async def test_a_proxy_has_the_reasons_of_its_pods_and_a_budget_for_several(proxies: RemoteProxyCluster) -> None:
    proxies.rollouts.clear()
    await proxies.oidc()
    await proxies.proxy(replicas=2)
    await proxies.until(KIND, "p", phase="Pending", ObjectsApplied="True/ObjectsApplied")
    await pod(proxies, "one", {"state": WAITING}, app="mcpremoteproxy")
    await until_said(proxies, lambda said: "the image gone cannot be pulled (ImagePull)" in said, KIND)
    await proxies.object("policy/v1", "PodDisruptionBudget", "mcp-p-remote-proxy")
