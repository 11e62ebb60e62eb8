"""The loop of the operator: its clock, on which every measured duration rests."""

from __future__ import annotations

import asyncio
import time

from runtime.manager.loop import OperatorLoop


def test_the_clock_goes_on_while_a_callback_computes() -> None:
    async def compute() -> float:
        loop = asyncio.get_running_loop()
        begin, start = loop.time(), time.monotonic()
        while time.monotonic() - start < 0.005:
            pass
        return loop.time() - begin

    with asyncio.Runner(loop_factory=OperatorLoop) as runner:
        assert runner.run(compute()) >= 0.005


def test_timers_fire_when_they_are_due_by_that_clock() -> None:
    async def late() -> float:
        loop = asyncio.get_running_loop()
        due = loop.time() + 0.05
        fired = loop.create_future()
        loop.call_at(due, lambda: fired.set_result(loop.time()))
        return float(await fired) - due

    with asyncio.Runner(loop_factory=OperatorLoop) as runner:
        assert runner.run(late()) >= -0.001  # uvloop rounds to milliseconds
