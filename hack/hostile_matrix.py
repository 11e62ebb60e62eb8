"""Drive every limit of the gateway at ten times its value, and say what a bystander notices.

Starts the gateway as users start it, a server behind it and, from another loopback address, a client that calls a tool
all the time. Then each limit is driven. The table says how long the bystander waited (p99, beside the idle p99), the
most memory that the gateway held, and how long it took until everything was as before. It goes to standard output or
into a file as Markdown. Only loopback is used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from aiohttp import web

SELF = str(Path(__file__).resolve())
ROOT = Path(SELF).parent.parent
sys.path.insert(0, str(ROOT))

from vmcp.core.parking import PER_OWNER  # noqa: E402  the root must be importable first
from vmcp.core.sessions import SHARED_EACH  # noqa: E402
from vmcp.front.guard import MAX_BRACKETS  # noqa: E402
from vmcp.front.settings import FrontSettings  # noqa: E402
from vmcp.http.server.door import MAX_PER_ADDRESS  # noqa: E402
from vmcp.http.server.protocol import MAX_HEAD, MAX_WAITING  # noqa: E402

FACTOR: Final = 10
MAX_RSS: Final = 200 * 1024 * 1024
MAX_BACK: Final = 5.0
"""Seconds until everything must be as before."""
MODERN: Final = "2026-07-28"
LIMITS: Final = FrontSettings()
PAGE: Final = ROOT / "docs" / "vmcp" / "hostile-matrix.md"
HEAD: Final = (
    "| limit | value | driven with | answers | bystander p99, ms | idle p99, ms | most memory, MiB | back after, s |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


# --- what stands behind the gateway, and who stands beside the attacker ---


async def _serve_backend(port: int) -> None:
    """A server of the legacy era: `echo` answers, `slow` answers after a minute, `ask` asks and waits."""

    async def post(request: web.Request) -> web.StreamResponse:
        message = await request.json()
        method = message.get("method")
        if "id" not in message or method is None:
            return web.Response(status=202)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if method == "initialize":
            info = {"name": "b", "version": "1"}
            capabilities = {"tools": {}, "resources": {"subscribe": True}}
            reply["result"] = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
            return web.json_response(reply, headers={"mcp-session-id": os.urandom(8).hex()})
        name = message.get("params", {}).get("name")
        if method == "tools/list":
            reply["result"] = {
                "tools": [{"name": n, "inputSchema": {"type": "object"}} for n in ("echo", "slow", "ask")]
            }
        elif method == "resources/list":
            reply["result"] = {"resources": []}
        elif method == "resources/templates/list":
            reply["result"] = {"resourceTemplates": [{"uriTemplate": "x://{n}", "name": "x"}]}
        elif name == "ask":
            stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await stream.prepare(request)
            params = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
            question = {"jsonrpc": "2.0", "id": os.urandom(8).hex(), "method": "elicitation/create", "params": params}
            await stream.write(f"data: {json.dumps(question)}\n\n".encode())
            await asyncio.sleep(60)
            return stream
        elif method in ("tools/call", "resources/subscribe", "ping"):
            if name == "slow":
                await asyncio.sleep(60)
            reply["result"] = {"content": [{"type": "text", "text": "x"}]} if method == "tools/call" else {}
        else:
            reply["error"] = {"code": -32601, "message": "unknown method"}
        return web.json_response(reply)

    async def other(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.method == "DELETE" else 405)

    app = web.Application()
    app.router.add_post("/mcp", post)
    app.router.add_route("*", "/mcp", other)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def _bystand(port: int) -> None:
    """Call `echo` until standard input ends; a line of JSON on standard output per call: (begin, seconds, worked)."""
    body, headers = modern("tools/call", {"name": "b_echo", "arguments": {}}, "b_echo")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=("127.0.0.2", 0))
    while True:
        start = time.monotonic()
        try:
            connection.request("POST", "/mcp", body, headers)
            worked = b'"result"' in connection.getresponse().read()
        except OSError:
            worked = False
            connection.close()
        sys.stdout.write(json.dumps((start, time.monotonic() - start, worked)) + "\n")
        sys.stdout.flush()
        time.sleep(0.004)


# --- requests ---


def modern(method: str, params: dict[str, Any], name: str | None = None, **more: Any) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request of the modern era; `more` goes into the capabilities."""
    prefix = "io.modelcontextprotocol/"
    meta = {prefix + "protocolVersion": MODERN, prefix + "clientCapabilities": more}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    headers = {**_BASE, "mcp-protocol-version": MODERN, "mcp-method": method}
    return json.dumps(message).encode(), headers | ({"mcp-name": name} if name else {})


