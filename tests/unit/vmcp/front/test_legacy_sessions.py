"""Legacy sessions: bound to who opened them, bounded, resumable, and every misuse answered with the right status."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from vmcp.backend.interface import Reply
from vmcp.front.settings import FrontSettings

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
ANN = {"authorization": "Bearer ann"}
BOB = {"authorization": "Bearer bob"}


@pytest.fixture
async def w(world, backend):
    made = world(backend("a", tools=[TOOL]))
    await made.initialize({"elicitation": {}})
    return made


@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2024-11-05"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ],
)
async def test_initialize_agrees_on_the_clients_version_or_the_newest(asked, agreed, world, backend):
    opened = await world(backend("a")).initialize(version=asked)
    assert opened.json["result"]["protocolVersion"] == agreed
    assert set(opened.json["result"]["capabilities"]) == {"tools", "resources", "prompts", "completions", "logging"}


async def test_a_request_without_a_session_is_400_and_with_an_unknown_one_404(w):
    w.session_id = None
    missing = await w.legacy("tools/list", headers={"mcp-session-id": None}).answer()
    assert (missing.status, missing.json["error"]["code"]) == (400, -32600)
    unknown = await w.legacy("tools/list", headers={"mcp-session-id": "A" * 80}).answer()
    assert (unknown.status, unknown.json["error"]["code"]) == (404, -32001)
    assert unknown.json["id"] == w.last_id


async def test_a_stranger_who_knows_the_id_can_neither_use_nor_end_a_session(world, backend):
    w = world(backend("a", tools=[TOOL]))
    await w.initialize(headers=ANN)
    for headers in (BOB, {}):
        used = await w.legacy("tools/list", headers=headers).answer()
        assert used.status == 404
        ended = await w.send("DELETE", "/mcp", {**w.session_headers(), **headers})
        assert ended.status == 404
        opened = w.stream(headers)
        assert (await opened.answer()).status == 404
    assert (await w.legacy("tools/list", headers=ANN).answer()).status == 200


async def test_a_deleted_session_is_gone_and_its_backend_sessions_end(w):
    await w.legacy("tools/call", {"name": "echo"}).answer()
    assert (await w.send("DELETE", "/mcp", w.session_headers())).status == 200
    assert (await w.legacy("ping").answer()).status == 404
    await w.sessions.close()
    assert w.backends["a"].sessions[0].closed


async def test_a_session_ends_when_it_was_idle_too_long_or_lived_too_long(world, backend):
    w = world(backend("a"), settings=FrontSettings(session_ttl=50, session_life=1000))
    await w.initialize()
    (session,) = w.sessions.all()
    session.used_at = time.monotonic() - 51
    assert (await w.legacy("ping").answer()).status == 404
    w.sessions.sweep()
    assert len(w.sessions) == 0
    await w.initialize()
    (session,) = w.sessions.all()
    session.ends_at = time.monotonic() - 1
    assert (await w.legacy("ping").answer()).status == 404


async def test_beyond_the_limit_the_session_that_was_idle_longest_goes(world, backend):
    w = world(backend("a"), settings=FrontSettings(max_sessions=2))
    ids = []
    for _ in range(2):
        await w.initialize()
        ids.append(w.session_id)
    w.session_id = ids[0]
    await w.legacy("ping").answer()
    await w.initialize()
    alive = {session.id for session in w.sessions.all()}
    assert alive == {ids[0], w.session_id}


async def test_calls_of_one_session_share_one_backend_session(w):
    for _ in range(3):
        await w.legacy("tools/call", {"name": "echo"}).answer()
    assert len(w.backends["a"].sessions) == 1
    assert w.backends["a"].sessions[0].spec.client_capabilities == b'{"elicitation": {}}'


async def test_a_second_initialize_in_a_session_is_refused(w):
    answer = await w.initialize(headers=w.session_headers())
    assert answer.status == 400


async def test_notifications_and_answers_get_202_and_nothing_else(w):
    for body in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/unheard-of", "params": {"x": 1}},
        {"jsonrpc": "2.0", "id": "vmcp-99", "result": {}},
        {"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no"}},
    ):
        answer = await w.post(body, w.session_headers()).answer()
        assert (answer.status, answer.body) == (202, b"")


async def test_an_unsupported_version_header_is_400(w):
    answer = await w.legacy("ping", headers={"mcp-protocol-version": "1999-01-01"}).answer()
    assert answer.status == 400


async def test_roots_list_changed_reaches_every_open_backend_session(w):
    await w.legacy("tools/call", {"name": "echo"}).answer()
    await w.post({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}, w.session_headers()).answer()
    assert w.backends["a"].sessions[0].notified == [("notifications/roots/list_changed", b"{}")]


# --- questions, cancellation, streams ---


def asking(method="elicitation/create", params=b'{"message":"?"}'):
    async def answer(call):
        call.sink("notifications/progress", b'{"progressToken":1,"progress":1}')
        said = await call.bridge(method, params)
        return Reply(result=b'{"content":[],"said":%b}' % said)

    return answer


async def test_a_backends_question_travels_on_the_stream_of_its_call_and_the_answer_comes_back(w):
    w.backends["a"].answer = asking()
    call = w.legacy("tools/call", {"name": "echo"})
    so_far = await call.until(lambda answer: len(answer.events) == 2)
    assert so_far.headers["content-type"] == "text/event-stream"
    progress, question = so_far.events
    assert progress["method"] == "notifications/progress"
    assert question["method"] == "elicitation/create"
    reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {}}}
    assert (await w.post(reply, w.session_headers()).answer()).status == 202
    done = await call.answer()
    assert done.events[-1]["result"]["said"] == {"action": "accept", "content": {}}


async def test_a_page_that_a_modern_backend_wants_visited_gets_the_id_that_legacy_clients_need(w):
    w.backends["a"].answer = asking(params=b'{"mode":"url","message":"?","url":"https://x.test"}')
    call = w.legacy("tools/call", {"name": "echo"})
    question = (await call.until(lambda answer: len(answer.events) == 2)).events[-1]
    assert question["params"]["elicitationId"]
    assert question["params"]["url"] == "https://x.test"
    await w.post({"jsonrpc": "2.0", "id": question["id"], "result": {}}, w.session_headers()).answer()
    await call.answer()


async def test_nobody_else_can_answer_a_question(world, backend):
    w = world(backend("a", tools=[TOOL]))
    await w.initialize({"elicitation": {}}, headers=BOB)
    bobs = w.session_headers()
    await w.initialize({"elicitation": {}}, headers=ANN)
    w.backends["a"].answer = asking()
    call = w.legacy("tools/call", {"name": "echo"}, headers=ANN)
    question = (await call.until(lambda answer: len(answer.events) == 2)).events[-1]
    forged = {"jsonrpc": "2.0", "id": question["id"], "result": {"forged": True}}
    assert (await w.post(forged, {**bobs, **BOB}).answer()).status == 202
    assert (await w.post(forged, {**w.session_headers(), **BOB}).answer()).status == 404
    true = {"jsonrpc": "2.0", "id": question["id"], "result": {"forged": False}}
    await w.post(true, {**w.session_headers(), **ANN}).answer()
    assert (await call.answer()).events[-1]["result"]["said"] == {"forged": False}


async def test_a_client_without_the_capability_is_not_asked(w):
    from vmcp.backend.interface import RpcFault

    async def answer(call):
        with pytest.raises(RpcFault) as fault:
            await call.bridge("sampling/createMessage", b"{}")
        assert fault.value.error.code == -32601
        return Reply(result=b'{"content":[]}')

    w.backends["a"].answer = answer
    done = await w.legacy("tools/call", {"name": "echo"}).answer()
    assert done.headers["content-type"] == "application/json"
    assert done.json["result"] == {"content": []}


async def test_a_cancelled_request_is_cancelled_at_the_backend_and_gets_no_answer(w):
    cancelled = asyncio.Event()

    async def answer(call):
        call.sink("notifications/progress", b'{"progress":0}')
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    w.backends["a"].answer = answer
    call = w.legacy("tools/call", {"name": "echo"}, request_id="r1")
    await call.until(lambda so_far: bool(so_far.events))
    other = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "not this"}}
    await w.post(other, w.session_headers()).answer()
    assert not cancelled.is_set()
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "r1"}}
    await w.post(note, w.session_headers()).answer()
    done = await call.answer()
    assert cancelled.is_set()
    assert all("id" not in message for message in done.events)


async def test_a_call_goes_on_without_its_client_and_its_stream_can_be_taken_up_again(w):
    go_on = asyncio.Event()

    async def answer(call):
        call.sink("notifications/progress", b'{"progress":1}')
        await go_on.wait()
        call.sink("notifications/progress", b'{"progress":2}')
        return Reply(result=b'{"content":[]}')

    w.backends["a"].answer = answer
    call = w.legacy("tools/call", {"name": "echo"})
    so_far = await call.until(lambda found: bool(found.events))
    last = [line[4:] for line in so_far.body.decode().split("\n") if line.startswith("id: ")][-1]
    call.hang_up()
    again = w.stream({"last-event-id": last})
    await again.until(lambda found: b"retry" in found.body)
    go_on.set()
    done = await again.answer()
    assert [message.get("params", {}).get("progress") for message in done.events] == [2, None]
    assert done.events[-1]["result"] == {"content": []}


async def test_the_sessions_stream_gets_what_happened_before_it_was_open_once(w):
    (session,) = w.sessions.all()
    session.notification("a", "notifications/resources/updated", b'{"uri":"r:1"}')
    first = w.stream()
    found = await first.until(lambda answer: bool(answer.events))
    assert found.events == [{"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "r:1"}}]
    first.hang_up()
    await first.answer()
    second = w.stream()
    session.notification("a", "notifications/resources/updated", b'{"uri":"r:2"}')
    assert [e["params"]["uri"] for e in (await second.until(lambda a: bool(a.events))).events] == ["r:2"]


async def test_a_newer_stream_takes_over_from_the_older(w):
    first = w.stream()
    await first.until(lambda answer: True)
    second = w.stream()
    await second.until(lambda answer: True)
    assert (await first.answer()).status == 200
    (session,) = w.sessions.all()
    session.notification("a", "notifications/resources/updated", b'{"uri":"r:1"}')
    await second.until(lambda answer: len(answer.events) == 1)


async def test_a_changed_list_is_told_to_sessions_that_see_the_change_only(w):
    stream = w.stream()
    await stream.until(lambda answer: True)
    w.backends["a"].change(tools=[TOOL])
    w.backends["a"].change(tools=[TOOL], prompts=[{"name": "p"}])
    found = await stream.until(lambda answer: bool(answer.events))
    assert [message["method"] for message in found.events] == ["notifications/prompts/list_changed"]


async def test_log_messages_below_the_clients_level_are_dropped(w):
    async def answer(call):
        for level in ("debug", "info", "error"):
            call.sink("notifications/message", json.dumps({"level": level, "data": level}).encode())
        return Reply(result=b'{"content":[]}')

    w.backends["a"].answer = answer
    everything = await w.legacy("tools/call", {"name": "echo"}).answer()
    assert len(everything.events) == 4
    assert (await w.legacy("logging/setLevel", {"level": "warning"}).answer()).json["result"] == {}
    quiet = await w.legacy("tools/call", {"name": "echo"}).answer()
    assert [message["params"]["level"] for message in quiet.events[:-1]] == ["error"]
    assert w.backends["a"].calls[-1].log_level == "warning"
    assert (await w.legacy("logging/setLevel", {"level": "loud"}).answer()).json["error"]["code"] == -32602


# --- batches ---


async def test_batches_are_for_2025_03_26_only(world, backend):
    w = world(backend("a", tools=[TOOL]))
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    await w.initialize()
    refused = await w.post(batch, w.session_headers()).answer()
    assert (refused.status, refused.json["error"]["code"]) == (400, -32600)
    await w.initialize(version="2025-03-26")
    headers = {**w.session_headers(), "mcp-protocol-version": "2025-03-26"}
    answer = await w.post(batch, headers).answer()
    assert {one["id"] for one in answer.json} == {1, 2}
    silent = await w.post([batch[1]], headers).answer()
    assert (silent.status, silent.body) == (202, b"")
    for bad in ([], [1], [{"jsonrpc": "2.0", "id": 1, "method": "initialize"}], [batch[0]] * 51):
        assert (await w.post(bad, headers).answer()).status == 400


@pytest.mark.parametrize("old", ["ended", "foreign", "made up", "empty"])
async def test_initialize_with_the_id_of_no_live_session_opens_a_new_one(w, old):
    ids = {"made up": "x" * 40, "empty": ""}
    if old == "ended":
        await w.initialize()
        ids["ended"] = w.session_id
        await w.send("DELETE", "/mcp", w.session_headers())
    elif old == "foreign":
        await w.initialize(headers={"authorization": "Bearer ann"})
        ids["foreign"] = w.session_id
    answer = await w.initialize(headers={"mcp-session-id": ids[old]})
    assert answer.status == 200
    assert w.session_id not in (None, ids[old])
    assert (await w.legacy("ping").answer()).status == 200
