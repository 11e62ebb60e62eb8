"""Rate limits that replicas count together, through a real server (Redis or Valkey, whichever this machine has)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from hack.redis_server import MISSING, RedisServer, find
from tests.support.eventually import eventually
from vmcp.auth.interface import Principal
from vmcp.auth.outgoing.unauthenticated import UnauthenticatedSettings
from vmcp.backend.interface import Era, InputRequired, Reply
from vmcp.backend.settings import BackendSettings
from vmcp.config.settings import Settings
from vmcp.front.settings import FrontSettings
from vmcp.limits.bucket import Rate, RateLimits, TokenBuckets, ToolRates
from vmcp.server import Server
from vmcp.sessions.limits import SharedRateLimiter
from vmcp.sessions.link import RedisLink
from vmcp.sessions.settings import RedisSettings

pytestmark = pytest.mark.skipif(find() is None, reason=MISSING)

ANN, BOB = Principal("ann-the-subject", "i"), Principal("bob", "i")
DAY = 86_400.0
TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
SECRET = b"shared by the replicas"


@pytest.fixture
def own() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


def settings_of(server: RedisServer) -> RedisSettings:
    return RedisSettings(host="127.0.0.1", port=server.port, prefix=f"t{time.monotonic_ns()}:")


class Replica(SharedRateLimiter):
    """The limiter of one replica, with a connection of its own."""

    def __init__(self, limits: RateLimits, link: RedisLink) -> None:
        self.uncounted = 0
        self.link = link
        super().__init__(limits, lambda: link, self._count)

    def _count(self) -> None:
        self.uncounted += 1


Make = Callable[..., list[Replica]]


@pytest.fixture
async def replicas(own) -> AsyncIterator[Make]:
    """Makes replicas of one gateway."""
    links: list[RedisLink] = []
    shared = settings_of(own)

    async def make(count: int = 2, **limits) -> list[Replica]:
        made = [Replica(RateLimits(**limits), RedisLink(shared)) for _ in range(count)]
        links.extend(replica.link for replica in made)
        for replica in made:
            replica.link.ears[f"{shared.prefix}notes"] = lambda _: None
            replica.link.start()
        await eventually(lambda: not any(replica.link.trouble for replica in made))
        return made

    yield make
    for link in links:
        await link.close()


async def test_four_replicas_let_through_what_one_would(replicas, scale):
    calls, tokens, period = scale(2_000, 10_000), 400, 100.0
    four = await replicas(4, shared=Rate(tokens, period))
    began = time.monotonic()

    async def client(number: int) -> list[float | None]:
        return [await four[number % 4].take(ANN, "t") for _ in range(calls // 16)]

    waits = [wait for found in await asyncio.gather(*(client(number) for number in range(16))) for wait in found]
    seconds = time.monotonic() - began
    passed = waits.count(None)
    assert tokens <= passed <= (tokens + seconds * tokens / period) * 1.01
    assert all(0 < wait <= period / tokens + 1e-3 for wait in waits if wait is not None)
    assert [replica.uncounted for replica in four] == [0] * 4


async def test_a_token_is_there_again_at_any_replica_when_it_is_due(replicas):
    one, other = await replicas(shared=Rate(2, 0.5))
    assert [await one.take(ANN, "t"), await other.take(ANN, "t")] == [None, None]
    wait = await one.take(ANN, "t")
    assert 0 < wait <= 0.25
    await asyncio.sleep(wait)
    assert await other.take(BOB, "t") is None


async def test_a_refused_call_costs_nobody_anything(replicas):
    one, other = await replicas(shared=Rate(3, DAY), tools={"t": ToolRates(per_user=Rate(1, DAY))})
    assert await one.take(ANN, "t") is None
    for _ in range(5):
        assert await other.take(ANN, "t") > 0
    assert [await other.take(BOB, "t"), await one.take(ANN, "u")] == [None, None]
    assert await one.take(BOB, "u") > 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    sizes=st.tuples(*[st.none() | st.integers(1, 4)] * 4),
    calls=st.lists(st.tuples(st.sampled_from([ANN, BOB]), st.sampled_from("tu"), st.integers(0, 1)), max_size=20),
)
def test_replicas_decide_as_one_process_would(own, sizes, calls):
    shared, per_user, tool_shared, tool_per_user = (None if size is None else Rate(size, DAY) for size in sizes)
    limits = RateLimits(shared, per_user, {"t": ToolRates(tool_shared, tool_per_user)})
    alone = TokenBuckets(limits, clock=lambda: 0.0)

    async def decide() -> list[bool]:
        links = [RedisLink(shared_settings) for _ in range(2)]
        for link in links:
            link.trouble = ""
        both = [Replica(limits, link) for link in links]
        try:
            return [await both[number].take(who, tool) is None for who, tool, number in calls]
        finally:
            for link in links:
                await link.close()

    shared_settings = settings_of(own)
    assert asyncio.run(decide()) == [alone.take(who, tool) is None for who, tool, _ in calls]


async def test_a_bucket_that_became_smaller_is_empty_for_no_longer_than_it_would_take_to_fill(replicas):
    (before,) = await replicas(1, shared=Rate(10, DAY))
    for _ in range(10):
        assert await before.take(ANN, "t") is None
    (after,) = await replicas(1, shared=Rate(2, 10.0))
    assert 4.9 < await after.take(ANN, "t") <= 5.0


async def test_the_server_learns_neither_callers_nor_tools_and_keeps_no_full_bucket(replicas, own):
    (one,) = await replicas(1, per_user=Rate(5, 10.0), tools={"secret-tool": ToolRates(shared=Rate(5, 0.2))})
    assert await one.take(ANN, "secret-tool") is None
    client = Redis(port=own.port)
    keys = await client.keys("*")
    dump = b"".join(keys) + b"".join([await client.get(key) or b"" for key in keys])
    assert keys
    assert b"ann" not in dump
    assert b"secret" not in dump
    assert max([await client.pttl(key) for key in keys]) <= 2_001
    await client.aclose()


async def test_while_the_server_is_away_each_replica_counts_by_itself_and_says_so_once(replicas, own, capsys):
    one, other = await replicas(shared=Rate(2, DAY))
    assert [await one.take(ANN, "t"), await one.take(ANN, "t")] == [None, None]
    own.kill()
    waits = [await replica.take(ANN, "t") for replica in (one, other) for _ in range(3)]
    assert [wait is None for wait in waits] == [True, True, False] * 2
    assert (one.uncounted, other.uncounted) == (3, 3)
    out = capsys.readouterr().out
    assert out.count("rate limits cannot be shared") == 2, "one line for each replica"
    own.start()
    await eventually(lambda: not (one.link.trouble or other.link.trouble), within=5.0)
    assert await other.take(ANN, "t") is None, "its data were lost"
    assert other.uncounted == 3


async def test_where_limits_fail_closed_nothing_passes_while_the_server_is_away(replicas, own):
    one, other = await replicas(shared=Rate(100, DAY), fail_closed=True)
    own.kill()
    assert [await replica.take(ANN, "t") for replica in (one, other)] == [1.0, 1.0]
    assert await one.continues("n") is False


async def test_a_full_server_is_no_reason_to_let_more_through_than_one_replica_would(replicas, own):
    (one,) = await replicas(1, shared=Rate(2, DAY))
    client = Redis(port=own.port)
    await client.config_set("maxmemory", "1")
    assert [await one.take(ANN, "t") is None for _ in range(3)] == [True, True, False]
    await client.aclose()


async def test_a_state_goes_on_with_a_counted_call_once_at_all_replicas_together(replicas):
    one, other = await replicas(shared=Rate(1, DAY))
    assert [await one.continues("n"), await other.continues("n"), await other.continues("m")] == [True, False, True]


# --- whole gateways ---


def asking_once(call):
    if call.input_responses is None:
        asked = {"resultType": "input_required", "inputRequests": {"k": {"method": "elicitation/create"}}}
        result = json.dumps({**asked, "requestState": "s1"}).encode()
        return Reply(input_required=InputRequired(b"{}", "s1", result), era=Era.MODERN)
    return Reply(result=b'{"resultType":"complete","content":[]}', era=Era.MODERN)


async def test_gateways_that_share_a_store_share_their_limits(own, backend, world):
    shared = settings_of(own)
    servers, clients = [], []
    for _ in range(2):
        made = backend("a", era=Era.MODERN, tools=[TOOL])
        made.answer = asking_once
        configuration = Settings(
            name="gw",
            group="g",
            backends=(BackendSettings(name="a", url="http://backend.test/mcp"),),
            outgoing={"a": UnauthenticatedSettings()},
            limits=RateLimits(shared=Rate(2, DAY)),
            store=shared,
            metrics=True,
        )
        server = Server(
            configuration,
            make_backend=lambda settings, auth, resolve, made=made: made,
            front=FrontSettings(version="1"),
            secrets=(SECRET,),
        )
        await server.start()
        servers.append(server)
        clients.append(world(made))
        clients[-1].app = server.app
    try:
        one, other = clients

        async def ready(client) -> bool:
            return (await client.send("GET", "/status", {})).json["session_store"] == "available"

        for client in clients:
            await eventually(lambda client=client: ready(client))

        async def call(client, **members):
            return (await client.modern("tools/call", {"name": "a_echo", "arguments": {}, **members}).answer()).json

        first = await call(one)
        assert "result" in first, first
        state = first["result"]["requestState"]
        answers = {"inputResponses": {"k": {"action": "accept"}}, "requestState": state}
        assert (await call(other, **answers))["result"]["resultType"] == "complete", "one call, and one token"
        assert "result" in await call(one, **answers), "said again it counts, wherever"
        assert (await call(other))["error"]["code"] == 429
        own.kill()
        assert "result" in await call(other), "each counts by itself"
        shown = (await other.send("GET", "/metrics", {})).body
        assert b"vmcp_rate_limit_uncounted_total 1.0" in shown
    finally:
        for server in servers:
            await server.close()