def legacy(method: str, params: dict[str, Any], session: str = "", request_id: Any = 1) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request of the legacy era."""
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return json.dumps(message).encode(), _BASE | ({"mcp-session-id": session} if session else {})


_BASE: Final = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
_OPEN: Final = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}


def _raw(body: bytes, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


class Attacker:
    """Opens connections to the gateway, and closes all of them at the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: dict[str, int] = {}
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection that stays until `close`."""
        pair = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        self._open.append(pair)
        return pair

    async def read(self, reader: asyncio.StreamReader, seconds: float = 20.0) -> dict[str, str]:
        """Read one answer, or the head of a stream; count its status. Return its headers."""
        status, headers = "closed", {}
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(seconds):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                status = head[0].split(" ")[1]
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                await reader.readexactly(int(headers.get("content-length", 0)))
        self.answers[status] = self.answers.get(status, 0) + 1
        return headers

    async def ask(self, body: bytes, headers: dict[str, str], times: int = 1) -> dict[str, str]:
        """Send the same request several times on one connection, one after the other."""
        reader, writer = await self.connect()
        found: dict[str, str] = {}
        for _ in range(times):
            with contextlib.suppress(OSError):
                writer.write(_raw(body, headers))
                await writer.drain()
            found = await self.read(reader)
            if "content-length" not in found or found.get("connection") == "close":
                writer.close()
                reader, writer = await self.connect()
        return found

    async def session(self) -> str:
        """Open a session of the legacy era."""
        return (await self.ask(*legacy("initialize", _OPEN)))["mcp-session-id"]

    async def close(self) -> None:
        """Close every connection."""
        for _, writer in self._open:
            writer.close()
        self._open.clear()
        await asyncio.sleep(0)


# --- the limits ---


@dataclass(frozen=True)
class Limit:
    """A limit and how it is driven.

    Attributes:
        name: For the table.
        value: As configured by default.
        driven: What is done, for the table.
        drive: Does it, with a count; the short run uses a smaller one where it takes long.
        count: Of the full run.
        short: Of the short run; 0 leaves it out.
    """

    name: str
    value: str
    driven: str
    drive: Callable[[Attacker, int], Awaitable[None]]
    count: int
    short: int


async def _bodies(attacker: Attacker, count: int) -> None:
    body, headers = b"x" * (LIMITS.max_body * FACTOR), _BASE
    for _ in range(count):
        await attacker.ask(body, headers)


async def _whole_bodies(attacker: Attacker, count: int) -> None:
    arguments = {"x": "y" * (LIMITS.max_body - 400)}
    body, headers = modern("tools/call", {"name": "b_echo", "arguments": arguments}, "b_echo")
    for _ in range(count):
        await attacker.ask(body, headers)


async def _depth(attacker: Attacker, count: int) -> None:
    deep = LIMITS.max_depth * FACTOR
    await attacker.ask(b'{"a":' * deep + b"1" + b"}" * deep, _BASE, count)


async def _brackets(attacker: Attacker, count: int) -> None:
    body = (b"[" + b"[]," * (MAX_BRACKETS * FACTOR))[: LIMITS.max_body]
    await attacker.ask(body, _BASE, count)


async def _quotes(attacker: Attacker, count: int) -> None:
    await attacker.ask(b"[" * 101 + b'"' + b'\\"' * (LIMITS.max_body // 2 - 100), _BASE, count)


async def _batches(attacker: Attacker, count: int) -> None:
    session = await attacker.session()
    one = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    body = json.dumps([one] * (LIMITS.max_batch * FACTOR)).encode()
    await attacker.ask(body, _BASE | {"mcp-session-id": session}, count)


async def _sessions(attacker: Attacker, count: int) -> None:
    await attacker.ask(*legacy("initialize", _OPEN), count)


async def _inflight(attacker: Attacker, count: int) -> None:
    session = await attacker.session()
    for number in range(count):
        _, writer = await attacker.connect()
        body, headers = legacy("tools/call", {"name": "b_slow"}, session, number)
        writer.write(_raw(body, headers))
        await writer.drain()
        if number % 50 == 49:
            await asyncio.sleep(0.05)


async def _listens(attacker: Attacker, count: int) -> None:
    body, headers = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    for _ in range(count):
        reader, writer = await attacker.connect()
        writer.write(_raw(body, headers))
        await attacker.read(reader)


async def _subscriptions(attacker: Attacker, count: int) -> None:
    session = await attacker.session()
    reader, writer = await attacker.connect()
    for number in range(count):
        writer.write(_raw(*legacy("resources/subscribe", {"uri": f"x://{number}"}, session, number)))
        await attacker.read(reader)


async def _declared(attacker: Attacker, count: int) -> None:
    params = {**_OPEN, "capabilities": {"x": "y" * (LIMITS.max_declared * FACTOR)}}
    await attacker.ask(*legacy("initialize", params), count)


async def _shared(attacker: Attacker, count: int) -> None:
    reader, writer = await attacker.connect()
    for number in range(count):
        writer.write(_raw(*modern("tools/call", {"name": "b_echo"}, "b_echo", experimental={"n": number})))
        await attacker.read(reader)


async def _parked(attacker: Attacker, count: int) -> None:
    for number in range(count):
        # One set of sessions has a bound of its own for questions: several of them reach the caller's.
        more = {"elicitation": {"form": {}}, "experimental": {"n": number // 32}}
        _, writer = await attacker.connect()
        writer.write(_raw(*modern("tools/call", {"name": "b_ask"}, "b_ask", **more)))
        if number % 32 == 31:
            await asyncio.sleep(0.05)


async def _connections(attacker: Attacker, count: int) -> None:
    for number in range(count):
        with contextlib.suppress(OSError):
            await attacker.connect()
        if number >= 2 * MAX_PER_ADDRESS:  # so many were refused: their descriptors are needed again
            _, writer = attacker._open.pop()  # noqa: SLF001  the same module
            writer.close()


async def _heads(attacker: Attacker, count: int) -> None:
    for _ in range(count):
        await attacker.ask(b"{}", _BASE | {f"x-{n}": "y" * 1000 for n in range(MAX_HEAD * FACTOR // 1000)})


async def _pipelines(attacker: Attacker, count: int) -> None:
    body, headers = modern("tools/list", {})
    for _ in range(count):
        reader, writer = await attacker.connect()
        writer.write(_raw(body, headers) * (MAX_WAITING * FACTOR))
        for _ in range(MAX_WAITING * FACTOR):
            await attacker.read(reader)


LIMIT_TABLE: Final = (
    Limit("bytes of a body", "4 MiB", "bodies of 40 MiB", _bodies, 20, 2),
    Limit("bytes of a body", "4 MiB", "whole calls of 4 MiB", _whole_bodies, 40, 2),
    Limit("levels of nesting", str(LIMITS.max_depth), "1,000 levels", _depth, 500, 0),
    Limit("arrays and objects of a body", f"{MAX_BRACKETS:,} brackets", "4 MiB of brackets", _brackets, 40, 0),
    Limit("quotes of a body", f"{MAX_BRACKETS:,}", "4 MiB of escaped quotes", _quotes, 40, 2),
    Limit("messages of a batch", str(LIMITS.max_batch), "batches of 500", _batches, 200, 10),
    Limit("sessions", f"{LIMITS.max_sessions:,}", "100,000 initializations", _sessions, 100_000, 300),
    Limit("calls of a session under way", str(LIMITS.max_inflight), "calls that wait", _inflight, 2_000, 300),
    Limit("listen streams", f"{LIMITS.max_listens:,}", "open streams, as many as connections", _listens, 2_000, 0),
    Limit(
        "subscriptions of a session",
        str(LIMITS.max_subscriptions),
        "2,560 subscriptions",
        _subscriptions,
        2_560,
        300,
    ),
    Limit("bytes of capabilities", "16 KiB", "160 KiB", _declared, 500, 0),
    Limit("shared sessions of a caller", str(SHARED_EACH), "2,560 sets of capabilities", _shared, 2_560, 0),
    Limit("calls that wait for their client", str(PER_OWNER), "2,000 calls that ask", _parked, 2_000, 40),
    Limit("connections of an address", f"{MAX_PER_ADDRESS:,}", "20,480 connections", _connections, 20_480, 1_000),
    Limit("bytes of a head", "64 KiB", "640 KiB", _heads, 100, 0),
    Limit("waiting requests of a connection", str(MAX_WAITING), "160 requests in one write", _pipelines, 100, 5),
)


# --- measuring ---


@dataclass(frozen=True)
class Row:
    """What was seen while one limit was driven. Seconds and bytes."""

    limit: Limit
    answers: dict[str, int]
    p99: float
    idle: float
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
        figures = (f"{self.p99 * 1000:.1f}", f"{self.idle * 1000:.1f}", f"{self.rss / 2**20:.0f}", f"{self.back:.1f}")
        return "| " + " | ".join((*cells, *figures)) + " |"


class House:
    """The gateway, its backend and the bystander, as processes."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._calls: list[tuple[float, float, bool]] = []
        self._directory = tempfile.TemporaryDirectory(prefix="matrix-")
        self.port = _free_port()
        self._gateway: subprocess.Popen[str] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Self:
        backend = _free_port()
        document = {
            "name": "gw",
            "groupRef": "matrix",
            "backends": [{"name": "b", "url": f"http://b.example:{backend}/mcp", "transport": "streamable-http"}],
            "incomingAuth": {"type": "anonymous"},
            "outgoingAuth": {"source": "inline"},
            "aggregation": {
                "conflictResolution": "prefix",
                "conflictResolutionConfig": {"prefixFormat": "{workload}_"},
            },
        }
        file = Path(self._directory.name) / "config.yaml"
        file.write_text(json.dumps(document))
        self._start(SELF, "--backend", str(backend))
        options = ("--config", str(file), "--port", str(self.port), "--resolve", f"b.example:{backend}:127.0.0.1")
        self._gateway = self._start("-m", "vmcp", "serve", *options)
        await self._ready()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            SELF,
            "--bystander",
            str(self.port),
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        self._bystander = process
        self._reading = asyncio.create_task(self._read(process.stdout))
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

    def _start(self, *command: str) -> subprocess.Popen[str]:
        log = (Path(self._directory.name) / f"{len(self._processes)}.log").open("w")
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=log, stderr=log, text=True)
        self._processes.append(process)
        return process

    async def _ready(self) -> None:
        body, headers = modern("tools/call", {"name": "b_echo", "arguments": {}}, "b_echo")
        async with asyncio.timeout(60):
            while True:
                attacker = Attacker(self.port)
                with contextlib.suppress(OSError):
                    await attacker.ask(body, headers)
                await attacker.close()
                if attacker.answers.get("200"):
                    return
                await asyncio.sleep(0.1)

    async def _read(self, stream: Any) -> None:
        while line := await stream.readline():
            self._heard.set()
            self._calls.append(tuple(json.loads(line)))

    def rss(self) -> int:
        """Return the gateway's resident memory, bytes."""
        assert self._gateway is not None
        pages = int(Path(f"/proc/{self._gateway.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def since(self, start: float) -> list[tuple[float, float, bool]]:
        """Return the bystander's calls that began since then."""
        return [call for call in self._calls if call[0] >= start]

    async def watch(self, seconds: float) -> float:
        """Return the bystander's p99 of the next seconds."""
        start = time.monotonic()
        await asyncio.sleep(seconds)
        return _p99(self.since(start))

    async def drive(self, limit: Limit, count: int, idle: float, calm: float) -> Row:
        """Drive one limit."""
        attacker, start, most = Attacker(self.port), time.monotonic(), self.rss()
        attack = asyncio.ensure_future(limit.drive(attacker, count))
        while not attack.done():
            await asyncio.wait({attack}, timeout=0.02)
            most = max(most, self.rss())
        await attack
        await asyncio.sleep(0.2)
        calls, over = self.since(start), time.monotonic()
        await attacker.close()
        back = 0.0
        while back <= MAX_BACK and await self.watch(0.3) > max(2 * idle, calm):
            back = time.monotonic() - over
        failed = sum(not worked for _, _, worked in calls)
        return Row(limit, attacker.answers, _p99(calls), idle, failed, most, back)


def _p99(calls: list[tuple[float, float, bool]]) -> float:
    taken = [seconds for _, seconds, _ in calls]
    return statistics.quantiles(taken, n=100)[98] if len(taken) > 1 else float("inf")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(
    *, full: bool, seconds: float = 2.0, calm: float = 0.0, say: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """Drive all limits and return what was seen.

    Args:
        full: With ten times their value; else with what takes a moment.
        seconds: For which the idle bystander is measured.
        calm: Its p99, seconds, that counts as before in any case: where others use the machine, too.
        say: Takes each row of the table as it is known.
    """
    rows = []
    async with House() as house:
        await house.watch(0.5)
        idle = await house.watch(seconds)
        for limit in LIMIT_TABLE:
            count = limit.count if full else limit.short
            if count:
                rows.append(await house.drive(limit, count, idle, calm))
                say(str(rows[-1]))
    return rows


def main() -> int:
    """Run the matrix; 1 = something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="less of everything: seconds instead of minutes")
    parser.add_argument("--write", action="store_true", help=f"write the table to {PAGE.relative_to(ROOT)}")
    parser.add_argument("--backend", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bystander", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.backend:
        asyncio.run(_serve_backend(options.backend))
    if options.bystander:
        _bystand(options.bystander)
    sys.stdout.write(HEAD)
    rows = asyncio.run(measure(full=not options.short, say=lambda line: print(line, flush=True)))
    if options.write:
        PAGE.write_text(_page(rows))
    return 0 if all(row.holds for row in rows) else 1


def _page(rows: list[Row]) -> str:
    return f"""# What a bystander notices while a limit is driven

<!-- Written by hack/hostile_matrix.py --write. Do not edit. -->

Every limit was driven with ten times its value by one client while another one called a tool. Time is what the other
one waited; the memory is the gateway's, all of it.

{HEAD}{chr(10).join(map(str, rows))}
"""


if __name__ == "__main__":
    sys.exit(main())
