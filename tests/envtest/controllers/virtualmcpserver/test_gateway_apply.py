"""Server-side apply with memory: what is ours is repaired, what is foreign stays, nobody's replicas are lost."""

from __future__ import annotations

import base64
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controllers.virtualmcpserver import controller
from controllers.virtualmcpserver.observe import Observer
from hack.controlplane.rest import Kube, KubeError
from tests.envtest.controllers.kit import Object, conditions_of
from tests.envtest.controllers.lifecycles import shows
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, OWNED, RBAC, Gateways

APPS = "apps/v1"
STAMP = "toolhive.stacklok.dev/session-secret-hash"


async def _running(cluster: Gateways, **spec: Any) -> Object:
    await cluster.group()
    await cluster.entry()
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.gateway(**spec)
    await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied", phase="Pending")
    return await cluster.deployment()


async def _patch(cluster: Gateways, kind: str, name: str, patch: Object, api: str = APPS, **how: str) -> Object:
    return await cluster.admin.patch(api, kind, name, patch, namespace=cluster.namespace, **how)


def _template(found: Object) -> Object:
    return found["spec"]["template"]


def _foreign(annotations: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in annotations.items() if name != STAMP}


async def test_what_is_ours_and_edited_by_hand_is_repaired(cluster: Gateways) -> None:
    before = await _running(cluster)
    image = before["spec"]["template"]["spec"]["containers"][0]["image"]
    edit = {"spec": {"template": {"spec": {"containers": [{"name": "vmcp", "image": "evil"}]}}}}
    await _patch(cluster, "Deployment", "v", edit, type="strategic")
    repaired = await cluster.deployment(
        until=lambda found: (
            _template(found)["spec"]["containers"][0]["image"] == image
            and found["metadata"]["generation"] > before["metadata"]["generation"]
        )
    )
    assert _template(repaired) == _template(before)
    await _patch(cluster, "ConfigMap", "v-vmcp-config", {"data": {"config.yaml": "name: evil"}}, "v1")
    await cluster.admin.wait_for(
        "v1",
        "ConfigMap",
        "v-vmcp-config",
        namespace=cluster.namespace,
        until=lambda found: found is not None and found["data"]["config.yaml"].startswith("name: v\n"),
        timeout=10,
    )
    await _patch(cluster, "Role", "v-vmcp", {"rules": []}, RBAC)
    await cluster.admin.wait_for(
        RBAC,
        "Role",
        "v-vmcp",
        namespace=cluster.namespace,
        until=lambda found: found is not None and bool(found.get("rules")),
        timeout=10,
    )


async def test_what_others_add_stays(cluster: Gateways) -> None:
    await _running(cluster)
    await cluster.admin.apply(
        {
            "apiVersion": APPS,
            "kind": "Deployment",
            "metadata": {"name": "v", "namespace": cluster.namespace, "annotations": {"team": "a"}},
            "spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "mesh"}]}}},
        },
        field_manager="injector",
    )
    restart = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    await _patch(
        cluster,
        "Deployment",
        "v",
        {"spec": {"template": {"metadata": {"annotations": restart}}}},
        type="strategic",
    )
    # A change of ours makes it be applied again.
    await cluster.patch(KIND, "v", {"spec": {"config": {"operational": {"logLevel": "debug"}}}})
    found = await cluster.deployment(
        until=lambda found: (
            "--debug" in next(c for c in _template(found)["spec"]["containers"] if c["name"] == "vmcp").get("args", [])
        )
    )
    assert found["metadata"]["annotations"]["team"] == "a"
    assert _foreign(_template(found)["metadata"]["annotations"]) == restart
    assert sorted(c["name"] for c in _template(found)["spec"]["containers"]) == ["sidecar", "vmcp"]


@shows(KIND, "PodTemplateSpecValid=True/PodTemplateSpecValid")
async def test_what_we_stop_wanting_is_removed(cluster: Gateways) -> None:
    await _running(cluster, podTemplateSpec={"spec": {"nodeSelector": {"disk": "ssd"}}})
    await cluster.deployment(until=lambda found: _template(found)["spec"].get("nodeSelector") == {"disk": "ssd"})
    await cluster.patch(KIND, "v", {"spec": {"podTemplateSpec": None}})
    found = await cluster.deployment(until=lambda found: "nodeSelector" not in _template(found)["spec"])
    assert "toolhive.stacklok.io/podtemplatespec-hash" not in found["metadata"]["annotations"]


