"""The control plane's programs: their names, the versions that go.mod wants, and the directories that hold them.

Each minor version of Kubernetes that this project is tested on has a go.mod of its own: the newest in `gomodule`, which
is what every function is about unless told otherwise, the older ones in `gomodule/<minor>`.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).with_name("gomodule")
ETCD, APISERVER, CONTROLLER_MANAGER, KUBECTL = "etcd", "kube-apiserver", "kube-controller-manager", "kubectl"
REQUIRED = (ETCD, APISERVER, KUBECTL)

Say = Callable[[str], None]


class BinariesError(RuntimeError):
    """The programs are not there and could not be made. The message says what to do."""


@dataclass(frozen=True)
class Binaries:
    """A directory that holds the control plane's programs."""

    directory: Path
    origin: str

    def path(self, name: str) -> Path:
        """The path of one program, from this directory or else the cache; `BinariesError` when neither has it."""
        for directory in (self.directory, cache_directory()):
            if os.access(directory / name, os.X_OK):
                return directory / name
        raise BinariesError(
            f"{name} is neither in {self.directory} ({self.origin}) nor in {cache_directory()}: envtest archives lack "
            "it; with Go installed, unset KUBEBUILDER_ASSETS, empty the cache directory and run `make binaries`"
        )

    @property
    def complete(self) -> bool:
        """Whether all of `REQUIRED` are there."""
        return all(os.access(self.directory / name, os.X_OK) for name in REQUIRED)


def releases() -> dict[str, Path]:
    """The directories with the go.mod of each release of Kubernetes, by its minor version ("1.33"), oldest first."""
    found = [path.parent for path in MODULE.rglob("go.mod")]
    by_minor = {kubernetes_version(module).rpartition(".")[0]: module for module in found}
    return dict(sorted(by_minor.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def kubernetes_version(module: Path = MODULE) -> str:
    """The version of Kubernetes that a go.mod names, without the v."""
    return module_version(module, "k8s.io/kubernetes")


def etcd_version() -> str:
    """The version of etcd that go.mod names, without the v."""
    return module_version(MODULE, "go.etcd.io/etcd/server/v3")


def module_version(directory: Path, module: str) -> str:
    """The version of a module that the go.mod of a directory requires, without the v."""
    text = (directory / "go.mod").read_text(encoding="utf-8")
    match = re.search(rf"^\s*(?:require\s+)?{re.escape(module)} v([\w.+-]+)", text, re.MULTILINE)
    assert match, f"{module} is missing in {directory / 'go.mod'}"
    return match[1]


def target() -> tuple[str, str]:
    """This machine as Go names it: ("linux", "amd64")."""
    machine = platform.machine().lower()
    return platform.system().lower(), {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def cache_root() -> Path:
    """The directory for this project's files in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mcp-operator" / "controlplane"


def cache_directory(module: Path = MODULE) -> Path:
    """The directory for the programs of one release."""
    system, machine = target()
    return cache_root() / f"k8s-{kubernetes_version(module)}-etcd-{etcd_version()}-{system}-{machine}"


def to_stderr(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)
