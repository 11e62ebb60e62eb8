"""kill -9 at random points: what the operator leaves behind is what an undisturbed run leaves, however often it dies.

The same world is made twice in the same namespace. The first time the operator runs undisturbed. The second time it is
killed around random ones of its writes, half of the time before the server has the request and half of the time after
the server has acted but before the operator hears of it, and started again. Both times users change and delete objects
in the middle. In the end everything in the namespace must be equal but for what differs by nature.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from controllers.shared.hashkey import NAME as HASH_KEY
from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from runtime.testing.faultproxy import FaultPlan, FaultProxy, ProxiedExchange
from runtime.transport import load_endpoint
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
API = "toolhive.stacklok.dev/v1beta1"
ENTRIES = 200
MINE = ("MCPGroup", "MCPServerEntry", "MCPExternalAuthConfig", "VirtualMCPServer", "MCPRemoteEndpoint")
OWNED = (
    ("apps/v1", "Deployment"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "ServiceAccount"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
)


def mine(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def entry(number: int) -> dict[str, Any]:
    """An entry; every tenth lacks its group, every tenth its auth config, every tenth uses one that is there."""
    spec: dict[str, Any] = {
        "remoteUrl": f"https://e{number}.example.com/mcp",
        "transport": "streamable-http",
        "groupRef": {"name": "nowhere" if number % 10 == 3 else f"group-{number % 2}"},
    }
    if number % 10 in (5, 7):
        spec["externalAuthConfigRef"] = {"name": "exchange" if number % 10 == 5 else "nothing"}
    return mine("MCPServerEntry", f"entry-{number:03}", spec)


def world() -> list[dict[str, Any]]:
    exchange = {
        "tokenUrl": "https://login.example.com/token",
        "audience": "a",
        "clientId": "c",
        "clientSecretRef": {"name": "client", "key": "secret"},
    }
    gateways = [
        mine(
            "VirtualMCPServer",
            f"gateway-{number}",
            {
                "groupRef": {"name": f"group-{number}"},
                "incomingAuth": {"type": "anonymous"},
                "outgoingAuth": {"source": "inline"},
            },
        )
        for number in range(2)
    ]
    return [
        mine("MCPExternalAuthConfig", "exchange", {"type": "tokenExchange", "tokenExchange": exchange}),
        *(mine("MCPGroup", f"group-{number}", {}) for number in range(2)),
        *gateways,
        *(entry(number) for number in range(ENTRIES)),
    ]


async def at_once(calls: Iterable[Any]) -> None:
    """Await many calls, 16 at a time."""
    waiting = iter(calls)

    async def worker() -> None:
        for call in waiting:
            await call

    await asyncio.gather(*(worker() for _ in range(16)))


async def users_act(admin: Kube, namespace: str) -> None:
    """What users do while the operator works: move, break, repair and delete."""
    patch = {
        4: {"groupRef": {"name": "group-1"}},
        6: {"remoteUrl": "http://10.0.0.1/mcp"},
        13: {"groupRef": {"name": "group-0"}},
    }
    calls = [
        admin.patch(API, "MCPServerEntry", f"entry-{number:03}", {"spec": spec}, namespace=namespace)
        for number, spec in patch.items()
    ]
    calls += [
        admin.delete(API, "MCPServerEntry", f"entry-{number:03}", namespace=namespace) for number in range(20, 40)
    ]
    await at_once(calls)


def plain(body: Any, *, owned: bool) -> Any:
    """Leave out what differs by nature: identities, versions, times, random secrets, the number of attempts."""
    meta = body["metadata"]
    for name in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "selfLink"):
        meta.pop(name, None)
    if owned:
        meta.pop("generation", None)
    for owner in meta.get("ownerReferences", []):
        owner.pop("uid", None)
    if body["kind"] == "Secret":
        body["data"] = sorted(body.get("data") or {})
    if body["kind"] == "Deployment":
        body["spec"]["template"]["metadata"].get("annotations", {}).pop(
            "toolhive.stacklok.dev/session-secret-hash", None
        )
    if body["kind"] == "Service":
        for name in ("clusterIP", "clusterIPs"):
            body["spec"].pop(name, None)
    status = body.get("status") or {}
    for condition in status.get("conditions", []):
        condition.pop("lastTransitionTime", None)
    if "conditions" in status:
        status["conditions"].sort(key=lambda condition: condition["type"])
    for volatile in ("lastReconcileTime", "lastUpdated", "lastUpdateTime"):
        status.pop(volatile, None)
    return body


async def snapshot(admin: Kube, namespace: str) -> dict[str, Any]:
    """Everything in the namespace, without what differs by nature."""
    found: dict[str, Any] = {}
    for version, kind, owned in [(API, kind, False) for kind in MINE] + [(v, k, True) for v, k in OWNED]:
        for body in await admin.list(version, kind, namespace=namespace):
            body.setdefault("kind", kind)
            found[f"{kind}/{body['metadata']['name']}"] = plain(body, owned=owned)
    found.pop("ConfigMap/kube-root-ca.crt", None)
    found.pop("ServiceAccount/default", None)
    return found


def difference(expected: Any, got: Any, path: str = "") -> list[str]:
    """Name each place where two documents differ."""
    if isinstance(expected, dict) and isinstance(got, dict):
        names = sorted(expected.keys() | got.keys())
        return [line for name in names for line in difference(expected.get(name), got.get(name), f"{path}/{name}")]
    if isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = enumerate(zip(expected, got, strict=True))
        return [line for at, (left, right) in pairs for line in difference(left, right, f"{path}[{at}]")]
    return [] if expected == got else [f"{path}: {expected!r:.200} -> {got!r:.200}"]


class Operator:
    """The operator as a process of its own, started again whenever it dies, behind a proxy that knows its writes."""

    def __init__(self, proxy: FaultProxy, namespace: str, directory: Path) -> None:
        self.proxy = proxy
        self.log = directory / "operator.log"
        self.starts = 0
        self._process: asyncio.subprocess.Process | None = None
        self._kubeconfig = directory / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": proxy.url}}],
            "users": [{"name": "u", "user": {}}],
        }
        self._kubeconfig.write_bytes(orjson.dumps(config))
        self._environ = {
            **os.environ,
            "WATCH_NAMESPACE": namespace,
            "POD_NAMESPACE": namespace,
            "PYTHONPATH": str(ROOT),
        }

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def run(self) -> None:
        while True:
            self.starts += 1
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "manager",
                    f"--kubeconfig={self._kubeconfig}",
                    "--metrics-bind-address=0",
                    "--health-probe-bind-address=0",
                    "--log-format=json",
                    cwd=ROOT,
                    env=self._environ,
                    stdout=log,
                    stderr=log,
                )
            try:
                await self._process.wait()
            finally:
                self.kill()


@asynccontextmanager
async def operating(proxy: FaultProxy, namespace: str, directory: Path) -> AsyncIterator[Operator]:
    operator = Operator(proxy, namespace, directory)
    running = asyncio.create_task(operator.run())
    try:
        yield operator
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        operator.kill()
        await asyncio.gather(running, return_exceptions=True)


def write(exchange: ProxiedExchange) -> bool:
    """A write that decides something: events tell only what has happened."""
    return exchange.method != "GET" and exchange.plural not in ("events", "leases")


async def quiet(proxy: FaultProxy, seconds: float) -> None:
    """Wait until the operator has written nothing for a while."""
    clock = asyncio.get_running_loop().time

    def still() -> bool:
        last = max((exchange.time for exchange in proxy.exchanges if write(exchange)), default=0.0)
        return clock() - last > seconds

    await eventually(still, "the operator comes to rest", within=90, every=0.1)


async def settled(admin: Kube, namespace: str) -> bool:
    entries = await admin.list(API, "MCPServerEntry", namespace=namespace)
    gateways = await admin.list("apps/v1", "Deployment", namespace=namespace)
    done = [
        item for item in entries if item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]
    ]
    return len(done) == len(entries) == ENTRIES - 20 and len(gateways) == 2


async def play(admin: Kube, namespace: str, proxy: FaultProxy, *, starts: int = 1) -> None:
    """Make the world, let users act in the middle, wait for the end. Each start costs seconds of a busy machine."""
    await at_once(admin.create({**body, "metadata": {**body["metadata"], "namespace": namespace}}) for body in world())
    await eventually(lambda: proxy.count(write) > 100, "the operator is at work", within=60 + 10 * starts)
    await users_act(admin, namespace)
    await eventually(
        lambda: settled(admin, namespace), "every entry has its verdict", within=120 + 10 * starts, every=0.5
    )


async def clean(admin: Kube, namespace: str) -> None:
    """Delete what users made; the operator lifts its finalizers, the collector takes owned objects.

    The users' Secret stays, and the manager's key, without which the same values would have other hashes next time.
    """
    calls = []
    for kind in MINE:
        for body in await admin.list(API, kind, namespace=namespace):
            calls.append(admin.delete(API, kind, body["metadata"]["name"], namespace=namespace))
    await at_once(calls)

    async def gone() -> bool:
        return set(await snapshot(admin, namespace)) == {"Secret/client", f"Secret/{HASH_KEY}"}

    await eventually(gone, "nothing is left", within=90, every=0.5)


@pytest.mark.timeout(1800)
async def test_an_operator_killed_at_random_points_ends_where_an_undisturbed_one_does(
    control_plane: Handle, admin: Kube, namespace: str, tmp_path: Path, scale: Any
) -> None:
    rng = random.Random(scale.seed)
    crashes = scale(10, 100)
    endpoint = await load_endpoint(str(control_plane.kubeconfig))
    # One Secret for both runs: the gateways' rotation hash must be equal, too.
    meta = {"name": "client", "namespace": namespace}
    await admin.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"secret": "s"}})

    async with FaultProxy(endpoint) as proxy, operating(proxy, namespace, tmp_path) as operator:
        await play(admin, namespace, proxy)
        await quiet(proxy, 2.0)
        expected = await snapshot(admin, namespace)
        writes = proxy.count(write)
        await clean(admin, namespace)
        assert operator.starts == 1

    async with FaultProxy(endpoint) as proxy:
        # The next crash comes so many writes after a start; together about two thirds of an undisturbed run's.
        gaps = [rng.randint(1, writes * 6 // (5 * crashes)) for _ in range(crashes)]
        victim = 0
        operators: list[Operator] = []

        async def die() -> None:
            operators[0].kill()
            await asyncio.Event().wait()  # the proxy is told by the closed connection

        dying: ProxiedExchange | None = None

        def at_a_crash_point(exchange: ProxiedExchange) -> bool:
            nonlocal victim, dying
            # What a process that is dying already had under way counts for nobody.
            if not write(exchange) or not gaps or victim == operators[0].starts:
                return False
            gaps[0] -= 1
            if gaps[0] > 0:
                return False
            gaps.pop(0)
            victim, dying = operators[0].starts, exchange
            return True

        proxy.on(lambda exchange: at_a_crash_point(exchange) and rng.random() < 0.5, FaultPlan(before=die))
        proxy.on(lambda exchange: exchange is dying, FaultPlan(after=die))
        async with operating(proxy, namespace, tmp_path) as operator:
            operators.append(operator)
            await play(admin, namespace, proxy, starts=crashes + 1)
            await eventually(lambda: not gaps, "all crash points were reached", within=120)

            async def equal() -> bool:
                return await snapshot(admin, namespace) == expected

            try:
                await eventually(equal, "the end states are equal", within=60, every=0.5)
            except AssertionError:
                pytest.fail("\n".join(difference(expected, await snapshot(admin, namespace))[:20]))
            await quiet(proxy, 1.0)
            assert await equal()
            assert operator.starts == crashes + 1
            # A repeated write per crash and per start is fine, a rewrite of everything is not.
            assert proxy.count(write) <= writes + 60 * (crashes + 1)
            await clean(admin, namespace)
    assert b"Traceback" not in (tmp_path / "operator.log").read_bytes()