@shows(KIND, "SessionStorageWarning=False/SessionStorageWarningNotApplicable")
async def test_replicas_that_are_set_and_then_unset_keep_their_number(cluster: Gateways) -> None:
    await _running(cluster, replicas=3)
    await cluster.patch(KIND, "v", {"spec": {"replicas": None}})
    found = await cluster.deployment(
        until=lambda found: "toolhive.stacklok.dev/replicas-managed" not in found["metadata"]["annotations"]
    )
    assert found["spec"]["replicas"] == 3
    # From now on an autoscaler may decide; a change of ours does not set the number back.
    await _patch(cluster, "Deployment", "v", {"spec": {"replicas": 5}}, subresource="scale")
    await cluster.patch(KIND, "v", {"spec": {"config": {"operational": {"logLevel": "debug"}}}})
    found = await cluster.deployment(
        until=lambda found: "--debug" in _template(found)["spec"]["containers"][0].get("args", [])
    )
    assert found["spec"]["replicas"] == 5
    await cluster.patch(KIND, "v", {"spec": {"replicas": 2}})
    await cluster.deployment(until=lambda found: found["spec"]["replicas"] == 2)


async def test_a_deployment_that_another_operator_wrote_by_update_is_taken_over(
    start: Callable[..., Awaitable[Gateways]], admin: Kube, namespace: str
) -> None:
    gateway = await _without_operator(admin, namespace)
    legacy = _legacy_deployment(gateway, namespace)
    plural = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    await admin.request("POST", plural, body=legacy, params={"fieldManager": "thv-operator"})
    cluster = await start()
    found = await cluster.deployment(until=lambda found: _template(found)["spec"]["containers"][0].get("args"))
    container = _template(found)["spec"]["containers"][0]
    assert "LEFT_OVER" not in {variable["name"] for variable in container["env"]}
    assert [volume["name"] for volume in _template(found)["spec"]["volumes"]] == ["vmcp-config", "vmcp-scratch"]
    assert found["spec"]["replicas"] == 4, "nobody asked for another number"
    annotations = _foreign(_template(found)["metadata"]["annotations"])
    assert annotations == {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    managers = {(entry["manager"], entry["operation"]) for entry in found["metadata"]["managedFields"]}
    assert ("mcp-operator", "Apply") in managers


async def _without_operator(admin: Kube, namespace: str) -> Object:
    cluster = {"namespace": namespace}
    await admin.create(
        {"apiVersion": "toolhive.stacklok.dev/v1beta1", "kind": "MCPGroup", "metadata": {"name": "g", **cluster}}
    )
    entry = {"remoteUrl": "https://e.example", "transport": "sse", "groupRef": {"name": "g"}}
    await admin.create(
        {
            "apiVersion": "toolhive.stacklok.dev/v1beta1",
            "kind": "MCPServerEntry",
            "metadata": {"name": "e", **cluster},
            "spec": entry,
        }
    )
    spec = {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": {"source": "inline"}}
    return await admin.create(
        {
            "apiVersion": "toolhive.stacklok.dev/v1beta1",
            "kind": KIND,
            "metadata": {"name": "v", **cluster},
            "spec": spec,
        }
    )


def _legacy_deployment(gateway: Object, namespace: str) -> Object:
    labels = {
        "app": "virtualmcpserver",
        "app.kubernetes.io/name": "virtualmcpserver",
        "app.kubernetes.io/instance": "v",
        "toolhive": "true",
        "toolhive-name": "v",
    }
    owner = {
        "apiVersion": gateway["apiVersion"],
        "kind": KIND,
        "name": "v",
        "uid": gateway["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    container = {"name": "vmcp", "image": "old", "env": [{"name": "LEFT_OVER", "value": "1"}]}
    pod = {"containers": [container], "volumes": [{"name": "left-over", "emptyDir": {}}]}
    restart = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    template = {"metadata": {"labels": labels, "annotations": restart}, "spec": pod}
    return {
        "apiVersion": APPS,
        "kind": "Deployment",
        "metadata": {"name": "v", "namespace": namespace, "labels": labels, "ownerReferences": [owner]},
        "spec": {"replicas": 4, "selector": {"matchLabels": labels}, "template": template},
    }


@shows(KIND, "ObjectsApplied=False/ForeignObject")
async def test_a_foreign_object_is_left_alone_and_named(cluster: Gateways) -> None:
    await cluster.config_map("v-vmcp-config", mine="yes")
    await cluster.group()
    await cluster.entry()
    await cluster.gateway()
    await cluster.until(KIND, "v", phase="Failed", ObjectsApplied="False/ForeignObject")
    found = await cluster.owned("v1", "ConfigMap", "v-vmcp-config")
    assert found["data"] == {"mine": "yes"}
    role = {"apiVersion": RBAC, "kind": "Role", "metadata": {"name": "w-vmcp", "namespace": cluster.namespace}}
    await cluster.admin.create(role | {"rules": []})
    await cluster.gateway("w")
    await cluster.until(KIND, "w", phase="Failed", ObjectsApplied="False/ForeignObject")
    await cluster.come_to_rest()
    await cluster.delete("ConfigMap", "v-vmcp-config")
    await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied", timeout=5)
    await cluster.admin.delete(RBAC, "Role", "w-vmcp", namespace=cluster.namespace)
    await cluster.until(KIND, "w", ObjectsApplied="True/ObjectsApplied", timeout=5)


async def test_a_deleted_object_comes_back_and_all_go_with_the_gateway(cluster: Gateways) -> None:
    await _running(cluster)
    uids = {place: (await cluster.owned(*place))["metadata"]["uid"] for place in OWNED}
    for api, kind, name in OWNED:
        await cluster.admin.delete(api, kind, name, namespace=cluster.namespace)
    for place in OWNED:
        old = uids[place]
        await cluster.admin.wait_for(
            *place,
            namespace=cluster.namespace,
            until=lambda found, old=old: found is not None and found["metadata"]["uid"] != old,
            timeout=20,
        )
    await cluster.delete(KIND, "v")
    for place in OWNED:
        await cluster.without(*place)


async def test_an_own_service_account_removes_what_was_made_before(cluster: Gateways) -> None:
    await _running(cluster)
    await cluster.patch(KIND, "v", {"spec": {"serviceAccount": "mine"}})
    await cluster.deployment(until=lambda found: _template(found)["spec"].get("serviceAccountName") == "mine")
    for api, kind in (("v1", "ServiceAccount"), (RBAC, "Role"), (RBAC, "RoleBinding")):
        await cluster.without(api, kind, "v-vmcp")


async def test_plain_members_roll_no_pods_and_a_rotated_secret_does(cluster: Gateways) -> None:
    before = await _running(cluster)
    for index in range(5):
        await cluster.entry(f"more-{index}")
    await cluster.config(until=lambda config: len(config.backends) == 6)
    assert (await cluster.deployment())["metadata"]["generation"] == before["metadata"]["generation"]
    await cluster.secret("s", k="one")
    ref = {"headerName": "X-Key", "valueSecretRef": {"name": "s", "key": "k"}}
    await cluster.entry("keyed", headerForward={"addHeadersFromSecret": [ref]})
    rotation = "toolhive.stacklok.dev/secrets-hash"
    first = await cluster.deployment(
        until=lambda found: rotation in _template(found)["metadata"].get("annotations", {})
    )
    hashed = _template(first)["metadata"]["annotations"][rotation]
    await cluster.patch("Secret", "s", {"stringData": {"k": "two"}})
    await cluster.deployment(until=lambda found: _template(found)["metadata"]["annotations"][rotation] != hashed)


async def test_a_changed_session_secret_rolls_the_pods_and_making_it_does_not(cluster: Gateways) -> None:
    before = await _running(cluster)
    hashed = _template(before)["metadata"]["annotations"][STAMP]
    await cluster.entry("more")
    await cluster.config(until=lambda config: len(config.backends) == 2)
    found = await cluster.deployment()
    assert found["metadata"]["generation"] == 1
    value = base64.b64encode(bytes(range(32))).decode()
    await cluster.patch("Secret", "v-hmac-secret", {"stringData": {"hmac-secret": value}})
    rolled = await cluster.deployment(until=lambda found: _template(found)["metadata"]["annotations"][STAMP] != hashed)
    await cluster.delete("Secret", "v-hmac-secret")
    again = _template(rolled)["metadata"]["annotations"][STAMP]
    await cluster.deployment(until=lambda found: _template(found)["metadata"]["annotations"][STAMP] != again)


async def test_a_stock_gateway_does_not_use_the_session_secret_and_is_not_rolled_by_it(
    start: Callable[..., Awaitable[Gateways]],
) -> None:
    cluster = await start(vmcp_dialect="toolhive")
    found = _template(await _running(cluster))["metadata"]["annotations"]
    assert STAMP not in found


async def test_a_burst_of_members_rolls_the_stock_gateway_at_most_twice(
    start: Callable[..., Awaitable[Gateways]],
) -> None:
    cluster = await start(vmcp_dialect="toolhive")
    before = await _running(cluster)
    for index in range(40):
        await cluster.entry(f"more-{index}")
    await cluster.config(until=lambda config: len(config.backends) == 41)
    checksum = "toolhive.stacklok.dev/runconfig-checksum"
    wanted = (await cluster.owned("v1", "ConfigMap", "v-vmcp-config"))["metadata"]["annotations"]
    expected = wanted["toolhive.stacklok.dev/content-checksum"]
    after = await cluster.deployment(
        until=lambda found: _template(found)["metadata"]["annotations"][checksum] == expected
    )
    assert after["metadata"]["generation"] - before["metadata"]["generation"] <= 2


async def test_the_reports_of_a_stock_gateway_are_left_to_it(start: Callable[..., Awaitable[Gateways]]) -> None:
    cluster = await start(vmcp_dialect="toolhive")
    await _running(cluster)
    await cluster.pod("p")
    await cluster.until(KIND, "v", phase="Ready")
    found = copy.deepcopy(await cluster.get(KIND, "v"))
    status = found["status"]
    status |= {"phase": "Failed", "message": "No routable backends", "backendCount": 0}
    now = _now()
    status["discoveredBackends"] = [{"name": "e", "status": "unavailable", "lastHealthCheck": now}]
    for condition in status["conditions"]:
        if condition["type"] == "Ready":
            condition |= {"status": "False", "reason": "NoRoutableBackends"}
    await cluster.admin.update(found, subresource="status")
    # A change makes the operator look; it writes its own conditions and leaves the gateway's words.
    await cluster.patch(KIND, "v", {"spec": {"replicas": 2}})
    found = await cluster.until(KIND, "v", SessionStorageWarning="True/SessionStorageMissingForReplicas")
    assert found["status"]["phase"] == "Failed"
    assert found["status"]["message"] == "No routable backends"
    await cluster.until(KIND, "v", Ready="False/NoRoutableBackends", phase="Failed")


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_conditions_that_another_operator_left_behind_are_removed_and_strangers_stay(
    start: Callable[..., Awaitable[Gateways]], admin: Kube, namespace: str
) -> None:
    gateway = await _without_operator(admin, namespace)
    left = {"status": "False", "reason": "OIDCConfigRefNotFound", "message": "m", "lastTransitionTime": _now()}
    gateway["status"] = {
        "phase": "Failed",
        "oidcConfigHash": "old",
        "conditions": [left | {"type": "OIDCConfigRefValidated"}, left | {"type": "Mine", "reason": "Stranger"}],
    }
    await admin.update(gateway, subresource="status")
    cluster = await start()
    found = await cluster.until(
        KIND, "v", phase="Pending", OIDCConfigRefValidated="", Mine="False/Stranger", Valid="True/ValidationSucceeded"
    )
    assert "oidcConfigHash" not in found["status"]


async def test_a_number_beyond_32_bits_ends_in_a_condition_where_the_server_admits_it(cluster: Gateways) -> None:
    """Until Kubernetes 1.35 the API server does not look at the format of numbers in custom resources."""
    minor = int((await cluster.admin.request("GET", "/version"))["minor"].rstrip("+"))
    await cluster.group()
    if minor >= 36:
        with pytest.raises(KubeError, match="replicas"):
            await cluster.gateway(replicas=2**31)
        return
    await cluster.gateway(replicas=2**31)
    found = await cluster.until(KIND, "v", ObjectsApplied="False/ObjectRefused")
    assert "replicas" in conditions_of(found)["ObjectsApplied"][1]


async def test_the_echo_of_own_writes_decides_nothing(cluster: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each write comes back as an event: one that comes before its answer costs a look, one after it not even that."""
    await _running(cluster)
    await cluster.come_to_rest()
    looks, decisions = 0, 0
    observe, decided = Observer.observe, controller.decide

    async def look(*args: Any) -> Any:
        nonlocal looks
        looks += 1
        return await observe(*args)

    def count(snapshot: Any) -> Any:
        nonlocal decisions
        decisions += 1
        return decided(snapshot)

    monkeypatch.setattr(Observer, "observe", look)
    monkeypatch.setattr(controller, "decide", count)
    await cluster.patch("MCPServerEntry", "e", {"spec": {"remoteUrl": "https://elsewhere.example.com"}})
    await cluster.config(until=lambda config: config.backends[0].url == "https://elsewhere.example.com")
    await cluster.come_to_rest()
    assert decisions == 1
    assert looks <= 2
    await cluster.admin.delete("v1", "ConfigMap", "v-vmcp-config", namespace=cluster.namespace)
    await cluster.config()
    await cluster.come_to_rest()
    assert 2 <= decisions <= 3  # one makes the ConfigMap; an early event has another see that it is there again


async def test_characters_that_yaml_lacks_keep_nothing_from_being_written(cluster: Gateways) -> None:
    """The server reads an apply as YAML: a delete character in an annotation took a gateway its status."""
    odd = "a\x7fb\x85c\u2028d\ufeffe\x9ff\U0001f600"
    container = {"name": "vmcp", "env": [{"name": "ODD", "value": odd}]}
    annotations = {"toolhive.stacklok.dev/vmcp-dialect": odd}
    deployment = await _running(
        cluster, podTemplateSpec={"spec": {"containers": [container]}}, metadata={"annotations": annotations}
    )
    (made,) = _template(deployment)["spec"]["containers"]
    assert [variable["value"] for variable in made["env"] if variable["name"] == "ODD"] == [odd]
    await cluster.until(KIND, "v", DialectValidated="False/UnknownDialect")
