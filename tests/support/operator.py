"""The operator under test, as its generated ServiceAccount role and never as an administrator.

| fixture | what it is |
|---|---|
| `operator_kubeconfig` | session: kubeconfig of the ServiceAccount that is bound to config/rbac/role.yaml |
| `operator` | the manager with all controllers, in this process, watching the test's namespace |
| `start_operator` | the same as a factory: `await start_operator(vmcp_dialect="toolhive")`, also several times |
| `operator_program` | factory: `async with operator_program("--leader-elect") as program`: manager.py as a process |

`OPERATOR_USER` is the name in the API server's audit log.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import controllers
from controllers.options import OperatorOptions
from hack.controlplane.handle import Handle, run
from hack.controlplane.rest import Kube, KubeError
from runtime import ControllerOptions, Manager, ManagerOptions
from runtime.transport.config import Endpoint, load_endpoint
from tests.support.process import ROOT, Program

SYSTEM, ACCOUNT = "operator-system", "controller-manager"
OPERATOR_USER = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
DEFAULTS = ManagerOptions(user_agent="mcp-operator", field_manager="mcp-operator")
_RBAC = "rbac.authorization.k8s.io"


@dataclass
class Operator:
    """A running manager."""

    manager: Manager
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """Stop it gracefully; a failure of its raises here."""
        self.manager.stop()
        await self.task


@pytest.fixture(scope="session")
def operator_kubeconfig(control_plane: Handle) -> Path:
    """The ServiceAccount with exactly the generated role, cluster-wide, and the lease role in its own namespace."""

    async def install() -> str:
        async with Kube(control_plane.kubeconfig) as admin:
            for body in _installation():
                await _create_or_update(admin, body)
        return await control_plane.service_account_token(SYSTEM, ACCOUNT, seconds=6 * 3600)

    # A file and a token for each process: the audit log tells their requests apart by the token.
    return control_plane.token_kubeconfig(f"{OPERATOR_USER}.{os.getpid()}", run(install()))


@pytest.fixture
async def start_operator(
    operator_kubeconfig: Path, namespace: str
) -> AsyncIterator[Callable[..., Awaitable[Operator]]]:
    """Start managers in this process; what still runs at the end is stopped and must not have failed."""
    running: list[Operator] = []
    endpoint = await load_endpoint(str(operator_kubeconfig))

    async def start(*, only: Iterable[str] | None = None, settings: Any = None, **options: Any) -> Operator:
        operator = await launch(endpoint, namespace, only=only, settings=settings, **options)
        running.append(operator)
        return operator

    yield start
    for operator in running:
        await operator.stop()


@pytest.fixture
async def operator(start_operator: Callable[..., Awaitable[Operator]]) -> Operator:
    """The manager with all controllers and default options."""
    return await start_operator()


@pytest.fixture
def operator_program(operator_kubeconfig: Path, namespace: str) -> Callable[..., Program]:
    """manager.py as a process that watches the test's namespace."""

    def make(*arguments: str, **environ: str) -> Program:
        flags = ["--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0", "--log-level=debug"]
        flags += ["--log-format=json", f"--kubeconfig={operator_kubeconfig}"]
        return Program(
            "manager.py",
            *flags,
            *arguments,
            environ={"WATCH_NAMESPACE": namespace, "POD_NAMESPACE": namespace, **environ},
        )

    return make


def trying_again_within(seconds: float) -> ManagerOptions:
    """Options of a manager whose controllers wait no longer than this after an error."""
    return replace(DEFAULTS, controller=ControllerOptions(backoff_cap=seconds))


async def launch(
    endpoint: Endpoint,
    namespace: str,
    *,
    only: Iterable[str] | None = None,
    settings: ManagerOptions | None = None,
    **options: Any,
) -> Operator:
    """Start a manager for one namespace in this process and wait until its controllers run.

    Args:
        endpoint: The server, as whom.
        namespace: What it watches.
        only: Names of the controllers; None for all.
        settings: Options of the manager; namespaces are set here.
        options: Fields of `OperatorOptions`.
    """
    manager = Manager(
        endpoint,
        replace(settings or DEFAULTS, namespaces=(namespace,)),
    )
    chosen = OperatorOptions(pod_namespace=namespace, watch_namespaces=(namespace,), **options)
    for name in controller_names() if only is None else only:
        importlib.import_module(f"controllers.{name}").setup(manager, chosen)
    task = asyncio.create_task(manager.run())
    started = asyncio.create_task(manager.started.wait())
    async with asyncio.timeout(30):
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if task.done():
        task.result()
    return Operator(manager, task)


def controller_names() -> list[str]:
    """Packages below `controllers` that can be set up."""
    names = [module.name for module in pkgutil.iter_modules(controllers.__path__)]
    return [name for name in names if hasattr(importlib.import_module(f"controllers.{name}"), "setup")]


def _installation() -> Iterable[dict[str, Any]]:
    """Namespace, account, role and binding: what `kubectl apply -k config/default` gives the operator."""
    role = yaml.safe_load((ROOT / "config" / "rbac" / "role.yaml").read_text(encoding="utf-8"))
    role["metadata"]["name"] = f"{SYSTEM}-manager-role"
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": SYSTEM}}
    yield role
    yield {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role["metadata"]["name"]},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SYSTEM}],
    }


def lease_role(namespace: str) -> Iterable[dict[str, Any]]:
    """The leader election role of config/rbac and its binding, in a test's namespace."""
    path = ROOT / "config" / "rbac" / "leader_election_role.yaml"
    role = yaml.safe_load(path.read_text(encoding="utf-8"))
    role["metadata"]["namespace"] = namespace
    yield role
    yield {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role["metadata"]["name"], "namespace": namespace},
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": role["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SYSTEM}],
    }


async def _create_or_update(admin: Kube, body: dict[str, Any]) -> None:
    """Several test workers do this at the same time."""
    try:
        await admin.create(body)
    except KubeError as error:
        if error.status != 409:
            raise
        if body["kind"] == "ClusterRole":
            with suppress(KubeError):
                await admin.update(body)
