#!/usr/bin/env python3
"""The gateway in front of three MCP servers that others wrote, configured by the operator and by nobody else.

Starts the servers (npm, PyPI; two behind a stdio bridge, one behind TLS with a private authority), a control plane
with the operator, and applies an entry for each server. Then it serves exactly the configuration that the operator
generated and uses it with two real clients in both eras of the protocol. Prints what came back; exits 0 when
everything was as it should be, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from api.contract.errors import ConfigErrors
from hack.controlplane import (
    BinariesError,
    ControlPlane,
    Handle,
    Kube,
    KubectlError,
    KubeError,
    ManagedProcess,
    Options,
    ProcessError,
    ensure,
)
from hack.controlplane import free_port as free
from hack.demo import clients, servers
from hack.demo.pod import Pod, materialize
from hack.demo.servers import LOOPBACK, Remote, TlsTerminator
from hack.run.operator import Manager, install, rendered
from vmcp.config.load import load_file

NAMESPACE = "demo"
GATEWAY = "demo"
API = "toolhive.stacklok.dev/v1beta1"
SETTLE = 60.0
SECRET_HEADER = "demo-header-value"  # noqa: S105  it protects nothing


class DemoError(Exception):
    """Something was not as it should be."""


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def objects(remotes: list[Remote], ca: str) -> list[dict[str, Any]]:
    """Return what a user applies: a group, an entry per server, and the gateway."""

    def named(name: str) -> dict[str, str]:
        return {"name": name, "namespace": NAMESPACE}

    entries = []
    for remote in remotes:
        spec: dict[str, Any] = {
            "remoteUrl": remote.url,
            "transport": "streamable-http",
            "groupRef": {"name": "demo"},
        }
        if remote.scheme == "https":
            spec["caBundleRef"] = {"configMapRef": {"name": "private-ca", "key": "ca.crt"}}
        if remote.name == "time":
            reference = {"name": "header", "key": "value"}
            spec["headerForward"] = {
                "addHeadersFromSecret": [{"headerName": "X-Demo-Key", "valueSecretRef": reference}]
            }
        entries.append({"apiVersion": API, "kind": "MCPServerEntry", "metadata": named(remote.name), "spec": spec})
    gateway = {
        "groupRef": {"name": "demo"},
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named("private-ca"), "data": {"ca.crt": ca}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": named("header"), "stringData": {"value": SECRET_HEADER}},
        {"apiVersion": API, "kind": "MCPGroup", "metadata": named("demo"), "spec": {"description": "the demo"}},
        *entries,
        {"apiVersion": API, "kind": "VirtualMCPServer", "metadata": named(GATEWAY), "spec": gateway},
    ]


@contextlib.asynccontextmanager
async def running_servers(directory: Path) -> AsyncIterator[tuple[list[Remote], str]]:
    """Start the three servers; yield them and the private authority's certificate."""
    say("==> starting three MCP servers (usually 5 s)")
    started = time.monotonic()
    plain = servers.everything(directory)
    found = [servers.memory(directory), servers.time_server(directory), plain]
    terminator = TlsTerminator(plain.host, plain.port)
    try:
        for remote in found:
            remote.process.start()
        for remote in found:
            await asyncio.to_thread(servers.wait_listening, remote)
        await terminator.start()
        secured = Remote(plain.name, terminator.port, plain.process, scheme="https")
        say(f"    ready after {time.monotonic() - started:.1f} s")
        yield [*found[:2], secured], terminator.ca
    finally:
        await terminator.stop()
        for remote in found:
            remote.process.stop(timeout=5)


async def generated(handle: Handle, remotes: list[Remote], ca: str, root: Path) -> Pod:
    """Apply the objects, wait for the operator's configuration of all servers, and lay out the pod's files."""
    say("==> applying a group, three entries and a gateway")
    async with Kube(handle.kubeconfig) as kube:
        for body in objects(remotes, ca):
            await kube.apply(body, field_manager="kubectl")
        started = time.monotonic()
        while True:
            deployment = await kube.find("apps/v1", "Deployment", GATEWAY, namespace=NAMESPACE)
            if deployment is not None:
                pod = await materialize(kube, NAMESPACE, deployment, root)
                if all(remote.url in pod.config.read_text() for remote in remotes) and _starts(pod):
                    break
            if time.monotonic() - started > SETTLE:
                raise DemoError(await _why(kube))
            await asyncio.sleep(0.1)
    say(f"    the operator's configuration after {time.monotonic() - started:.1f} s:")
    for line in pod.config.read_text().splitlines():
        say(f"      {line}")
    return pod


def _starts(pod: Pod) -> bool:
    """Say whether the gateway has all that it needs: the ConfigMap may be a moment ahead of the Deployment.

    In a cluster the Deployment's next revision brings the environment and the volumes that are still missing.
    """
    try:
        loaded = load_file(pod.config, pod.environ, root=str(pod.root))
        bundles = [backend.ca_bundle for backend in loaded.settings.backends if backend.ca_bundle is not None]
        for bundle in bundles:
            if not Path(bundle).exists():
                say(f"    not yet: {bundle} is not mounted")
                return False
    except ConfigErrors as error:
        say(f"    not yet: {error.errors[0]}")
        return False
    return True


