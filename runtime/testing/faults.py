"""The faults: matchers, plans and watch scripts for `FaultProxy`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from runtime.testing.faultproxy import Downstream, FaultPlan, ProxiedExchange, Script
from runtime.wire.patch import encode

Matcher = Callable[[ProxiedExchange], bool]

# -- matchers ---------------------------------------------------------------------------------------------------------


def lists(plural: str) -> Matcher:
    """Match lists of a kind."""
    return lambda exchange: (
        exchange.method == "GET" and exchange.plural == plural and not (exchange.watch or exchange.named)
    )


def pages(plural: str) -> Matcher:
    """Match all but the first page of lists of a kind."""
    return lambda exchange: lists(plural)(exchange) and "continue" in exchange.query


def watches(plural: str) -> Matcher:
    """Match all watches of a kind."""
    return lambda exchange: exchange.watch and exchange.plural == plural


def streams(plural: str) -> Matcher:
    """Match watches that ask for the initial objects."""
    return lambda exchange: exchange.watch and exchange.plural == plural and exchange.streaming


def resumes(plural: str) -> Matcher:
    """Match watches from a version."""
    return lambda exchange: exchange.watch and exchange.plural == plural and not exchange.streaming


def writes(plural: str) -> Matcher:
    """Match everything that changes objects of a kind."""
    return lambda exchange: exchange.method != "GET" and exchange.plural == plural


# -- plans ------------------------------------------------------------------------------------------------------------


def status(code: int, reason: str, *, retry_after: int | None = None, cause: str = "") -> FaultPlan:
    """Answer with a Status."""
    details: dict[str, Any] = {}
    if retry_after is not None:
        details["retryAfterSeconds"] = retry_after
    if cause:
        details["causes"] = [{"reason": cause}]
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "code": code,
        "reason": reason,
        "message": "scripted",
        "details": details,
    }
    headers = {"Content-Type": "application/json"} | (
        {"Retry-After": str(retry_after)} if retry_after is not None else {}
    )
    return FaultPlan(answer=(code, encode(body), headers))


def page(code: int, text: str = "<html><body>bad gateway</body></html>") -> FaultPlan:
    """Answer with text that is no JSON, as a proxy would; empty text for an empty answer."""
    return FaultPlan(answer=(code, text.encode(), {"Content-Type": "text/html"}))


def cut() -> FaultPlan:
    """Cut the connection instead of answering."""
    return FaultPlan(cut=True)


def held(until: asyncio.Event) -> FaultPlan:
    """Hold the request back; the server does not see it before."""
    return FaultPlan(before=_waiting(until))


def answered_late(until: asyncio.Event) -> FaultPlan:
    """Let the server act at once, and hold its answer back."""
    return FaultPlan(after=_waiting(until))


def rewritten(change: Callable[[bytes], bytes]) -> FaultPlan:
    """Change the body of the answer."""
    return FaultPlan(body=change)


def stream(script: Script) -> FaultPlan:
    """Handle the lines of a watch by a script."""
    return FaultPlan(script=script)


def _waiting(until: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await until.wait()

    return wait


# -- scripts of watches -----------------------------------------------------------------------------------------------


def ended(after: int) -> Script:
    """End the answer in good order after some lines."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        left = after
        async for line in lines:
            await client.line(line)
            left -= 1
            if left <= 0:
                return

    return script


def reset_inside_line(after: int) -> Script:
    """Pass some lines on, then half of the next, then cut the connection."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        left = after
        async for line in lines:
            if left <= 0:
                await client.part(line[: len(line) // 2])
                client.reset()
                return
            await client.line(line)
            left -= 1

    return script


def silent(after: Callable[[bytes], bool]) -> Script:
    """Send nothing any more, and close nothing, from the first line on that fulfils the condition."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        quiet = False
        async for line in lines:
            quiet = quiet or after(line)
            if not quiet:
                await client.line(line)

    return script


def without(drop: Callable[[bytes], bool]) -> Script:
    """Leave lines out."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        async for line in lines:
            if not drop(line):
                await client.line(line)

    return script


def changed(change: Callable[[bytes], bytes]) -> Script:
    """Change every line."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        async for line in lines:
            await client.line(change(line))

    return script


def injected(extra: Callable[[bytes], list[bytes]]) -> Script:
    """Replace every line by others."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        async for line in lines:
            for other in extra(line):
                await client.line(other)

    return script


def delayed(seconds: float) -> Script:
    """Deliver every line late, in order; lines that come together stay together."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

        async def read() -> None:
            async for line in lines:
                queue.put_nowait((loop.time() + seconds, line))
            queue.put_nowait(None)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while (item := await queue.get()) is not None:
                due, line = item
                await asyncio.sleep(max(0.0, due - loop.time()))
                await client.line(line)

    return script


def shuffled(rng: random.Random, window: float = 0.03) -> Script:
    """Mix the events that come within a window, repeat some, and bring old ones again. Bookmarks keep their place."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        past: list[bytes] = []
        batch: list[bytes] = []

        async def read() -> None:
            async for line in lines:
                queue.put_nowait(line)
            queue.put_nowait(None)

        async def flush() -> None:
            mixed = batch + [line for line in batch if rng.random() < 0.5]
            mixed += rng.sample(past, min(len(past), 1))
            rng.shuffle(mixed)
            past.extend(batch)
            batch.clear()
            for line in mixed:
                await client.line(line)

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while True:
                try:
                    async with asyncio.timeout(window if batch else None):
                        line = await queue.get()
                except TimeoutError:
                    await flush()
                    continue
                if line is not None and b'"BOOKMARK"' not in line:
                    batch.append(line)
                    continue
                await flush()
                if line is None:
                    return
                await client.line(line)

    return script


def slow(size: int, pause: float) -> Script:
    """Send the bytes in small pieces with pauses between them."""

    async def script(lines: AsyncIterator[bytes], client: Downstream) -> None:
        async for line in lines:
            data = line + b"\n"
            for start in range(0, len(data), size):
                await client.part(data[start : start + size])
                await asyncio.sleep(pause)

    return script
