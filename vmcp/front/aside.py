"""Large bodies are read aside: by a process of their own, one after the other, while the gateway serves everybody else.

JSON of some MiB takes a tenth of a second to read, and longer where it is made for that. No parser gives the loop back
in between, and a thread holds it up as much. So bodies beyond `vmcp.turns.LARGE` are read by a process that starts
with the first of them and ends when there were none for a while.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import structlog

import vmcp
from vmcp.front.aside_process import ANSWER, question, understood
from vmcp.front.reading import Bounds, Reading, read_all
from vmcp.http.server.asgi import Refusal
from vmcp.turns import turn

log = structlog.get_logger(__name__)

IDLE: Final = 60.0
"""Seconds without a large body after which the process ends."""
PATIENCE: Final = 20.0
"""Seconds for one body; the slowest of 4 MiB takes half a second."""
_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Variables that the process gets, beside Python's own: it needs no secrets."""


class Aside:
    """Reads large bodies."""

    def __init__(self, *, idle: float = IDLE, patience: float = PATIENCE, python: str = sys.executable) -> None:
        """Start nothing yet; see the constants. `python` is the interpreter that the process runs."""
        self._python = python
        self._idle_seconds = idle
        self._patience = patience
        self._lock = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._idle: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The process; None = there is none now."""
        return None if self._process is None else self._process.pid

    async def read(self, body: bytes, bounds: Bounds) -> Reading:
        """Return what `read_all` finds out. One body at a time, in the order in which they came.

        Raises:
            Refusal: 503, it could not be read: the process ended, or took too long.
        """
        async with self._lock:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            sock = self._started()
            if sock is None:
                await turn()
                return read_all(body, bounds)
            try:
                async with asyncio.timeout(self._patience):
                    found = await self._ask(sock, body, bounds)
            except (OSError, EOFError, TimeoutError, msgspec.DecodeError) as err:
                self.close()
                log.warning("a large body could not be read", reason=type(err).__name__, size=len(body))
                raise Refusal(503, -32000, "the body could not be read") from err
            except BaseException:
                self.close()  # what it says next would be about this body
                raise
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self.close)
            return found

    def _started(self) -> socket.socket | None:
        """Return the socket to the process, and start it where it does not run; None = that is not possible."""
        if self._process is not None and self._process.poll() is None:
            return self._sock
        self.close()
        try:
            self._process, self._sock = self._start()
        except OSError as err:
            log.warning("cannot start the process for large bodies, reading them in this one", reason=err.strerror)
        return self._sock

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        root = str(Path(vmcp.__file__).parents[1])
        environ = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("PYTHON")}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environ.get("PYTHONPATH"))))
        command = [self._python, "-m", "vmcp.front.aside_process"]
        ours, its = socket.socketpair()
        with its:
            ours.setblocking(False)
            try:
                process = subprocess.Popen(  # noqa: S603  our own program
                    command, stdin=its.fileno(), stdout=subprocess.DEVNULL, cwd=root, env=environ
                )
            except BaseException:
                ours.close()
                raise
        return process, ours

    @staticmethod
    async def _ask(sock: socket.socket, body: bytes, bounds: Bounds) -> Reading:
        loop = asyncio.get_running_loop()
        await turn()
        await loop.sock_sendall(sock, question(bounds, len(body)))
        await loop.sock_sendall(sock, body)
        (size,) = ANSWER.unpack(await _receive(loop, sock, ANSWER.size))
        return understood(await _receive(loop, sock, size), body)

    def close(self) -> None:
        """End the process; the next large body starts another one."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


async def _receive(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(sock, size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
