"""The limits, and how each is driven."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from hack.hostile_matrix.attacker import Attacker
from hack.hostile_matrix.requests import BASE, OPEN, legacy, modern, raw
from vmcp.core.parking import PER_OWNER
from vmcp.core.sessions import SHARED_EACH
from vmcp.front.guard import MAX_BRACKETS
from vmcp.front.settings import FrontSettings
from vmcp.http.client.coding import RATIO
from vmcp.http.server.door import MAX_PER_ADDRESS
from vmcp.http.server.protocol import MAX_FIELDS, MAX_HEAD, MAX_WAITING

FACTOR: Final = 10
LIMITS: Final = FrontSettings()


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
    body, headers = b"x" * (LIMITS.max_body * FACTOR), BASE
    for _ in range(count):
        await attacker.ask(body, headers)


async def _whole_bodies(attacker: Attacker, count: int) -> None:
    arguments = {"x": "y" * (LIMITS.max_body - 400)}
    body, headers = modern("tools/call", {"name": "b_echo", "arguments": arguments}, "b_echo")
    for _ in range(count):
        await attacker.ask(body, headers)


async def _members(attacker: Attacker, count: int) -> None:
    # A method that nobody knows: what is seen is what reading costs.
    members = {f"k{number}": 0 for number in range(LIMITS.max_body // 15)}
    body, headers = modern("nobody/knows", {"arguments": members})
    for _ in range(count):
        await attacker.ask(body, headers)


async def _large(attacker: Attacker, count: int) -> None:
    arguments = {"x": "y" * (LIMITS.max_body - 400)}
    request = raw(*modern("tools/call", {"name": "b_slow", "arguments": arguments}, "b_slow"))
    for _ in range(count):
        _, writer = await attacker.connect()
        writer.write(request)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                await writer.drain()


async def _answers(attacker: Attacker, count: int) -> None:
    await attacker.ask(*modern("tools/call", {"name": "b_big"}, "b_big"), count)


async def _answers_at_once(attacker: Attacker, count: int) -> None:
    request = raw(*modern("tools/call", {"name": "b_big"}, "b_big"))
    readers = []
    for _ in range(count):
        reader, writer = await attacker.connect()
        writer.write(request)
        readers.append(reader)
    await asyncio.gather(*(attacker.read(reader, 120) for reader in readers))


async def _growing(attacker: Attacker, count: int) -> None:
    await attacker.ask(*modern("tools/call", {"name": "b_zipped"}, "b_zipped"), count)


async def _fields(attacker: Attacker, count: int) -> None:
    await attacker.ask(b"{}", BASE | {f"x{number}": "" for number in range(MAX_FIELDS * FACTOR)}, count)


async def _depth(attacker: Attacker, count: int) -> None:
    deep = LIMITS.max_depth * FACTOR
    await attacker.ask(b'{"a":' * deep + b"1" + b"}" * deep, BASE, count)


async def _brackets(attacker: Attacker, count: int) -> None:
    body = (b"[" + b"[]," * (MAX_BRACKETS * FACTOR))[: LIMITS.max_body]
    await attacker.ask(body, BASE, count)


async def _quotes(attacker: Attacker, count: int) -> None:
    await attacker.ask(b"[" * 101 + b'"' + b'\\"' * (LIMITS.max_body // 2 - 100), BASE, count)


async def _batches(attacker: Attacker, count: int) -> None:
    session = await attacker.session()
    one = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    body = json.dumps([one] * (LIMITS.max_batch * FACTOR)).encode()
    await attacker.ask(body, BASE | {"mcp-session-id": session}, count)


async def _sessions(attacker: Attacker, count: int) -> None:
    await attacker.ask(*legacy("initialize", OPEN), count)


async def _inflight(attacker: Attacker, count: int) -> None:
    session = await attacker.session()
    for number in range(count):
        _, writer = await attacker.connect()
        body, headers = legacy("tools/call", {"name": "b_slow"}, session, number)
        writer.write(raw(body, headers))
        await writer.drain()
        if number % 50 == 49:
            await asyncio.sleep(0.05)


async def _listens(attacker: Attacker, count: int) -> None:
    body, headers = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    for _ in range(count):
        reader, writer = await attacker.connect()
        writer.write(raw(body, headers))
        await attacker.read(reader)


async def _subscriptions(attacker: Attacker, count: int) -> None:
    session = await attacker.session()
    reader, writer = await attacker.connect()
    for number in range(count):
        writer.write(raw(*legacy("resources/subscribe", {"uri": f"x://{number}"}, session, number)))
        await attacker.read(reader)


async def _declared(attacker: Attacker, count: int) -> None:
    params = {**OPEN, "capabilities": {"x": "y" * (LIMITS.max_declared * FACTOR)}}
    await attacker.ask(*legacy("initialize", params), count)


async def _shared(attacker: Attacker, count: int) -> None:
    reader, writer = await attacker.connect()
    for number in range(count):
        writer.write(raw(*modern("tools/call", {"name": "b_echo"}, "b_echo", experimental={"n": number})))
        await attacker.read(reader)


async def _parked(attacker: Attacker, count: int) -> None:
    for number in range(count):
        # One set of sessions has a bound of its own for questions: several of them reach the caller's.
        more = {"elicitation": {"form": {}}, "experimental": {"n": number // 32}}
        _, writer = await attacker.connect()
        writer.write(raw(*modern("tools/call", {"name": "b_ask"}, "b_ask", **more)))
        if number % 32 == 31:
            await asyncio.sleep(0.05)


async def _connections(attacker: Attacker, count: int) -> None:
    for number in range(count):
        with contextlib.suppress(OSError):
            await attacker.connect()
        if number >= 2 * MAX_PER_ADDRESS:  # so many were refused: their descriptors are needed again
            attacker.forget()


async def _heads(attacker: Attacker, count: int) -> None:
    for _ in range(count):
        await attacker.ask(b"{}", BASE | {f"x-{n}": "y" * 1000 for n in range(MAX_HEAD * FACTOR // 1000)})


async def _pipelines(attacker: Attacker, count: int) -> None:
    body, headers = modern("tools/list", {})
    for _ in range(count):
        reader, writer = await attacker.connect()
        writer.write(raw(body, headers) * (MAX_WAITING * FACTOR))
        for _ in range(MAX_WAITING * FACTOR):
            await attacker.read(reader)


LIMIT_TABLE: Final = (
    Limit("bytes of a body", "4 MiB", "bodies of 40 MiB", _bodies, 20, 2),
    Limit("bytes of a body", "4 MiB", "whole calls of 4 MiB", _whole_bodies, 40, 2),
    Limit("bytes of a body", "4 MiB", "4 MiB of members", _members, 40, 2),
    Limit("bytes of large requests under way", "32 MiB", "80 calls of 4 MiB that wait", _large, 80, 0),
    Limit("bytes of an answer", "100 MiB", "answers of 4 MiB, within it", _answers, 40, 2),
    Limit("bytes of large answers under way", "32 MiB", "80 answers of 4 MiB at once", _answers_at_once, 80, 0),
    Limit("growth of a compressed answer", f"{RATIO} times", "answers that grow 1,000 times", _growing, 40, 2),
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
    Limit("headers of a request", str(MAX_FIELDS), "2,560 headers", _fields, 500, 5),
    Limit("waiting requests of a connection", str(MAX_WAITING), "160 requests in one write", _pipelines, 100, 5),
)
