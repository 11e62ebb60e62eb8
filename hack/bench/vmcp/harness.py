"""Processes, pinning and measuring for the gateway benchmarks.

Every figure of a run comes as wall clock and as CPU time of the measured process per call: the second holds on a busy
machine too, where the first only shows that somebody else was working.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcp-operator-bench"
GATEWAY_CORE, LOAD_CORE = 0, 1
sys.path.append(str(ROOT))  # `run.py` is a script: what it shares with the tests is found from the root

T = TypeVar("T")


def say(text: str) -> None:
    """Show progress on stderr; figures go to stdout."""
    print(text, file=sys.stderr, flush=True)


def tools_binary() -> Path:
    """Build the Go half when its sources are newer; return its path."""
    binary = CACHE / "vmcpbench"
    sources = sorted((HERE / "tools").glob("*.go"))
    if not binary.exists() or binary.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        say("==> building the load generator (Go, some seconds)")
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-o", str(binary), "."], cwd=HERE / "tools", check=True)
    return binary


def bench_python() -> Path:
    """Make the environment of locks/bench.txt when it is missing; return its interpreter."""
    made = ROOT / ".venv" / "bench" / "bin" / "python"
    if made.exists():
        return made
    home = CACHE / "venv"
    lock = (ROOT / "locks" / "bench.txt").read_bytes()
    stamp = home / ".locked"
    if not stamp.exists() or stamp.read_bytes() != lock:
        say("==> making the environment of the peers from locks/bench.txt (about two minutes)")
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        command = [str(home / "bin/pip"), "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r"]
        subprocess.run([*command, str(ROOT / "locks/bench.txt")], check=True)
        stamp.write_bytes(lock)
    return home / "bin" / "python"


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass(frozen=True)
class Sample:
    """One run of the load generator against one target.

    Attributes:
        rate: Calls per second, wall clock.
        p50, p99: Milliseconds.
        cpu: Microseconds of CPU time of the gateway per call; 0 when there is no process to look at.
        errors: Calls with a wrong answer; a run with any is worthless.
        problem: The last wrong answer.
        total: Calls with a right answer, those while warming up included.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    errors: int
    problem: str = ""
    total: int = 0


@contextlib.contextmanager
def running(
    command: Sequence[str], *, core: int, port: int | None = None, env: dict[str, str] | None = None, wait: float = 60
) -> Iterator[subprocess.Popen[str]]:
    """Run a program on one core until the block ends; wait for its port."""
    log = CACHE / f"{Path(command[0]).name}-{port or os.getpid()}.log"
    CACHE.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "GOMAXPROCS": "1", **(env or {})},
        )
    try:
        if port is not None:
            _wait_for_port(process, port, wait, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_for_port(process: subprocess.Popen[str], port: int, wait: float, log: Path) -> None:
    until = time.monotonic() + wait
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} did not listen on {port}: {log.read_text()[-2000:]}")


@contextlib.contextmanager
def backends(count: int = 1, **flags: str | int) -> Iterator[list[str]]:
    """Run `count` Go backends in one process; yield their URLs."""
    command = ["taskset", "-c", str(LOAD_CORE), str(tools_binary()), "backend", "-count", str(count)]
    for name, value in flags.items():
        command.append(f"-{name}={value}")
    env = {**os.environ, "GOMAXPROCS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    try:
        yield [f"http://{process.stdout.readline().split()[1]}/mcp" for _ in range(count)]
    finally:
        process.terminate()
        process.wait(10)


def load(
    url: str,
    *,
    era: str = "modern",
    clients: int = 1,
    seconds: float = 3,
    warm: float = 0.5,
    tools: str = "echo",
    size: int = 64,
    header: str = "",
    process: subprocess.Popen[str] | None = None,
) -> Sample:
    """Run the load generator once."""
    command = ["taskset", "-c", str(LOAD_CORE), str(tools_binary()), "load", "-url", url, "-era", era]
    command += ["-clients", str(clients), "-seconds", str(seconds), "-warm", str(warm), "-tools", tools]
    command += ["-size", str(size), "-header", header]
    watched = None if process is None else psutil.Process(process.pid)
    before = _cpu(watched)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "GOMAXPROCS": "1"},
        timeout=seconds + 120,
        check=False,
    )
    if done.returncode != 0:
        return Sample(0, 0, 0, 0, 1, done.stderr.strip()[-300:])
    found = json.loads(done.stdout)
    spent = _cpu(watched) - before
    cpu = spent / found["total"] * 1e6 if found["total"] else 0.0
    return Sample(
        found["rate"], found["p50_ms"], found["p99_ms"], cpu, found["errors"], found.get("problem", ""), found["total"]
    )


def open_sessions(url: str, count: int, tool: str, look: Callable[[], T]) -> tuple[T, str]:
    """Open legacy sessions with a call each; return what `look` says while they are open, and a note of a failure."""
    command = [str(tools_binary()), "sessions", "-url", url, "-count", str(count), "-tool", tool]
    opener = subprocess.Popen(
        ["taskset", "-c", str(LOAD_CORE), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert opener.stdout is not None
    said = opener.stdout.readline()
    found = look()
    _, problem = opener.communicate()
    return found, "" if said.startswith("open") else f" (**failed**: {problem.strip()[-160:]})"


def _cpu(process: psutil.Process | None) -> float:
    """CPU seconds of a process and its children, exact to the nanosecond (the scheduler's own account)."""
    if process is None:
        return 0.0
    total = 0
    for one in [process, *process.children(recursive=True)]:
        for task in Path(f"/proc/{one.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e9


def best(samples: Sequence[Sample]) -> Sample:
    """Return the run that was disturbed least: the one with the highest rate."""
    return max(samples, key=lambda sample: sample.rate)
