"""What the tests in real pods share: a namespace, servers in pods, gateways as users apply them, clients under load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from hack.cluster.layout import GATEWAY_IMAGE, REPOSITORY, SDK_IMAGE
from hack.controlplane.rest import Kube, Object
from tests.e2e.vmcp.kit import Client
from tests.support.eventually import eventually

API = "toolhive.stacklok.dev/v1beta1"
SYSTEM, MANAGER = "mcp-operator-system", "mcp-operator-controller-manager"
PROGRAMS = REPOSITORY / "tests" / "cluster" / "programs"
SERVER = REPOSITORY / "tests" / "e2e" / "vmcp" / "echo_backend.py"
ISSUER = SERVER.with_name("issuer.py")
Figure = Callable[[str, object], None]
LONG = 120.0
"""Seconds that a step may take on a busy machine; nothing is judged by it."""


class Pods:
    """One namespace.

    Attributes:
        admin: an administrator's client.
        namespace: its name.
    """

    def __init__(self, admin: Kube, namespace: str) -> None:
        self.admin, self.namespace = admin, namespace

    async def set_up(self) -> None:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        await self.admin.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}
        )

    async def tear_down(self) -> None:
        await self.admin.delete("v1", "Namespace", self.namespace)
        await self.admin.wait_for("v1", "Namespace", self.namespace, until=lambda found: found is None, timeout=LONG)

    async def apply(self, *objects: Object) -> None:
        """Apply objects one after the other without waiting, as `kubectl apply -f` of one file does."""
        for body in objects:
            await self.admin.apply(self.named(body), field_manager="kubectl")

    def named(self, body: Object) -> Object:
        return {**body, "metadata": {**body["metadata"], "namespace": self.namespace}}

    async def until(
        self, api: str, kind: str, name: str, holds: Callable[[Object], bool], timeout: float = LONG
    ) -> Object:
        """Wait for an object; the error of one that never came shows the pods and events of the namespace, too."""
        try:
            found = await self.admin.wait_for(
                api,
                kind,
                name,
                namespace=self.namespace,
                until=lambda body: body is not None and holds(body),
                timeout=timeout,
            )
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{await self.happened()}") from None
        assert found is not None
        return found

    async def happened(self) -> str:
        """Say what the kubelet and the controllers said: gone with the namespace when a failed test is looked at."""
        lines = []
        for pod in await self.admin.list("v1", "Pod", namespace=self.namespace):
            status = pod.get("status", {})
            states = [(c["name"], c.get("state"), c.get("lastState")) for c in status.get("containerStatuses", ())]
            lines.append(f"pod {pod['metadata']['name']}: {status.get('phase')} {states}")
        for event in await self.admin.list("v1", "Event", namespace=self.namespace):
            when = event.get("eventTime") or event.get("lastTimestamp")
            lines.append(f"{when} {event['involvedObject']['name']}: {event['reason']}: {event.get('message')}")
        return "\n".join(lines)

    async def gateway_is(self, phase: str, name: str = "gw") -> Object:
        return await self.until(
            API, "VirtualMCPServer", name, lambda found: found.get("status", {}).get("phase") == phase
        )

    async def gateway_pods(self, name: str = "gw") -> list[Object]:
        found = await self.admin.list("v1", "Pod", namespace=self.namespace)
        return [pod for pod in found if pod["metadata"].get("labels", {}).get("toolhive-name") == name]

    async def restarts(self, name: str = "gw") -> int:
        pods = await self.gateway_pods(name)
        return sum(one["restartCount"] for pod in pods for one in pod["status"].get("containerStatuses", ()))

    async def url(self, name: str = "gw") -> str:
        """Return the gateway's URL by the address of its Service: this machine is the node."""
        service = await self.admin.get("v1", "Service", f"vmcp-{name}", namespace=self.namespace)
        return f"http://{service['spec']['clusterIP']}:4483"

    async def server(self, name: str = "server", **options: Any) -> None:
        """Run an MCP server in a pod, behind a Service."""
        await self.apply(*server(name, **options))
        await self.until("apps/v1", "Deployment", name, lambda found: found.get("status", {}).get("readyReplicas") == 1)

    async def sdk_server(self, name: str, line: int = 2, **options: Any) -> None:
        """Run a server that was written with a line of the official SDK."""
        program = PROGRAMS / "sdk_server.py"
        python = f"/sdk{line}/bin/python"
        await self.server(name, program=program, image=SDK_IMAGE, python=python, arguments=(name,), **options)

    async def issuer(self, url: str) -> None:
        """Run an identity provider in the pod `issuer`; `url` is what it calls itself."""
        await self.server("issuer", program=ISSUER, arguments=(url, "8000"))

    async def token(self) -> str:
        """Return a token of the issuer, for whoever calls gateways of the audience `gateway`."""
        service = await self.admin.get("v1", "Service", "issuer", namespace=self.namespace)
        token = ""

        async def minted() -> bool:
            nonlocal token
            url = f"http://{service['spec']['clusterIP']}:8000/mint"
            with contextlib.suppress(aiohttp.ClientError):  # Ready is a moment ahead of kube-proxy
                async with aiohttp.ClientSession() as http, http.get(url) as answer:
                    token = await answer.text()
            return bool(token)

        await eventually(minted, within=LONG, every=0.2)
        return token


