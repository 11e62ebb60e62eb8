"""One caller cannot use up what belongs to all, and nothing outlives what allowed it."""

from __future__ import annotations

import dataclasses
import gc
import time
import weakref

import pytest

from vmcp.auth.interface import ANONYMOUS, LEEWAY, Principal, Unauthenticated
from vmcp.authz.cedar import AllowAll
from vmcp.backend.interface import SessionSpec
from vmcp.core.sessions import SharedSessions, sharing_key
from vmcp.front.settings import FrontSettings

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
RESOURCE = {"uri": "x://r", "name": "r"}
ANN, BOB = {"authorization": "Bearer ann"}, {"authorization": "Bearer bob"}
FILTER = {"notifications": {"resourceSubscriptions": ["x://r"], "toolsListChanged": True}}


def small(**changes):
    return FrontSettings(**{"version": "1", "max_sessions": 6, "max_sessions_each": 4, "max_listens": 4, **changes})


async def status(w, session_id, headers):
    w.session_id = session_id
    return (await w.legacy("ping", headers=headers).answer()).status


async def opened(w, headers):
    answer = await w.initialize(headers=headers)
    return answer.status, answer.headers.get("mcp-session-id")


# --- sessions ---


async def test_one_caller_that_opens_sessions_ends_only_its_own(world, backend):
    w = world(backend("a", tools=[TOOL]), settings=small())
    _, victim = await opened(w, ANN)
    for _ in range(20):
        assert (await opened(w, BOB))[0] == 200
    assert await status(w, victim, ANN) == 200
    assert len(w.sessions) <= 5


async def test_without_authentication_a_session_in_use_survives_those_that_nobody_uses(world, backend):
    w = world(backend("a", tools=[TOOL]), settings=small())
    _, victim = await opened(w, {})
    assert await status(w, victim, {}) == 200
    for _ in range(20):
        assert (await opened(w, {}))[0] == 200
    assert await status(w, victim, {}) == 200


async def test_where_all_are_in_use_the_new_session_is_refused(world, backend):
    w = world(backend("a", tools=[TOOL]), settings=small())
    held = []
    for _ in range(4):
        _, session = await opened(w, BOB)
        assert await status(w, session, BOB) == 200
        held.append(session)
    code, session = await opened(w, BOB)
    assert (code, session) == (429, None)
    assert [await status(w, session, BOB) for session in held] == [200] * 4
    assert (await opened(w, ANN))[0] == 200


async def test_what_was_idle_longest_goes_when_it_was_idle_long_enough(world, backend):
    w = world(backend("a", tools=[TOOL]), settings=small(spare_seconds=0.0))
    held = [(await opened(w, BOB))[1] for _ in range(4)]
    for session in held:
        assert await status(w, session, BOB) == 200
    assert (await opened(w, BOB))[0] == 200
    assert [await status(w, session, BOB) for session in held] == [404, 200, 200, 200]


async def test_the_caller_with_most_sessions_makes_room_for_the_others(world, backend):
    w = world(backend("a", tools=[TOOL]), settings=small(max_sessions=6, max_sessions_each=5))
    for _ in range(5):
        await opened(w, BOB)
    _, ann = await opened(w, ANN)
    _, carl = await opened(w, {"authorization": "Bearer carl"})
    assert await status(w, ann, ANN) == 200
    assert await status(w, carl, {"authorization": "Bearer carl"}) == 200
    assert len(w.sessions) == 6


@pytest.mark.parametrize("member", ["capabilities", "clientInfo"])
async def test_what_a_client_declares_of_itself_is_bounded(world, backend, member):
    w = world(backend("a", tools=[TOOL]), settings=small(max_declared=100))
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, member: {"x": "y" * 200}}
    answer = await w.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).answer()
    assert (answer.status, answer.json["error"]["code"]) == (400, -32602)
    name = "clientCapabilities" if member == "capabilities" else member
    answer = await w.modern("tools/call", {"name": "echo"}, **{name: {"x": "y" * 200}}).answer()
    assert (answer.status, answer.json["error"]["code"]) == (400, -32602)


async def test_a_session_that_ended_is_given_back_at_once(world, backend):
    w = world(backend("a"), settings=small())
    gc.disable()
    try:
        gone = weakref.ref(await w.sessions.open(ANONYMOUS, "2025-11-25", b"{}", None, ()))
        await w.sessions.close()
        assert gone() is None
    finally:
        gc.enable()


# --- subscriptions, batches, shared sessions, listen streams ---


async def test_a_session_has_a_bounded_number_of_subscriptions(world, backend):
    resources = [{"uri": f"x://{n}", "name": "r"} for n in range(4)]
    w = world(backend("a", resources=resources), settings=small(max_subscriptions=2))
    await w.initialize()

    async def ask(method, n):
        return "error" not in (await w.legacy(f"resources/{method}", {"uri": f"x://{n}"}).answer()).last

    assert [await ask("subscribe", n) for n in (0, 1, 1, 2)] == [True, True, True, False]
    assert await ask("unsubscribe", 0)
    assert await ask("subscribe", 2)


async def test_the_calls_of_a_batch_count_as_calls_of_the_session(world, backend):
    w = world(backend("a", tools=[TOOL]), settings=small(max_inflight=2))
    await w.initialize(version="2025-03-26")
    calls = [{"jsonrpc": "2.0", "id": n, "method": "ping"} for n in range(3)]
    headers = {**w.session_headers(), "mcp-protocol-version": "2025-03-26"}
    assert (await w.post(calls, headers).answer()).status == 429
    assert (await w.post(calls[:2], headers).answer()).status == 200


