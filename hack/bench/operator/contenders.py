"""Who takes part: this operator, kopf, any other operator binary. Each runs as its own process and its own API user."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hack.controlplane.handle import Handle

ROOT = Path(__file__).parents[3]
_RECONCILES = "controller_runtime_reconcile_total{"
BENCH_VENV = ROOT / ".venv" / "bench"


@dataclass
class Contender:
    """One operator process.

    Attributes:
        name: as printed; also the API user, so that the audit log tells who asked for what.
        command: its command line; `{namespace}`, `{metrics}` and `{health}` are filled in.
        environment: more environment variables.
        feeds_our_gateway: its gateways run this project's gateway, which must accept what it generates.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    feeds_our_gateway: bool = False
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    metrics: str = ""
    """URL of its metrics while it runs."""

    def start(self, plane: Handle, namespace: str, logs: Path) -> None:
        """Start the process against `namespace`."""
        words = {"namespace": namespace, "metrics": str(free_port()), "health": str(free_port())}
        self.metrics = f"http://127.0.0.1:{words['metrics']}/metrics" if "{metrics}" in " ".join(self.command) else ""
        kubeconfig = plane.add_user(self.name, ["system:masters"])
        self.log = logs / f"{self.name}-{namespace}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [word.format(**words) for word in self.command],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={
                    **(as_installed if self.feeds_our_gateway else bytecode)(logs),
                    "KUBECONFIG": str(kubeconfig),
                    "WATCH_NAMESPACE": namespace,
                    "POD_NAMESPACE": namespace,
                    **self.environment,
                },
            )

    def memory(self) -> float:
        """Resident memory of the process and its children, MiB."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        return float(sum(p.memory_info().rss for p in [top, *top.children(recursive=True)])) / 2**20

    def cpu(self) -> float:
        """Processor time used so far, seconds."""
        assert self.process is not None
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    async def reconciles(self, controller: str) -> float:
        """Reconciles of the controllers whose name contains `controller`, by controller-runtime's metric.

        NaN for a contender that has no such metric, or does not answer.
        """
        try:
            text = await asyncio.to_thread(_fetch, self.metrics) if self.metrics else ""
        except OSError:
            return math.nan
        counts = [
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith(_RECONCILES) and controller in line.lower()
        ]
        return sum(counts) if counts else math.nan

    async def stop(self) -> None:
        """End the process: politely, then not."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self.process.wait, 20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        self.process = None

    def check_alive(self) -> None:
        """Raise `RuntimeError` with the end of the log when the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            assert self.log is not None
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name} ended with status {self.process.returncode}:\n{tail}")


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def bytecode(directory: Path) -> dict[str, str]:
    """Return an environment in which Python keeps its bytecode, as an installed program's is kept.

    Compiling 170 modules anew costs 0.2 s of processor time at every start, which an image never pays.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"PYTHONPYCACHEPREFIX": str(directory / "bytecode")}


def as_installed(directory: Path) -> dict[str, str]:
    """Return an environment in which this operator finds what its image has, and no more.

    structlog imports `rich` where it finds it: 0.05 s of a start in the environment of developers, which the image
    (locks/operator.txt) does not pay.
    """
    start = directory / "start"
    start.mkdir(exist_ok=True)
    (start / "sitecustomize.py").write_text("import sys\nsys.modules['rich'] = None\n")
    return bytecode(directory) | {"PYTHONPATH": str(start)}


async def compile_ours(directory: Path) -> None:
    """Fill the cache of bytecode. An operator that cannot be imported says so when it takes part."""
    command = (sys.executable, "-c", "import manager")
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=bytecode(directory), stderr=quiet)
    async with asyncio.timeout(120):
        await process.wait()


def ours(dialect: str, profiles: Path | None = None) -> Contender:
    """This operator, with one of its two dialects.

    Args:
        dialect: native or toolhive.
        profiles: directory for the profile of its last run (cProfile; makes it about twice as slow).
    """
    profiler = ("-m", "cProfile", "-o", str(profiles / f"ours-{dialect}.prof")) if profiles else ()
    return Contender(
        name=f"ours-{dialect}",
        command=(
            sys.executable,
            *profiler,
            "manager.py",
            f"--vmcp-dialect={dialect}",
            "--metrics-bind-address=127.0.0.1:{metrics}",
            "--health-probe-bind-address=127.0.0.1:{health}",
        ),
        feeds_our_gateway=True,
    )


def kopf_peer() -> Contender | None:
    """The kopf implementation, when `make bench` made its environment."""
    kopf = BENCH_VENV / "bin" / "kopf"
    if not kopf.exists():
        return None
    script = str(Path(__file__).with_name("kopf_peer.py"))
    return Contender("kopf", (str(kopf), "run", "--standalone", "--quiet", "--namespace={namespace}", script))


def other(path: str) -> Contender:
    """Any operator binary that takes controller-runtime's flags."""
    return Contender(
        name=Path(path).name,
        command=(path, "--metrics-bind-address=127.0.0.1:{metrics}", "--health-probe-bind-address=127.0.0.1:{health}"),
    )


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
