"""The gateway and the programs around it, and what is seen of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from hack.hostile_matrix.attacker import Attacker
from hack.hostile_matrix.limits import LIMIT_TABLE, Limit
from hack.hostile_matrix.requests import OWN_ECHO, modern

ROOT: Final = Path(__file__).resolve().parents[2]
MAX_RSS: Final = 200 * 1024 * 1024
MAX_BACK: Final = 5.0
"""Seconds until everything must be as before."""
LOOK: Final = 0.5
"""Seconds of a look whether it is."""


class Asked(NamedTuple):
    """A request of the bystander.

    Attributes:
        begun: On `time.monotonic()`.
        seconds: That it took.
        worked: It was answered as it should be.
        call: It was a call of a tool; else `/ping`.
    """

    begun: float
    seconds: float
    worked: bool
    call: bool


@dataclass(frozen=True)
class Row:
    """What was seen while one limit was driven. Seconds and bytes.

    Attributes:
        limit: Which.
        answers: To who drove it, by status.
        p99: Of the bystander's calls.
        idle: The same beside a harmless neighbour.
        own: The longest that the gateway took for an answer of its own (`/ping`).
        failed: Calls of the bystander that did not work.
        rss: Most memory of the gateway.
        back: Until the bystander's calls were as fast as before.
    """

    limit: Limit
    answers: dict[str, int]
    p99: float
    idle: float
    own: float
    failed: int
    rss: int
    back: float

    @property
    def holds(self) -> bool:
        """The bystander waited at most twice as long, memory stayed bounded, and it was over soon."""
        return self.p99 <= 2 * self.idle and not self.failed and self.rss <= MAX_RSS and self.back <= MAX_BACK

    def __str__(self) -> str:
        answers = ", ".join(f"{count:,} x {status}" for status, count in sorted(self.answers.items())) or "none"
        cells = (self.limit.name, self.limit.value, self.limit.driven, answers)
        waits = (f"{seconds * 1000:.1f}" for seconds in (self.p99, self.idle, self.own))
        return "| " + " | ".join((*cells, *waits, f"{self.rss / 2**20:.0f}", f"{self.back:.1f}")) + " |"


class House:
    """The gateway, the servers behind it and the bystander, as processes."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._asked: list[Asked] = []
        self._directory = tempfile.TemporaryDirectory(prefix="matrix-")
        self.port = _free_port()
        self._gateway: subprocess.Popen[str] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        cores = sorted(os.sched_getaffinity(0))
        self._own_core, self._shared_core = {cores[0]}, set(cores[1:2] or cores)

    async def __aenter__(self) -> Self:
        ports = {"b": _free_port(), "own": _free_port()}
        document = {
            "name": "gw",
            "groupRef": "matrix",
            "backends": [
                {"name": name, "url": f"http://{name}.example:{port}/mcp", "transport": "streamable-http"}
                for name, port in ports.items()
            ],
            "incomingAuth": {"type": "anonymous"},
            "outgoingAuth": {"source": "inline"},
            "aggregation": {
                "conflictResolution": "prefix",
                "conflictResolutionConfig": {"prefixFormat": "{workload}_"},
            },
        }
        file = Path(self._directory.name) / "config.yaml"
        file.write_text(json.dumps(document))
        self._start(self._shared_core, *_beside("driven", ports["b"]))
        self._start(self._shared_core, *_beside("backend", ports["own"]))
        resolve = [text for name, port in ports.items() for text in ("--resolve", f"{name}.example:{port}:127.0.0.1")]
        options = ("--config", str(file), "--port", str(self.port), *resolve)
        self._gateway = self._start(self._own_core, "-m", "vmcp", "serve", *options)
        await self._ready()
        self._bystander = await self._ask(*_beside("bystander", self.port))
        self._reading = asyncio.create_task(self._read(self._bystander.stdout))
        async with asyncio.timeout(60):
            await self._heard.wait()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._bystander.terminate()
        await self._bystander.wait()
        if self._reading is not None:
            self._reading.cancel()
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            await asyncio.to_thread(process.wait)
        self._directory.cleanup()

    def _start(self, cores: set[int], *command: str) -> subprocess.Popen[str]:
        log = (Path(self._directory.name) / f"{len(self._processes)}.log").open("w")
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=log, stderr=log, text=True)
        os.sched_setaffinity(process.pid, cores)
        self._processes.append(process)
        return process

    async def _ask(self, *command: str) -> asyncio.subprocess.Process:
        """Start a program on the shared core that is talked with."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        os.sched_setaffinity(process.pid, self._shared_core)
        return process

    async def _ready(self) -> None:
        """Wait until the tools of both servers can be called."""
        missing = ["b_echo", OWN_ECHO]
        async with asyncio.timeout(60):
            while missing:
                client = Attacker(self.port)
                with contextlib.suppress(OSError):
                    body, headers = modern("tools/call", {"name": missing[0], "arguments": {}}, missing[0])
                    await client.ask(body, headers)
                await client.close()
                if client.answers.get("200"):
                    missing.pop(0)
                else:
                    await asyncio.sleep(0.1)

    async def _read(self, stream: Any) -> None:
        while line := await stream.readline():
            self._heard.set()
            self._asked.append(Asked(*json.loads(line)))

    def rss(self) -> int:
        """Return the gateway's resident memory, bytes."""
        assert self._gateway is not None
        pages = int(Path(f"/proc/{self._gateway.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def since(self, start: float) -> list[Asked]:
        """Return what the bystander asked since then."""
        return [asked for asked in self._asked if asked.begun >= start]

    async def watch(self, seconds: float) -> float:
        """Return the p99 of the bystander's calls of the next seconds."""
        start = time.monotonic()
        await asyncio.sleep(seconds)
        return _p99(self.since(start))

    async def idle(self, seconds: float) -> float:
        """Return the same beside a neighbour that is as busy as who drives a limit, and does nothing to the gateway."""
        neighbour = await self._ask(*_beside("neighbour"))
        try:
            await asyncio.sleep(0.5)
            return await self.watch(seconds)
        finally:
            neighbour.kill()
            await neighbour.wait()

    async def drive(self, limit: Limit, count: int, idle: float, calm: float) -> Row:
        """Drive one limit."""
        attacker = await self._ask(*_beside("attacker", self.port, LIMIT_TABLE.index(limit), count))
        assert attacker.stdin is not None
        assert attacker.stdout is not None
        start, most = time.monotonic(), self.rss()
        done = asyncio.ensure_future(attacker.stdout.readline())
        while not done.done():
            await asyncio.wait({done}, timeout=0.02)
            most = max(most, self.rss())
        answers = json.loads(await done)
        await asyncio.sleep(0.2)
        asked, over = self.since(start), time.monotonic()
        attacker.stdin.close()
        await attacker.wait()
        back = 0.0
        while back <= MAX_BACK and await self.watch(LOOK) > max(2 * idle, calm):
            back = time.monotonic() - over
        failed = sum(not one.worked for one in asked)
        own = max((one.seconds for one in asked if not one.call), default=0.0)
        return Row(limit, answers, _p99(asked), idle, own, failed, most, back)


async def measure(
    *, full: bool, only: str = "", seconds: float = 2.0, calm: float = 0.0, say: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """Drive all limits and return what was seen.

    Args:
        full: With ten times their value; else with what takes a moment.
        only: Text in the name of a limit, or in what it is driven with; "" = all.
        seconds: For which the idle bystander is measured.
        calm: Its p99, seconds, that counts as before in any case: where others use the machine, too.
        say: Takes each row of the table as it is known.
    """
    rows = []
    async with House() as house:
        await house.watch(0.5)
        idle = await house.idle(seconds)
        for limit in LIMIT_TABLE:
            count = limit.count if full else limit.short
            if count and only in f"{limit.name} {limit.driven}":
                rows.append(await house.drive(limit, count, idle, calm))
                say(str(rows[-1]))
    return rows


def _beside(program: str, *arguments: object) -> tuple[str, ...]:
    return ("-m", "hack.hostile_matrix.beside", program, *map(str, arguments))


def _p99(asked: Iterable[Asked]) -> float:
    taken = [one.seconds for one in asked if one.call]
    return statistics.quantiles(taken, n=100)[98] if len(taken) > 1 else float("inf")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
