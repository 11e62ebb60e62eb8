"""A call waits for its client between two of its requests: bounded, bound to its owner, cancelled with it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json

import pytest

from vmcp.backend.interface import Reply, RpcFault
from vmcp.core.parking import HELD, HELD_EACH, ParkedCall, ParkedCalls


def asks(*messages: str):
    """A backend that asks these things at once and then answers with the answers."""

    async def start(bridge, sink):
        answers = await asyncio.gather(
            *(bridge("elicitation/create", b'{"message":"%b"}' % m.encode()) for m in messages)
        )
        return Reply(result=b"[" + b",".join(answers) + b"]")

    return start


def keys(call: ParkedCall) -> dict[str, str]:
    return {key: q["params"]["message"] for key, q in json.loads(call.requests()).items()}


async def test_a_call_that_asks_nothing_ends_at_once():
    parked = ParkedCalls()

    async def start(bridge, sink):
        return Reply(result=b"1")

    assert (await parked.run("ann", start, None)).result == b"1"
    assert len(parked) == 0


async def test_what_is_asked_at_once_comes_together_and_the_answers_go_on():
    parked = ParkedCalls()
    call = await parked.run("ann", asks("one", "two"), None)
    asked = keys(call)
    assert sorted(asked.values()) == ["one", "two"]
    answers = json.dumps({key: {"said": message} for key, message in asked.items()}).encode()
    reply = await parked.resume(call.id, "ann", answers, None)
    assert json.loads(reply.result) == [{"said": "one"}, {"said": "two"}]
    assert len(parked) == 0


async def test_what_was_not_answered_is_asked_again():
    parked = ParkedCalls()
    call = await parked.run("ann", asks("one", "two"), None)
    first, second = keys(call)
    for useless in (b'{"other":{}}', b"null", None, b'{"%b":5}' % first.encode()):
        assert await parked.resume(call.id, "ann", useless, None) is call
        assert set(keys(call)) == {first, second}
    assert await parked.resume(call.id, "ann", b'{"%b":{}}' % first.encode(), None) is call
    assert set(keys(call)) == {second}
    await parked.close()


async def test_a_stranger_and_an_unknown_id_get_nothing_and_disturb_nothing():
    parked = ParkedCalls()
    call = await parked.run("ann", asks("one"), None)
    assert await parked.resume(call.id, "bob", b"{}", None) is None
    assert await parked.resume("guessed", "ann", b"{}", None) is None
    assert await parked.resume(call.id, "ann", b'{"%b":{}}' % next(iter(keys(call))).encode(), None) is not None


async def test_two_requests_cannot_wait_on_one_call():
    parked = ParkedCalls()

    async def start(bridge, sink):
        await bridge("elicitation/create", b'{"message":"one"}')
        await asyncio.Event().wait()
        raise AssertionError

    call = await parked.run("ann", start, None)
    answer = b'{"%b":{}}' % next(iter(keys(call))).encode()
    waiting = asyncio.create_task(parked.resume(call.id, "ann", answer, None))
    await asyncio.sleep(0)
    assert await parked.resume(call.id, "ann", answer, None) is None
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(parked) == 0


async def test_a_client_that_hangs_up_cancels_the_backends_call():
    parked = ParkedCalls()
    cancelled = asyncio.Event()

    async def start(bridge, sink):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    task = asyncio.create_task(parked.run("ann", start, None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_call_that_nobody_continues_is_cancelled():
    parked = ParkedCalls(ttl=0.01)
    call = await parked.run("ann", asks("one"), None)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call.task, 5)
    assert len(parked) == 0
    assert await parked.resume(call.id, "ann", b"{}", None) is None


async def test_a_call_that_asks_when_too_many_wait_is_over_whatever_its_backend_does():
    parked = ParkedCalls(per_owner=1)
    first = await parked.run("ann", asks("one"), None)
    ended = asyncio.Event()

    async def goes_on(bridge, sink):
        try:
            with pytest.raises(RpcFault, match="too many"):
                await bridge("elicitation/create", b"{}")
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asyncio.timeout(5):
        refused = await parked.run("ann", goes_on, None)
        await ended.wait()
    assert isinstance(refused, Reply)
    assert "too many calls are waiting" in refused.error.message
    assert len(parked) == 1
    assert isinstance(await parked.run("bob", asks("three"), None), ParkedCall)
    assert isinstance(first, ParkedCall)
    await parked.close()
    assert len(parked) == 0


async def test_a_call_that_is_over_leaves_nothing_to_the_garbage_collector():
    parked = ParkedCalls(per_owner=1)
    first = await parked.run("ann", asks("one"), None)

    async def goes_on(bridge, sink):
        with contextlib.suppress(RpcFault):
            await bridge("elicitation/create", b"{}")
        await asyncio.Event().wait()

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert isinstance(await parked.run("ann", goes_on, None), Reply)
        for _ in range(5):
            await asyncio.sleep(0)  # for the cancelled tasks to end
        assert [one for one in gc.get_objects() if isinstance(one, ParkedCall)] == [first]
    finally:
        gc.enable()
        await parked.close()


async def test_notifications_go_to_the_request_that_waits_now():
    parked, first, second = ParkedCalls(), [], []

    async def start(bridge, sink):
        sink("notifications/progress", b"1")
        await bridge("elicitation/create", b'{"message":"one"}')
        sink("notifications/progress", b"2")
        return Reply(result=b"{}")

    call = await parked.run("ann", start, lambda *note: first.append(note))
    await parked.resume(call.id, "ann", b'{"%b":{}}' % next(iter(keys(call))).encode(), lambda *n: second.append(n))
    assert first == [("notifications/progress", b"1")]
    assert second == [("notifications/progress", b"2")]


async def test_parked_calls_keep_so_many_bytes_of_a_principal_and_of_all():
    parked = ParkedCalls()
    half = HELD_EACH // 2
    kept = [await parked.run(owner, asks("?"), None, size=half) for owner in ("ann", "ann", "bob", "bob")]
    assert all(isinstance(call, ParkedCall) for call in kept)
    for owner in ("ann", "cy"):
        refused = await parked.run(owner, asks("?"), None, size=1)
        assert isinstance(refused, Reply)
        assert "too many calls are waiting" in refused.error.message
    assert 4 * half == HELD
    first = kept[0]
    answer = b'{"%b":{}}' % next(iter(keys(first))).encode()
    assert isinstance(await parked.resume(first.id, "ann", answer, None), Reply)
    again = await parked.run("ann", asks("?"), None, size=half)
    assert isinstance(again, ParkedCall)
    await parked.close()
    assert isinstance(await parked.run("ann", asks("?"), None, size=HELD_EACH), ParkedCall)
    await parked.close()
