"""The gateway process under its generated Role: what is declared in the group is what is served."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hack.controlplane.pytest_plugin import MakeUser
from runtime.testing.faultproxy import FaultProxy
from runtime.testing.faults import cut
from runtime.transport.config import load_endpoint
from tests.conftest import Scale
from tests.e2e.vmcp.kit import Client, EchoBackend
from tests.envtest.controllers.kit import encoded, header
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways
from tests.envtest.controllers.virtualmcpserver.pods import GatewayPod, start_pod, user_of
from tests.support.eventually import eventually

DISCOVERED = {"source": "discovered"}
CLOSED = "http://closed.example:9/mcp"
"""Where nobody listens: a backend of that URL is served all the same, and known to be down at once."""


@pytest.fixture
async def echo() -> AsyncIterator[EchoBackend]:
    backend = await EchoBackend("echo").start()
    yield backend
    await backend.stop()


@pytest.fixture
async def pod(cluster: Gateways, echo: EchoBackend, tmp_path: Path) -> AsyncIterator[GatewayPod]:
    """The gateway of group g, without members at first."""
    await cluster.group()
    await cluster.gateway(outgoingAuth=DISCOVERED)
    gateway = await start_pod(cluster, tmp_path, echo.resolve)
    yield gateway
    await gateway.stop()
    gateway.clean()


async def key_sent(gateway: GatewayPod, member: str) -> str | None:
    """The header X-Key that a call to a member's echo tool carries."""
    async with Client(gateway.url, era="modern") as client:
        found = (await client.call(f"{member}_echo", nonce="1")).told
    return found["key"]


async def test_members_come_change_and_go(cluster: Gateways, pod: GatewayPod, echo: EchoBackend) -> None:
    url = echo.entry["url"]
    await eventually(lambda: ready(pod))
    await cluster.secret("keys", k="one")
    forward = {"addHeadersFromSecret": [header("X-Key", "keys", "k")]}
    await cluster.entry("a", remoteUrl=url, headerForward=forward)
    await cluster.endpoint("b", remoteUrl=url)
    await pod.serves("a", "b")
    assert await key_sent(pod, "a") == "one"
    await cluster.patch("Secret", "keys", {"data": encoded(k="two")})

    async def rotated() -> bool:
        return await key_sent(pod, "a") == "two"

    await eventually(rotated)
    await cluster.create("MCPGroup", "other")
    await cluster.patch("MCPRemoteEndpoint", "b", {"spec": {"groupRef": {"name": "other"}}})
    await pod.serves("a")
    await cluster.patch("MCPRemoteEndpoint", "b", {"spec": {"groupRef": {"name": "g"}}})
    await pod.serves("a", "b")
    await cluster.delete("MCPServerEntry", "a")
    await pod.serves("b")


async def test_changes_of_one_member_cost_no_call_and_no_session_of_another(
    cluster: Gateways, pod: GatewayPod, echo: EchoBackend
) -> None:
    url = echo.entry["url"]
    await cluster.secret("keys", k="one")
    await cluster.entry("a", remoteUrl=url)
    await pod.serves("a")
    changes_over = asyncio.Event()

    async def calls() -> list[int]:
        counts = []
        async with Client(pod.url, era="legacy") as client:
            while not changes_over.is_set() or len(counts) < 20:
                counts.append((await client.call("a_count", nonce="1")).told["count"])
        return counts

    async with asyncio.TaskGroup() as group:
        calling = group.create_task(calls())
        forward = {"addHeadersFromSecret": [header("X-Key", "keys", "k")]}
        await cluster.entry("b", remoteUrl=url, headerForward=forward)
        await pod.serves("a", "b")
        await cluster.patch("Secret", "keys", {"data": encoded(k="two")})
        await cluster.patch("MCPServerEntry", "b", {"spec": {"remoteUrl": CLOSED}})
        await cluster.admin.delete("v1", "Secret", "keys", namespace=cluster.namespace)
        await pod.serves("a")
        await cluster.delete("MCPServerEntry", "b")
        await pod.serves("a")
        changes_over.set()
    counts = calling.result()
    assert counts == list(range(1, len(counts) + 1)), "one session with the backend, and every call was answered"


async def ready(pod: GatewayPod) -> bool:
    status, body = await pod.readiness()
    assert body["mode"] == "dynamic"
    return status == 200


