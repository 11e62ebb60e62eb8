"""Pods are replaced when a value that they use changes, and not when somebody only touches its Secret."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

from controllers.shared.content import contents
from controllers.shared.hashkey import FIELD, NAME, HashKey, digest
from controllers.shared.resources import SECRET
from hack.controlplane.rest import Kube
from runtime import Key, Manager, ManagerOptions
from runtime.transport.config import load_endpoint
from tests.envtest.controllers.kit import Object, header
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways


def generation(found: Object) -> int:
    value: int = found["metadata"]["generation"]
    return value


async def settled(cluster: Gateways) -> Object:
    """Make a gateway whose member uses key `k` of Secret `s`; return its Deployment."""
    await cluster.group()
    await cluster.entry(headerForward={"addHeadersFromSecret": [header("X-Key", "s", "k")]})
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.gateway()
    await cluster.until(KIND, "v", ObjectsApplied="True/ObjectsApplied")
    await cluster.come_to_rest()
    return await cluster.deployment()


async def test_a_touched_secret_rolls_nothing_and_a_changed_value_that_is_used_does(cluster: Gateways) -> None:
    await cluster.secret("s", k="one", unused="one")
    before = await settled(cluster)
    for name in ("s", "v-hmac-secret"):
        touched = {"metadata": {"annotations": {"refreshed-at": "now"}, "labels": {"a": "b"}}}
        await cluster.patch("Secret", name, touched)
    await cluster.patch("Secret", "s", {"stringData": {"unused": "two"}})
    await cluster.come_to_rest()
    assert generation(await cluster.deployment()) == generation(before)
    await cluster.patch("Secret", "s", {"stringData": {"k": "two"}})
    rolled = await cluster.deployment(until=lambda found: generation(found) > generation(before))
    other = base64.b64encode(bytes(range(32))).decode()
    await cluster.patch("Secret", "v-hmac-secret", {"stringData": {"hmac-secret": other}})
    await cluster.deployment(until=lambda found: generation(found) > generation(rolled))


async def test_a_damaged_key_that_is_replaced_counts_without_a_restart(
    admin: Kube, namespace: str, start: Callable[..., Awaitable[Gateways]]
) -> None:
    damaged = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME, "namespace": namespace}}
    await admin.create(damaged | {"stringData": {FIELD: "not a key"}})
    cluster = await start()
    await cluster.secret("s", k="one")
    before = await settled(cluster)
    await cluster.patch("Secret", "s", {"metadata": {"annotations": {"refreshed-at": "now"}}})
    without = await cluster.deployment(until=lambda found: generation(found) > generation(before))
    await admin.delete("v1", "Secret", NAME, namespace=namespace)  # what the log advises: a new one is made
    with_key = await cluster.deployment(until=lambda found: generation(found) > generation(without))
    await cluster.patch("Secret", "s", {"metadata": {"annotations": {"refreshed-at": "later"}}})
    await cluster.come_to_rest()
    assert generation(await cluster.deployment()) == generation(with_key)


async def test_managers_share_the_key_that_the_first_one_made(
    admin: Kube, namespace: str, operator_kubeconfig: Path
) -> None:
    manager = Manager(await load_endpoint(str(operator_kubeconfig)), ManagerOptions())
    contents(manager, SECRET)
    managers = [HashKey(manager.client, namespace) for _ in range(5)]
    keys = await asyncio.gather(*(made.get() for made in managers))
    assert len(set(keys)) == 1
    assert keys[0] is not None
    stored = (await admin.get("v1", "Secret", NAME, namespace=namespace))["data"]["key"]
    assert base64.b64decode(stored) == keys[0]
    # Lost while a manager runs: that one goes on, the next one makes another.
    await admin.delete("v1", "Secret", NAME, namespace=namespace)
    assert await managers[0].get() == keys[0]
    assert await HashKey(manager.client, namespace).get() not in (None, keys[0])
    await manager.transport.close()


async def test_a_manager_that_may_not_keep_a_key_or_has_no_namespace_goes_without(
    make_user: Callable[..., Awaitable[Path]], namespace: str
) -> None:
    manager = Manager(await load_endpoint(str(await make_user("nobody"))), ManagerOptions())
    contents(manager, SECRET)
    for place in (namespace, ""):
        hash_key = HashKey(manager.client, place)
        assert await hash_key.get() is None
        assert not hash_key.expected
    await manager.transport.close()


def test_equal_values_have_different_hashes_in_different_places() -> None:
    places = [(Key("a", "s"), "k"), (Key("b", "s"), "k"), (Key("a", "t"), "k"), (Key("a", "s"), "l")]
    hashes = {digest(b"x" * 32, place, field, b"value") for place, field in places}
    assert len(hashes) == len(places)
    assert digest(b"y" * 32, *places[0], b"value") not in hashes
