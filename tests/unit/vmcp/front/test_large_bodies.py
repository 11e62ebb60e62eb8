"""Large bodies are read by a process of their own: they say the same there, and hold up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.eventually import eventually
from vmcp.backend.interface import Call, Era, Reply
from vmcp.budget import FairBudget
from vmcp.front.aside import Aside
from vmcp.front.aside_process import ANSWER, QUESTION, question, serve, understood
from vmcp.front.convert import to_modern
from vmcp.front.reading import Bounds, Reading, read_all
from vmcp.http.server.asgi import Refusal, read_body
from vmcp.turns import LARGE, turn

BOUNDS = Bounds(depth=100, batch=50)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", 2]),
        "id": st.integers(-5, 5) | st.text(max_size=4) | st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "method": st.sampled_from(["tools/call", "ping", 7]),
        "Method": st.just("ping"),
        "params": st.fixed_dictionaries(
            {}, optional={"name": st.text(max_size=4) | st.just(1), "arguments": JSON, "_meta": JSON, "uri": JSON}
        )
        | JSON,
        "result": JSON,
        "error": st.fixed_dictionaries({"code": st.integers(-9, 9), "message": st.text(max_size=4)}) | JSON,
    },
)
BODIES = (
    (MEMBERS | st.lists(MEMBERS, max_size=60)).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
    | st.sampled_from(
        [b"[" * 200, b'{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}', b'{"jsonrpc":"2.0","method":"\xff"}']
    )
)


def plain(found: Reading) -> Any:
    """What a reading says, comparable."""
    message, target, refusal = found.message, found.target, found.refusal
    said = None if refusal is None else (refusal.status, refusal.error.code, refusal.error.message, refusal.id)
    raw = lambda value: bytes(value) if hasattr(value, "__len__") and not isinstance(value, str) else value  # noqa: E731
    members = None if message is None else [raw(getattr(message, name)) for name in message.__struct_fields__]
    params = (
        None if target is None or refusal is not None else [raw(getattr(target, n)) for n in target.__struct_fields__]
    )
    return said, members, params


def call(size: int, arguments: Any = None) -> bytes:
    params = {"name": "x", "arguments": {"a": "y" * size} if arguments is None else arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


class Rounds:
    """Counts the rounds of the loop: how often everybody else had a turn."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@pytest_asyncio.fixture
async def rounds() -> AsyncIterator[Rounds]:
    counting = Rounds()
    running = asyncio.create_task(counting.run())
    yield counting
    running.cancel()


@pytest_asyncio.fixture
async def aside() -> AsyncIterator[Aside]:
    made = Aside()
    yield made
    made.close()


@given(BODIES)
def test_a_body_says_the_same_in_another_process(body: bytes) -> None:
    ours, its = socket.socketpair()
    with ours, its:
        serving = threading.Thread(target=serve, args=(its,))
        serving.start()
        ours.sendall(question(BOUNDS, len(body)) + body)
        size = ANSWER.unpack(ours.recv(ANSWER.size, socket.MSG_WAITALL))[0]
        answer = ours.recv(size, socket.MSG_WAITALL)
        ours.shutdown(socket.SHUT_WR)
        serving.join()
    assert plain(understood(answer, body)) == plain(read_all(body, BOUNDS))


async def test_the_loop_is_everybodys_while_a_large_body_is_read(aside: Aside, rounds: Rounds) -> None:
    await aside.read(call(LARGE), BOUNDS)
    # Half a million members: reading them takes longer than a thousand turns of the loop.
    body = call(0, {f"k{number}": 0 for number in range(300_000)})
    before = rounds.count
    found = await aside.read(body, BOUNDS)
    turns = rounds.count - before
    assert found.refusal is None
    assert found.message is not None
    assert bytes(found.message.params) == body[body.index(b'"params": ') + 10 : -1]  # type: ignore[arg-type]
    assert turns > 1_000


async def test_large_bodies_wait_for_each_other_and_none_is_mistaken_for_another(aside: Aside) -> None:
    bodies = [call(LARGE + number) for number in range(20)]
    found = await asyncio.gather(*(aside.read(body, BOUNDS) for body in bodies))
    for body, reading in zip(bodies, found, strict=True):
        assert plain(reading) == plain(read_all(body, BOUNDS))


async def test_a_body_that_ends_its_reader_is_refused_and_the_next_is_read(aside: Aside) -> None:
    await aside.read(call(LARGE), BOUNDS)
    first = aside.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    reading = asyncio.create_task(aside.read(call(8 * LARGE), BOUNDS))
    await asyncio.sleep(0)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(Refusal, match="could not be read") as refused:
        await reading
    assert refused.value.status == 503
    assert (await aside.read(call(LARGE), BOUNDS)).refusal is None
    assert aside.pid != first


async def test_a_reader_that_takes_too_long_is_ended() -> None:
    aside = Aside(patience=0.05)
    with pytest.raises(Refusal, match="could not be read"):
        await aside.read(call(LARGE), BOUNDS)  # the process needs longer than that to start
    assert aside.pid is None