class Declared:
    """A group as a random user changes it, and who must be served of it.

    A member is served when it is in the group and everything that it names is there.
    """

    def __init__(self, cluster: Gateways, rng: random.Random) -> None:
        self.cluster, self.rng = cluster, rng
        self.members: dict[str, tuple[str, str, str]] = {}
        """Name -> kind, group, Secret of its header ("" for none)."""
        self.secrets: set[str] = set()
        self.count = 0

    @property
    def served(self) -> set[str]:
        return {
            name
            for name, (_, group, secret) in self.members.items()
            if group == "g" and (not secret or secret in self.secrets)
        }

    async def start(self, members: int) -> None:
        await self.cluster.create("MCPGroup", "other")
        for name in ("s1", "s2", "s3"):
            await self.cluster.secret(name, k="v")
            self.secrets.add(name)
        for _ in range(members):
            await self.add()

    async def change(self) -> None:
        """Do one thing."""
        acts = [self.add, self.remove, self.move, self.refer, self.toggle_secret, self.rotate]
        await self.rng.choice(acts)()

    async def add(self) -> None:
        self.count += 1
        name, kind = f"m{self.count}", self.rng.choice(["MCPServerEntry", "MCPRemoteEndpoint"])
        secret = self.rng.choice(["", "", "s1", "s2", "s3"])
        spec = {"remoteUrl": CLOSED, **self._forward(secret)}
        await (self.cluster.entry if kind == "MCPServerEntry" else self.cluster.endpoint)(name, **spec)
        self.members[name] = kind, "g", secret

    async def remove(self) -> None:
        name, (kind, _, _) = self._one()
        await self.cluster.delete(kind, name)
        del self.members[name]

    async def move(self) -> None:
        name, (kind, group, secret) = self._one()
        group = "other" if group == "g" else "g"
        await self.cluster.patch(kind, name, {"spec": {"groupRef": {"name": group}}})
        self.members[name] = kind, group, secret

    async def refer(self) -> None:
        name, (kind, group, _) = self._one()
        secret = self.rng.choice(["", "s1", "s2", "s3"])
        await self.cluster.patch(kind, name, {"spec": {"headerForward": None, **self._forward(secret)}})
        self.members[name] = kind, group, secret

    async def toggle_secret(self) -> None:
        name = self.rng.choice(["s1", "s2", "s3"])
        if name in self.secrets:
            await self.cluster.admin.delete("v1", "Secret", name, namespace=self.cluster.namespace)
            self.secrets.remove(name)
        else:
            await self.cluster.secret(name, k="v")
            self.secrets.add(name)

    async def rotate(self) -> None:
        if self.secrets:
            name = self.rng.choice(sorted(self.secrets))
            await self.cluster.patch("Secret", name, {"data": encoded(k=str(self.rng.random()))})

    def _one(self) -> tuple[str, tuple[str, str, str]]:
        return self.rng.choice(sorted(self.members.items()))

    @staticmethod
    def _forward(secret: str) -> dict[str, object]:
        return {"headerForward": {"addHeadersFromSecret": [header("X-Key", secret, "k")]}} if secret else {}


async def test_what_is_declared_is_served_after_every_change(cluster: Gateways, tmp_path: Path, scale: Scale) -> None:
    """Random changes, with watches that are cut and an API server that is away in between; no pod is rolled."""
    await cluster.group()
    await cluster.gateway(outgoingAuth=DISCOVERED)
    declared = Declared(cluster, random.Random(scale.seed))
    await declared.start(scale(12, 1000))
    endpoint = await load_endpoint(str(cluster.control_plane.kubeconfig))
    async with FaultProxy(endpoint) as proxy:
        pod = await start_pod(cluster, tmp_path, "closed.example:9:127.0.0.1", server=proxy.url)
        try:
            await pod.serves(*declared.served, within=60)
            for turn in range(scale(12, 200)):
                if turn % 4 == 1:
                    proxy.reset_streams()
                away = turn % 10 == 5
                if away:  # as while the API server is started anew: it answers nobody, and misses nothing itself
                    proxy.on(lambda _: True, cut())
                    proxy.reset_streams()
                await declared.change()
                if away:
                    proxy.clear()
                await pod.serves(*declared.served, within=40 if away else 20)
            assert pod.process is not None
            assert pod.process.returncode is None
        finally:
            await pod.stop()
        pod.clean()
    (deployment,) = await cluster.admin.list("apps/v1", "Deployment", namespace=cluster.namespace)
    assert deployment["metadata"]["generation"] == 1, "no pod was rolled"


async def test_the_gateway_goes_on_with_what_it_knows_and_waits_where_it_knows_nothing(
    cluster: Gateways, tmp_path: Path
) -> None:
    await cluster.group()
    await cluster.gateway(outgoingAuth=DISCOVERED)
    await cluster.entry("a", remoteUrl=CLOSED)
    endpoint = await load_endpoint(str(cluster.control_plane.kubeconfig))
    async with FaultProxy(endpoint) as proxy:
        proxy.on(lambda _: True, cut())
        pod = await start_pod(cluster, tmp_path, "closed.example:9:127.0.0.1", server=proxy.url)
        try:
            status, body = await pod.readiness()
            assert (status, body["mode"], body["reason"]) == (503, "dynamic", "api_server_pending")
            proxy.clear()
            await pod.serves("a", within=40)
            await eventually(lambda: ready(pod))
            proxy.on(lambda _: True, cut())
            proxy.reset_streams()
            await cluster.entry("b", remoteUrl=CLOSED)
            await cluster.until("MCPServerEntry", "b", phase="Valid")
            assert await pod.served() == {"a"}
            assert await ready(pod)
            proxy.clear()
            await pod.serves("a", "b", within=40)
        finally:
            await pod.stop()
        pod.clean()


