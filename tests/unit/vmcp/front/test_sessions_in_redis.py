"""Two gateways that share sessions through a real server (Redis or Valkey, whichever this machine has)."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from hack.redis_server import MISSING, RedisServer, find
from tests.support.eventually import eventually
from tests.unit.vmcp.front.conftest import World
from vmcp.auth.outgoing.unauthenticated import UnauthenticatedSettings
from vmcp.backend.interface import BackendLink, Reply
from vmcp.backend.settings import BackendSettings
from vmcp.config.settings import Settings
from vmcp.core.seal import Sealer
from vmcp.front.settings import FrontSettings
from vmcp.server import Server
from vmcp.sessions.redis import RedisStore
from vmcp.sessions.settings import RedisSettings

pytestmark = pytest.mark.skipif(find() is None, reason=MISSING)

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
RESOURCE = {"uri": "r:1", "name": "r"}
ANN, BOB = {"authorization": "Bearer ann-the-subject"}, {"authorization": "Bearer bob"}
SECRET = b"shared by the replicas"
MANUAL = (Path(__file__).parents[4] / "docs/vmcp/operations.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lasting() -> Iterator[RedisServer]:
    """A server that no test of this module disturbs."""
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server of one test."""
    server = RedisServer()
    server.start()
    yield server
    server.close()


def settings_of(server: RedisServer, **changes) -> RedisSettings:
    return RedisSettings(**{"host": "127.0.0.1", "port": server.port, "prefix": f"t{time.monotonic_ns()}:", **changes})


@pytest.fixture
async def client(lasting) -> AsyncIterator[Redis]:
    """A stranger with all rights at the server."""
    client = Redis(port=lasting.port)
    yield client
    await client.aclose()


@pytest.fixture
def gateways(world, backend):
    """Makes gateways of one deployment."""

    async def make(settings: RedisSettings, *, count: int = 2, secret: bytes = SECRET, ttl: float = 1800.0):
        made = []
        for _ in range(count):
            store = RedisStore(settings, Sealer((secret,)), idle=ttl)
            front = FrontSettings(version="1", session_ttl=ttl)
            w = world(backend("a", tools=[TOOL], resources=[RESOURCE]), store=store, settings=front)
            w.sessions.start()
            made.append(w)
        await eventually(lambda: not any(w.sessions.trouble for w in made))
        return made

    return make


@pytest.fixture
async def pair(gateways, lasting):
    """Two gateways, and a session of Ann at the first."""
    one, other = await gateways(settings_of(lasting))
    assert (await one.initialize({"elicitation": {}}, headers=ANN)).status == 200
    other.session_id = one.session_id
    return one, other


async def ping(w, headers=ANN) -> int:
    return (await w.legacy("ping", headers=headers).answer()).status


async def both_alive(one, other) -> None:
    assert [await ping(one), await ping(other)] == [200, 200]


# --- one session at two replicas ---


async def test_a_session_goes_on_at_the_other_replica_with_all_that_belongs_to_it(pair):
    one, other = pair
    await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()
    await one.legacy("resources/subscribe", {"uri": "r:1"}, headers=ANN).answer()
    one.sessions.all()[0].linked("a", BackendLink(id="backend-session", version="2025-11-25"))
    await one.sessions.save(one.sessions.all()[0])
    assert (await other.legacy("tools/call", {"name": "echo"}, headers=ANN).answer()).status == 200
    (session,) = other.sessions.all()
    assert session.record == one.sessions.all()[0].record
    assert (await session.link("a")).id == "backend-session"
    await eventually(lambda: any(call.method == "resources/subscribe" for call in other.backends["a"].calls))


async def test_a_session_that_is_ended_at_one_replica_is_ended_at_the_other_within_a_second(pair):
    one, other = pair
    await both_alive(one, other)
    assert (await one.send("DELETE", "/mcp", {**one.session_headers(), **ANN})).status == 200
    await eventually(lambda: len(other.sessions) == 0, within=1.0)
    assert [await ping(one), await ping(other)] == [404, 404]