async def _why(kube: Kube) -> str:
    lines = [f"the operator did not configure all servers within {SETTLE:g} s"]
    for kind in ("MCPServerEntry", "VirtualMCPServer"):
        path = await kube.path(API, kind, namespace=NAMESPACE)
        items = (await kube.request("GET", path))["items"]
        lines += [f"{kind} {item['metadata']['name']}: {json.dumps(item.get('status', {}))}" for item in items]
    return "\n".join(lines)


@contextlib.asynccontextmanager
async def running_gateway(pod: Pod, remotes: list[Remote], directory: Path) -> AsyncIterator[str]:
    """Serve the pod's configuration; yield the gateway's URL."""
    port = free()
    serve = pod.serve(port=port, resolve=(remote.resolve for remote in remotes))
    command = [
        "/usr/bin/env",
        "-i",
        f"PATH={os.environ['PATH']}",
        *(f"{k}={v}" for k, v in pod.environ.items()),
        *serve,
    ]
    say("==> serving it: python -m vmcp " + " ".join(serve[3:]))
    process = ManagedProcess("vmcp", command, directory / "vmcp.log")
    process.start()
    try:
        await asyncio.to_thread(process.wait_ready, lambda: _serves(port, len(remotes)), timeout=60.0)
        yield f"http://{LOOPBACK}:{port}/mcp"
    finally:
        process.stop(timeout=15)
    if "Traceback" in (directory / "vmcp.log").read_text():
        raise DemoError(f"the gateway's log holds a traceback:\n{process.log_tail(60)}")


def _serves(port: int, backends: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", "/api/backends/health")
        found = json.loads(connection.getresponse().read())["backends"].values()
        listed = [one for one in found if (one["CatalogueAgeSeconds"] or 0) > 0.2]
        return len(listed) == backends
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return False
    finally:
        connection.close()


async def use(url: str) -> None:
    """List and call tools with both clients, in both eras.

    Raises:
        DemoError: An answer was not what the servers say.
    """
    calls: list[tuple[str, dict[str, Any]]] = [
        ("everything_echo", {"message": "hello through TLS"}),
        ("time_convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}),
        ("memory_create_entities", {"entities": [{"name": "demo", "entityType": "run", "observations": ["it works"]}]}),
        ("memory_search_nodes", {"query": "demo"}),
    ]
    wanted = ["hello through TLS", "21:00", "demo", "it works"]
    seen: list[list[str]] = []
    for era in ("legacy", "2026-07-28"):
        say(f"==> mcp for Python, {era}")
        names, texts = await clients.with_sdk(url, era, calls)
        say(f"    {len(names)} tools: {', '.join(names)}")
        for (tool, _), text, part in zip(calls, texts, wanted, strict=True):
            say(f"    {tool} -> {' '.join(text.split())[:100]}")
            # The second era finds the entity there already, and the server says so with an empty list.
            if part not in text and tool != "memory_create_entities":
                raise DemoError(f"{tool} answered {text!r}, which does not hold {part!r}")
        seen.append(names)
    say("==> MCP Inspector, command line")
    listed = await clients.with_inspector(url, "tools/list")
    seen.append([tool["name"] for tool in listed["tools"]])
    say(f"    tools/list -> {len(seen[-1])} tools")
    call = ("--tool-name", "everything_get-sum", "--tool-arg", "a=40", "--tool-arg", "b=2")
    answer = await clients.with_inspector(url, "tools/call", *call)
    text = answer["content"][0]["text"]
    say(f"    everything_get-sum -> {text}")
    if "42" not in text:
        raise DemoError(f"everything_get-sum answered {text!r}")
    if not all(set(names) == set(seen[0]) for names in seen):
        raise DemoError(f"the clients saw different tools: {seen}")
    for prefix in ("everything_", "memory_", "time_"):
        if not any(name.startswith(prefix) for name in seen[0]):
            raise DemoError(f"no tool of {prefix.rstrip('_')} is listed")


async def demo(handle: Handle, directory: Path, *, stay: bool) -> None:
    """Run everything against a control plane in which the operator works."""
    async with running_servers(directory) as (remotes, ca):
        pod = await generated(handle, remotes, ca, directory / "pod")
        async with running_gateway(pod, remotes, directory) as url:
            await use(url)
            say(f"==> all answers are as they should be; the gateway: {url}")
            if stay:
                say("    Ctrl-C ends it")
                await asyncio.Event().wait()


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns 0, or 1 when something was not as it should be."""
    parser = argparse.ArgumentParser(prog="vmcp_demo.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stay", action="store_true", help="keep the gateway running until Ctrl-C")
    stay = parser.parse_args(argv).stay
    try:
        servers.check_installed()
        ensure(say)
        with tempfile.TemporaryDirectory(prefix="vmcp-demo-") as directory:
            say("==> starting the control plane and the operator (usually 8 s)")
            crds = (servers.ROOT / "config" / "crd" / "bases",)
            with ControlPlane(Options(controllers=("*",), crds=crds)) as plane:
                manager = Manager(plane.handle, *asyncio.run(_installed(plane.handle)))
                try:
                    manager.start()
                    asyncio.run(demo(plane.handle, Path(directory), stay=stay))
                finally:
                    manager.process.stop(timeout=30)
    except KeyboardInterrupt:
        return 0 if stay else 130
    except (BinariesError, ProcessError, KubeError, KubectlError, DemoError, RuntimeError, LookupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _installed(handle: Handle) -> tuple[str, str]:
    async with Kube(handle.kubeconfig) as kube:
        return await install(kube, rendered(handle, "default"))


if __name__ == "__main__":
    sys.exit(main())
