"""What waits for readers of event streams, and what is kept for those that come back, is bounded for the process."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from vmcp.front import exchange, streams
from vmcp.front.exchange import SseWriter
from vmcp.front.streams import Streams


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch):
    gc.collect()  # streams of other tests give back what they kept
    monkeypatch.setattr(exchange.QUEUED, "left", 10_000)
    monkeypatch.setattr(streams.KEPT, "left", 10_000)


class Reader:
    """Takes messages while `reads` is set."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.got = b""

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        self.got += message.get("body", b"")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_readers_that_are_behind_share_one_budget_and_one_that_keeps_up_is_not_touched():
    slow, quick = [Reader() for _ in range(4)], Reader()
    quick.reads.set()
    writers = [SseWriter(reader.send, keep_alive=60) for reader in slow]
    other = SseWriter(quick.send, keep_alive=60)
    for _ in range(100):
        for writer in writers:
            writer.write(b"x" * 100, droppable=True)
        await settle()
    assert -400 <= exchange.QUEUED.left <= 0, "further notifications were dropped"
    other.write(b"for a quick reader")
    await settle()
    assert quick.got == b"for a quick reader"
    writers[0].write(b"the answer")
    assert writers[0].gone, "an answer that cannot be kept ends its stream"
    assert exchange.QUEUED.left > 2000, "and makes room"
    for reader in slow:
        reader.reads.set()
    for writer in (*writers, other):
        await writer.finish()
    assert exchange.QUEUED.left == 10_000
    assert all(len(reader.got) > 2000 for reader in slow[1:])


async def test_a_reader_that_goes_away_gives_back_what_waited_for_it():
    reader = Reader()
    writer = SseWriter(reader.send, keep_alive=60)
    writer.write(b"x" * 500)
    await settle()
    writer.write(b"x" * 500)
    assert exchange.QUEUED.left == 9000
    writer.abandon()
    reader.reads.set()
    await writer.finish()
    assert exchange.QUEUED.left == 10_000


def test_what_sessions_keep_is_bounded_together_and_given_back_with_them():
    sessions = [Streams() for _ in range(50)]
    for number in range(20):
        for session in sessions:
            session.for_post().frame(b"x" * (100 + number))
            assert streams.KEPT.left >= 0
    big = Streams()
    assert big.own.frame(b"x" * 50_000), "it is sent, if not kept"
    assert streams.KEPT.left >= 0
    del sessions, session, big
    gc.collect()
    assert streams.KEPT.left == 10_000