async def test_what_changes_at_one_replica_holds_at_the_other(pair):
    one, other = pair
    await both_alive(one, other)
    await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()
    await eventually(lambda: other.sessions.all()[0].record.level == "error", within=1.0)


async def test_changes_at_both_at_the_same_time_are_both_kept(pair, gateways, lasting):
    one, other = pair
    await both_alive(one, other)
    await asyncio.gather(
        one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer(),
        other.legacy("resources/subscribe", {"uri": "r:1"}, headers=ANN).answer(),
    )
    for w in (one, other):
        await eventually(lambda w=w: w.sessions.all()[0].record.subscriptions == ("r:1",), within=1.0)
        await eventually(lambda w=w: w.sessions.all()[0].record.level == "error", within=1.0)


async def test_two_sessions_with_one_backend_become_one(pair):
    one, other = pair
    await both_alive(one, other)
    first, second = one.sessions.all()[0], other.sessions.all()[0]
    first.linked("a", BackendLink(id="first", version="2025-11-25"))
    second.linked("a", BackendLink(id="second", version="2025-11-25"))
    await one.sessions.save(first)
    await other.sessions.save(second)
    assert await first.link("a") == await second.link("a") == BackendLink(id="first", version="2025-11-25")


async def test_an_answer_to_a_question_may_come_by_the_other_replica(pair):
    one, other = pair

    async def ask(call):
        answer = await call.bridge("elicitation/create", b'{"message":"sure?","requestedSchema":{"type":"object"}}')
        return Reply(result=json.dumps({"content": [], "said": json.loads(answer)}).encode())

    one.backends["a"].answer = ask
    asking = one.legacy("tools/call", {"name": "echo"}, headers=ANN)
    question = (await asking.until(lambda answer: bool(answer.events))).events[0]
    answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
    assert (await other.post(answer, {**other.session_headers(), **ANN}).answer()).status == 202
    done = await asking.answer()
    assert done.events[-1]["result"]["said"] == {"action": "decline"}


async def test_a_request_may_be_cancelled_by_the_other_replica(pair):
    one, other = pair
    started = asyncio.Event()

    async def hang(call):
        started.set()
        await asyncio.Event().wait()

    one.backends["a"].answer = hang
    hanging = one.legacy("tools/call", {"name": "echo"}, headers=ANN, request_id="slow")
    await started.wait()
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "slow"}}
    assert (await other.post(cancelled, {**other.session_headers(), **ANN}).answer()).status == 202
    await hanging.answer()


async def test_what_a_backend_says_to_one_replica_reaches_the_stream_at_the_other(pair):
    one, other = pair
    stream = other.stream(ANN)
    await eventually(lambda: bool(other.sessions.all()) and other.sessions.all()[0].streams.own.attached)
    one.sessions.all()[0].notification("a", "notifications/resources/updated", b'{"uri":"r:1"}')
    found = await stream.until(lambda answer: bool(answer.events))
    assert found.events[0]["params"] == {"uri": "r:1"}


async def test_a_stream_of_a_request_at_the_other_replica_is_said_to_be_lost(pair):
    one, other = pair
    await both_alive(one, other)
    foreign = one.sessions.all()[0].streams.for_post().name
    assert (await other.stream({**ANN, "last-event-id": f"{foreign}-1"}).answer()).status == 400


# --- how sessions end ---


async def test_a_session_that_is_in_use_elsewhere_outlives_its_idle_time_here(gateways, lasting):
    one, other = await gateways(settings_of(lasting), ttl=2.0)
    await one.initialize(headers=ANN)
    other.session_id = one.session_id
    await both_alive(one, other)
    one.sessions.all()[0].used_at -= 10
    one.sessions.all()[0].touched_at -= 10
    one.sessions.sweep()
    await eventually(lambda: len(one.sessions) == 0)
    assert await ping(other) == 200
    assert await ping(one) == 200, "and it can come back"


async def test_a_request_that_comes_back_to_a_replica_where_the_session_was_idle_too_long_is_served(gateways, lasting):
    one, other = await gateways(settings_of(lasting), ttl=2.0)
    await one.initialize(headers=ANN)
    other.session_id = one.session_id
    await both_alive(one, other)
    one.sessions.all()[0].used_at -= 10
    one.sessions.all()[0].touched_at -= 10
    assert await ping(one) == 200, "it is in use at the other, although nobody has swept here yet"