async def test_the_role_is_enough_and_nothing_else_is_asked(cluster: Gateways, pod: GatewayPod) -> None:
    await cluster.secret("keys", k="one")
    injection = {"headerName": "X-Auth", "valueSecretRef": {"name": "keys", "key": "k"}}
    await cluster.auth("auth", type="headerInjection", headerInjection=injection)
    await cluster.entry("a", remoteUrl=CLOSED, externalAuthConfigRef={"name": "auth"})
    await pod.serves("a")
    default = {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "auth"}}
    await cluster.patch(KIND, "v", {"spec": {"outgoingAuth": {"default": default}}})
    await cluster.endpoint("b", remoteUrl=CLOSED)
    await pod.serves("a", "b")
    asked: set[tuple[str, str]] = set()
    for event in cluster.control_plane.audit_events(user=user_of(cluster.namespace, "v")):
        reference = event.get("objectRef") or {}
        asked.add((event["verb"], reference.get("resource", "")))
        if event.get("responseStatus", {}).get("code") == 403:
            assert reference["resource"] in ("secrets", "configmaps"), "only names that the Role does not hold yet"
    kinds = ("mcpgroups", "mcpservers", "mcpremoteproxies", "mcpserverentries", "mcpremoteendpoints")
    named = ("secrets", "configmaps", "virtualmcpservers")
    allowed = {
        (verb, kind) for kind in (*kinds, "mcpexternalauthconfigs", "mcptoolconfigs") for verb in ("list", "watch")
    }
    reports = {("patch", "virtualmcpservers"), *((verb, "leases") for verb in ("create", "get", "update"))}
    assert asked <= allowed | reports | {(verb, kind) for kind in named for verb in ("get", "watch")}
    assert {("watch", kind) for kind in (*kinds, *named)} <= asked


async def test_a_gateway_without_a_file_and_one_with_a_list_follow_their_config_map(
    cluster: Gateways, tmp_path: Path
) -> None:
    await cluster.group()
    await cluster.entry("a", remoteUrl=CLOSED)
    await cluster.gateway()
    await cluster.config(until=lambda config: len(config.backends) == 1)
    pod = await start_pod(cluster, tmp_path, "closed.example:9:127.0.0.1")
    pod.command = [word for word in pod.command if not word.startswith("--config")]
    bare = GatewayPod(pod.command, pod.environ)
    await bare.start()
    try:
        await bare.serves("a")
        await cluster.entry("b", remoteUrl=CLOSED)
        await bare.serves("a", "b")
        await pod.serves("a", "b")  # its file is as it was
        assert (await pod.readiness())[1]["mode"] == "static"
    finally:
        await pod.stop()
        await bare.stop()


async def test_rights_that_are_missing_are_named_and_cost_what_needs_them(
    cluster: Gateways, tmp_path: Path, make_user: MakeUser
) -> None:
    """An account of the user's own: no MCPRemoteEndpoints, as ToolHive's operator grants it, and no Secrets."""
    await cluster.group()
    await cluster.gateway(outgoingAuth=DISCOVERED)
    await cluster.secret("keys", k="one")
    await cluster.entry("a", remoteUrl=CLOSED)
    await cluster.entry("b", remoteUrl=CLOSED, headerForward={"addHeadersFromSecret": [header("X-K", "keys", "k")]})
    kinds = ["mcpgroups", "mcpservers", "mcpremoteproxies", "mcpserverentries", "mcpexternalauthconfigs"]
    rules = [
        {"apiGroups": ["toolhive.stacklok.dev"], "resources": [*kinds, "mcptoolconfigs"], "verbs": ["list", "watch"]},
        {"apiGroups": ["toolhive.stacklok.dev"], "resources": ["virtualmcpservers"], "verbs": ["get"]},
    ]
    user = await make_user("own", rules=rules, namespace=cluster.namespace)
    pod = await start_pod(cluster, tmp_path, "closed.example:9:127.0.0.1", kubeconfig=user)
    try:
        await pod.serves("a", within=40)

        async def said() -> bool:
            return await pod.left_out() == {"b": "SecretNotFound"}

        await eventually(said)
        for words in (
            'Secret \\"keys\\" cannot be read: the API server says 403',
            "cannot follow this gateway's ConfigMap",
        ):
            assert words in pod.text()
        await eventually(lambda: "treating kinds that" in pod.text() and "mcpremoteendpoints" in pod.text())
    finally:
        await pod.stop()
