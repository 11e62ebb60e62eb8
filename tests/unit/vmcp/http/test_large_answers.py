"""Large answers: bounded together for the whole process, and decoded in turns with the loop's other work."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from random import Random

import pytest

from tests.support.eventually import eventually
from vmcp.http.client import NoRoom, ResponseTooLarge
from vmcp.http.client.coding import RATIO
from vmcp.http.client.under_way import AnswerBudget
from vmcp.tasks import loop_time
from vmcp.turns import PIECE

BIG = 1 << 20


def head(size: int, *more: bytes) -> bytes:
    return b"".join((b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % size, *more, b"\r\n"))


async def begun(scripted, gate: asyncio.Event, more: bytes = b"", body: bytes = b"x" * BIG) -> int:
    """A server that sends most of an answer, and the rest when the gate opens."""

    async def handler(peer) -> None:
        while True:
            await peer.request()
            await peer.send(head(len(body), more) + body[:-1])
            await gate.wait()
            with contextlib.suppress(RuntimeError):  # uvloop's, of a client that has gone
                await peer.send(body[-1:])

    return await scripted.start(handler)


async def test_answers_that_are_under_way_are_bounded_together_and_served_again_behind_them(
    scripted, client_of
) -> None:
    gate = asyncio.Event()
    budget = AnswerBudget(4 * BIG, 4 * BIG)
    refused: list[int] = []
    share = budget.share("remote", on_refused=lambda: refused.append(1))
    client = client_of(await begun(scripted, gate), answers=share)
    calls = [asyncio.create_task(client.send("POST", "/", [], b"x", deadline=loop_time() + 60)) for _ in range(9)]
    await eventually(lambda: sum(call.done() for call in calls) == 4)
    for call in calls:
        if call.done():
            with pytest.raises(NoRoom, match="too many large answers are under way"):
                call.result()
    assert share.refused == len(refused) == 4
    gate.set()
    await asyncio.wait(calls)
    served = [call.result() for call in calls if call.exception() is None]
    assert [len(response.body) for response in served] == [BIG] * 5, "four within the bound, and one beyond it"
    assert share.used > 0, "whoever has an answer still holds its bytes"
    del served, call
    calls.clear()
    assert (share.used, budget.left, budget.lent) == (0, 4 * BIG, False)
    assert len((await client.send("POST", "/", [], b"x", deadline=loop_time() + 60)).body) == BIG


async def test_one_backend_takes_only_its_part_and_one_answer_at_a_time_may_be_as_large_as_its_limit(
    scripted, client_of
) -> None:
    budget = AnswerBudget(4 * BIG, 2 * BIG)
    one, other = budget.share("one"), budget.share("other")
    largest = one.hold(50 * BIG)
    assert one.used == 0
    kept = [one.hold(BIG), one.hold(BIG)]
    with pytest.raises(NoRoom):
        one.hold(1)
    kept.append(other.hold(2 * BIG))
    with pytest.raises(NoRoom):
        kept[-1].reach(2 * BIG + 1)
    largest.reach(60 * BIG)
    del largest
    kept[-1].reach(50 * BIG)
    assert other.used == 0
    kept.clear()
    assert budget.left == 4 * BIG


async def test_an_answer_that_breaks_off_gives_its_bytes_back(scripted, client_of) -> None:
    budget = AnswerBudget(4 * BIG, 4 * BIG)
    share = budget.share()
    client = client_of(await begun(scripted, asyncio.Event()), answers=share)
    call = asyncio.create_task(client.send("POST", "/", [], b"x", deadline=loop_time() + 60))
    await eventually(lambda: share.used > BIG // 2)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    del call
    await eventually(lambda: share.used == 0)
    assert budget.left == 4 * BIG


async def test_others_have_their_turns_while_an_answer_is_decoded(scripted, client_of) -> None:
    random = Random(1)
    packed = gzip.compress(b"".join(random.randbytes(40) + b"x" * 984 for _ in range(8 * 1024)))
    gate = asyncio.Event()
    gate.set()
    client = client_of(await begun(scripted, gate, b"content-encoding: gzip\r\n", packed))
    turns = 0

    async def look() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    body = (await client.send("POST", "/", [], b"x", deadline=loop_time() + 60)).body
    looking.cancel()
    assert body == gzip.decompress(packed)
    assert turns >= len(body) // PIECE > 30


async def test_what_grows_beyond_all_measure_is_never_made_and_harms_nobody(scripted, client_of) -> None:
    packed = gzip.compress(b"x" * (64 * BIG))
    assert len(packed) * RATIO < 64 * BIG
    gate = asyncio.Event()
    gate.set()
    share = AnswerBudget(32 * BIG, 32 * BIG).share()
    client = client_of(await begun(scripted, gate, b"content-encoding: gzip\r\n", packed), answers=share)
    for _ in range(3):
        with pytest.raises(ResponseTooLarge, match="times as long"):
            await client.send("POST", "/", [], b"x", deadline=loop_time() + 60)
    await eventually(lambda: share.used == 0)


async def test_a_decoded_answer_counts_as_long_as_it_is(scripted, client_of) -> None:
    packed = gzip.compress(b"x" * (3 * BIG))
    gate = asyncio.Event()
    gate.set()
    share = AnswerBudget(4 * BIG, 4 * BIG).share()
    client = client_of(await begun(scripted, gate, b"content-encoding: gzip\r\n", packed), answers=share)
    response = await client.send("POST", "/", [], b"x", deadline=loop_time() + 60)
    assert len(response.body) == share.used == 3 * BIG
