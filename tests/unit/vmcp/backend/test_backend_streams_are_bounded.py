"""What a backend's own stream may cost: questions, pings, line ends, notifications, and whose they are."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest

from tests.support.eventually import at_rest, eventually
from vmcp.backend.allowance import BURST, LINE, MESSAGES_PER_SECOND, Allowance
from vmcp.backend.errors import BackendError, BackendOverflow, BackendTimeout
from vmcp.backend.interface import BreakerSettings, Call, Circuit, RpcFault, SessionSpec
from vmcp.backend.legacy.inbox import MAX_ANSWERS, MAX_QUESTIONS
from vmcp.http.client.under_way import ANSWERS, ANSWERS_EACH, UNDER_WAY
from vmcp.turns import PIECE
from vmcp.wire.jsonrpc import RpcError
from vmcp.wire.protocol import INTERNAL_ERROR, MESSAGE, PROGRESS


def call(timeout: float = 5.0, **members) -> Call:
    return Call(method="tools/call", params=b'{"name":"echo","arguments":{}}', timeout=timeout, **members)


def ping(number: int) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": f"p{number}", "method": "ping", "params": {"pad": "x" * 100}})


async def test_a_backend_that_takes_no_answers_is_no_longer_read(server, backend_of) -> None:
    """Nothing is kept of a flood beyond a handful of answers that wait to be taken."""
    sent = 0
    silent = asyncio.Event()

    async def flood(request) -> None:
        nonlocal sent
        await request.peer.stream()
        while True:
            await asyncio.wait_for(request.peer.event(ping(sent)), 10)
            sent += 1

    async def deaf(request) -> None:
        await silent.wait()

    server.on["tools/call"] = flood
    server.on[""] = deaf
    session = backend_of(server.url).open(SessionSpec())
    before = len(asyncio.all_tasks())
    running = asyncio.create_task(session.call(call()))
    await eventually(lambda: len(server.posts("")) >= MAX_ANSWERS)
    await at_rest(lambda: sent, "the sockets between us are full")
    assert len(asyncio.all_tasks()) - before < 4 * MAX_ANSWERS
    assert len(server.posts("")) <= MAX_ANSWERS + 1
    running.cancel()
    silent.set()
    await session.close()
    server.failures.clear()  # its writer was stopped in the middle of a flood


async def test_a_call_whose_backend_only_asks_ends_at_its_deadline(server, backend_of) -> None:
    async def flood(request) -> None:
        await request.peer.stream()
        for number in range(4 * MAX_ANSWERS):
            await request.peer.event(ping(number))
        await request.peer.gone()

    async def deaf(request) -> None:
        await request.peer.gone()

    server.on["tools/call"] = flood
    server.on[""] = deaf
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendTimeout, match="faster than it accepts answers"):
        await session.call(call(0.5))
    await session.close()


async def test_questions_beyond_what_people_can_think_about_are_refused_and_the_call_goes_on(
    server, backend_of
) -> None:
    answers: list[dict] = []

    async def asks(request) -> None:
        await request.peer.stream()
        for number in range(MAX_QUESTIONS + 40):
            question = {"jsonrpc": "2.0", "id": number, "method": "elicitation/create", "params": {}}
            await request.peer.event(question)
        await eventually(lambda: len(answers) == 40)
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": {"content": []}})
        await request.peer.end()

    async def answered(request) -> None:
        answers.append(request.message)
        await request.peer.accept()

    async def thinking(method: str, params: bytes) -> bytes:
        await asyncio.sleep(3600)
        return b"{}"

    server.on["tools/call"] = asks
    server.on[""] = answered
    session = backend_of(server.url).open(SessionSpec())
    reply = await session.call(call(bridge=thinking))
    assert reply.result == b'{"content": []}'
    assert {answer["error"]["message"] for answer in answers} == {"too many requests at a time"}
    await session.close()


async def test_an_answer_that_is_on_its_way_arrives_though_its_call_ends(server, backend_of) -> None:
    """Half a request costs its connection, and a call that is refused an answer ends at once."""
    told = asyncio.Event()
    broken: list[bool] = []

    async def asks(request) -> None:
        await request.peer.stream()
        await request.peer.event({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}})
        await request.peer.gone()

    async def take(request) -> None:
        gone = asyncio.ensure_future(request.peer.gone())
        told.set()
        await eventually(lambda: server.posts("notifications/cancelled"))
        broken.append(gone.done())
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await request.peer.accept()

    async def refuse(method: str, params: bytes) -> bytes:
        raise RpcFault(RpcError(INTERNAL_ERROR, "too many"))

    server.on["tools/call"] = asks
    server.on[""] = take
    session = backend_of(server.url).open(SessionSpec())
    running = asyncio.create_task(session.call(call(bridge=refuse)))
    await told.wait()
    running.cancel()
    await eventually(lambda: broken)
    assert broken == [False]
    await session.close()


async def test_calls_that_ask_do_not_keep_others_out_and_get_their_answers(server, backend_of) -> None:
    """Both need a connection more than there are for calls: whoever waited for one here would wait for himself."""
    answered = asyncio.Event()
    asked = asyncio.Semaphore(0)
    free = asyncio.Event()

    async def asks(request) -> None:
        if not request.message["params"]["arguments"].get("ask"):
            await request.peer.result(request, {"content": []})
            return
        await request.peer.stream()
        await request.peer.event({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {}})
        await answered.wait()
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": {"content": []}})
        await request.peer.end()

    async def take(request) -> None:
        await request.peer.accept()
        if "id" in request.message:
            answered.set()

    async def thinking(method: str, params: bytes) -> bytes:
        asked.release()
        await free.wait()
        return b'{"action":"decline"}'

    server.on["tools/call"] = asks
    server.on[""] = take
    session = backend_of(server.url, max_connections=1).open(SessionSpec())
    asking = Call(method="tools/call", params=b'{"name":"echo","arguments":{"ask":true}}', bridge=thinking)
    waits = asyncio.create_task(session.call(asking))
    await asked.acquire()
    assert (await session.call(call())).result == b'{"content": []}'
    free.set()
    assert (await waits).result == b'{"content": []}'
    await session.close()


async def test_an_answer_does_not_wait_for_the_connections_of_calls(server, backend_of) -> None:
    pinged = asyncio.Event()

    async def pings(request) -> None:
        await request.peer.stream()
        await request.peer.event(ping(1))
        await pinged.wait()
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": {"content": []}})
        await request.peer.end()

    async def take(request) -> None:
        await request.peer.accept()
        if "result" in request.message:
            pinged.set()

    server.on["tools/call"] = pings
    server.on[""] = take
    session = backend_of(server.url, max_connections=1).open(SessionSpec())
    assert (await session.call(call())).result == b'{"content": []}'
    await session.close()


async def test_calls_that_take_all_connections_are_no_failure_of_the_backend(server, backend_of) -> None:
    free = asyncio.Event()
    held = asyncio.Semaphore(0)

    async def slow(request) -> None:
        held.release()
        await free.wait()
        await request.peer.result(request, {"content": []})

    server.on["tools/call"] = slow
    backend = backend_of(
        server.url, max_connections=1, health_interval=0.1, health_timeout=0.5, breaker=BreakerSettings(threshold=1)
    )
    await backend.start()
    await eventually(lambda: backend.catalogue.known)
    waits = asyncio.create_task(backend.open(SessionSpec()).call(call()))
    await held.acquire()
    probes = len(server.posts("ping"))
    await eventually(lambda: len(server.posts("ping")) > probes + 3 or backend.state.failures)
    assert (backend.state.failures, backend.state.circuit) == (0, Circuit.CLOSED)
    free.set()
    assert (await waits).result == b'{"content": []}'


def test_a_flood_waits_and_a_quiet_backend_does_not() -> None:
    now = 0.0
    allowance = Allowance("b", clock=lambda: now)
    assert all(allowance.spend(1) == 0.0 for _ in range(int(BURST)))
    assert allowance.spend(MESSAGES_PER_SECOND) == pytest.approx(1.0)
    now = 1.0
    assert allowance.spend(1) == pytest.approx(1 / MESSAGES_PER_SECOND)
    now = 1000.0
    assert allowance.spend(BURST) == 0.0, "a quiet time fills the bucket, and no further"
    assert allowance.spend(1) > 0.0


def test_line_ends_cost_as_well() -> None:
    allowance = Allowance("b", clock=lambda: 0.0)
    assert allowance.spend((1 << 20) * LINE) > 1.0


async def test_a_flood_of_log_messages_does_not_starve_the_others(server, backend_of) -> None:
    """One backend's stream gets its share and no more, so others are served all the while."""
    taken = 0

    async def flood(request) -> None:
        await request.peer.stream()
        note = json.dumps({"jsonrpc": "2.0", "method": MESSAGE, "params": {"level": "error", "data": "x"}})
        frame = f"data: {note}\n\n" * 500
        while True:
            await asyncio.wait_for(request.peer.raw(f"{len(frame):x}\r\n{frame}\r\n".encode()), 10)

    def sink(method: str, params: bytes) -> None:
        nonlocal taken
        taken += 1

    server.on["tools/call"] = flood
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    loop = asyncio.get_running_loop()
    began = loop.time()
    running = asyncio.create_task(session.call(call(30.0, sink=sink, log_level="debug")))
    await eventually(lambda: taken > BURST + MESSAGES_PER_SECOND / 10)
    assert taken <= BURST + 1 + (loop.time() - began) * MESSAGES_PER_SECOND
    running.cancel()
    await session.close()
    server.failures.clear()