async def test_what_is_done_for_a_session_in_the_background_ends_with_it(pair):
    one, other = pair
    await one.legacy("resources/subscribe", {"uri": "r:1"}, headers=ANN).answer()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang(call):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    other.backends["a"].answer = hang
    assert await ping(other) == 200
    await asyncio.wait_for(begun.wait(), 5)
    assert (await other.send("DELETE", "/mcp", {**other.session_headers(), **ANN})).status == 200
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_session_that_nobody_uses_ends_and_leaves_nothing(gateways, lasting, client):
    settings = settings_of(lasting)
    (one,) = await gateways(settings, count=1, ttl=0.2)
    await one.initialize(headers=ANN)
    key = (await client.keys(f"{settings.prefix}*"))[0]
    assert 0 < await client.pttl(key) <= 61_000
    session = one.sessions.all()[0]
    session.used_at -= 1
    one.sessions.sweep()
    await eventually(lambda: len(one.sessions) == 0)
    assert await client.keys(f"{settings.prefix}*") == []


async def test_a_replica_that_ends_leaves_its_sessions_to_the_others(pair):
    one, other = pair
    await one.legacy("tools/call", {"name": "echo"}, headers=ANN).answer()
    await one.sessions.close()
    assert [session.left for session in one.backends["a"].sessions] == [True]
    assert await ping(other) == 200


# --- strangers ---


async def test_nobody_goes_on_with_the_session_of_another(pair):
    one, other = pair
    assert [await ping(one, BOB), await ping(other, BOB), await ping(other)] == [404, 404, 200]


async def test_a_stranger_who_writes_to_the_server_makes_no_session_valid(gateways, lasting, client):
    settings = settings_of(lasting)
    one, other = await gateways(settings)
    stranger, _ = await gateways(settings, secret=b"not the replicas' secret")
    await one.initialize(headers=BOB)
    (theirs,) = await client.keys(f"{settings.prefix}session:*")
    await one.initialize(headers=ANN)
    other.session_id = one.session_id
    (anns,) = set(await client.keys(f"{settings.prefix}session:*")) - {theirs}
    kept = await client.hgetall(anns)
    await client.delete(anns)
    await client.hset(anns, mapping=await client.hgetall(theirs))
    assert await ping(other) == 404, "Bob's record at the place of Ann's"
    for forged in (b"", b"A" * 200, b"\xff" * 50, kept[b"record"][:-2] + b"AA"):
        await client.hset(anns, mapping={"revision": "0", "record": forged})
        assert await ping(other) == 404
    assert (await stranger.initialize(headers=ANN)).status == 200
    other.session_id = stranger.session_id
    assert await ping(other) == 404, "sealed with another secret"


async def test_notes_of_strangers_end_nothing(pair, client):
    one, other = pair
    await both_alive(one, other)
    channels = list(await client.pubsub_channels())
    seen = Redis(port=client.connection_pool.connection_kwargs["port"])
    async with seen.pubsub() as ear:
        await ear.subscribe(*channels)
        for channel in channels:
            for forged in (b"", b"x", b"A" * 300):
                await client.publish(channel, forged)
        await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()
    await seen.aclose()
    await eventually(lambda: other.sessions.all()[0].record.level == "error", within=1.0)
    await both_alive(one, other)


async def test_the_server_learns_no_identity_and_no_session_id(pair, client):
    one, other = pair
    await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()
    await both_alive(one, other)
    dump = b""
    for key in await client.keys("*"):
        dump += key + b"".join((await client.hgetall(key)).values())
    assert dump
    for sentinel in (one.session_id, "ann-the-subject", "elicitation", "error"):
        assert sentinel.encode() not in dump


# --- a server in trouble ---


