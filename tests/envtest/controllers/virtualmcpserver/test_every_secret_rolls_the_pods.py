"""Each Secret that reaches a gateway's environment rolls its pods within a second when it changes, comes or goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from controllers.options import DefaultRedis
from controllers.shared.timing import Timing
from controllers.virtualmcpserver.observe import Observer
from tests.envtest.controllers.kit import Object
from tests.envtest.controllers.virtualmcpserver.conftest import Gateways
from tests.support import secret_edges

ROTATION = "toolhive.stacklok.dev/secrets-hash"
FIELDS = {
    "entry-header": "MCPServerEntry headerForward",
    "endpoint-header": "MCPRemoteEndpoint headerForward",
    "token-exchange": "tokenExchange.clientSecretRef of a member's auth config",
    "injected-header": "headerInjection.valueSecretRef of outgoingAuth.default",
    "xaa-idp": "xaa.idpClientSecretRef of outgoingAuth.backends",
    "xaa-target": "xaa.targetClientSecretRef of outgoingAuth.backends",
    "oidc-client": "MCPOIDCConfig inline.clientSecretRef",
    "otel-header": "MCPTelemetryConfig sensitiveHeaders",
    "redis-own": "sessionStorage.passwordRef",
}
"""What reaches the environment of the gateway `every-edge`, by Secret."""


async def _world(cluster: Gateways) -> None:
    for body in secret_edges.world(cluster.namespace, "one"):
        if body["metadata"]["name"] == "every-edge":
            # A member whose override names an auth config that is no strategy would be left out, with its Secrets.
            body["spec"]["outgoingAuth"]["backends"].pop("direct")
        await cluster.admin.create(body)
    await cluster.deployment("every-edge", until=lambda found: _named(found) == set(FIELDS))
    await cluster.deployment("defaults", until=lambda found: secret_edges.DEFAULT_REDIS in _named(found))
    await cluster.come_to_rest()


def _named(found: Object) -> set[str]:
    container = found["spec"]["template"]["spec"]["containers"][0]
    refs = (variable.get("valueFrom", {}).get("secretKeyRef", {}) for variable in container["env"])
    return {ref["name"] for ref in refs if ref} - {f"{found['metadata']['name']}-hmac-secret"}


def _hash(found: Object) -> str:
    value: str = found["spec"]["template"]["metadata"].get("annotations", {}).get(ROTATION, "")
    return value


async def _rolls(cluster: Gateways, gateway: str, names: Iterable[str]) -> dict[str, float]:
    """Change each Secret; return the seconds until the pods' template said so."""
    took = {}
    for name in names:
        before = _hash(await cluster.deployment(gateway))
        started = time.monotonic()
        await cluster.patch("Secret", name, {"stringData": {secret_edges.KEY: f"two of {name}"}})
        await cluster.deployment(gateway, until=lambda found, old=before: _hash(found) != old)  # type: ignore[misc]
        took[name] = time.monotonic() - started
    return took


@pytest.fixture
async def cluster(start: Callable[..., Awaitable[Gateways]]) -> Gateways:
    """The world of every edge, settled; the operator has a session store of its own.

    For stock gateways: this project's has neither Redis nor every strategy yet.
    """
    return await _settled(start)


@pytest.fixture
async def hasty(start: Callable[..., Awaitable[Gateways]]) -> Gateways:
    """The same; rollouts follow each other without the pause that the operator makes between them."""
    return await _settled(start, timing=Timing(secret_spacing=0.0))


async def _settled(start: Callable[..., Awaitable[Gateways]], **options: Any) -> Gateways:
    store = DefaultRedis("redis:6379", secret_edges.DEFAULT_REDIS, secret_edges.KEY)
    made = await start(redis=store, vmcp_dialect="toolhive", **options)
    await _world(made)
    return made


async def test_every_secret_of_the_environment_rolls_the_pods_within_a_second(hasty: Gateways) -> None:
    took = await _rolls(hasty, "every-edge", FIELDS)
    took |= await _rolls(hasty, "defaults", [secret_edges.DEFAULT_REDIS])
    assert {name: seconds for name, seconds in took.items() if seconds >= 1.0} == {}


async def test_a_server_that_answers_slowly_does_not_make_a_gateway_rest(
    hasty: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Observer.observe

    async def slowly(self: Observer, *args: Any) -> Any:
        found = await look(self, *args)
        await asyncio.sleep(0.3)  # as long as a busy server takes for a Secret's content
        return found

    monkeypatch.setattr(Observer, "observe", slowly)
    names = list(FIELDS)[:4]
    took = await _rolls(hasty, "every-edge", names)
    assert sorted(took.values())[1] < 1.0, took


async def test_secrets_that_rotate_together_are_two_rollouts_at_most(cluster: Gateways) -> None:
    before = (await cluster.deployment("every-edge"))["metadata"]["generation"]
    for name in FIELDS:
        await cluster.patch("Secret", name, {"stringData": {secret_edges.KEY: f"two of {name}"}})
    await cluster.come_to_rest(pause=3.0)
    assert 1 <= (await cluster.deployment("every-edge"))["metadata"]["generation"] - before <= 2