async def test_one_principal_that_varies_what_it_declares_keeps_a_bounded_number_of_shared_sessions():
    shared = SharedSessions(limit=8, each=3)
    ann, bob = Principal("ann", "test"), Principal("bob", "test")

    def use(principal, n):
        capabilities = b'{"x":%d}' % n
        key = sharing_key(principal, capabilities, ())
        return shared.get(key, lambda: SessionSpec(principal=principal, client_capabilities=capabilities))

    kept = use(ann, 0)
    for n in range(100):
        use(bob, n)
    assert use(ann, 0) is kept
    assert len(shared) == 4
    await shared.close()
    assert len(shared) == 0


async def test_one_caller_cannot_hold_all_listen_streams(world, backend):
    w = world(backend("a", tools=[TOOL]), settings=small(max_listens_each=2))
    streams = [w.modern("subscriptions/listen", FILTER, headers=BOB) for _ in range(2)]
    for stream in streams:
        assert (await stream.until(lambda a: True)).status == 200
    assert (await w.modern("subscriptions/listen", FILTER, headers=BOB).answer()).status == 503
    assert (await w.modern("subscriptions/listen", FILTER, headers=ANN).until(lambda a: True)).status == 200
    streams[0].hang_up()
    await streams[0].answer()
    assert (await w.modern("subscriptions/listen", FILTER, headers=BOB).until(lambda a: True)).status == 200


# --- nothing outlives the token, the session's life, or the policy ---


class Ending:
    """Everybody is `ann`, until the token ends."""

    def __init__(self, seconds: float) -> None:
        self.principal = Principal("ann", "test", expires_at=time.time() - LEEWAY + seconds)

    async def authenticate(self, headers):
        if self.principal.seconds_left() <= 0:
            raise Unauthenticated("expired", www_authenticate="Bearer")
        return self.principal

    def protected_resource(self):
        return None

    async def close(self):
        """Nothing runs."""


class Closed(AllowAll):
    def allows(self, principal, action, name, arguments=None, annotations=None):
        return False


async def test_a_stream_of_a_session_ends_with_the_token_that_opened_it(world, backend):
    w = world(backend("a", tools=[TOOL]), authenticator=Ending(0.5))
    await w.initialize()
    stream = w.stream()
    assert (await stream.until(lambda a: True)).status == 200
    await stream.answer()
    assert (await w.legacy("ping").answer()).status == 401


async def test_a_listen_stream_ends_in_good_order_with_the_token_that_opened_it(world, backend):
    one = backend("a", tools=[TOOL], resources=[RESOURCE])
    w = world(one, authenticator=Ending(0.5))
    answer = await w.modern("subscriptions/listen", FILTER).answer()
    assert answer.events[-1]["result"]["resultType"] == "complete"
    assert all(session.closed for session in one.sessions)


async def test_a_stream_ends_with_the_life_of_its_session(world, backend):
    w = world(backend("a", tools=[TOOL]), settings=small(session_life=0.5))
    await w.initialize()
    await w.stream().answer()
    w.sessions.sweep()
    assert len(w.sessions) == 0


async def test_a_session_with_an_open_stream_ends_at_the_end_of_its_life(world, backend):
    w = world(backend("a", tools=[TOOL]))
    await w.initialize()
    stream = w.stream()
    await stream.until(lambda a: True)
    w.sessions.all()[0].ends_at -= 100_000
    w.sessions.sweep()
    await stream.answer()
    assert len(w.sessions) == 0


def replaced(w, **changes):
    w.gateway.replace(dataclasses.replace(w.gateway.plan, **changes))


async def test_updates_of_a_resource_are_told_only_while_policy_lets_the_caller_read_it(world, backend):
    one = backend("a", resources=[RESOURCE])
    w = world(one)
    await w.initialize()
    assert "error" not in (await w.legacy("resources/subscribe", {"uri": "x://r"}).answer()).last
    events = one.sessions[-1].spec.events
    stream = w.stream()
    listen = w.modern("subscriptions/listen", FILTER)
    await listen.until(lambda a: len(a.events) == 1)
    for_listen = one.sessions[-1].spec.events
    for said, policy in (("before", None), ("forbidden", Closed()), ("after", AllowAll())):
        if policy is not None:
            replaced(w, authorizer=policy)
        for target in (events, for_listen):
            target.notification("a", "notifications/resources/updated", b'{"uri":"x://r","said":"%b"}' % said.encode())
    for told in (stream, listen):
        answer = await told.until(lambda a: b"after" in a.body)
        assert b"before" in answer.body
        assert b"forbidden" not in answer.body


async def test_a_listen_stream_ends_when_a_backend_of_its_subscriptions_is_gone(world, backend):
    w = world(backend("a", resources=[RESOURCE]))
    listen = w.modern("subscriptions/listen", FILTER)
    await listen.until(lambda a: len(a.events) == 1)
    replaced(w, backends={})
    w.app._modern.drop(w.gateway.has)  # noqa: SLF001  what `Server.apply` and the end do to the front, without a server
    assert "result" in (await listen.answer()).events[-1]


async def test_an_interrupted_stream_can_be_opened_again(world, backend):
    w = world(backend("a", tools=[TOOL]))
    await w.initialize()
    stream = w.stream()
    await stream.until(lambda a: True)
    w.sessions.all()[0].streams.interrupt()
    await stream.answer()
    again = w.stream()
    await again.until(lambda a: True)
    w.backends["a"].change(tools=[])
    assert (await again.until(lambda a: b"list_changed" in a.body)).status == 200


async def test_the_newest_claims_of_a_caller_count(world, backend):
    w = world(backend("a", tools=[TOOL]))
    await w.initialize(headers=ANN)
    session = w.sessions.all()[0]
    before = session.principal
    assert (await w.legacy("ping", headers=ANN).answer()).status == 200
    assert session.principal is not before
    assert session.watcher.principal is session.principal