@pytest.mark.parametrize(
    ("method", "params", "reaches"),
    [
        (PROGRESS, {"progressToken": 7, "progress": 1}, True),
        (PROGRESS, {"progressToken": "other", "progress": 1}, False),
        (PROGRESS, {"progress": 1}, False),
        (MESSAGE, {"level": "info", "data": "x"}, True),
        ("notifications/tools/list_changed", {}, False),
        ("notifications/resources/updated", {"uri": "a://b"}, False),
        ("notifications/elicitation/complete", {"elicitationId": "e"}, False),
        ("notifications/invented", {}, False),
    ],
)
async def test_only_log_messages_and_own_progress_of_a_modern_backend_reach_the_client(
    server, backend_of, method, params, reaches
) -> None:
    server.be_modern()

    async def says(request) -> None:
        await request.peer.stream()
        await request.peer.event({"jsonrpc": "2.0", "method": method, "params": params})
        done = {"content": [], "resultType": "complete"}
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": done})
        await request.peer.end()

    server.on["tools/call"] = says
    heard: list[str] = []
    session = backend_of(server.url).open(SessionSpec())
    wanted = Call(
        method="tools/call",
        params=b'{"name":"echo","_meta":{"progressToken": 7}}',
        timeout=5.0,
        sink=lambda name, _params: heard.append(name),
    )
    assert (await session.call(wanted)).error is None
    assert heard == ([method] if reaches else [])
    await session.close()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_large_answer_counts_until_nobody_keeps_it(server, backend_of, streamed) -> None:
    text = "x" * 2_000_000

    async def large(request) -> None:
        if not streamed:
            await request.peer.result(request, {"text": text})
            return
        await request.peer.stream()
        await request.peer.event({"jsonrpc": "2.0", "id": request.id, "result": {"text": text}})
        await request.peer.end()

    server.on["tools/call"] = large
    backend = backend_of(server.url)
    answers = backend.endpoint.answers
    reply = await backend.open(SessionSpec()).call(call())
    assert len(reply.result) > len(text)
    assert answers.used > len(text) * 0.8
    del reply
    await eventually(lambda: answers.used == 0)


