"""Builds programs from Go modules: everything comes through the module proxy and is checked against go.sum."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hack.controlplane.programs import (
    APISERVER,
    CONTROLLER_MANAGER,
    ETCD,
    KUBECTL,
    MODULE,
    BinariesError,
    Say,
    kubernetes_version,
)

VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Program:
    """A program to build."""

    name: str
    package: str
    seconds: int
    """What it took, first build on 2 cores with an empty build cache: a hint for whoever waits."""
    module: Path = MODULE
    """Directory of the go.mod that names its version."""
    tags: str = ""
    """Build tags, comma separated."""
    linker_flags: str | None = None
    """More flags of the linker; None: Kubernetes' version."""


def control_plane(module: Path = MODULE) -> tuple[Program, ...]:
    """The programs of a control plane, of the release of Kubernetes that a directory's go.mod names."""
    return (
        Program(ETCD, "go.etcd.io/etcd/server/v3", 45),
        Program(APISERVER, "k8s.io/kubernetes/cmd/kube-apiserver", 170, module),
        Program(KUBECTL, "k8s.io/kubernetes/cmd/kubectl", 30, module),
        Program(CONTROLLER_MANAGER, "k8s.io/kubernetes/cmd/kube-controller-manager", 65, module),
    )


def build(go: str, directory: Path, say: Say, programs: tuple[Program, ...], *, what: str) -> None:
    """Build what is missing in `directory`; each program appears when it is finished.

    Args:
        go: the Go command.
        directory: where the programs go.
        say: gets a line before and after each program.
        programs: what is wanted.
        what: what they are together, for people.

    Raises:
        BinariesError: `go` failed; the message holds the end of its output.
    """
    directory.mkdir(parents=True, exist_ok=True)
    missing = [program for program in programs if not (directory / program.name).exists()]
    minutes = sum(program.seconds for program in missing) // 60 + 1
    say(
        f"==> building {what} from Go modules, once: usually about {minutes} minutes on 2 cores, and 3 GiB of disk for "
        "Go's caches"
    )
    for number, program in enumerate(programs, 1):
        head = f"    [{number}/{len(programs)}] {program.name}"
        if program not in missing:
            say(f"{head}: there already")
            continue
        say(f"{head}: usually {program.seconds} s ...")
        start = time.monotonic()
        _build_one(go, program, directory)
        say(f"{head}: {time.monotonic() - start:.0f} s")


def _build_one(go: str, program: Program, directory: Path) -> None:
    stamp = _kubernetes_stamp(program.module) if program.linker_flags is None else program.linker_flags
    flags = f"-s -w {stamp}".strip()
    tags = [f"-tags={program.tags}"] if program.tags else []
    output = directory / f".{program.name}.tmp"
    # CGO off: no C compiler needed, and the programs run in any container.
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GO111MODULE": "on"}
    environment.pop("GOFLAGS", None)  # -mod=vendor, -race and the like of the user's other projects
    done = subprocess.run(
        [go, "build", "-trimpath", "-buildvcs=false", *tags, f"-ldflags={flags}", "-o", str(output), program.package],
        cwd=program.module,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise BinariesError(f"go build {program.package} failed (status {done.returncode}):\n{tail}")
    output.rename(directory / program.name)


def _kubernetes_stamp(module: Path) -> str:
    version = kubernetes_version(module)
    major, minor, _ = version.split(".", 2)
    stamp = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(f"-X {VERSION_PACKAGE}.{name}={value}" for name, value in stamp.items())
