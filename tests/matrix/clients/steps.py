"""Does what the test asks for: `walk SECONDS`, `process` or `again` on stdin, one JSON object on stdout for each."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

Step = Callable[..., Awaitable[dict[str, Any]]]
Open = Callable[[], AbstractAsyncContextManager[Any]]
PATIENCE_SECONDS = 20.0
STEPS = 5
"""Of progress that the long call tells, on every server of `servers/`."""


async def serve(opened: Open, walk: Step, process: Step) -> None:
    """Obey stdin until it ends.

    Args:
        opened: Makes a session; `again` leaves the present one and makes another.
        walk: Lists and uses everything: `walk(session, seconds)`; `seconds` is how long the long call works.
        process: Calls one tool and says which process answered: `process(session)`.
    """
    commands = _Commands()
    while not commands.ended:
        try:
            async with opened() as session:
                await commands.serve(session, walk, process)
        except BaseException as error:
            if commands.ended or isinstance(error, KeyboardInterrupt):
                return
            _say({"error": _reason(error)})


class _Commands:
    def __init__(self) -> None:
        self.ended = False
        self._pending: str | None = None

    async def _next(self) -> str:
        if self._pending is not None:
            command, self._pending = self._pending, None
            return command
        line = await asyncio.to_thread(sys.stdin.readline)
        self.ended = not line
        return line.strip()

    async def serve(self, session: Any, walk: Step, process: Step) -> None:
        while command := await self._next():
            name, *arguments = command.split()
            if name == "again":
                self._pending = "process"
                return
            try:
                async with asyncio.timeout(PATIENCE_SECONDS + sum(map(float, arguments))):
                    facts = await (walk(session, *map(float, arguments)) if name == "walk" else process(session))
            except Exception as error:
                facts = {"error": _reason(error)}
            _say(facts)


async def told(progress: list[float]) -> list[float]:
    """The steps of a long call, when all have come or none comes any more: the answer may overtake the last one.

    The SDK's client hands notifications to tasks of their own, and answers past them.
    """
    for _ in range(100):
        if len(progress) >= STEPS:
            break
        await asyncio.sleep(0.02)
    return progress


async def outcome(call: Awaitable[Any], text: Callable[[Any], str]) -> str:
    """What a call came to: its text, or the error in words. Not every server can ask in every era."""
    try:
        return text(await call)
    except Exception as error:
        return _reason(error)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:300]


def _say(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)