async def test_a_server_that_dies_costs_new_sessions_and_those_of_others_only_and_comes_back_by_itself(gateways, own):
    one, other = await gateways(settings_of(own))
    await one.initialize(headers=ANN)
    other.session_id = one.session_id
    own.kill()
    assert await ping(one) == 200
    failed = await other.legacy("ping", headers=ANN).answer()
    assert (failed.status, failed.headers["retry-after"]) == (503, "1")
    assert (await other.initialize(headers=ANN)).status == 503
    assert (await other.modern("tools/call", {"name": "echo"}, headers=ANN).answer()).status == 200
    assert other.sessions.trouble == "unavailable"
    own.start()
    await eventually(lambda: not (one.sessions.trouble or other.sessions.trouble), within=5.0)
    await eventually(lambda: len(one.sessions) == 0, within=5.0)
    assert await ping(one) == 404, "its data were lost, so nobody can say that the session was not ended"
    assert (await other.initialize(headers=ANN)).status == 200


async def test_a_server_that_stands_still_is_given_up_in_time_and_asked_again_later(gateways, own):
    one, other = await gateways(settings_of(own))
    await one.initialize(headers=ANN)
    own.pause()
    try:
        began = time.monotonic()
        assert (await other.initialize(headers=ANN)).status == 503
        assert time.monotonic() - began < 4.0
        began = time.monotonic()
        for _ in range(20):
            assert (await other.initialize(headers=ANN)).status == 503
        assert time.monotonic() - began < 2.0, "the circuit is open: nobody waits"
        assert (await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()).status == 200
    finally:
        own.resume()
    await eventually(lambda: not (one.sessions.trouble or other.sessions.trouble), within=5.0)
    one.sessions.sweep()
    (session,) = one.sessions.all()
    await eventually(lambda: not session.unsaved and not session.saving.locked(), within=5.0)
    other.session_id = one.session_id
    assert await ping(other) == 200
    assert other.sessions.all()[0].record.level == "error", "what changed meanwhile was kept later"


async def test_a_server_that_is_full_costs_new_sessions_only(gateways, own):
    one, other = await gateways(settings_of(own))
    await one.initialize(headers=ANN)
    other.session_id = one.session_id
    client = Redis(port=own.port)
    await client.config_set("maxmemory", "1")
    assert (await one.initialize(headers=BOB)).status == 503
    assert await ping(other) == 200
    await client.config_set("maxmemory", "0")
    await client.aclose()
    assert (await one.initialize(headers=BOB)).status == 200


async def test_many_changes_at_once_are_all_kept_and_are_no_reason_to_give_the_server_up(gateways, own, scale):
    (one,) = await gateways(settings_of(own), count=1)
    await one.initialize(headers=ANN)
    store, (session,) = one.sessions.store, one.sessions.all()
    records = [msgspec.structs.replace(session.record, id=f"{number}") for number in range(scale(5000, 20_000))]
    await asyncio.gather(*(store.open(record) for record in records))
    assert await store.touch(records) == [0] * len(records)
    assert not one.sessions.trouble


async def test_a_server_that_was_never_there_is_named_in_the_log(own, capsys):
    own.kill()
    store = RedisStore(settings_of(own), Sealer((SECRET,)), idle=1800.0)
    store.start()
    await eventually(lambda: store.trouble == "unavailable")
    await store.close()
    assert f"127.0.0.1:{own.port}" in capsys.readouterr().out


async def test_the_commands_that_the_manual_lists_are_enough(gateways, own, capsys):
    commands = re.search(r"The gateway needs `([A-Z ]+)`", MANUAL)[1].lower().split()
    client = Redis(port=own.port)
    await client.config_set("requirepass", "sesame")
    rights = ["resetkeys", "~p:*", "resetchannels", "&p:*", "-@all", *(f"+{command}" for command in commands)]
    await client.execute_command("ACL", "SETUSER", "default", *rights, "+acl|log")
    one, other = await gateways(settings_of(own, prefix="p:", password="sesame", db=1))
    await one.initialize(headers=ANN)
    other.session_id = one.session_id
    await both_alive(one, other)
    await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()
    await eventually(lambda: other.sessions.all()[0].record.level == "error")
    for w in (one, other):
        w.sessions.all()[0].used_at -= 3600
        w.sessions.all()[0].touched_at -= 3600
    one.sessions.sweep()
    await eventually(lambda: len(one.sessions) == 0)
    await one.initialize(headers=ANN)
    assert (await one.send("DELETE", "/mcp", {**one.session_headers(), **ANN})).status == 200
    refused = {entry["object"] for entry in await client.acl_log()}
    assert refused <= {"client|setinfo"}, "the client library tells its name where it may"
    assert "refuses a command" not in capsys.readouterr().out
    await client.aclose()


