"""Child processes that never outlive whoever started them, and the ports that they listen on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

GUARD = Path(__file__).with_name("guard.py")
LOOPBACK = "127.0.0.1"

# Below the ephemeral range of Linux (32768+) and macOS (49152+): an outgoing connection can neither take such a port
# while its server restarts, nor connect to itself by chance (TCP's simultaneous open).
PORTS = range(20000, 32000)


class ProcessError(RuntimeError):
    """A process could not be started, or ended when it should run. The message holds the end of its log."""


class PortTakenError(ProcessError):
    """Somebody else took the port between our look and the server's bind: try again with another one."""


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on right now.

    The answer may be stale when the server binds; callers treat `PortTakenError` as "ask again".
    """
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise ProcessError(f"no free port among 200 tries in {PORTS.start}-{PORTS.stop} on {LOOPBACK}")


class ManagedProcess:
    """One server process with a log file.

    It gets SIGKILL from the kernel when the Python process that started it dies (Linux; see guard.py), so that not even
    a `kill -9` of a test run leaves servers behind.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; raises `ProcessError` when it was never started."""
        if self._popen is None:
            raise ProcessError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process is there (a stopped one counts as running)."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start the process; its output is appended to the log file."""
        if self.running:
            raise ProcessError(f"{self.name} is already running")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._popen = _spawner.call(
                lambda: subprocess.Popen(
                    [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C at a terminal goes to the whole foreground group; the order of stopping is ours to choose.
                    start_new_session=True,
                )
            )

    def wait_ready(self, probe: Callable[[], bool], *, timeout: float) -> None:
        """Call `probe` every 50 ms until it says true.

        Raises:
            PortTakenError: it ended because its port is in use.
            ProcessError: it ended, or `timeout` seconds passed.
        """
        deadline = time.monotonic() + timeout
        while not probe():
            if not self.running:
                tail = self.log_tail()
                error = PortTakenError if "address already in use" in tail else ProcessError
                raise error(f"{self.name} ended with status {self.returncode}; the end of {self.log}:\n{tail}")
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} is not ready after {timeout:g} s; the end of {self.log}:\n{self.log_tail()}"
                )
            time.sleep(0.05)

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs or before it ran."""
        return None if self._popen is None else self._popen.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended already is fine."""
        if self._popen is not None and self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()

    def stop(self, *, timeout: float) -> None:
        """SIGTERM, and SIGKILL after `timeout` seconds. Returns when the process is gone."""
        self.signal(signal.SIGTERM)
        if self._popen is None:
            return
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of the log, for error messages."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 64 * 1024))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"


class _Spawner:
    """Runs calls on one thread that lives as long as the interpreter.

    The kernel sends the parent-death signal when the *thread* that forked ends, not the process: a child that was
    started from a short-lived worker thread would die with it.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], object], SimpleQueue[object]]] = SimpleQueue()
        self._pid = 0

    def call(self, function: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Run `function` on the thread; its exception is raised here."""
        if self._pid != os.getpid():  # first use, or first use after a fork
            self._calls = SimpleQueue()
            self._pid = os.getpid()
            Thread(target=self._run, name="spawner", daemon=True).start()
        answer: SimpleQueue[object] = SimpleQueue()
        self._calls.put((function, answer))
        result = answer.get()
        if isinstance(result, BaseException):
            raise result
        assert isinstance(result, subprocess.Popen)
        return result

    def _run(self) -> None:
        while True:
            function, answer = self._calls.get()
            try:
                answer.put(function())
            except BaseException as error:  # noqa: BLE001  handed to the caller, which raises it
                answer.put(error)


_spawner = _Spawner()