async def test_what_is_remembered_of_a_subscription_keeps_no_answer(server, backend_of) -> None:
    async def large(request) -> None:
        await request.peer.result(request, {"text": "x" * 200_000})

    server.on["resources/subscribe"] = large
    backend = backend_of(server.url)
    session = backend.open(SessionSpec())
    reply = await session.call(Call(method="resources/subscribe", params=b'{"uri":"x://1"}', timeout=5))
    assert backend.endpoint.answers.used > 200_000
    del reply
    await eventually(lambda: backend.endpoint.answers.used == 0, within=5)


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("how", ["never ends", "breaks off", "stops", "is garbage"])
async def test_an_answer_that_fails_gives_its_bytes_back_without_the_garbage_collector(
    server, backend_of, how, kind, modern
) -> None:
    piece = b"%x\r\n%b\r\n" % (PIECE, b"x" * PIECE)

    async def fails(request) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n6\r\ndata: \r\n"
        await request.peer.raw(head.encode())
        for _ in range(4):
            await request.peer.raw(piece)
        while how == "never ends":
            await request.peer.raw(piece)
        if how == "is garbage":
            await request.peer.raw(b"garbage")
        if how == "breaks off":
            request.peer.writer.close()
        await request.peer.gone()

    if modern:
        server.be_modern()
    backend = backend_of(server.url, max_response=8 * PIECE)
    session = backend.open(SessionSpec())
    await session.call(call())
    server.on["tools/call"] = fails
    answers = backend.endpoint.answers
    others = answers.hold(ANSWERS_EACH)  # so that this is the one answer that may go beyond
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            with pytest.raises(BackendError) as caught:
                await session.call(call(0.3 if how == "stops" else 5.0))
            assert not isinstance(caught.value, BackendOverflow)
            del caught
            await eventually(lambda: (answers.used, UNDER_WAY.lent) == (ANSWERS_EACH, False), within=5)
    finally:
        gc.enable()
    del others
    await session.close()


async def test_an_answer_that_there_is_no_room_for_costs_its_call_and_nothing_else(server, backend_of) -> None:
    async def large(request) -> None:
        await request.peer.result(request, {"text": "x" * 200_000})

    backend = backend_of(server.url, breaker=BreakerSettings(threshold=1))
    session = backend.open(SessionSpec())
    await session.call(call())
    server.on["tools/call"] = large
    largest = UNDER_WAY.share("another").hold(ANSWERS + 1)
    others = backend.endpoint.answers.hold(ANSWERS_EACH)
    for number in range(3):
        with pytest.raises(BackendOverflow, match="no room for the answer"):
            await session.call(call())
        assert backend.state.answers_refused == number + 1
    assert backend.state.circuit is Circuit.CLOSED
    del largest, others
    assert (await session.call(call())).result is not None
