"""Other programs write where the operator writes: backup tools, GitOps tools, webhooks, Deployment controllers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from controllers.shared import contests
from controllers.shared.ownership import ForeignObjectError
from controllers.shared.resources import CONFIG_MAP, VMCP
from controllers.shared.timing import Timing
from controllers.shared.workload.apply import Applier
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from runtime import Key, Manager, ManagerOptions
from runtime.transport.config import load_endpoint
from tests.envtest.controllers.kit import API, Object, conditions_of
from tests.envtest.controllers.lifecycles import shows
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, OWNED, Gateways, roll_out

APPS = "apps/v1"


async def running(cluster: Gateways, **spec: Any) -> Object:
    await cluster.group()
    await cluster.entry()
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.gateway(**spec)
    return await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied")


# --- ownership ----------------------------------------------------------------------------------------------------


async def test_objects_that_lost_their_owner_are_adopted_by_their_marks_and_go_with_the_gateway(
    cluster: Gateways,
) -> None:
    await running(cluster)
    await cluster.come_to_rest()  # the garbage collector deletes what it has not heard of before its owner went
    session = (await cluster.owned("v1", "Secret", "v-hmac-secret"))["data"]
    body = await cluster.get(KIND, "v")
    orphan = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"}
    path = await cluster.admin.path("toolhive.stacklok.dev/v1beta1", KIND, "v", namespace=cluster.namespace)
    await cluster.admin.request("DELETE", path, body=orphan)
    await cluster.without("toolhive.stacklok.dev/v1beta1", KIND, "v")
    for place in OWNED:
        assert not (await cluster.owned(*place))["metadata"].get("ownerReferences")
    await cluster.gateway(**body["spec"])
    found = await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied")
    for place in OWNED:
        (reference,) = (await cluster.owned(*place))["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"]) == (found["metadata"]["uid"], True)
    assert (await cluster.owned("v1", "Secret", "v-hmac-secret"))["data"] == session, "sessions live on"
    await cluster.delete(KIND, "v")
    for place in OWNED:
        await cluster.without(*place)


async def test_what_a_backup_tool_wrote_back_can_be_removed_when_it_is_not_wanted_any_more(cluster: Gateways) -> None:
    await running(cluster, podTemplateSpec={"spec": {"nodeSelector": {"disk": "ssd"}}})
    deployment = await cluster.deployment()
    spec = (await cluster.get(KIND, "v"))["spec"]
    await cluster.delete(KIND, "v")
    await cluster.without(APPS, "Deployment", "v")
    kept = ("name", "namespace", "labels", "annotations")
    restored = {
        "apiVersion": APPS,
        "kind": "Deployment",
        "metadata": {name: deployment["metadata"][name] for name in kept},
        "spec": deployment["spec"],
    }
    plural = f"/apis/apps/v1/namespaces/{cluster.namespace}/deployments"
    await cluster.admin.request("POST", plural, body=restored, params={"fieldManager": "velero-server"})
    del spec["podTemplateSpec"]
    await cluster.gateway(**spec)
    await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied")
    await cluster.deployment(until=lambda found: "nodeSelector" not in found["spec"]["template"]["spec"])


@pytest.fixture
async def blind(control_plane: Handle) -> AsyncIterator[Manager]:
    """A manager whose caches have heard of nothing: the world between two events, for as long as a test needs."""
    manager = Manager(await load_endpoint(str(control_plane.kubeconfig)), ManagerOptions(field_manager="mcp-operator"))
    manager.informer(CONFIG_MAP, metadata_only=True)
    yield manager
    await manager.transport.close()


def config_map(namespace: str, name: str, **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


async def test_a_foreign_object_that_no_event_has_told_of_yet_is_not_taken_over(
    admin: Kube, namespace: str, blind: Manager, rollouts: asyncio.Event, control_plane: Handle
) -> None:
    cluster = Gateways(admin, namespace, control_plane, rollouts)
    await cluster.gateway()
    owner = await blind.client.get_live(VMCP, Key(namespace, "v"))
    foreign = await cluster.config_map("c", mine="yes")
    with pytest.raises(ForeignObjectError, match="ConfigMap c exists and belongs to nobody"):
        await Applier(blind).apply(CONFIG_MAP, config_map(namespace, "c", ours="yes"), owner)
    found = await cluster.owned("v1", "ConfigMap", "c")
    assert (found["data"], found["metadata"]["resourceVersion"]) == (
        {"mine": "yes"},
        foreign["metadata"]["resourceVersion"],
    )
    made = await Applier(blind).apply(CONFIG_MAP, config_map(namespace, "d", ours="yes"), owner)
    assert made.created
    changed = await Applier(blind).apply(CONFIG_MAP, config_map(namespace, "d", ours="more"), owner)
    assert not changed.created, "one of ours that no event has told of is changed"
    assert (await cluster.owned("v1", "ConfigMap", "d"))["data"] == {"ours": "more"}


async def test_what_an_apply_left_is_told_from_what_others_made_of_it(
    admin: Kube, namespace: str, blind: Manager, rollouts: asyncio.Event, control_plane: Handle
) -> None:
    cluster, applier = Gateways(admin, namespace, control_plane, rollouts), Applier(blind)
    await cluster.gateway()
    owner = await blind.client.get_live(VMCP, Key(namespace, "v"))
    foreign = await cluster.config_map("e")
    assert not applier.left(await blind.client.get_live(CONFIG_MAP, Key(namespace, foreign["metadata"]["name"])))
    await applier.apply(CONFIG_MAP, config_map(namespace, "c", ours="yes"), owner)
    left = await blind.client.get_live(CONFIG_MAP, Key(namespace, "c"))
    assert applier.left(left)
    await cluster.admin.patch("v1", "ConfigMap", "c", {"data": {"theirs": "too"}}, namespace=namespace)
    edited = await blind.client.get_live(CONFIG_MAP, Key(namespace, "c"))
    assert not applier.left(edited)
    await applier.apply(CONFIG_MAP, config_map(namespace, "c", ours="more"), owner)
    assert not applier.left(left), "an event of before the last apply may be somebody else's doing"
    assert applier.left(await blind.client.get_live(CONFIG_MAP, Key(namespace, "c")))


# --- repairs ------------------------------------------------------------------------------------------------------


@shows(KIND, "ObjectsApplied=False/Contested")
async def test_somebody_who_sticks_to_another_value_is_named_and_answered_less_and_less_often(
    start: Callable[..., Awaitable[Gateways]],
) -> None:
    cluster = await start(timing=Timing(peace=2.0))
    await running(cluster)
    await cluster.come_to_rest()
    stop, answers = asyncio.Event(), 0

    async def stick() -> None:
        nonlocal answers
        grace = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 77}}}}
        while not stop.is_set():
            found = await cluster.deployment()
            if found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] != 77:
                path = await cluster.admin.path(APPS, "Deployment", "v", namespace=cluster.namespace)
                await cluster.admin.request(
                    "PATCH",
                    path,
                    body=grace,
                    content_type="application/strategic-merge-patch+json",
                    params={"fieldManager": "argocd-controller"},
                )
                answers += 1
            await asyncio.sleep(0.02)  # as fast as it can

    other = asyncio.create_task(stick())
    found = await cluster.until(KIND, "v", ObjectsApplied="False/Contested")
    said = conditions_of(found)["ObjectsApplied"][1]
    assert 'the field manager "argocd-controller"' in said
    assert "spec.template.spec.terminationGracePeriodSeconds of Deployment v" in said
    event = await cluster.event("v", "Warning", "Contested")
    assert "argocd-controller" in event["note"]
    stop.set()
    await other
    assert answers <= contests.FREE + 2
    await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied", timeout=30)
    await cluster.deployment(until=lambda d: d["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] != 77)


async def test_somebody_who_removes_an_object_each_time_is_not_answered_for_ever(
    start: Callable[..., Awaitable[Gateways]],
) -> None:
    cluster = await start(timing=Timing(first_pause=60.0))
    await running(cluster)
    for place in (("v1", "Service", "vmcp-v"), ("v1", "Secret", "v-hmac-secret")):
        for _ in range(contests.FREE):
            await cluster.owned(*place)
            await cluster.admin.delete(*place, namespace=cluster.namespace)
        named = f"{place[1]} {place[2]}"
        await cluster.admin.wait_for(
            API, KIND, "v", namespace=cluster.namespace, until=lambda found, n=named: _contested(found, n), timeout=20
        )
        await cluster.owned(*place)
        await cluster.admin.delete(*place, namespace=cluster.namespace)
        await cluster.come_to_rest()
        assert await cluster.admin.find(*place, namespace=cluster.namespace) is None, "the next repair waits"


def _contested(found: Object | None, name: str) -> bool:
    state, message = conditions_of(found or {}).get("ObjectsApplied", ("", ""))
    return state == "False/Contested" and name in message


# --- passing errors -----------------------------------------------------------------------------------------------


@shows(KIND, "ObjectsApplied=False/ApplyFailed")
async def test_what_does_not_work_at_the_moment_is_said_on_the_object_and_works_later(cluster: Gateways) -> None:
    await running(cluster)
    await cluster.pod("p")
    await cluster.until(KIND, "v", phase="Ready", Ready="True/DeploymentReady")
    async with cluster.broken_webhook() as webhook:
        await cluster.gateway("new")
        found = await cluster.until(KIND, "new", phase="Pending", ObjectsApplied="False/ApplyFailed")
        assert webhook in found["status"]["message"]
        assert conditions_of(found)["Ready"][0] == "False/ApplyFailed"
        assert "Stalled" not in conditions_of(found)
        await cluster.event("new", "Warning", "ApplyFailed")
        # An edit that could not be applied: not Ready for it, though the pods of before serve.
        await cluster.patch(KIND, "v", {"spec": {"config": {"operational": {"logLevel": "debug"}}}})
        await cluster.until(KIND, "v", ObjectsApplied="False/ApplyFailed", Ready="False/ApplyFailed")
    for name in ("v", "new"):
        await cluster.until(KIND, name, ObjectsApplied="True/ObjectsApplied", timeout=90)


@pytest.mark.parametrize("place", [OWNED[0], OWNED[1], OWNED[3]], ids=lambda place: place[1])
async def test_an_object_that_is_deleted_and_held_is_named_until_it_is_made_anew(
    cluster: Gateways, place: tuple[str, str, str]
) -> None:
    await running(cluster)
    uid = (await cluster.owned(*place))["metadata"]["uid"]
    hold = {"metadata": {"finalizers": ["stranger.example.com/hold"]}}
    await cluster.admin.patch(*place, hold, namespace=cluster.namespace)
    await cluster.admin.delete(*place, namespace=cluster.namespace)
    found = await cluster.until(KIND, "v", ObjectsApplied="False/ApplyFailed")
    said = f"{place[1]} {place[2]} is being deleted and held by stranger.example.com/hold"
    assert said in conditions_of(found)["ObjectsApplied"][1]
    assert "Stalled" not in conditions_of(found)
    await cluster.entry("later")  # what is on its way out is kept up to date as long as it is there
    await cluster.config(until=lambda config: [backend.name for backend in config.backends] == ["e", "later"])
    await cluster.admin.patch(*place, {"metadata": {"finalizers": None}}, namespace=cluster.namespace)
    await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied")
    assert (await cluster.owned(*place))["metadata"]["uid"] != uid


# --- rollouts -----------------------------------------------------------------------------------------------------


@shows(KIND, "RolledOut=True/RolloutComplete", "RolledOut=False/RolloutInProgress", "RolledOut=False/RolloutStalled")
async def test_a_generation_is_ready_when_its_own_pods_are(cluster: Gateways) -> None:
    await running(cluster)
    await cluster.pod("p")
    before = await cluster.until(KIND, "v", phase="Ready", RolledOut="True/RolloutComplete")
    cluster.rollouts.clear()
    image = {"spec": {"containers": [{"name": "vmcp", "image": "registry.example.com/typo:1"}]}}
    await cluster.patch(KIND, "v", {"spec": {"podTemplateSpec": image}})
    found = await cluster.until(KIND, "v", phase="Pending", Ready="False/RolloutInProgress")
    assert found["metadata"]["generation"] > before["metadata"]["generation"]
    await roll_out(cluster.admin, await cluster.deployment(), replicas=2)
    waiting = {"reason": "ErrImagePull", "message": "not found"}
    status = {"name": "vmcp", "image": "typo", "imageID": "", "ready": False, "restartCount": 0}
    await cluster.pod("q", phase="Pending", ready=False, containerStatuses=[status | {"state": {"waiting": waiting}}])
    found = await cluster.until(
        KIND, "v", phase="Degraded", RolledOut="False/RolloutStalled", Ready="False/RolloutStalled"
    )
    assert "the image typo cannot be pulled" in found["status"]["message"]
    await cluster.admin.delete("v1", "Pod", "q", namespace=cluster.namespace)
    await roll_out(cluster.admin, await cluster.deployment())
    await cluster.until(KIND, "v", phase="Ready", Ready="True/DeploymentReady", RolledOut="True/RolloutComplete")
    # A rotated Secret, a newer operator: the pods of before serve this generation, too.
    rotated = {"hmac-secret": base64.b64encode(bytes(range(32))).decode()}
    await cluster.patch("Secret", "v-hmac-secret", {"stringData": rotated})
    found = await cluster.until(KIND, "v", RolledOut="False/RolloutInProgress")
    assert conditions_of(found)["Ready"][0] == "True/DeploymentReady"
