"""What policy hides, what the audit log hears, what travels on to backends."""

from __future__ import annotations

import asyncio
import json

import pytest
import structlog

from tests.support.eventually import eventually
from vmcp.audit.interface import AuditEvent
from vmcp.authz.cedar import AllowAll
from vmcp.backend.interface import BackendError, Era, Reply, RpcFault
from vmcp.observe.metrics import Metrics

TOOLS = [{"name": name, "annotations": {"readOnlyHint": name == "open"}} for name in ("open", "secret")]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class OnlyOpen(AllowAll):
    """Allows what is called `open`, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def allows(self, principal, action, name, arguments=None, annotations=None):
        self.asked.append((principal.subject, action.value, name, arguments, annotations))
        return name.endswith("open")

    def visible(self, principal, action, items):
        return [item.name.endswith("open") for item in items]


class Log:
    enabled = True

    def __init__(self):
        self.events: list[AuditEvent] = []

    def write(self, event):
        self.events.append(event)

    def close(self):
        """Nothing is open."""


@pytest.fixture
def policy():
    return OnlyOpen()


@pytest.fixture
def log():
    return Log()


@pytest.fixture
async def w(world, backend, policy, log):
    made = world(
        backend("a", tools=TOOLS, prompts=[{"name": "secret"}], resources=[{"uri": "r:secret"}]),
        authorizer=policy,
        audit=log,
        passthrough=frozenset({"x-tenant"}),
    )
    await made.initialize()
    log.events.clear()
    return made


async def test_denied_items_are_not_listed_in_either_era(w):
    for era in (w.legacy, w.modern):
        assert [tool["name"] for tool in (await era("tools/list").answer()).json["result"]["tools"]] == ["open"]
        assert (await era("prompts/list").answer()).json["result"]["prompts"] == []
        assert (await era("resources/list").answer()).json["result"]["resources"] == []


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "secret"}),
        ("tools/call", {"name": "there is no such tool"}),
        ("prompts/get", {"name": "secret"}),
        ("resources/read", {"uri": "r:secret"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "secret"}, "argument": {}}),
    ],
)
async def test_a_denied_use_is_403_and_does_not_say_whether_the_item_exists(w, method, params):
    for era in (w.legacy, w.modern):
        answer = await era(method, params).answer()
        assert (answer.status, answer.json["error"]["code"]) == (403, 403)
        assert "secret" not in answer.json["error"]["message"]
        assert "no such" not in answer.json["error"]["message"]
    assert w.backends["a"].calls == []


async def test_policy_decides_on_the_arguments_and_the_advertised_annotations(w, policy):
    await w.modern("tools/call", {"name": "open", "arguments": {"x": 1}}).answer()
    assert policy.asked[-1] == ("anonymous", "call_tool", "open", b'{"x": 1}', {"readOnlyHint": True})


async def test_the_audit_line_of_a_call_knows_who_what_where_and_how_it_ended(w, log):
    w.backends["a"].answer = lambda call: Reply(result=b'{"content":[],"isError":true}', status=200)
    headers = {"user-agent": "agent/1", "traceparent": TRACE, "authorization": "Bearer ann"}
    await w.modern("tools/call", {"name": "open", "arguments": {}}, headers=headers).answer()
    (event,) = log.events
    assert (event.type.value, event.outcome.value) == ("mcp_tool_call", "application_error")
    assert event.principal.subject == "ann"
    assert (event.method, event.name, event.backend, event.backend_tool) == ("tools/call", "open", "a", "open")
    assert (event.era, event.status, event.remote_status) == ("modern", 200, 200)
    assert (event.client_ip, event.user_agent) == ("192.0.2.1", "agent/1")
    assert (event.remote_url, event.auth_method) == ("http://backend.test/mcp", "unauthenticated")
    assert event.trace_id == TRACE.split("-")[1]
    assert event.duration_ms > 0


@pytest.mark.parametrize(
    ("request_", "kind", "outcome"),
    [
        (("tools/list", {}), "mcp_tools_list", "success"),
        (("tools/call", {"name": "secret"}), "mcp_tool_call", "denied"),
        (("tools/call", {}), "mcp_tool_call", "failure"),
        (("no/such", {}), "mcp_request", "failure"),
    ],
)
async def test_every_request_leaves_one_line_in_both_eras(w, log, request_, kind, outcome):
    for era in (w.legacy, w.modern):
        log.events.clear()
        await era(*request_).answer()
        (event,) = log.events
        assert (event.type.value, event.outcome.value) == (kind, outcome)


async def test_streams_and_ends_of_sessions_leave_a_line(w, log):
    stream = w.stream()
    await stream.until(lambda answer: True)
    await w.send("DELETE", "/mcp", w.session_headers())
    await stream.answer()
    assert [event.type.value for event in log.events] == ["sse_connection", "http_request"]
    assert {event.session_id for event in log.events} == {w.session_id}


async def test_refused_requests_leave_a_line_too(w, log):
    await w.modern("tools/list", headers={"authorization": "Bearer bad"}).answer()
    await w.post(b"{", w.session_headers()).answer()
    await w.modern("tools/list", headers={"mcp-method": "x"}).answer()
    assert [event.status for event in log.events] == [401, 400, 400]
    assert all(event.outcome.value == "failure" for event in log.events)


async def test_trace_and_passthrough_headers_travel_on_and_nothing_else_does(w):
    headers = {"x-tenant": "t1", "x-other": "no", "traceparent": TRACE, "authorization": "Bearer ann"}
    await w.modern("tools/call", {"name": "open"}, headers=headers).answer()
    call = w.backends["a"].calls[-1]
    assert call.headers == (("x-tenant", "t1"),)
    assert call.trace.trace_id == TRACE.split("-")[1]
    meta = w.modern_body("tools/call", {"name": "open"})
    other = "00-11111111111111111111111111111111-b7ad6b7169203331-01"
    meta["params"]["_meta"]["traceparent"] = other
    await w.post(
        meta,
        {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "open", "traceparent": TRACE},
    ).answer()
    assert w.backends["a"].calls[-1].trace.trace_id == other.split("-")[1]


async def test_clients_with_other_passthrough_headers_do_not_share_backend_sessions(w):
    for tenant in ("t1", "t2", "t1"):
        await w.modern("tools/call", {"name": "open"}, headers={"x-tenant": tenant}).answer()
    assert [session.spec.headers for session in w.backends["a"].sessions] == [
        (("x-tenant", "t1"),),
        (("x-tenant", "t2"),),
    ]


async def test_requests_are_counted_where_metrics_are_served(world, backend):
    w = world(backend("a", tools=TOOLS))
    w.front.metrics = Metrics()
    await w.modern("tools/call", {"name": "open"}).answer()
    shown = w.front.metrics.render()[1].decode()
    assert 'toolhive_mcp_requests_total{era="modern",mcp_method="tools/call",outcome="success"} 1.0' in shown
    assert 'toolhive_mcp_tool_calls_total{backend="a",outcome="success",tool="open"} 1.0' in shown


async def test_a_backend_that_lists_per_caller_only_later_is_asked_for_each_caller_from_then_on(world, backend):
    own = backend("b")
    w = world(own)

    async def catalogue_for(principal, *, headers=(), timeout):
        return own.make(tools=[{"name": "theirs"}])

    async def seen():
        answer = await w.modern("tools/list", headers={"authorization": "Bearer ann"}).answer()
        return [tool["name"] for tool in answer.json["result"]["tools"]]

    async def theirs():
        return await seen() == ["theirs"]

    assert await seen() == []
    own.catalogue_for = catalogue_for
    own.personal = True
    own.change()
    await eventually(theirs)


async def test_backends_that_list_per_caller_are_asked_for_each_caller(world, backend):
    shared, own = backend("a", tools=[{"name": "for-all"}]), backend("b")
    own.personal = True

    async def catalogue_for(principal, *, headers=(), timeout):
        if principal.subject == "bob":
            raise BackendError("b", "refuses bob")
        return lists.setdefault(principal.subject, own.make(tools=[{"name": f"for-{principal.subject}"}]))

    lists = {}
    own.catalogue_for = catalogue_for
    w = world(shared, own)

    async def seen(name):
        answer = await w.modern("tools/list", headers={"authorization": f"Bearer {name}"}).answer()
        return {tool["name"] for tool in answer.json["result"]["tools"]}

    assert await seen("ann") == {"for-all", "for-ann"}
    assert await seen("eve") == {"for-all", "for-eve"}
    assert await seen("bob") == {"for-all"}
    theirs = w.modern("tools/call", {"name": "for-ann"}, headers={"authorization": "Bearer eve"})
    assert (await theirs.answer()).status == 400


async def test_why_callers_see_no_lists_of_their_own_is_logged_once_for_each_backend(world, backend):
    """The answer is an empty list, and probes succeed: nothing else would say why."""
    silent, other = backend("b"), backend("c")

    async def refuses(principal, *, headers=(), timeout):
        raise BackendError("b", "has no token")

    async def fails(principal, *, headers=(), timeout):
        raise BackendError("c", "is away")

    silent.personal = other.personal = True
    silent.catalogue_for, other.catalogue_for = refuses, fails
    w = world(silent, other)

    async def told(caller):
        with structlog.testing.capture_logs() as lines:
            answer = await w.modern("tools/list", headers={"authorization": f"Bearer {caller}"}).answer()
        assert answer.json["result"]["tools"] == []
        return [
            (line["backend"], line["reason"])
            for line in lines
            if line["event"] == "a caller's own lists could not be fetched"
        ]

    assert await told("ann") == [("b", "has no token"), ("c", "is away")]
    assert await told("eve") == [], "a crowd of callers does not fill the log"


async def test_a_question_outside_of_any_call_takes_the_sessions_stream(world, backend):
    w = world(backend("a", Era.LEGACY, tools=TOOLS))
    await w.initialize({"roots": {}})
    stream = w.stream()
    await stream.until(lambda answer: True)
    (session,) = w.sessions.all()
    asking = asyncio.create_task(session.request("a", "roots/list", b"{}"))
    question = (await stream.until(lambda answer: bool(answer.events))).events[0]
    reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}
    await w.post(reply, w.session_headers()).answer()
    assert json.loads(await asking) == {"roots": []}
    with pytest.raises(RpcFault):
        await session.request("a", "sampling/createMessage", b"{}")
