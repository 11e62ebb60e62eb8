"""Tests in real pods, in the cluster of hack/cluster. `make e2e-cluster` runs them; others do not even collect them."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.layout import GATEWAY_IMAGE, OPERATOR_IMAGE, REPOSITORY
from hack.controlplane.binaries import ensure
from hack.controlplane.programs import KUBECTL
from hack.controlplane.rest import Kube
from tests.cluster.kit import MANAGER, SYSTEM, Figure, Pods

KUBECONFIG = os.environ.get("CLUSTER_KUBECONFIG", "")
collect_ignore_glob = [] if KUBECONFIG else ["test_*.py"]


@pytest.fixture(scope="session")
def kubectl() -> Any:
    """Return a function that runs kubectl as the cluster's administrator and returns what it says."""

    def call(*arguments: str, text: str | None = None) -> str:
        command = [str(ensure().path(KUBECTL)), f"--kubeconfig={KUBECONFIG}", *arguments]
        done = subprocess.run(command, input=text, text=True, check=False, capture_output=True, timeout=180)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr[-2000:]}"
        return done.stdout

    return call


@pytest.fixture(scope="session")
def deployed(kubectl: Any) -> Iterator[None]:
    """Deploy the operator as `make deploy` does, and remove it at the end."""
    environ = os.environ | {"KUBECTL": str(ensure().path(KUBECTL)), "PATH": os.environ["PATH"]}
    rendered = subprocess.run(
        [str(REPOSITORY / "hack" / "deploy.sh"), OPERATOR_IMAGE, GATEWAY_IMAGE],
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=rendered)
    kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{MANAGER}", "--timeout=120s")
    yield
    if "KEEP" not in os.environ:
        kubectl("delete", "--ignore-not-found", "--timeout=120s", "-k", str(REPOSITORY / "config" / "crd"))
        kubectl("delete", "--ignore-not-found", "--timeout=120s", "-f", "-", text=rendered)


@pytest.fixture
async def admin() -> AsyncIterator[Kube]:
    """An administrator's client."""
    async with Kube(Path(KUBECONFIG)) as kube:
        yield kube


@pytest.fixture
async def pods(deployed: None, admin: Kube, request: pytest.FixtureRequest) -> AsyncIterator[Pods]:
    """A namespace that enforces Pod Security `restricted`, with an MCP server in a pod; removed at the end."""
    number = abs(hash(request.node.name)) % 10_000
    found = Pods(admin, f"e2e-{number}")
    await found.set_up()
    yield found
    if "KEEP" not in os.environ:
        await asyncio.wait_for(found.tear_down(), 120)


@pytest.fixture
def figure(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> Figure:
    """Print a figure, for whoever compares runs."""

    def show(name: str, value: object) -> None:
        record_property(name, value)
        with capsys.disabled():
            print(f"\n    {name}: {value}", end="", flush=True)

    return show
