"""pytest fixtures: one control plane per pytest run, shared by all xdist workers, started only when a test asks for it.

| fixture | scope | what it is |
|---|---|---|
| `control_plane` | session | `Handle`: url, kubeconfig, `add_user`, `install_crds`, `kubectl`, `audit_events`, ... |
| `namespace` | test | name of a fresh namespace; it goes with the control plane |
| `admin` | test | `Kube`: asynchronous client on plain dictionaries with all rights |
| `kubectl` | test | `kubectl("get", "pods", "-o", "name")` -> standard output; raises `KubectlError` |
| `make_user` | test | `await make_user("bob", rules=[...], namespace=None)` -> kubeconfig with these RBAC rules |
| `make_control_plane` | test | `make_control_plane(Options(...))` -> a private `ControlPlane`, to kill and restart |

The shared control plane has the definitions of `config/crd/bases` and `tests/support/crds` installed, writes an audit
log of level Metadata, and runs kube-controller-manager with garbage collection and namespace deletion only: tests write
the status of Deployments and Pods themselves, as their real writer would.

A kind whose definition a test installs later than that (`control_plane.install_crds(path)`) is garbage collected too,
but the collector looks for new kinds only every 30 seconds: put definitions of test kinds into `tests/support/crds`.

`CONTROLPLANE_DIRECTORY=.run/controlplane` uses the control plane of `python -m hack.controlplane up --tests --detach`
instead and leaves it running: 4 seconds less per run while you work on a test.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from hack.controlplane import shared
from hack.controlplane.binaries import ensure
from hack.controlplane.handle import Handle
from hack.controlplane.plane import ALIVE, PREFIX, ControlPlane, Options, hold, sweep
from hack.controlplane.process import ProcessError
from hack.controlplane.programs import BinariesError
from hack.controlplane.rest import Kube, Object

KEPT = "CONTROLPLANE_DIRECTORY"
"""Variable: where a control plane is that others started and will stop."""
MakeUser = Callable[..., Awaitable[Path]]

_run = pytest.StashKey[Path]()
_lock = pytest.StashKey[IO[str]]()
_failure = pytest.StashKey[Exception]()


def pytest_configure(config: pytest.Config) -> None:
    """The process that the user started makes and locks the run's directory; workers get its path."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[_run] = Path(worker["controlplane_run"])
        return
    sweep(Path(tempfile.gettempdir()))
    config.stash[_run] = Path(tempfile.mkdtemp(prefix=PREFIX))
    config.stash[_lock] = hold(config.stash[_run])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the run's directory is."""
    node.workerinput["controlplane_run"] = str(node.config.stash[_run])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the control plane if one was started, and remove the directory."""
    lock = config.stash.get(_lock, None)
    if lock is not None:
        run = config.stash[_run]
        with contextlib.suppress(FileNotFoundError):
            shared.stop(run)
        shutil.rmtree(run, ignore_errors=True)
        lock.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a control plane."""
    for item in items:
        if _needs_control_plane(item):
            item.add_marker("envtest")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the programs there, and the shared control plane up, before the first test's clock starts."""
    names = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly or not names & {"control_plane", "make_control_plane"}:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        try:
            ensure()
            if "control_plane" in names:
                _control_plane(session.config)
        except (BinariesError, ProcessError) as error:
            session.config.stash[_failure] = error  # the tests that need it say so, the others run


def _needs_control_plane(item: pytest.Item) -> bool:
    return bool({"control_plane", "make_control_plane"} & set(getattr(item, "fixturenames", ())))


def _control_plane(config: pytest.Config) -> Handle:
    if failure := config.stash.get(_failure, None):
        raise failure
    if existing := os.environ.get(KEPT):
        return Handle.load(Path(existing) / shared.PLANE)
    run = config.stash[_run]
    return shared.start(run, ("--tests",), owner=run / ALIVE)


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Handle:
    """The run's control plane."""
    return _control_plane(request.config)


@pytest.fixture
async def admin(control_plane: Handle) -> AsyncIterator[Kube]:
    """A client that may do everything."""
    async with Kube(control_plane.kubeconfig) as kube:
        yield kube


@pytest.fixture
async def namespace(control_plane: Handle, admin: Kube, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A namespace of this test's own.

    A control plane that ends with the run takes it along: the deletion of a namespace is 200 requests of
    kube-controller-manager, and those of all tests were nine in ten of what the API server had to do. Where the
    control plane is kept, the deletion is started, not awaited.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")[:40].strip("-")
    name = f"t-{slug or 'x'}-{uuid.uuid4().hex[:8]}"
    control_plane.audit_from_now(name)
    await admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    if os.environ.get(KEPT):
        await admin.delete("v1", "Namespace", name)


@pytest.fixture
def kubectl(control_plane: Handle) -> Callable[..., str]:
    """Run kubectl and return its standard output; keyword arguments as `Handle.kubectl`."""

    def call(*arguments: str, **options: Any) -> str:
        return control_plane.kubectl(*arguments, **options).stdout

    return call


@pytest.fixture
async def make_user(control_plane: Handle, admin: Kube) -> AsyncIterator[MakeUser]:
    """Make users with RBAC rules of their own: cluster-wide, or in one namespace. Rules are rbac/v1 PolicyRules."""
    made: list[tuple[str, str, str]] = []

    async def make(name: str, *, rules: list[Object] | None = None, namespace: str | None = None) -> Path:
        user = f"{name}-{uuid.uuid4().hex[:8]}"
        control_plane.audit_from_now(user)
        if rules:
            made.extend(await _grant(admin, user, rules, namespace))
        return control_plane.add_user(user)

    yield make
    for kind, name, where in made:
        await admin.delete("rbac.authorization.k8s.io/v1", kind, name, namespace=where)


async def _grant(admin: Kube, user: str, rules: list[Object], namespace: str | None) -> list[tuple[str, str, str]]:
    group, prefix = "rbac.authorization.k8s.io", "" if namespace else "Cluster"
    metadata = {"name": user, **({"namespace": namespace} if namespace else {})}
    role = {"apiVersion": f"{group}/v1", "kind": f"{prefix}Role", "metadata": metadata, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": f"{prefix}RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": f"{prefix}Role", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    await admin.create(role)
    await admin.create(binding)
    return [(f"{prefix}{kind}", user, namespace or "") for kind in ("Role", "RoleBinding")]


@pytest.fixture
def make_control_plane() -> Iterator[Callable[[Options], ControlPlane]]:
    """Start control planes of this test's own; stopped afterwards."""
    with contextlib.ExitStack() as stack:
        yield lambda options: stack.enter_context(ControlPlane(options))
