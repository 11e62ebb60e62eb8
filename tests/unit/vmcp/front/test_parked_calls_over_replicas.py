"""Calls of modern clients that wait for an answer at one replica, while the answer arrives at another."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from hack.redis_server import MISSING, RedisServer, find
from tests.support.eventually import eventually
from vmcp.auth.outgoing.unauthenticated import UnauthenticatedSettings
from vmcp.backend.interface import BackendTimeout, Reply
from vmcp.backend.settings import BackendSettings
from vmcp.config.settings import Settings
from vmcp.core.bridging import LOST, UNREACHABLE
from vmcp.core.seal import Purpose, Sealer
from vmcp.front.settings import FrontSettings
from vmcp.server import Server
from vmcp.sessions import calls
from vmcp.sessions.settings import RedisSettings

pytestmark = pytest.mark.skipif(find() is None, reason=MISSING)

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
SECRET = b"shared by the replicas"
FORM = b'{"message":"sure?","requestedSchema":{"type":"object","properties":{}}}'
CAPABLE = {"clientCapabilities": {"elicitation": {}}}


@pytest.fixture
def own() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


class Replica:
    """A whole gateway, and a modern client of it."""

    def __init__(self, server: Server, client, backend) -> None:
        self.server, self.client, self.backend = server, client, backend
        client.app = server.app

    async def ready(self) -> bool:
        return (await self.client.send("GET", "/status", {})).json["session_store"] == "available"

    def open(self, arguments=None, **members):
        params = {"name": "a_echo", "arguments": arguments or {}, **members}
        return self.client.modern("tools/call", params, **CAPABLE)

    async def call(self, arguments=None, **members) -> dict:
        return (await self.open(arguments, **members).answer()).last

    async def answer(self, asked: dict, action: str = "accept", arguments=None) -> dict:
        return await self.call(arguments, **answers(asked, action))


async def cut_off(replica: Replica) -> bool:
    return not await replica.ready()


def answers(asked: dict, action: str = "accept") -> dict:
    result = asked["result"]
    return {
        "inputResponses": {key: {"action": action} for key in result["inputRequests"]},
        "requestState": result["requestState"],
    }


@pytest.fixture
async def pair(own, backend, world) -> AsyncIterator[tuple[Replica, Replica]]:
    made = []
    shared = RedisSettings(host="127.0.0.1", port=own.port, prefix="p:")
    for _ in range(2):
        one = backend("a", tools=[TOOL])
        one.answer = asking
        server = Server(
            Settings(
                name="gw",
                group="g",
                backends=(BackendSettings(name="a", url="http://backend.test/mcp"),),
                outgoing={"a": UnauthenticatedSettings()},
                store=shared,
            ),
            make_backend=lambda settings, auth, resolve, one=one: one,
            front=FrontSettings(version="1"),
            secrets=(SECRET,),
        )
        await server.start()
        made.append(Replica(server, world(one), one))
        await eventually(made[-1].ready)
    yield made[0], made[1]
    for replica in made:
        await replica.server.close()


async def asking(call) -> Reply:
    """Ask as often as the arguments say, and answer with what was said."""
    times = json.loads(call.params).get("arguments", {}).get("times", 1)
    said = [json.loads(await call.bridge("elicitation/create", FORM))["action"] for _ in range(times)]
    return Reply(result=json.dumps({"content": [], "said": said}).encode())


async def test_an_answer_that_arrives_at_another_replica_reaches_the_call(pair):
    one, other = pair
    assert (await other.answer(await one.call(), "decline"))["result"]["said"] == ["decline"]
    assert len(one.backend.calls) == 1
    assert not other.backend.calls, "nothing was called twice"


async def test_a_call_may_ask_again_and_be_answered_anywhere(pair):
    one, other = pair
    arguments = {"times": 3}
    asked = await one.call(arguments)
    asked = await other.answer(asked, "accept", arguments)
    asked = await one.answer(asked, "decline", arguments)
    assert (await other.answer(asked, "cancel", arguments))["result"]["said"] == ["accept", "decline", "cancel"]


async def test_what_the_backend_says_meanwhile_reaches_the_client_in_order(pair):
    one, other = pair

    async def telling(call):
        await call.bridge("elicitation/create", FORM)
        for step in range(50):
            call.sink("notifications/progress", b'{"progressToken":"p","progress":%d}' % step)
        return Reply(result=b'{"content":[]}')

    one.backend.answer = telling
    opened = other.open(**answers(await one.call()))
    events = (await opened.answer()).events
    assert [event["params"]["progress"] for event in events[:-1]] == list(range(50))
    assert "result" in events[-1]


async def test_a_result_of_a_megabyte_arrives_whole(pair):
    one, other = pair

    async def much(call):
        await call.bridge("elicitation/create", FORM)
        return Reply(result=json.dumps({"content": [], "much": "x" * 2**20}).encode())

    one.backend.answer = much
    assert len((await other.answer(await one.call()))["result"]["much"]) == 2**20


async def test_a_backend_that_gives_no_answer_is_an_error_in_the_same_words(pair):
    one, other = pair

    async def failing(call):
        await call.bridge("elicitation/create", FORM)
        raise BackendTimeout("a", "no answer within 30 s")

    one.backend.answer = failing
    at_home = await one.answer(await one.call())
    away = await other.answer(await one.call())
    assert away["error"] == at_home["error"]
    assert away["error"]["data"] == {"backend": "a", "category": "timeout"}


async def test_an_error_of_the_backend_keeps_its_data(pair):
    one, other = pair

    async def refusing(call):
        await call.bridge("elicitation/create", FORM)
        return Reply(error=calls.RpcError(-32050, "no", calls.msgspec.Raw(b'{"why":[1,null,"\xc3\xa4"]}')))

    one.backend.answer = refusing
    error = (await other.answer(await one.call()))["error"]
    assert error == {"code": -32050, "message": "no", "data": {"why": [1, None, "ä"]}}


async def test_a_client_that_goes_away_at_one_replica_ends_the_call_at_the_other(pair):
    one, other = pair
    answered, ended = asyncio.Event(), asyncio.Event()

    async def hanging(call):
        await call.bridge("elicitation/create", FORM)
        answered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    one.backend.answer = hanging
    opened = other.open(**answers(await one.call()))
    await asyncio.wait_for(answered.wait(), 5)
    opened.hang_up()
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_state_is_good_for_one_retry_only_and_for_its_owner_only(pair):
    one, other = pair
    asked = await one.call()
    stranger = other.client.modern(
        "tools/call",
        {"name": "a_echo", "arguments": {"other": True}, **answers(asked)},
        **CAPABLE,
    )
    assert (await stranger.answer()).last["error"]["code"] == -32602, "another request"
    assert (await other.answer(asked))["result"]["said"] == ["accept"]
    for replica in pair:
        assert (await replica.answer(asked))["error"]["code"] == -32602


async def test_a_call_whose_replica_has_ended_is_told_as_lost_and_never_repeated(pair):
    one, other = pair
    asked = await one.call()
    await one.server.close()
    began = time.monotonic()
    assert (await other.answer(asked))["error"] == {"code": -32603, "message": LOST}
    assert time.monotonic() - began < calls.GRACE + 3
    assert not other.backend.calls


async def test_a_replica_that_ends_while_another_waits_for_it_is_noticed(pair):
    one, other = pair
    answered = asyncio.Event()

    async def hanging(call):
        await call.bridge("elicitation/create", FORM)
        answered.set()
        await asyncio.Event().wait()

    one.backend.answer = hanging
    opened = other.open(**answers(await one.call()))
    await asyncio.wait_for(answered.wait(), 5)
    await one.server.close()
    assert (await opened.answer()).last["error"]["message"] == LOST


async def test_while_the_store_is_away_the_answer_may_be_sent_again_later(pair, own):
    one, other = pair
    asked = await one.call()
    own.pause()
    try:
        error = (await other.answer(asked))["error"]
        assert (error["message"], error["data"]) == (UNREACHABLE, {"retryAfterSeconds": 1.0})
        assert (await one.call())["result"]["resultType"] == "input_required", "at home nothing is missing"
    finally:
        own.resume()
    for replica in pair:
        await eventually(replica.ready, within=5.0)


async def test_a_result_that_was_lost_on_the_way_is_sent_again(pair, own):
    one, other = pair
    release, answered = asyncio.Event(), asyncio.Event()

    async def waiting(call):
        await call.bridge("elicitation/create", FORM)
        answered.set()
        await release.wait()
        return Reply(result=b'{"content":[],"said":"late"}')

    one.backend.answer = waiting
    opened = other.open(**answers(await one.call()))
    await asyncio.wait_for(answered.wait(), 5)
    own.kill()
    for replica in pair:
        await eventually(lambda replica=replica: cut_off(replica))
    release.set()
    await eventually(lambda: len(one.server.gateway.parked) == 0)
    own.start()
    assert (await opened.answer()).last["result"]["said"] == "late"


async def test_messages_of_strangers_do_nothing_and_those_that_are_repeated_are_carried_out_once(pair, own):
    one, other = pair
    client = Redis(port=own.port)
    channels = await client.pubsub_channels("p:calls:*")
    assert len(channels) == 2
    strange = (b"", b"x", b"A" * 300, Sealer((b"not the replicas' secret",)).seal(Purpose.NOTE, b"x").encode())
    arguments = {"times": 2}
    asked = await one.call(arguments)
    async with client.pubsub() as ear:
        await ear.subscribe(*channels)
        for channel in channels:
            for forged in strange:
                await client.publish(channel, forged)
        asked = await other.answer(asked, "accept", arguments)
        genuine = []
        while (message := await ear.get_message(timeout=1)) is not None:
            if message["type"] == "message" and message["data"] not in strange:
                genuine.append(message)
        assert len(genuine) >= 2, "the answers on their way there, and what came back"
        for message in genuine:
            assert b"accept" not in message["data"]
            await client.publish(message["channel"], message["data"])
    assert (await other.answer(asked, "decline", arguments))["result"]["said"] == ["accept", "decline"]
    await client.aclose()
