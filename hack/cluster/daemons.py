"""The daemons: started detached, found again by a file with their process id, ended by that id only.

A process id is trusted only while /proc says that it runs the program that was started: after a crash of the machine
another process may have the number.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.layout import Layout


class DaemonError(RuntimeError):
    """A daemon did not become ready; the message holds the end of its log."""


@dataclass(frozen=True)
class Daemon:
    """One program of the cluster.

    Attributes:
        program: its path.
        arguments: its command line.
        layout: where process id and log are kept.
    """

    program: Path
    arguments: Sequence[str]
    layout: Layout

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def log(self) -> Path:
        """What it says."""
        return self.layout.logs / f"{self.name}.log"

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            process = subprocess.Popen(
                [str(self.program), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._file.write_text(f"{process.pid} {self.program}")

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return _runs(self._file) is not None

    def wait(self, ready: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        """Wait until `ready()` holds.

        Raises:
            DaemonError: it ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise DaemonError(f"{self.name} ended; the end of {self.log}:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise DaemonError(f"{what}: not within {seconds:g} s; the end of {self.log}:\n{self._tail()}")
            time.sleep(0.1)

    @property
    def _file(self) -> Path:
        return self.layout.run / f"{self.name}.pid"

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log.exists() else ""


def stop(layout: Layout, name: str, seconds: float = 10.0) -> None:
    """End a daemon by SIGTERM, after `seconds` by SIGKILL; one that does not run is fine."""
    file = layout.run / f"{name}.pid"
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        pid = _runs(file)
        if pid is None:
            break
        os.kill(pid, number)
        deadline = time.monotonic() + patience
        while _runs(file) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    file.unlink(missing_ok=True)


def running(layout: Layout, name: str) -> int | None:
    """Return the process id of a daemon that runs."""
    return _runs(layout.run / f"{name}.pid")


def processes_of(program: Path) -> list[int]:
    """Return all processes that run a program of the cluster, whoever started them: containerd starts its shims."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [pid for pid in pids if _executable(pid) == str(program)]


def _runs(file: Path) -> int | None:
    try:
        pid, program = file.read_text().split(" ", 1)
    except (OSError, ValueError):
        return None
    return int(pid) if _executable(int(pid)) == program else None


def _executable(pid: int) -> str:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return ""
        return str(Path(f"/proc/{pid}/exe").readlink()).removesuffix(" (deleted)")
    except (OSError, IndexError):
        return ""