# --- another store ---


@pytest.fixture
async def serving(backend, world) -> AsyncIterator[Callable[[RedisSettings | None], Awaitable[Replica]]]:
    """Starts whole gateways, each with its own configuration."""
    started: list[Server] = []

    async def start(store: RedisSettings | None) -> Replica:
        made = backend("a", tools=[TOOL], resources=[RESOURCE])
        server = Server(
            config_with(store),
            make_backend=lambda settings, auth, resolve: made,
            front=FrontSettings(version="1"),
            secrets=(SECRET,),
        )
        started.append(server)
        await server.start()
        replica = Replica(server, world(made))
        await eventually(replica.knows_its_store)
        return replica

    yield start
    for server in started:
        await server.close()


def config_with(store: RedisSettings | None) -> Settings:
    """Return the configuration of a gateway with one backend."""
    return Settings(
        name="gw",
        group="g",
        backends=(BackendSettings(name="a", url="http://backend.test/mcp"),),
        outgoing={"a": UnauthenticatedSettings()},
        store=store,
    )


class Replica:
    """A whole gateway, and requests to it."""

    def __init__(self, server: Server, client: World) -> None:
        self.server = server
        self.client = client
        client.app = server.app

    async def reload(self, store: RedisSettings | None) -> None:
        await self.server.apply(config_with(store))

    async def store(self) -> str:
        return str((await self.client.send("GET", "/status", {})).json.get("session_store"))

    async def knows_its_store(self) -> bool:
        return await self.store() != "connecting"

    async def goes_on_with(self, session_id: str) -> bool:
        self.client.session_id = session_id
        return await ping(self.client) == 200


async def test_sessions_go_on_in_the_store_that_a_reload_names(serving, lasting, own):
    before, after = settings_of(lasting), settings_of(own)
    one, other = await serving(before), await serving(before)
    await one.client.initialize()
    session_id = one.client.session_id
    assert await other.goes_on_with(session_id)
    await one.reload(after)
    assert await one.goes_on_with(session_id)
    assert await other.goes_on_with(session_id), "a replica that has not heard of it yet"
    await other.reload(after)
    third = await serving(after)
    await eventually(lambda: third.goes_on_with(session_id))
    assert (await third.client.send("DELETE", "/mcp", third.client.session_headers())).status == 200

    async def has_ended() -> bool:
        return not (await one.goes_on_with(session_id) or await other.goes_on_with(session_id))

    await eventually(has_ended)


@pytest.mark.parametrize("shared_at_first", [True, False])
async def test_sessions_go_on_where_replicas_begin_or_cease_to_share_them(serving, lasting, shared_at_first):
    redis = settings_of(lasting)
    one = await serving(redis if shared_at_first else None)
    await one.client.initialize()
    session_id = one.client.session_id
    await one.reload(None if shared_at_first else redis)
    assert await one.goes_on_with(session_id)
    other = await serving(redis)
    await eventually(lambda: other.goes_on_with(session_id))
    assert await one.goes_on_with(session_id)


@pytest.mark.parametrize("at_first", ["", "wrong"])
async def test_another_password_holds_from_the_reload_on_that_brings_it(serving, own, at_first):
    client = Redis(port=own.port)
    await client.config_set("requirepass", "sesame")
    settings = settings_of(own, password=at_first)
    one = await serving(settings)
    assert (await one.store(), (await one.client.initialize()).status) == ("unauthorized", 503)
    await one.reload(replace(settings, password="sesame"))
    await eventually(one.knows_its_store)
    assert (await one.store(), (await one.client.initialize()).status) == ("available", 200)
    await client.aclose()


