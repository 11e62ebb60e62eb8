"""Three replicas behind a plain TCP balancer without affinity, one of which is killed again and again.

Clients of both eras call with nonces and answer questions; whatever they send may arrive anywhere. No answer may be
wrong, meant for another client, or that of a call that was made twice; no session may end. A call that is under way
when its replica dies is lost, and its client knows: the connection breaks, or an error says so.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from hack.redis_server import MISSING, RedisServer, find
from tests.e2e.vmcp.kit import ACCEPT, EchoBackend, Gateway, config
from tests.support.eventually import eventually
from vmcp.core.bridging import LOST, UNREACHABLE

pytestmark = [pytest.mark.asyncio, pytest.mark.skipif(find() is None, reason=MISSING)]

REPLICAS = 3
CAPABILITIES = {"elicitation": {}}


class Broken(Exception):  # noqa: N818  what has happened to it
    """A request whose answer was lost."""


class Balancer:
    """Takes each connection to one of the targets by chance, and to another one where that refuses."""

    def __init__(self, targets: Callable[[], list[int]], order: random.Random) -> None:
        self._targets = targets
        self._order = order
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/mcp"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            targets = self._targets()
            for port in self._order.sample(targets, len(targets)):
                try:
                    there, back = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    continue
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
                return
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@dataclass
class Counts:
    """What became of the calls of one client."""

    answered: int = 0
    lost: int = 0
    sessions: set[str] = field(default_factory=set)


class Caller:
    """A client that opens a connection for each request."""

    def __init__(self, url: str, number: int, deadline: float) -> None:
        self.url, self.number, self.deadline = url, number, deadline
        self.counts = Counts()
        self._id = 0
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=60)
        )

    async def run(self) -> Counts:
        try:
            await self.begin()
            while time.monotonic() < self.deadline:
                self._id += 1
                try:
                    await self.call(f"{self.number}-{self._id}")
                    self.counts.answered += 1
                except Broken:
                    self.counts.lost += 1
                await asyncio.sleep(0.05)  # clients that think
            return self.counts
        finally:
            await self._http.close()

    async def begin(self) -> None:
        """Do what comes before the first call."""

    async def call(self, nonce: str) -> None:
        raise NotImplementedError

    async def post(self, message: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, dict[str, Any] | None]:
        """Send a message until it is taken; return status, headers and the last message of the answer.

        Questions on the way are answered at once, over another connection.

        Raises:
            Broken: There is no answer; the call may have been made.
        """
        base = {"Accept": ACCEPT, "Content-Type": "application/json"}
        while True:
            try:
                async with self._http.post(self.url, json=message, headers=base | headers) as response:
                    if response.status == 503:  # said before anything was done
                        await response.read()
                        await asyncio.sleep(0.1)
                        continue
                    if response.content_type != "text/event-stream":
                        text = await response.text()
                        return response.status, response.headers, json.loads(text) if text else None
                    return response.status, response.headers, await self._events(response, headers)
            except aiohttp.ClientError as error:
                raise Broken from error

    async def _events(self, response: aiohttp.ClientResponse, headers: dict[str, str]) -> dict[str, Any]:
        async for line in response.content:
            if not line.startswith(b"data:") or not line[5:].strip():
                continue
            message = json.loads(line[5:])
            if "method" not in message:
                return message
            if message["method"] == "elicitation/create":
                result = {"action": "accept", "content": {"name": str(self.number)}}
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                status, _, _ = await self.post(answer, headers)
                assert status == 202
        raise Broken

    def check(self, message: dict[str, Any] | None, nonce: str) -> dict[str, Any]:
        """Return what the backend told, which must be the answer to this very call."""
        assert message is not None
        assert "result" in message, message
        told = json.loads(message["result"]["content"][0]["text"])
        assert (message["id"], told["nonce"]) == (self._id, nonce)
        return told

    def request(self, tool: str, nonce: str, **members: Any) -> dict[str, Any]:
        params = {"name": f"echo_{tool}", "arguments": {"nonce": nonce}, **members}
        return {"jsonrpc": "2.0", "id": self._id, "method": "tools/call", "params": params}


class Counting(Caller):
    """A legacy client that counts along with its session at the backend."""

    count, missed, backend = 0, 0, ""

    async def begin(self) -> None:
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": CAPABILITIES,
            "clientInfo": {"name": "t", "version": "1"},
        }
        while True:
            message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
            try:
                status, headers, _ = await self.post(message, {})
            except Broken:
                continue
            assert status == 200
            self.headers = {"Mcp-Session-Id": headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
            return

    async def call(self, nonce: str) -> None:
        try:
            status, _, message = await self.post(self.request("count", nonce), self.headers)
        except Broken:
            self.missed += 1
            raise
        assert status == 200, (status, message)
        told = self.check(message, nonce)
        if told["session"] != self.backend:
            assert self.missed or not self.backend, "a session with the backend is left for a reason only"
            self.count, self.backend = 0, told["session"]
            self.counts.sessions.add(self.backend)
        assert self.count < told["count"] <= self.count + 1 + self.missed, "no call was made twice"
        self.count, self.missed = told["count"], 0


class Asked(Counting):
    """A legacy client that is asked in the middle of its calls."""

    async def call(self, nonce: str) -> None:
        status, _, message = await self.post(self.request("ask", nonce), self.headers)
        assert status == 200, (status, message)
        told = self.check(message, nonce)
        assert told["said"]["content"] == {"name": str(self.number)}
        self.counts.sessions.add(told["session"])


class Modern(Caller):
    """A modern client that is asked by way of `input_required`."""

    async def call(self, nonce: str) -> None:
        message = await self._send(self.request("ask", nonce))
        while message.get("result", {}).get("resultType") == "input_required":
            asked = message["result"]
            answer = {"action": "accept", "content": {"name": str(self.number)}}
            responses = dict.fromkeys(asked["inputRequests"], answer)
            members = {"inputResponses": responses, "requestState": asked["requestState"]}
            message = await self._send(self.request("ask", nonce, **members))
        if "error" in message:
            # Of its replica, or of the one where the answer arrived: that is what the client is told then.
            assert message["error"]["message"] in (LOST, UNREACHABLE, "requestState is not valid"), message
            raise Broken
        assert self.check(message, nonce)["said"]["content"] == {"name": str(self.number)}

    async def _send(self, message: dict[str, Any]) -> dict[str, Any]:
        prefix = "io.modelcontextprotocol/"
        envelope = {prefix + "protocolVersion": "2026-07-28", prefix + "clientCapabilities": CAPABILITIES}
        message["params"]["_meta"] = envelope
        headers = {
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": message["params"]["name"],
        }
        _, _, answer = await self.post(message, headers)
        assert answer is not None
        return answer


class Replicas:
    """The replicas, of which one is killed now and then, and started again."""

    def __init__(self, document: dict[str, Any], directory: Path, resolve: str, environ: dict[str, str]) -> None:
        self._make = lambda: Gateway(document, directory, resolve, environ=environ)
        self.alive: list[Gateway] = []
        self.all: list[Gateway] = []

    async def start_one(self) -> None:
        gateway = self._make()
        self.all.append(gateway)
        await gateway.start()
        await eventually(lambda: gateway.knows("echo"))
        self.alive.append(gateway)

    async def kill_one(self, order: random.Random) -> None:
        gateway = self.alive.pop(order.randrange(len(self.alive)))
        await gateway.stop(signal.SIGKILL)

    async def stop(self) -> None:
        await asyncio.gather(*(gateway.stop() for gateway in self.alive))


@pytest_asyncio.fixture
async def store() -> AsyncIterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest_asyncio.fixture
async def replicas(store, tmp_path) -> AsyncIterator[Replicas]:
    backend = await EchoBackend("echo").start()
    environ = {"VMCP_SESSION_HMAC_SECRET": base64.b64encode(os.urandom(32)).decode()}
    storage = {"provider": "redis", "address": f"127.0.0.1:{store.port}"}
    found = Replicas(config(backend.entry, sessionStorage=storage), tmp_path, backend.resolve, environ)
    try:
        await asyncio.gather(*(found.start_one() for _ in range(REPLICAS)))
        yield found
    finally:
        await found.stop()
        await backend.stop(signal.SIGKILL)  # it would wait for calls whose callers were killed
    for gateway in found.all:
        gateway.clean()


async def test_nothing_is_crossed_doubled_or_ended_while_replicas_are_killed_at_random(replicas, store, scale) -> None:
    seconds, every, clients = scale(12.0, 600.0), scale(3.0, 5.0), scale(4, 22)
    seed = scale(11, random.randrange(10**6))
    order = random.Random(seed)
    balancer = Balancer(lambda: [gateway.port for gateway in replicas.alive], order)
    url = await balancer.start()
    starting: list[asyncio.Task[None]] = []
    deadline = time.monotonic() + seconds
    callers = [
        kind(url, 100 * place + number, deadline)
        for place, kind in enumerate((Counting, Asked, Modern))
        for number in range(clients)
    ]
    running = asyncio.gather(*(caller.run() for caller in callers))
    kills = 0
    try:
        while time.monotonic() < deadline - every and not running.done():
            await asyncio.wait({running}, timeout=every)
            if running.done():
                break
            if len(replicas.alive) > 1:
                await replicas.kill_one(order)
                kills += 1
                starting.append(asyncio.create_task(replicas.start_one()))
        found = await running
        await asyncio.gather(*starting)
    finally:
        for task in (running, *starting):
            task.cancel()
        await balancer.stop()
    answered, lost = sum(one.answered for one in found), sum(one.lost for one in found)
    print(f"seed {seed}: {kills} kills, {answered} answers, {lost} lost")
    assert kills
    assert all(one.answered for one in found)
    assert lost < answered
    sessions = [session for one in found for session in one.sessions]
    assert len(set(sessions)) == len(sessions), "no two clients share a session with the backend"
    client = Redis(port=store.port)
    for key in await client.keys("*"):
        assert await client.pttl(key) > 0, "nothing is left beyond its time"
    await client.aclose()
