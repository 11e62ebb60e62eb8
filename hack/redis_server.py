"""A Redis or Valkey server of this machine, for tests and measurements: found, started on a free port, ended.

Looked for in this order: `REDIS_SERVER` (a path), then `redis-server` and `valkey-server` on the PATH, where Debian's
packages of these names put them (`apt-get install redis-server`). Nothing is downloaded or built.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("redis-server", "valkey-server")
MISSING = (
    "no Redis or Valkey server: install Debian's package redis-server or valkey, or set REDIS_SERVER to the path of one"
)


def find() -> Path | None:
    """Return the path of a server; None where there is none.

    Raises:
        FileNotFoundError: `REDIS_SERVER` names something that is not there: nothing else is taken in its place.
    """
    named = os.environ.get("REDIS_SERVER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise FileNotFoundError(f"REDIS_SERVER: {named} is not a program")
        return Path(found)
    return next((Path(found) for name in NAMES if (found := shutil.which(name))), None)


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One server on a loopback port of its own; what it keeps is lost when it stops.

    Attributes:
        port: TCP port; the same after a restart.
    """

    def __init__(self, *options: str) -> None:
        """Start nothing yet; `options` are arguments of the program, such as `--maxmemory 2mb`.

        Raises:
            FileNotFoundError: There is none on this machine.
        """
        program = find()
        if program is None:
            raise FileNotFoundError(MISSING)
        self._program = program
        self._options = options
        self._directory = tempfile.TemporaryDirectory(prefix="redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self, *, within: float = 10.0) -> None:
        """Start it and wait until it takes connections.

        Raises:
            TimeoutError: It did not, in so many seconds.
        """
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._directory.name]
        self._process = subprocess.Popen(
            [str(self._program), *settings, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + within
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16):
                        return
            except OSError:
                pass
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.kill()
                raise TimeoutError(f"{self._program} did not start")
            time.sleep(0.02)

    def pause(self) -> None:
        """Let it stand still: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End it, and remove what it wrote."""
        self.kill()
        self._directory.cleanup()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the server does not run")
        self._process.send_signal(number)