async def test_what_a_session_changes_while_it_is_put_into_another_store_does_not_end_it(gateways, lasting, own):
    (one,) = await gateways(settings_of(lasting), count=1)
    for _ in range(200):
        await one.initialize(headers=ANN)
    store = RedisStore(settings_of(own), Sealer((SECRET,)), idle=1800.0)
    await one.sessions.switch(store)
    await eventually(lambda: not store.trouble)
    session = one.sessions.all()[-1]
    assert (await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()).status == 200
    await session.link("a")
    assert await ping(one) == 200
    await eventually(lambda: all(session.stored_in is store for session in one.sessions.all()))
    assert len(one.sessions) == 200


async def test_a_replica_that_changes_the_store_later_takes_nothing_back(gateways, lasting, own):
    one, other = await gateways(settings_of(lasting))
    await one.initialize(headers=ANN)
    other.session_id = one.session_id
    await both_alive(one, other)
    settings = settings_of(own)
    for w in (one, other):
        store = RedisStore(settings, Sealer((SECRET,)), idle=1800.0)
        await w.sessions.switch(store)
        await eventually(lambda store=store: not store.trouble)
        if w is one:
            await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()
    await eventually(lambda: other.sessions.all()[0].record.level == "error")
    (third,) = await gateways(settings, count=1)
    third.session_id = one.session_id
    assert await ping(third) == 200
    assert third.sessions.all()[0].record.level == "error"


async def use_store(w, settings: RedisSettings) -> None:
    """Let a gateway go on with another store, and wait until it is there."""
    store = RedisStore(settings, Sealer((SECRET,)), idle=1800.0)
    await w.sessions.switch(store)
    await eventually(lambda: not store.trouble)


async def end(w) -> int:
    return (await w.send("DELETE", "/mcp", {**w.session_headers(), **ANN})).status


async def test_a_session_that_ended_in_the_new_store_is_not_put_there_by_a_replica_that_changes_later(pair, own):
    one, other = pair
    await both_alive(one, other)
    settings = settings_of(own)
    await use_store(one, settings)
    assert await end(one) == 200
    await use_store(other, settings)
    await eventually(lambda: len(other.sessions) == 0)
    assert [await ping(one), await ping(other)] == [404, 404]


async def test_a_session_that_ended_in_the_old_store_ends_in_the_new_one_where_another_replica_put_it(
    serving, lasting, own
):
    before, after = settings_of(lasting), settings_of(own)
    one, other, third = await serving(before), await serving(before), await serving(after)
    await one.client.initialize()
    session_id = one.client.session_id
    assert await other.goes_on_with(session_id)
    await one.reload(after)
    await eventually(lambda: third.goes_on_with(session_id))
    assert (await other.client.send("DELETE", "/mcp", other.client.session_headers())).status == 200
    await other.reload(after)

    async def has_ended() -> bool:
        return not any([await replica.goes_on_with(session_id) for replica in (one, other, third)])

    await eventually(has_ended)


async def test_what_an_ended_session_leaves_behind_holds_nothing_and_expires_with_its_longest_life(gateways, own):
    (one,) = await gateways(settings_of(own), count=1)
    await one.initialize(headers=ANN)
    record = one.sessions.all()[0].record
    assert await end(one) == 200
    await one.sessions.store.touch([record])  # on its way when the session ended
    client = Redis(port=own.port)
    (key,) = await client.keys("*")
    assert await client.hgetall(key) == {b"revision": b"ended"}
    assert 86_000_000 < await client.pttl(key) <= 86_400_000
    await client.aclose()


async def test_a_full_server_lets_sessions_end(gateways, own):
    (one,) = await gateways(settings_of(own), count=1)
    await one.initialize(headers=ANN)
    client = Redis(port=own.port)
    await client.config_set("maxmemory", "1")
    assert await end(one) == 200
    assert await ping(one) == 404
    await client.aclose()


async def test_commands_that_are_refused_by_the_hundred_are_one_line_of_the_log(gateways, own, capsys):
    (one,) = await gateways(settings_of(own), count=1)
    client = Redis(port=own.port)
    await client.config_set("maxmemory", "1")
    for _ in range(100):
        assert (await one.initialize(headers=BOB)).status == 503
    await client.aclose()
    assert capsys.readouterr().out.count("refuses a command") == 1
