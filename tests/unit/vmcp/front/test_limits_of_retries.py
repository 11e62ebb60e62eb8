"""A call that is answered in several requests counts once; nothing else goes past the rate limits."""

from __future__ import annotations

import json

import pytest

from vmcp.backend.interface import Era, InputRequired, Reply
from vmcp.limits.bucket import MemoryRateLimiter, Rate, RateLimits

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}


def asking_once(call):
    if call.input_responses is None:
        asked = {"resultType": "input_required", "inputRequests": {"k": {"method": "elicitation/create"}}}
        result = json.dumps({**asked, "requestState": "s1"}).encode()
        return Reply(input_required=InputRequired(b"{}", "s1", result), era=Era.MODERN)
    return Reply(result=b'{"resultType":"complete","content":[]}', era=Era.MODERN)


@pytest.fixture
def w(world, backend):
    def make(tokens: int):
        return world(
            backend("a", era=Era.MODERN, tools=[TOOL]),
            limiter=MemoryRateLimiter(RateLimits(shared=Rate(tokens, 3600.0))),
        )

    return make


async def call(w, **members):
    return (await w.modern("tools/call", {"name": "echo", "arguments": {}, **members}).answer()).json


@pytest.mark.parametrize("members", [{"inputResponses": {}}, {"inputResponses": {"k": {}}}, {"inputResponses": None}])
async def test_answers_to_nothing_that_was_asked_do_not_go_past_the_limit(w, members):
    w = w(1)
    assert "result" in await call(w)
    assert (await call(w, **members))["error"]["code"] == 429
    await w.initialize()
    limited = await w.legacy("tools/call", {"name": "echo", **members}).answer()
    assert limited.last["result"]["structuredContent"]["code"] == 429
    assert len(w.backends["a"].calls) == 1


async def test_the_second_request_of_a_call_needs_no_token_and_the_third_one_does(w):
    w = w(1)
    w.backends["a"].answer = asking_once
    state = (await call(w))["result"]["requestState"]
    answers = {"inputResponses": {"k": {"action": "accept"}}, "requestState": state}
    assert (await call(w, **answers))["result"]["resultType"] == "complete"
    assert (await call(w, **answers))["error"]["code"] == 429
    assert len(w.backends["a"].calls) == 2


async def test_a_state_that_is_not_valid_takes_no_token(w):
    w = w(1)
    assert (await call(w, requestState="forged"))["error"]["code"] == -32602
    assert "result" in await call(w)
