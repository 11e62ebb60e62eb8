"""Starts and stops a control plane in this process. `shared.py` has one that several processes use."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self, TypeVar

from hack.controlplane import crds, kubeconfig
from hack.controlplane.binaries import ensure
from hack.controlplane.components import ApiServer, ControllerManager, Etcd
from hack.controlplane.handle import Handle, run
from hack.controlplane.pki import Authority
from hack.controlplane.process import ManagedProcess, PortTakenError, ProcessError
from hack.controlplane.programs import KUBECTL, Binaries
from hack.controlplane.rest import Kube

C = TypeVar("C", Etcd, ApiServer, ControllerManager)
PREFIX = "mcp-controlplane-"
ALIVE = "alive"
GARBAGE_COLLECTION = ("garbage-collector-controller", "namespace-controller")
"""The controllers that tests rely on. Others would write the status of Deployments and make ServiceAccounts, which
tests want to do themselves, as the real writer would."""

_TRIES = 5
_STOP_GRACE = 3.0


@dataclass(frozen=True)
class Options:
    """What to start."""

    controllers: tuple[str, ...] = ()
    """Controllers that kube-controller-manager runs; none: it is not started; ("*",): its defaults."""
    audit: Literal["Metadata", "Request", "RequestResponse"] | None = None
    """Level of the audit log; None: no log."""
    crds: tuple[Path, ...] = ()
    """Files and directories with definitions. They are installed before kube-controller-manager starts, because its
    garbage collector looks for new kinds only every 30 seconds."""
    progress_notifications: bool = True
    """Whether etcd tells the API server of progress where nothing happens, as in most clusters but not in all."""
    apiserver_arguments: tuple[str, ...] = ()
    """More command line arguments of kube-apiserver."""
    start_timeout: float = field(
        default_factory=lambda: float(os.environ.get("KUBEBUILDER_CONTROLPLANE_START_TIMEOUT", "60").removesuffix("s"))
    )
    """Seconds that each server may take; default 60, or KUBEBUILDER_CONTROLPLANE_START_TIMEOUT ("20s")."""


class ControlPlane:
    """etcd, kube-apiserver and, if asked for, kube-controller-manager; a context manager.

        with ControlPlane(Options(controllers=GARBAGE_COLLECTION)) as plane:
            plane.handle.kubectl("get", "namespaces")
            plane.apiserver.process.kill()
            plane.restart(plane.apiserver)

    Everything is kept in `directory`, which `stop` removes. It is made in the system's directory for temporary files
    unless given.
    """

    etcd: Etcd
    apiserver: ApiServer
    handle: Handle

    def __init__(
        self, options: Options | None = None, *, binaries: Binaries | None = None, directory: Path | None = None
    ) -> None:
        self.options = options or Options()
        self.controller_manager: ControllerManager | None = None
        self._binaries = binaries
        self._directory = directory
        self._lock: IO[str] | None = None
        self._processes: list[ManagedProcess] = []

    @property
    def directory(self) -> Path:
        """Where this control plane keeps its files; known after `start`."""
        if self._directory is None:
            raise ProcessError("the control plane was not started")
        return self._directory

    def start(self) -> Self:
        """Start the servers, in order, each when the one before it is ready.

        Raises:
            BinariesError: the programs are neither there nor can they be made.
            ProcessError: a server did not become ready; everything that ran is stopped.
        """
        binaries = self._binaries or ensure()
        if self._directory is None:
            sweep(Path(tempfile.gettempdir()))
            self._directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = hold(self._directory)
        try:
            self._start(binaries)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """SIGTERM in reverse order, SIGKILL after 3 s each, then remove the directory. Twice is fine."""
        for process in reversed(self._processes):
            process.stop(timeout=_STOP_GRACE)
        self._processes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def restart(self, component: Etcd | ApiServer | ControllerManager) -> None:
        """Start a component again that was killed or stopped: same port, same data. Returns when it is ready."""
        component.process.start()
        component.process.wait_ready(component.ready, timeout=self.options.start_timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, binaries: Binaries) -> None:
        directory = self.directory
        authority = Authority.create(directory / "pki")
        self.etcd = self._up(
            lambda: Etcd(binaries, directory, progress_notifications=self.options.progress_notifications)
        )
        self.apiserver = self._up(
            lambda: ApiServer(
                binaries,
                directory,
                authority,
                self.etcd,
                audit=self.options.audit,
                service_accounts="*" in self.options.controllers,
                extra=self.options.apiserver_arguments,
            )
        )
        admin = kubeconfig.write(
            directory / "kubeconfig",
            server=self.apiserver.url,
            ca=authority.certificate_file.read_bytes(),
            user="admin",
            client=authority.client("admin", ["system:masters"]),
        )
        run(_prepare(admin, self.options.crds))
        if self.options.controllers:
            self.controller_manager = self._start_controllers(binaries, authority, self.apiserver)
        self.handle = Handle(
            directory=directory,
            url=self.apiserver.url,
            kubeconfig=admin,
            kubectl_path=binaries.path(KUBECTL),
            audit_log=self.apiserver.audit_log,
            pid=os.getpid(),
        )
        self.handle.save()

    def _start_controllers(self, binaries: Binaries, authority: Authority, apiserver: ApiServer) -> ControllerManager:
        user = "kube-controller-manager"
        file = kubeconfig.write(
            self.directory / "users" / f"{user}.kubeconfig",
            server=apiserver.url,
            ca=authority.certificate_file.read_bytes(),
            user=user,
            client=authority.client(f"system:{user}", ["system:masters"]),
        )
        return self._up(
            lambda: ControllerManager(
                binaries, self.directory, authority, apiserver, kubeconfig=file, controllers=self.options.controllers
            )
        )

    def _up(self, make: Callable[[], C]) -> C:
        """Start a component; with new ports when somebody was faster."""
        for attempt in range(1, _TRIES + 1):
            component = make()
            component.process.start()
            self._processes.append(component.process)
            try:
                component.process.wait_ready(component.ready, timeout=self.options.start_timeout)
            except PortTakenError:
                if attempt == _TRIES:
                    raise
                component.process.log.unlink()
            else:
                return component
        raise AssertionError("unreachable")


async def _prepare(admin: Path, definitions: Sequence[Path]) -> None:
    async with Kube(admin) as kube:
        await kube.wait_for("v1", "Namespace", "default", until=lambda found: found is not None, timeout=30)
        await crds.install(kube, crds.read(definitions))


def hold(directory: Path) -> IO[str]:
    """Lock the directory's `alive` file. The kernel frees it when this process ends, however it ends."""
    file = (directory / ALIVE).open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def sweep(parent: Path) -> None:
    """Remove the directories of control planes whose owner was killed before it could do so."""
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - directory.stat().st_mtime < 60:  # not locked yet, perhaps
                continue
            with (directory / ALIVE).open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
