"""Waiting for a condition: the one loop of all tests.

    await eventually(lambda: server.connections == 0)
    answer = await eventually(answered, "the new token is accepted", within=60)
    eventually_blocking(lambda: path.exists())  # where no event loop runs

A deadline is no measurement: it says when to give up, and a generous one costs a test that passes nothing. In virtual
time (`virtual_time.py`) it counts virtual seconds.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

_NEVER = object()


async def eventually(check: Callable[[], Any], what: str = "", *, within: float = 20.0, every: float = 0.01) -> Any:
    """Repeat `check` until it gives something true, and return that.

    Args:
        check: A function, or one that returns an awaitable. An AssertionError of it means "not yet"; any other
            exception is a fault and ends the wait.
        what: What is awaited, for the message of a failure.
        within: Seconds until the wait is given up, also in the middle of a check: for a single check call it, not this.
        every: Seconds between two checks.

    Raises:
        AssertionError: Not within the deadline; shows what the last check gave or raised, and has it as its cause.
    """
    last: Any = _NEVER
    deadline = asyncio.timeout(within)
    try:
        async with deadline:
            while True:
                try:
                    found = check()
                    last = await found if inspect.isawaitable(found) else found
                except AssertionError as error:
                    last = error
                else:
                    if last:
                        return last
                await asyncio.sleep(every)
    except TimeoutError:
        if not deadline.expired():
            raise  # the check's own
    raise _late(what, within, last) from (last if isinstance(last, AssertionError) else None)


async def at_rest(value: Callable[[], Any], what: str = "", *, within: float = 20.0, pause: float = 0.1) -> Any:
    """Wait until a value has stayed the same for `pause` seconds, and return it."""
    seen = _NEVER

    def same() -> bool:
        nonlocal seen
        before, seen = seen, value()
        return before == seen

    await eventually(same, what or "the value stays the same", within=within, every=pause)
    return seen


def eventually_blocking(check: Callable[[], Any], what: str = "", *, within: float = 20.0, every: float = 0.01) -> Any:
    """Do the same with a plain function, blocking the thread; the deadline is looked at between two checks."""
    deadline = time.monotonic() + within
    while True:
        last: Any
        try:
            last = check()
        except AssertionError as error:
            last = error
        else:
            if last:
                return last
        if time.monotonic() > deadline:
            raise _late(what, within, last) from (last if isinstance(last, AssertionError) else None)
        time.sleep(every)


def _late(what: str, within: float, last: Any) -> AssertionError:
    match last:
        case AssertionError():
            seen = f"at last: {last}"
        case _ if last is _NEVER:
            seen = "the first check did not end"
        case _:
            seen = f"at last it was {last!r}"
    return AssertionError(f"not within {within:g} s: {what or 'the condition'} ({seen})")