async def test_who_gives_up_leaves_no_answer_for_the_next(aside: Aside) -> None:
    await aside.read(call(LARGE), BOUNDS)
    first = aside.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    given_up = asyncio.create_task(aside.read(call(LARGE + 1), BOUNDS))
    for _ in range(10):  # the whole question is sent in these turns: it fits into the socket's buffer
        await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGCONT)
    body = call(LARGE + 7)
    assert plain(await aside.read(body, BOUNDS)) == plain(read_all(body, BOUNDS))


async def test_the_process_ends_when_there_is_nothing_to_read() -> None:
    aside = Aside(idle=0.05)
    await aside.read(call(LARGE), BOUNDS)
    assert aside.pid is not None
    await eventually(lambda: aside.pid is None)


async def test_where_no_process_can_be_started_a_body_is_read_all_the_same() -> None:
    aside = Aside(python="/nowhere/python")
    assert (await aside.read(call(LARGE), BOUNDS)).refusal is None
    assert aside.pid is None


async def test_where_no_file_can_be_opened_a_body_is_read_all_the_same() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        found = await Aside().read(call(LARGE), BOUNDS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.refusal is None
    assert found.message is not None


def test_a_refusal_does_not_keep_the_body() -> None:
    body = b"[" * 300
    before = sys.getrefcount(body)
    gc.disable()
    try:
        refusal = read_all(body, BOUNDS).refused()
        assert refusal.status == 400
        assert sys.getrefcount(body) == before
    finally:
        gc.enable()


async def test_turns_are_one_per_round_of_the_loop_whoever_waits(rounds: Rounds) -> None:
    taken: list[int] = []

    async def work() -> None:
        for _ in range(5):
            await turn()
            taken.append(rounds.count)

    await asyncio.gather(*(work() for _ in range(4)))
    assert len(taken) == 20
    assert len(set(taken)) == 20


def test_a_loop_in_which_somebody_took_a_turn_can_be_forgotten() -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(turn())
    loop.close()
    kept = weakref.ref(loop)
    del loop
    gc.collect()
    assert kept() is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), max_size=40))
def test_large_requests_are_bounded_in_all_and_of_one_caller(begun: list[tuple[str, int]]) -> None:
    requests = FairBudget(total=100, each=50)
    inside: list[tuple[str, int]] = []
    for caller, size in begun:
        of_caller = sum(other for name, other in inside if name == caller)
        fits = sum(other for _, other in inside) + size <= 100 and of_caller + size <= 50
        assert requests.take(caller, size) is fits
        if fits:
            inside.append((caller, size))
    for one in inside:
        requests.give_back(*one)
    assert requests.take("d", 50)
    assert requests.take("e", 50)


async def test_a_large_call_is_refused_while_too_many_are_under_way_and_served_again_behind_them(world, backend):
    slow, gate = backend("a", tools=[{"name": "x", "inputSchema": {"type": "object"}}]), asyncio.Event()

    async def answer(call: Call) -> Reply:
        await gate.wait()
        return Reply(result=b'{"content":[]}', era=Era.LEGACY)

    slow.answer = answer
    w = world(slow)
    w.front.large = FairBudget(total=4 * LARGE, each=3 * LARGE)
    large = {"name": "x", "arguments": {"a": "y" * 2 * LARGE}}
    first = w.modern("tools/call", large)
    await eventually(lambda: slow.calls)
    refused = await w.modern("tools/call", large).answer()
    assert refused.status == 503
    assert "too many large requests" in refused.json["error"]["message"]
    small = w.modern("tools/call", {"name": "x", "arguments": {}})
    gate.set()
    assert (await first.answer()).status == 200
    assert (await small.answer()).status == 200, "what is small is served all the while"
    assert (await w.modern("tools/call", large).answer()).status == 200


@given(JSON.filter(lambda value: isinstance(value, dict)), st.sampled_from(["", " ", "\n" * 70]), st.booleans())
def test_a_large_result_is_stamped_like_a_small_one(value: Any, space: str, hints: bool) -> None:
    result = f"{{{space}{json.dumps(value)[1:]}".encode()
    long = result + b" " * LARGE
    assert json.loads(to_modern(long, cacheable=hints)) == json.loads(to_modern(result, cacheable=hints))


def test_the_frame_of_a_question_has_the_length_that_it_says() -> None:
    said = question(BOUNDS, 7)
    length, size = QUESTION.unpack(said[: QUESTION.size])
    assert (length, size) == (len(said) - QUESTION.size, 7)


async def test_the_loop_is_everybodys_between_the_parts_of_large_bodies_that_arrive_at_once(rounds: Rounds) -> None:
    async def upload() -> bytes:
        parts = [b"x" * LARGE] * 32

        async def receive() -> dict[str, Any]:
            part = parts.pop()
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        return await read_body(receive, {}, 64 * LARGE)

    bodies = await asyncio.gather(*(upload() for _ in range(4)))
    assert [len(body) for body in bodies] == [32 * LARGE] * 4
    assert rounds.count >= 4 * 30  # one part of one body in each