def server(
    name: str,
    *,
    program: Path = SERVER,
    arguments: tuple[str, ...] = (),
    image: str = GATEWAY_IMAGE,
    python: str = "/venv/bin/python",
    tls: str = "",
    **environ: str,
) -> list[Object]:
    """A program of the tests in a pod: itself in a ConfigMap, its Python from an image.

    Args:
        name: of all objects.
        program: the echo server, or another one.
        arguments: of the program; the echo server's own when none are given.
        image: the gateway's, or another one.
        python: in this image.
        tls: Secret with a certificate; "" for plain HTTP.
        **environ: variables.
    """
    labels = {"app": name}
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container: Object = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "Never",
        "command": [python, "/program/server.py", *(arguments or (name, "8000", "0.0.0.0"))],
        "env": [{"name": key, "value": value} for key, value in environ.items()],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "securityContext": restricted,
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    volumes: list[Object] = [{"name": "program", "configMap": {"name": name}}]
    if tls:
        container["env"].append({"name": "TLS_DIRECTORY", "value": "/tls"})
        container["volumeMounts"].append({"name": "tls", "mountPath": "/tls"})
        volumes.append({"name": "tls", "secret": {"secretName": tls}})
    pod = {"containers": [container], "volumes": volumes}
    template = {"metadata": {"labels": labels}, "spec": pod | {"terminationGracePeriodSeconds": 1}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"server.py": program.read_text()},
        },
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": 8000}]},
        },
    ]


def group() -> Object:
    return {"apiVersion": API, "kind": "MCPGroup", "metadata": {"name": "g"}, "spec": {}}


def entry(name: str, namespace: str, server: str = "server", **spec: Any) -> Object:
    base = {
        "remoteUrl": f"http://{server}.{namespace}.svc:8000/mcp",
        "transport": "streamable-http",
        "groupRef": {"name": "g"},
    }
    return {"apiVersion": API, "kind": "MCPServerEntry", "metadata": {"name": name}, "spec": base | spec}


def endpoint(name: str, namespace: str, server: str = "server", **spec: Any) -> Object:
    body = entry(name, namespace, server, type="direct", **spec)
    return body | {"kind": "MCPRemoteEndpoint"}


def gateway(name: str = "gw", **spec: Any) -> Object:
    base = {
        "groupRef": {"name": "g"},
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
    }
    return {"apiVersion": API, "kind": "VirtualMCPServer", "metadata": {"name": name}, "spec": base | spec}


@dataclass
class Load:
    """What a client saw that called once every 50 ms and tried again after failures.

    Attributes:
        answered: times of calls that were answered.
        failures: of tries; a new connection may reach a pod that is about to go.
    """

    answered: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def longest_gap(self) -> float:
        """Seconds between two answers."""
        return max((b - a for a, b in zip(self.answered, self.answered[1:], strict=False)), default=0.0)


@asynccontextmanager
async def load(url: str, tool: str, *, clients: int = 1) -> AsyncIterator[Load]:
    """Call a tool while the block runs, each time by a connection of its own; each client once every 50 ms."""
    seen = Load()

    async def call() -> None:
        while True:
            try:
                async with asyncio.timeout(10), Client(url, era="modern") as client:
                    (await client.call(tool, nonce="n")).told  # noqa: B018  raises when it was no answer
                seen.answered.append(time.monotonic())
            except (aiohttp.ClientError, TimeoutError, AssertionError, KeyError) as error:
                seen.failures.append(f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(call()) for _ in range(clients)]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def served(pods: Pods, *tools: str) -> None:
    """Wait until a client lists these tools through the Service."""
    url = await pods.url()

    async def listed() -> bool:
        # Ready is a moment ahead of kube-proxy.
        with contextlib.suppress(aiohttp.ClientError):
            async with Client(url, era="modern") as client:
                return set(tools) <= set(await client.tools())
        return False

    await eventually(listed, within=LONG, every=0.1)
