"""Installs the operator's own objects into a control plane and runs the manager as a process beside it."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path
from typing import Any

from hack.controlplane import Handle, Kube, ManagedProcess, Object, free_port
from hack.controlplane.crds import documents
from hack.controlplane.handle import run
from hack.controlplane.process import LOOPBACK
from hack.demo.pod import configuration

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 30.0
TOKEN_SECONDS = 30 * 24 * 3600
"""Longer than anybody lets a demo run."""


def rendered(handle: Handle, directory: str) -> list[Object]:
    """The objects of a kustomization below config/."""
    text = handle.kubectl("kustomize", str(ROOT / "config" / directory)).stdout
    return list(documents(text))


async def install(kube: Kube, objects: list[Object]) -> tuple[str, str]:
    """Apply config/default without the Deployment; return the manager's namespace and service account."""
    (deployment,) = (body for body in objects if body["kind"] == "Deployment")
    for body in objects:
        if body["kind"] not in ("Deployment", "CustomResourceDefinition"):
            await kube.apply(body, field_manager="kubectl")
    return deployment["metadata"]["namespace"], deployment["spec"]["template"]["spec"]["serviceAccountName"]


class Manager:
    """The manager process, as the service account of config/default: it may do what its role says and no more."""

    def __init__(self, handle: Handle, namespace: str, account: str, *, environment: tuple[str, ...] = ()) -> None:
        token = run(handle.service_account_token(namespace, account, seconds=TOKEN_SECONDS))
        self.kubeconfig = handle.token_kubeconfig(account, token)
        self.metrics_port, self._probe_port = free_port(), free_port()
        command = [
            "/usr/bin/env",
            f"POD_NAMESPACE={namespace}",
            *environment,
            sys.executable,
            str(ROOT / "manager.py"),
            f"--kubeconfig={self.kubeconfig}",
            f"--metrics-bind-address={LOOPBACK}:{self.metrics_port}",
            f"--health-probe-bind-address={LOOPBACK}:{self._probe_port}",
            "--leader-elect",
            "--log-format=text",
        ]
        self.process = ManagedProcess("manager", command, handle.directory / "logs" / "manager.log")

    def start(self) -> None:
        """Start it and wait until it is ready; raises `ProcessError` with the end of its log."""
        self.process.start()
        self.process.wait_ready(self._ready, timeout=START_TIMEOUT)

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self._probe_port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def configurations(config_maps: list[Object]) -> dict[str, Any]:
    """The generated gateway configurations, by the name of the gateway."""
    label = "toolhive.stacklok.io/virtual-mcp-server"
    found = {}
    for body in config_maps:
        name = (body["metadata"].get("labels") or {}).get(label)
        if name and (text := configuration(body).decode()):
            found[name] = text
    return found
