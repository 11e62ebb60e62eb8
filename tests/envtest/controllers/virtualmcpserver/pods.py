"""A gateway's pod as a process: what the operator wrote, started under the ServiceAccount that it made."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from hack.demo.pod import materialize
from tests.e2e.vmcp.kit import Gateway, Process
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways
from tests.support.eventually import eventually


class GatewayPod(Gateway):
    """The gateway of a VirtualMCPServer. Its user in the audit log is `user`."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        Process.__init__(self, *command[1:], environ=environ)
        self.port = 0

    async def served(self) -> set[str]:
        """The backends that it has."""
        return {backend["name"] for backend in (await self.status())["backends"]}

    async def left_out(self) -> dict[str, str]:
        """The members that it leaves out, and why."""
        return {one["backend"]: one.get("reason", "") for one in (await self.status())["config"]["left_out"]}

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        status, body = await self.get("/readyz")
        return status, json.loads(body)

    async def serves(self, *names: str, within: float = 20.0) -> float:
        """Wait until exactly these are served, and return the seconds that it took."""
        began = time.monotonic()

        async def same() -> bool:
            found = await self.served()
            assert found == set(names), f"served {sorted(found)[:20]}, left out {await self.left_out()}"
            return True

        await eventually(same, f"{len(names)} backends are served", within=within)
        return time.monotonic() - began


def user_of(namespace: str, name: str) -> str:
    """Name in the audit log."""
    return f"system:serviceaccount:{namespace}:{name}-vmcp"


async def start_pod(
    cluster: Gateways, directory: Path, *resolve: str, name: str = "v", server: str = "", kubeconfig: Path | None = None
) -> GatewayPod:
    """Start the gateway of a VirtualMCPServer as its pod would.

    Args:
        cluster: Where the operator runs.
        directory: For the mounted files.
        resolve: Values of `--resolve`.
        name: Of the VirtualMCPServer.
        server: URL of the API server to use, of a proxy before it for example; "" for the control plane itself.
        kubeconfig: As whom; None = as the ServiceAccount that the operator made.
    """
    await cluster.until(KIND, name, ObjectsApplied="True/ObjectsApplied")
    deployment = await cluster.deployment(name)
    pod = await materialize(cluster.admin, cluster.namespace, deployment, directory)
    if kubeconfig is None:
        token = await cluster.control_plane.service_account_token(cluster.namespace, f"{name}-vmcp")
        kubeconfig = cluster.control_plane.token_kubeconfig(user_of(cluster.namespace, name), token)
    if server:
        text = kubeconfig.read_text().replace(cluster.control_plane.url, server)
        kubeconfig = directory / "kubeconfig"
        kubeconfig.write_text(text)
    environ = {**pod.environ, "KUBECONFIG": str(kubeconfig), "TMPDIR": str(directory), "HOME": str(directory)}
    return await GatewayPod([*pod.serve(port=0, resolve=resolve), "--debug"], environ).start()
