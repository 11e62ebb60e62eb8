"""What others know about a running control plane: where it listens, who may use it, and what was asked of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from hack.controlplane import crds, kubeconfig
from hack.controlplane.pki import Authority, write_private
from hack.controlplane.rest import Kube

T = TypeVar("T")
STATE = "state.json"
_unheard_of: dict[tuple[Path, str], int] = {}
"""Audit log, user or namespace -> how many bytes there were before it was first heard of."""


class KubectlError(RuntimeError):
    """kubectl ended with an error; the message holds its command line and what it said."""


@dataclass(frozen=True)
class Handle:
    """A running control plane. Any process of the same user can make one with `Handle.load`."""

    directory: Path
    url: str
    kubeconfig: Path
    """Of a user in system:masters: may do everything, and API priority and fairness does not hold it back."""
    kubectl_path: Path
    audit_log: Path | None
    pid: int
    """The process that owns the servers and ends with them."""

    def save(self) -> None:
        """Write the state file, which says to others that the control plane is ready."""
        partial = self.directory / f".{STATE}"
        write_private(partial, json.dumps(asdict(self), default=str, indent=1).encode())
        partial.rename(self.directory / STATE)

    @classmethod
    def load(cls, directory: Path) -> Handle:
        """Read the state file; raises `FileNotFoundError` when the control plane is not ready."""
        state = json.loads((directory / STATE).read_text(encoding="utf-8"))
        return cls(
            directory=Path(state["directory"]),
            url=state["url"],
            kubeconfig=Path(state["kubeconfig"]),
            kubectl_path=Path(state["kubectl_path"]),
            audit_log=Path(state["audit_log"]) if state["audit_log"] else None,
            pid=state["pid"],
        )

    @property
    def ca_file(self) -> Path:
        """PEM of the authority that signs the server's and the users' certificates."""
        return self.directory / "pki" / "ca.crt"

    def add_user(self, name: str, groups: Iterable[str] = ()) -> Path:
        """Return a kubeconfig for a user with a client certificate. Without RBAC objects the user may do nothing."""
        client = Authority.load(self.directory / "pki").client(name, groups)
        return kubeconfig.write(
            self._kubeconfig_path(name), server=self.url, ca=self.ca_file.read_bytes(), user=name, client=client
        )

    def token_kubeconfig(self, name: str, token: str) -> Path:
        """Return a kubeconfig with a bearer token, such as `service_account_token` makes."""
        return kubeconfig.write(
            self._kubeconfig_path(name), server=self.url, ca=self.ca_file.read_bytes(), user=name, token=token
        )

    async def service_account_token(self, namespace: str, name: str, *, seconds: int = 3600) -> str:
        """A token of an existing ServiceAccount, valid for `seconds` (at least 600)."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        async with Kube(self.kubeconfig) as kube:
            path = await kube.path("v1", "ServiceAccount", name, namespace=namespace, subresource="token")
            token: str = (await kube.request("POST", path, body=body))["status"]["token"]
            return token

    def install_crds(self, *paths: Path) -> list[str]:
        """Create or update the definitions in files and directories; return when every served version is served."""

        async def install() -> list[str]:
            async with Kube(self.kubeconfig) as kube:
                return await crds.install(kube, crds.read(paths))

        return run(install())

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        check: bool = True,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, as the administrator unless another kubeconfig is given; raises `KubectlError` when it fails."""
        command = [str(self.kubectl_path), f"--cache-dir={self.directory / 'kubectl-cache'}", *arguments]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env=self.environment(kubeconfig),
        )
        if check and done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: status {done.returncode}\n{done.stderr.strip()}")
        return done

    def environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        """The environment for a client program: KUBECONFIG set, the user's own kubectl preferences off."""
        return {**os.environ, "KUBECONFIG": str(kubeconfig or self.kubeconfig), "KUBERC": "off"}

    def audit_events(self, *, user: str | None = None, namespace: str | None = None) -> Iterator[Mapping[str, Any]]:
        """The audit events (audit.k8s.io/v1 Event) written so far, oldest first.

        Args:
            user: only those of this user.
            namespace: only those about objects of this namespace.
        """
        if self.audit_log is None:
            raise ValueError("this control plane keeps no audit log")
        # A shared log grows to 200 MB of others' events: most of them are not worth reading, and fewer worth parsing.
        names = [name for name in (user, namespace) if name is not None]
        marks = [b":" + orjson.dumps(name) for name in names]
        with self.audit_log.open("rb") as file:
            file.seek(max((_unheard_of.get((self.audit_log, name), 0) for name in names), default=0))
            for line in file:
                if not line.endswith(b"\n"):  # the last one may be half written
                    return
                if not all(mark in line for mark in marks):
                    continue
                event = orjson.loads(line)
                if user is not None and event["user"]["username"] != user:
                    continue
                if namespace is None or event.get("objectRef", {}).get("namespace") == namespace:
                    yield event

    def audit_from_now(self, name: str) -> None:
        """Say that a user or a namespace is new, so that `audit_events` need not look for older ones."""
        if self.audit_log is not None:
            _unheard_of[self.audit_log, name] = self.audit_log.stat().st_size

    def _kubeconfig_path(self, name: str) -> Path:
        return self.directory / "users" / f"{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.kubeconfig"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from synchronous code, also where an event loop is running in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
