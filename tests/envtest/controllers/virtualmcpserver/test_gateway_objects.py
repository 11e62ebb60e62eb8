"""A gateway's objects: what is made, repaired, left alone and collected."""

from __future__ import annotations

from controllers.shared.deployed.isolation import ANNOTATION
from tests.envtest.controllers.kit import Object
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, RBAC, Gateways


async def test_a_gateway_of_a_group_gets_its_objects_and_its_configuration(cluster: Gateways) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.gateway()
    config = await cluster.config(until=lambda config: len(config.backends) == 1)
    assert config.backends[0].name == "e"
    assert config.backends[0].type == "entry"
    deployment = await cluster.deployment()
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert container["name"] == "vmcp"
    assert container["args"][0] == "serve"
    service = await cluster.owned("v1", "Service", "vmcp-v")
    assert service["spec"]["ports"][0]["port"] == 4483
    for kind in ("Role", "RoleBinding"):
        await cluster.owned(RBAC, kind, "v-vmcp")
    await cluster.owned("v1", "ServiceAccount", "v-vmcp")
    await cluster.owned("v1", "Secret", "v-hmac-secret")
    found = await cluster.until(
        KIND,
        "v",
        phase="Pending",
        Ready="False/DeploymentNotReady",
        Valid="True/ValidationSucceeded",
        GroupRefValidated="True/GroupRefValid",
        BackendsIncluded="True/AllMembersIncluded",
        ConfigPublished="True/ConfigWritten",
        ObjectsApplied="True/ObjectsApplied",
        AuthConfigured="True/AuthValid",
        CompositeToolRefsValidated="True/CompositeToolRefsValid",
        SessionStorageWarning="False/SessionStorageWarningNotApplicable",
    )
    assert found["status"]["url"] == f"http://vmcp-v.{cluster.namespace}.svc.cluster.local:4483"


async def test_nothing_is_asked_or_written_once_everything_is_settled(cluster: Gateways) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.gateway()
    await cluster.config(until=lambda config: len(config.backends) == 1)
    await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied", phase="Pending")
    await cluster.assert_idle(4.0)


async def test_a_gateway_that_asks_for_it_gets_a_network_policy_that_follows_its_members(cluster: Gateways) -> None:
    api, name = "networking.k8s.io/v1", "vmcp-v"

    def ports(body: Object | None) -> set[int]:
        rules = body["spec"]["egress"] if body is not None else ()
        return {port["port"] for rule in rules for port in rule.get("ports", ())}

    await cluster.group()
    await cluster.entry()
    await cluster.gateway(metadata={"annotations": {ANNOTATION: "enabled"}}, outgoingAuth={"source": "discovered"})
    found = await cluster.owned(api, "NetworkPolicy", name)
    assert found["spec"]["ingress"] == [{"ports": [{"port": 4483, "protocol": "TCP"}]}]
    await cluster.entry("odd", remoteUrl="https://odd.example.com:9443/mcp")
    await cluster.admin.wait_for(
        api, "NetworkPolicy", name, namespace=cluster.namespace, until=lambda body: 9443 in ports(body)
    )
    await cluster.admin.delete(api, "NetworkPolicy", name, namespace=cluster.namespace)
    await cluster.admin.wait_for(
        api, "NetworkPolicy", name, namespace=cluster.namespace, until=lambda body: 9443 in ports(body)
    )
    await cluster.patch(KIND, "v", {"metadata": {"annotations": {ANNOTATION: "enable"}}})
    await cluster.until(KIND, "v", Valid="False/ValidationFailed")
    await cluster.owned(api, "NetworkPolicy", name)  # a spelling mistake opens nothing
    await cluster.patch(KIND, "v", {"metadata": {"annotations": {ANNOTATION: None}}})
    await cluster.without(api, "NetworkPolicy", name)


async def test_several_replicas_have_a_disruption_budget_that_is_repaired_and_goes_with_them(cluster: Gateways) -> None:
    api, name = "policy/v1", "vmcp-v"
    await cluster.group()
    await cluster.gateway(replicas=2)
    found = await cluster.owned(api, "PodDisruptionBudget", name)
    assert found["spec"]["maxUnavailable"] == 1
    await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied")
    await cluster.admin.delete(api, "PodDisruptionBudget", name, namespace=cluster.namespace)
    again = await cluster.admin.wait_for(
        api,
        "PodDisruptionBudget",
        name,
        namespace=cluster.namespace,
        until=lambda body: body is not None and body["metadata"]["uid"] != found["metadata"]["uid"],
    )
    assert again is not None
    assert again["spec"] == found["spec"]
    await cluster.patch(KIND, "v", {"spec": {"replicas": 1}})
    await cluster.without(api, "PodDisruptionBudget", name)
