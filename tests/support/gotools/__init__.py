"""Programs in Go that tests ask: built once from modules, kept in the user's cache directory beside the control plane.

`kstatus` judges objects as Flux and Helm do; `kubectl` is kubectl of an older minor version.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hack.controlplane.programs import cache_root

HERE = Path(__file__).parent


def build(name: str, *, modfile: str = "go.mod", version: str = "") -> Path:
    """Return the program of a directory here, built if its sources were not built before.

    Args:
        name: Of the directory.
        modfile: The module file that says which versions go in.
        version: What a kubectl is to call itself, such as `1.34.13`.

    Raises:
        subprocess.CalledProcessError: `go` failed; its output is on standard error.
    """
    source = HERE / name
    inputs = sorted([*source.glob("*.go"), source / modfile, (source / modfile).with_suffix(".sum")])
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    program = cache_root().parent / "gotools" / f"{name}-{digest}"
    program.parent.mkdir(parents=True, exist_ok=True)
    with program.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one builder at a time; the kernel frees the lock of a process that died
        if not program.exists():
            _build(source, modfile, version, program)
    return program


def _build(source: Path, modfile: str, version: str, program: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("no go in PATH")
    flags = "-s -w"
    if version:
        major, minor, _ = version.split(".")
        stamp = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
        flags += "".join(f" -X k8s.io/component-base/version.{key}={value}" for key, value in stamp.items())
    partial = program.with_suffix(".partial")
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
    environment.pop("GOFLAGS", None)
    command = [go, "build", f"-modfile={modfile}", "-trimpath", "-buildvcs=false", f"-ldflags={flags}"]
    subprocess.run([*command, "-o", str(partial), "."], cwd=source, env=environment, check=True, timeout=1200)
    partial.rename(program)


@dataclass(frozen=True)
class Judgement:
    """What kstatus makes of an object.

    Attributes:
        status: `Current`, `InProgress`, `Failed`, `Terminating` or `Unknown`.
        message: Why.
    """

    status: str
    message: str


def judge(objects: Sequence[dict[str, Any]]) -> list[Judgement]:
    """Ask kstatus about objects as the server gave them."""
    lines = "".join(json.dumps(found) + "\n" for found in objects)
    done = subprocess.run([build("kstatus")], input=lines, capture_output=True, text=True, check=True, timeout=60)
    return [Judgement(**json.loads(line)) for line in done.stdout.splitlines()]
