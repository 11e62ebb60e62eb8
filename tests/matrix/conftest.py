"""Servers, clients and the gateway of the matrix as processes, and the rows of the table in the docs."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually_blocking

START_SECONDS = 60.0
# Beside what the client itself waits for an answer.
PATIENCE_SECONDS = 40.0


class Started:
    """A server that listens on a port of its own, which it keeps when it is started again.

    Args:
        command: Makes the command line for a port.
        log: Where its output goes.
        ready: Whether what listens there is ready; by default that it accepts connections.
    """

    def __init__(
        self, command: Callable[[int], list[str]], log: Path, ready: Callable[[int], bool] | None = None
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._command, self._log, self._ready = command, log, ready or _accepts
        self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def pid(self) -> int:
        return self._process.pid

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command(self.port), stdout=log, stderr=log)
        try:
            eventually_blocking(
                lambda: self._process.poll() is not None or self._ready(self.port), within=START_SECONDS
            )
            assert self._process.poll() is None, "it ended"
        except AssertionError as error:
            self.stop()
            raise RuntimeError(f"it did not start: {error}\n{self._log.read_text()[-3000:]}") from None

    def restart(self) -> None:
        """As a replaced container: nothing of the old process is left, the address is the same."""
        self.stop()
        self._start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Walker:
    """A client in a process of its own, told by lines what to do."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._log = log
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, command: str) -> dict[str, Any]:
        """Send one command of `clients/steps` and return the facts that it prints."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._lines.get(timeout=PATIENCE_SECONDS)
        if not line:
            raise RuntimeError(f"the client ended:\n{self._log.read_text()[-3000:]}")
        return dict(json.loads(line))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reader.join(5)


@dataclass
class Row:
    """What one release showed; None: the release has not got it."""

    line: str
    role: str
    version: str
    protocol: str = ""
    long_call: str = ""
    elicitation: str | None = None
    server_restart: str = ""
    gateway_restart: str = ""
    notes: list[str] = field(default_factory=list)


@pytest.fixture
def row() -> Iterator[Callable[..., Row]]:
    """Makes a row; left in the folder MATRIX_ROWS, from which `make matrix` makes the table if all passed."""
    made: list[Row] = []

    def make(**columns: Any) -> Row:
        made.append(Row(**columns))
        return made[-1]

    yield make
    if folder := os.environ.get("MATRIX_ROWS"):
        for one in made:
            path = Path(folder) / f"{one.role}-{one.line}-{one.version}-{one.protocol}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(one)))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Starts a listening program: `start(command)`, `command` makes the command line for a port."""
    running: list[Started] = []

    def begin(command: Callable[[int], list[str]], **options: Any) -> Started:
        running.append(Started(command, tmp_path / f"server-{len(running)}.log", **options))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


@pytest.fixture
def gateway(start: Callable[..., Started], tmp_path: Path) -> Callable[[Started], Started]:
    """Starts the gateway in front of one server, as its pod would."""

    def begin(server: Started) -> Started:
        config = {
            "name": "gateway",
            "groupRef": "group",
            "incomingAuth": {"type": "anonymous"},
            "outgoingAuth": {"source": "inline"},
            "aggregation": {
                "conflictResolution": "priority",
                "conflictResolutionConfig": {"priorityOrder": ["server"]},
            },
            "backends": [{"name": "server", "url": server.url, "transport": "streamable-http"}],
        }
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(config))
        serve = [sys.executable, "-m", "vmcp", "serve", "--config", str(path), "--host", "127.0.0.1", "--port"]
        return start(lambda port: [*serve, str(port)], ready=_is_ready)

    return begin


@pytest.fixture
def proxy(start: Callable[..., Started], tmp_path: Path) -> Callable[[Started], Started]:
    """Starts a proxy in front of one server, as its pod would."""

    def begin(server: Started) -> Started:
        remote = {"url": server.url, "transport": "streamable-http"}
        config = {"name": "proxy", "remote": remote, "incomingAuth": {"type": "anonymous"}}
        path = tmp_path / "proxy.yaml"
        path.write_text(json.dumps(config))
        serve = [sys.executable, "-m", "vmcp", "proxy", "--config", str(path), "--port"]
        return start(lambda port: [*serve, str(port)], ready=_is_ready)

    return begin


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Callable[[list[str]], Walker]]:
    """Starts a client of `clients/`."""
    running: list[Walker] = []

    def begin(command: list[str]) -> Walker:
        running.append(Walker(command, tmp_path / f"client-{len(running)}.log"))
        return running[-1]

    yield begin
    for one in running:
        one.stop()
