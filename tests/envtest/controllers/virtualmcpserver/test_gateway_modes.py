"""The two sources of backends and the two dialects: what a gateway is told, and what it may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from api.contract import Dialect, load_config
from tests.envtest.controllers.kit import Object, certificate, header
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, RBAC, Gateways

Start = Callable[..., Awaitable[Gateways]]


def rules(role: Object) -> dict[str, tuple[list[str], list[str] | None]]:
    """Resource -> verbs and names."""
    return {
        resource: (rule["verbs"], rule.get("resourceNames"))
        for rule in role["rules"]
        for resource in rule["resources"]
        if rule["verbs"] != ["create"]
    }


async def _members(cluster: Gateways) -> None:
    await cluster.group()
    await cluster.secret("keys", k="v")
    await cluster.config_map("pki", **{"ca.crt": certificate()})
    bundle = {"configMapRef": {"name": "pki", "key": "ca.crt"}}
    await cluster.entry("e", caBundleRef=bundle, headerForward={"addHeadersFromSecret": [header("X-Key", "keys", "k")]})
    await cluster.endpoint("d")
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.until("MCPRemoteEndpoint", "d", phase="Ready")


async def _volumes_and_env(cluster: Gateways) -> tuple[dict[str, str], set[str]]:
    deployment = await cluster.deployment(until=lambda found: "ca-bundle-e" in str(found))
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    return mounts, {variable["name"] for variable in container["env"]}


async def test_our_static_gateway_may_read_its_own_configuration_only(cluster: Gateways) -> None:
    await _members(cluster)
    await cluster.gateway()
    config = await cluster.config(until=lambda config: len(config.backends) == 2)
    assert {backend.name: backend.type for backend in config.backends} == {"d": "direct", "e": "entry"}
    found = rules(await cluster.owned(RBAC, "Role", "v-vmcp"))
    assert "secrets" not in found
    assert found["configmaps"] == (["get", "watch"], ["v-vmcp-config"])


async def test_the_stock_gateway_gets_the_stock_role_and_a_document_that_its_parser_knows(start: Start) -> None:
    cluster = await start(vmcp_dialect="toolhive")
    await _members(cluster)
    await cluster.gateway(outgoingAuth={"source": "discovered"})
    found = rules(await cluster.owned(RBAC, "Role", "v-vmcp"))
    assert found["secrets"] == (["get", "list", "watch"], None)
    assert found["virtualmcpservers/status"] == (["update", "patch"], None)
    assert "mcpremoteendpoints" not in found
    await cluster.until(KIND, "v", BackendsIncluded="False/MembersSkipped")
    await cluster.patch(KIND, "v", {"spec": {"outgoingAuth": {"source": "inline"}}})
    config = await cluster.config(until=lambda config: len(config.backends) == 2)
    document = await cluster.owned("v1", "ConfigMap", "v-vmcp-config")
    load_config(document["data"]["config.yaml"], dialect=Dialect.TOOLHIVE)
    assert {backend.name: backend.type for backend in config.backends} == {"d": "", "e": "entry"}
    mounts, env = await _volumes_and_env(cluster)
    assert config.backends[1].ca_bundle_path == f"{mounts['ca-bundle-e']}/ca.crt"
    assert "TOOLHIVE_HEADER_FORWARD_E" in env


@pytest.mark.parametrize("dialect", Dialect)
async def test_a_member_that_leaves_the_group_leaves_the_configuration(start: Start, dialect: Dialect) -> None:
    cluster = await start(vmcp_dialect=str(dialect))
    await _members(cluster)
    await cluster.create("MCPGroup", "other")
    await cluster.gateway()
    await cluster.config(until=lambda config: len(config.backends) == 2)
    await cluster.patch("MCPRemoteEndpoint", "d", {"spec": {"groupRef": {"name": "other"}}})
    config = await cluster.config(until=lambda config: len(config.backends) == 1)
    assert config.backends[0].name == "e"


async def test_our_gateway_that_watches_its_group_has_nothing_of_it_in_its_pods(cluster: Gateways) -> None:
    await _members(cluster)
    await cluster.gateway(outgoingAuth={"source": "discovered"})
    await cluster.until(KIND, "v", BackendsIncluded="True/AllMembersIncluded", ObjectsApplied="True/ObjectsApplied")
    config = await cluster.config()
    assert config.backends == ()
    assert config.outgoing_auth is not None
    assert (config.outgoing_auth.source, config.outgoing_auth.backends) == ("discovered", {})
    pod = (await cluster.deployment())["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["vmcp-config", "vmcp-scratch"]
    assert not [item["name"] for item in pod["containers"][0]["env"] if item["name"].startswith("TOOLHIVE_SECRET")]
    found = rules(await cluster.owned(RBAC, "Role", "v-vmcp"))
    assert found["secrets"] == (["get", "watch"], ["keys"])
    assert found["configmaps"] == (["get", "watch"], ["v-vmcp-config", "pki"])
    assert found["virtualmcpservers"] == (["get", "watch"], ["v"])


async def test_the_role_of_a_gateway_that_watches_its_group_follows_what_the_members_name(cluster: Gateways) -> None:
    await _members(cluster)
    await cluster.gateway(outgoingAuth={"source": "discovered"})
    await cluster.deployment()
    before = (await cluster.deployment())["metadata"]["generation"]
    await cluster.secret("later", k="v")
    forward = {"addHeadersFromSecret": [header("X-K", "later", "k")]}
    await cluster.patch("MCPRemoteEndpoint", "d", {"spec": {"headerForward": forward}})

    def grants(found: Object | None) -> bool:
        return found is not None and "later" in (rules(found)["secrets"][1] or ())

    await cluster.admin.wait_for(RBAC, "Role", "v-vmcp", namespace=cluster.namespace, until=grants, timeout=20)
    assert (await cluster.deployment())["metadata"]["generation"] == before, "no pod is rolled for a member"
