"""Modern requests: whole in themselves, checked against their headers, cancelled by hanging up."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.eventually import eventually
from vmcp.backend.interface import BackendTimeout, Call, Era, InputRequired, Reply
from vmcp.core.parking import HELD_EACH
from vmcp.front.listen import MAX_PENDING
from vmcp.front.settings import FrontSettings
from vmcp.limits.bucket import MemoryRateLimiter, Rate, RateLimits
from vmcp.wire.jsonrpc import RpcError

PREFIX = "io.modelcontextprotocol/"
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
MIRRORED = {
    "name": "mirrored",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
}
ANN = {"authorization": "Bearer ann"}
BOB = {"authorization": "Bearer bob"}


@pytest.fixture
def w(world, backend):
    return world(backend("a", Era.MODERN, tools=[TOOL, MIRRORED], prompts=[{"name": "p"}]))


def error(answer):
    return answer.status, answer.json["error"]["code"]


async def test_discover_says_what_the_gateway_is(w):
    result = (await w.modern("server/discover").answer()).json["result"]
    assert result["resultType"] == "complete"
    assert result["supportedVersions"][0] == "2026-07-28"
    assert result["capabilities"]["resources"] == {"listChanged": True, "subscribe": True}
    assert result["_meta"][PREFIX + "serverInfo"] == {"name": "gateway", "version": "1"}
    assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities"])
async def test_an_incomplete_envelope_is_400_invalid_params(w, missing):
    body = w.modern_body("tools/list")
    del body["params"]["_meta"][PREFIX + missing]
    answer = await w.post(body, {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}).answer()
    assert error(answer) == (400, -32602)
    assert answer.json["id"] == body["id"]


async def test_without_client_info_a_request_is_served(w):
    assert (await w.modern("tools/list").answer()).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"mcp-protocol-version": "2025-11-25"}, -32020),
        ({"mcp-protocol-version": None}, -32020),
        ({"mcp-method": "tools/list"}, -32020),
        ({"mcp-method": "Tools/Call"}, -32020),
        ({"mcp-method": None}, -32020),
        ({"mcp-name": "other"}, -32020),
        ({"mcp-name": None}, -32020),
        ({"mcp-name": "=?base64?ZWNobw?="}, -32020),
    ],
)
async def test_headers_that_differ_from_the_body_are_400_header_mismatch(w, headers, code):
    answer = await w.modern("tools/call", {"name": "echo"}, headers=headers).answer()
    assert error(answer) == (400, code)
    assert w.backends["a"].calls == []


@pytest.mark.parametrize("name", [" echo ", "\techo", "=?base64?ZWNobw==?="])
async def test_header_values_are_read_without_spaces_and_decoded(w, name):
    assert (await w.modern("tools/call", {"name": "echo"}, headers={"mcp-name": name}).answer()).status == 200


async def test_a_header_that_came_twice_is_refused(w):
    body = json.dumps(w.modern_body("tools/call", {"name": "echo"})).encode()
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "echo"}
    request = w.post(body, headers)
    request.hang_up()
    await request.answer()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "client": None,
        "headers": [
            (b"content-type", b"application/json"),
            (b"accept", b"application/json, text/event-stream"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
            (b"mcp-name", b"echo"),
        ],
    }
    twice = type(request)(w.app, scope, body)
    assert error(await twice.answer()) == (400, -32020)


async def test_an_unsupported_version_lists_the_supported_ones(w):
    body = w.modern_body("tools/list")
    body["params"]["_meta"][PREFIX + "protocolVersion"] = "2999-01-01"
    answer = await w.post(body, {"mcp-protocol-version": "2999-01-01", "mcp-method": "tools/list"}).answer()
    assert error(answer) == (400, -32022)
    assert answer.json["error"]["data"]["requested"] == "2999-01-01"
    assert "2026-07-28" in answer.json["error"]["data"]["supported"]


@pytest.mark.parametrize(
    "method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "x/y"]
)
async def test_what_this_era_does_not_have_is_404_method_not_found(w, method):
    assert error(await w.modern(method).answer()) == (404, -32601)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_only_post_is_allowed(w, method):
    answer = await w.send(method, "/mcp", {"mcp-protocol-version": "2026-07-28", "accept": "text/event-stream"})
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"


async def test_a_batch_and_an_answer_are_refused_and_a_notification_is_taken(w):
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
    assert error(await w.post([w.modern_body("tools/list")], headers).answer()) == (400, -32600)
    assert error(await w.post({"jsonrpc": "2.0", "id": 1, "result": {}}, headers).answer()) == (400, -32600)
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await w.post(note, headers).answer()).status == 202


async def test_unknown_tools_prompts_and_resources_are_400_invalid_params(w):
    assert error(await w.modern("tools/call", {"name": "nope"}).answer()) == (400, -32602)
    assert error(await w.modern("prompts/get", {"name": "nope"}).answer()) == (400, -32602)
    missing = await w.modern("resources/read", {"uri": "r:none"}).answer()
    assert error(missing) == (400, -32602)
    assert missing.json["error"]["data"] == {"uri": "r:none"}
    assert error(await w.modern("tools/call", {"name": "echo", "arguments": [1]}).answer()) == (400, -32602)


@pytest.mark.parametrize(
    ("argument", "header", "status"),
    [
        (5, "5", 200),
        (5, "5.0", 200),
        (5, "6", 400),
        (5, None, 400),
        (None, None, 200),
        (None, "5", 400),
        (5, "=?base64?NQ==?=", 200),
        (5, "=?base64?N?=", 400),
    ],
)
async def test_mirrored_parameters_are_compared_with_the_body(w, argument, header, status):
    arguments = {} if argument is None else {"n": argument}
    headers = {"mcp-param-n": header} if header is not None else {}
    call = w.modern("tools/call", {"name": "mirrored", "arguments": arguments}, headers=headers)
    answer = await call.answer()
    assert answer.status == status
    if status == 400:
        assert answer.json["error"]["code"] == -32020


async def test_the_clients_own_capabilities_reach_the_backend(w):
    await w.modern("tools/call", {"name": "echo"}, clientCapabilities={"sampling": {"tools": {}}}).answer()
    assert json.loads(w.backends["a"].calls[0].client_capabilities) == {"sampling": {"tools": {}}}


async def test_a_result_of_a_modern_backend_passes_byte_for_byte(w):
    raw = b'{ "resultType":"complete","content":[ ],"x":1.50,"_meta":{"a":1} }'
    w.backends["a"].answer = lambda call: Reply(result=raw, era=Era.MODERN)
    answer = await w.modern("tools/call", {"name": "echo"}).answer()
    assert answer.body == b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (w.last_id, raw)


async def test_a_result_of_a_legacy_backend_is_stamped_and_otherwise_passes_byte_for_byte(world, backend):
    w = world(backend("a", tools=[TOOL], resources=[{"uri": "r:1", "name": "r"}]))
    w.backends["a"].answer = lambda call: Reply(result=b'{ "content":[ ],"x":1.50}')
    answer = await w.modern("tools/call", {"name": "echo"}).answer()
    assert b'"result":{"resultType":"complete", "content":[ ],"x":1.50}' in answer.body
    read = (await w.modern("resources/read", {"uri": "r:1"}).answer()).json["result"]
    assert (read["ttlMs"], read["cacheScope"]) == (0, "private")
    w.backends["a"].answer = lambda call: Reply(result=b"{}")
    assert (await w.modern("tools/call", {"name": "echo"}).answer()).json["result"] == {"resultType": "complete"}


async def test_notifications_turn_the_answer_into_a_stream_and_logs_need_to_be_asked_for(w):
    async def answer(call):
        call.sink("notifications/progress", b'{"progress":1}')
        call.sink("notifications/message", b'{"level":"error","data":"x"}')
        return Reply(result=b'{"resultType":"complete"}', era=Era.MODERN)

    w.backends["a"].answer = answer
    quiet = await w.modern("tools/call", {"name": "echo"}).answer()
    assert quiet.headers["content-type"] == "text/event-stream"
    assert [m.get("method") for m in quiet.events] == ["notifications/progress", None]
    asked = await w.modern("tools/call", {"name": "echo"}, logLevel="error").answer()
    assert [m.get("method") for m in asked.events] == ["notifications/progress", "notifications/message", None]


async def test_hanging_up_cancels_the_backends_call(w):
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def answer(call):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    w.backends["a"].answer = answer
    call = w.modern("tools/call", {"name": "echo"})
    await asyncio.wait_for(started.wait(), 5)
    call.hang_up()
    await asyncio.wait_for(cancelled.wait(), 5)
    await asyncio.wait_for(call.task, 5)
    assert call.status is None


async def test_a_backend_without_an_answer_is_a_clean_error_that_names_it(w):
    def answer(call):
        raise BackendTimeout("a", "did not answer within 30 s")

    w.backends["a"].answer = answer
    failed = await w.modern("tools/call", {"name": "echo"}).answer()
    assert error(failed) == (200, -32603)
    assert failed.json["error"]["data"] == {"backend": "a", "category": "timeout"}


async def test_a_bug_of_ours_is_a_500_without_details(w):
    def answer(call):
        raise ZeroDivisionError("a secret")

    w.backends["a"].answer = answer
    failed = await w.modern("tools/call", {"name": "echo"}).answer()
    assert error(failed) == (500, -32603)
    assert b"secret" not in failed.body


async def test_a_limited_call_says_when_to_come_back_in_both_eras(world, backend):
    limiter = MemoryRateLimiter(RateLimits(shared=Rate(1, 60.0)))
    w = world(backend("a", tools=[TOOL]), limiter=limiter)
    assert (await w.modern("tools/call", {"name": "echo"}).answer()).status == 200
    modern = await w.modern("tools/call", {"name": "echo"}).answer()
    assert error(modern) == (200, 429)
    assert 0 < modern.json["error"]["data"]["retryAfterSeconds"] <= 60
    await w.initialize()
    legacy = (await w.legacy("tools/call", {"name": "echo"}).answer()).json["result"]
    assert legacy["isError"] is True
    assert legacy["structuredContent"]["code"] == 429


async def test_an_unauthenticated_request_is_401_with_the_way_to_authenticate(w):
    answer = await w.modern("tools/list", headers={"authorization": "Bearer bad"}).answer()
    assert error(answer) == (401, 401)
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


# --- input_required ---


def asking_once(call):
    """A modern backend that asks once, with a state."""
    if call.input_responses is None:
        result = (
            b'{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create"}},"requestState":"s1"}'
        )
        return Reply(input_required=InputRequired(b"{}", "s1", result), era=Era.MODERN)
    said = {"answers": json.loads(call.input_responses), "state": call.request_state, "params": json.loads(call.params)}
    return Reply(result=json.dumps({"resultType": "complete", **said}).encode(), era=Era.MODERN)


async def test_an_input_required_is_relayed_with_its_state_sealed_and_the_retry_brings_it_back(w):
    w.backends["a"].answer = asking_once
    asked = (await w.modern("tools/call", {"name": "echo", "arguments": {"x": 1}}).answer()).json["result"]
    assert asked["inputRequests"] == {"k": {"method": "elicitation/create"}}
    assert asked["requestState"] != "s1"
    retry = {
        "name": "echo",
        "arguments": {"x": 1},
        "inputResponses": {"k": {"a": 1}},
        "requestState": asked["requestState"],
    }
    done = (await w.modern("tools/call", retry).answer()).json["result"]
    assert (done["answers"], done["state"]) == ({"k": {"a": 1}}, "s1")
    assert set(done["params"]) == {"name", "arguments", "_meta"}


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({"requestState": "forged"}, ANN),
        ({}, BOB),
        ({}, {}),
        ({"arguments": {"x": 2}}, ANN),
        ({"name": "mirrored"}, ANN),
    ],
    ids=["forged", "another principal", "anonymous", "other arguments", "another tool"],
)
async def test_a_state_works_for_its_principal_and_request_only(w, changes, headers):
    w.backends["a"].answer = asking_once
    first = w.modern("tools/call", {"name": "echo", "arguments": {"x": 1}}, headers=ANN)
    state = (await first.answer()).json["result"]["requestState"]
    calls = len(w.backends["a"].calls)
    retry = {"name": "echo", "arguments": {"x": 1}, "inputResponses": {}, "requestState": state, **changes}
    answer = await w.modern("tools/call", retry, headers=headers).answer()
    assert error(answer) == (400, -32602)
    assert len(w.backends["a"].calls) == calls


async def test_a_legacy_backends_question_becomes_input_required_and_the_call_goes_on(world, backend):
    w = world(backend("a", tools=[TOOL]))

    async def answer(call):
        first = await call.bridge("elicitation/create", b'{"message":"one"}')
        second = await call.bridge("elicitation/create", b'{"message":"two"}')
        return Reply(result=b'{"content":[],"said":[%b,%b]}' % (first, second))

    w.backends["a"].answer = answer
    capable = {"clientCapabilities": {"elicitation": {}}}
    asked = (await w.modern("tools/call", {"name": "echo"}, headers=ANN, **capable).answer()).json["result"]
    for message in ("one", "two"):
        assert asked["resultType"] == "input_required"
        ((key, question),) = asked["inputRequests"].items()
        assert question == {"method": "elicitation/create", "params": {"message": message}}
        retry = {"name": "echo", "inputResponses": {key: {"to": message}}, "requestState": asked["requestState"]}
        stolen = await w.modern("tools/call", retry, headers=BOB, **capable).answer()
        assert error(stolen) == (400, -32602)
        asked = (await w.modern("tools/call", retry, headers=ANN, **capable).answer()).json["result"]
    assert asked["said"] == [{"to": "one"}, {"to": "two"}]
    assert asked["resultType"] == "complete"
    replay = await w.modern("tools/call", retry, headers=ANN, **capable).answer()
    assert error(replay) == (400, -32602)


async def test_sessions_with_a_parked_call_are_in_use_until_it_ends(world, backend):
    w = world(backend("a", tools=[TOOL]))

    async def answer(call):
        return Reply(result=b'{"said":%b}' % await call.bridge("elicitation/create", b"{}"))

    w.backends["a"].answer = answer
    capable = {"clientCapabilities": {"elicitation": {}}}
    asked = (await w.modern("tools/call", {"name": "echo"}, **capable).answer()).json["result"]
    (sessions,) = w.gateway.shared.all()
    assert sessions.busy == 1
    (key,) = asked["inputRequests"]
    retry = {"name": "echo", "inputResponses": {key: {}}, "requestState": asked["requestState"]}
    assert (await w.modern("tools/call", retry, **capable).answer()).json["result"]["said"] == {}
    assert sessions.busy == 0


async def test_calls_that_wait_for_their_client_keep_so_many_bytes_of_params(world, backend):
    w = world(backend("a", tools=[TOOL]))

    async def answer(call):
        return Reply(result=b'{"said":%b}' % await call.bridge("elicitation/create", b"{}"))

    w.backends["a"].answer = answer
    capable = {"clientCapabilities": {"elicitation": {}}}
    large = {"name": "echo", "arguments": {"x": "y" * (HELD_EACH * 2 // 5)}}
    answers = [(await w.modern("tools/call", large, headers=ANN, **capable).answer()).json for _ in range(3)]
    assert [one["result"]["resultType"] for one in answers[:2]] == ["input_required"] * 2
    assert "too many calls are waiting" in answers[2]["error"]["message"]
    small = {"name": "echo", "arguments": {}}
    asked = (await w.modern("tools/call", small, headers=ANN, **capable).answer()).json["result"]
    assert asked["resultType"] == "input_required"
    await w.gateway.parked.close()


async def test_pages_to_be_visited_first_become_input_required_and_the_retry_is_the_call_again(world, backend):
    from msgspec import Raw

    w = world(backend("a", tools=[TOOL]))
    page = {"mode": "url", "message": "Log in", "url": "https://login.test", "elicitationId": "e1", "x": 1.5}
    error_ = RpcError(-32042, "visit", Raw(json.dumps({"elicitations": [page]}).encode()))
    w.backends["a"].answer = lambda call: Reply(error=error_)
    plain = await w.modern("tools/call", {"name": "echo"}, clientCapabilities={"elicitation": {"form": {}}}).answer()
    assert error(plain) == (200, -32042)
    capable = {"clientCapabilities": {"elicitation": {"url": {}}}}
    asked = (await w.modern("tools/call", {"name": "echo"}, **capable).answer()).json["result"]
    assert asked["inputRequests"] == {
        "page-1": {
            "method": "elicitation/create",
            "params": {"mode": "url", "message": "Log in", "url": "https://login.test", "x": 1.5},
        }
    }
    w.backends["a"].answer = w.backends["a"].echo
    retry = {"name": "echo", "inputResponses": {"page-1": {"action": "accept"}}, "requestState": asked["requestState"]}
    done = (await w.modern("tools/call", retry, **capable).answer()).json["result"]
    assert json.loads(done["content"][0]["text"])["params"]["name"] == "echo"


async def test_a_backend_that_cannot_go_on_without_asking_is_told_as_a_missing_capability(world, backend):
    from vmcp.backend.interface import RpcFault

    w = world(backend("a", tools=[TOOL]))

    async def needs(call):
        try:
            await call.bridge("sampling/createMessage", b"{}")
        except RpcFault as fault:
            return Reply(error=fault.error)

    w.backends["a"].answer = needs
    refused = await w.modern("tools/call", {"name": "echo"}).answer()
    assert error(refused) == (400, -32021)
    assert refused.json["error"]["data"] == {"requiredCapabilities": {"sampling": {}}}

    async def copes(call):
        await needs(call)
        return Reply(result=b'{"content":[]}')

    w.backends["a"].answer = copes
    assert (await w.modern("tools/call", {"name": "echo"}).answer()).status == 200


async def test_errors_of_backends_keep_their_code_message_and_data(w):
    from msgspec import Raw

    w.backends["a"].answer = lambda call: Reply(error=RpcError(-5, "odd", Raw(b'{"a": 1.0}')), era=Era.MODERN)
    answer = await w.modern("tools/call", {"name": "echo"}).answer()
    assert answer.status == 200
    assert b'"error":{"code":-5,"message":"odd","data":{"a": 1.0}}' in answer.body


# --- listen ---


async def test_listen_acknowledges_what_it_will_tell_and_tells_nothing_else(w):
    stream = w.modern("subscriptions/listen", {"notifications": {"promptsListChanged": True}})
    ack = (await stream.until(lambda answer: bool(answer.events))).events[0]
    assert ack["method"] == "notifications/subscriptions/acknowledged"
    assert ack["params"]["notifications"] == {"promptsListChanged": True}
    subscription = ack["params"]["_meta"][PREFIX + "subscriptionId"]
    assert subscription == w.last_id
    w.backends["a"].change(tools=[], prompts=[])
    change = (await stream.until(lambda answer: len(answer.events) == 2)).events[1]
    assert change["method"] == "notifications/prompts/list_changed"
    assert change["params"]["_meta"][PREFIX + "subscriptionId"] == subscription


async def test_listen_subscribes_at_the_backend_and_ends_with_the_stream(world, backend):
    w = world(backend("a", resources=[{"uri": "r:1", "name": "r"}, {"uri": "r:2", "name": "s"}]))
    w.backends["a"].answer = lambda call: Reply(result=b"{}")
    wanted = {"resourceSubscriptions": ["r:1", "r:unknown"]}
    stream = w.modern("subscriptions/listen", {"notifications": wanted})
    ack = (await stream.until(lambda answer: bool(answer.events))).events[0]
    assert ack["params"]["notifications"] == {"resourceSubscriptions": ["r:1"]}
    (session,) = w.backends["a"].sessions
    session.spec.events.notification("a", "notifications/resources/updated", b'{"uri":"r:2"}')
    session.spec.events.notification("a", "notifications/resources/updated", b'{"uri":"r:1/below"}')
    session.spec.events.notification("a", "notifications/resources/updated", b'{"uri":"r:1"}')
    told = (await stream.until(lambda answer: len(answer.events) == 3)).events[1:]
    assert [message["params"]["uri"] for message in told] == ["r:1/below", "r:1"]
    stream.hang_up()
    await stream.answer()
    assert session.closed


async def test_what_is_told_before_a_listen_stream_is_acknowledged_is_bounded(world, backend):
    w = world(backend("a", resources=[{"uri": "r:1", "name": "r"}, {"uri": "r:2", "name": "s"}]))
    slow, subscribed = w.backends["a"], asyncio.Event()

    async def answer(call: Call) -> Reply:
        await subscribed.wait()
        return Reply(result=b"{}")

    slow.answer = answer
    stream = w.modern("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["r:1", "r:2"]}})
    await eventually(lambda: len(slow.calls) == 2)
    (session,) = slow.sessions
    update = b'{"uri":"r:1","more":"%b"}' % (b"x" * 1024)
    for _ in range(10 * MAX_PENDING // len(update)):
        session.spec.events.notification("a", "notifications/resources/updated", update)
    subscribed.set()
    await stream.until(lambda answer: bool(answer.events))
    session.spec.events.notification("a", "notifications/resources/updated", b'{"uri":"r:2"}')
    told = (await stream.until(lambda answer: answer.events[-1]["params"].get("uri") == "r:2")).events[1:-1]
    assert 0 < len(told) * len(update) <= MAX_PENDING
    stream.hang_up()
    await stream.answer()


async def test_an_ended_listen_stream_ends_with_a_result(w):
    stream = w.modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    await stream.until(lambda answer: bool(answer.events))
    w.app._modern.end_streams()  # noqa: SLF001  what `Server.apply` and the end do to the front, without a server
    last = (await stream.answer()).events[-1]
    assert last["id"] == w.last_id
    assert last["result"]["resultType"] == "complete"


@pytest.mark.parametrize(("separate", "sessions"), [(False, 1), (True, 3)])
async def test_anonymous_clients_share_sessions_with_backends_unless_they_are_to_be_kept_apart(
    world, backend, separate, sessions
):
    w = world(backend("a", tools=[TOOL]), settings=FrontSettings(separate_anonymous=separate))
    for _ in range(3):
        assert (await w.modern("tools/call", {"name": "echo"}).answer()).status == 200
    assert len(w.backends["a"].sessions) == sessions
    ann = {"authorization": "Bearer ann"}
    for _ in range(2):
        await w.modern("tools/call", {"name": "echo"}, headers=ann).answer()
    assert len(w.backends["a"].sessions) == sessions + 1, "who is known keeps the sessions"
