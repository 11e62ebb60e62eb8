"""How deep a body is nested is known before it is parsed, whatever its strings hold."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.front.guard import check_depth, check_depth_in_turns
from vmcp.http.server.asgi import Refusal

TRICKY = st.text(st.sampled_from('[]{}"\\,:a é\n'), max_size=12)
VALUES = st.recursive(
    TRICKY | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TRICKY, inner, max_size=4),
    max_leaves=40,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.booleans())
def test_exactly_what_is_nested_deeper_than_the_limit_is_refused(value, ascii_only):
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    check_depth(body, depth(value))
    if depth(value):
        with pytest.raises(Refusal):
            check_depth(body, depth(value) - 1)


def test_a_long_text_full_of_brackets_is_not_nested():
    check_depth(json.dumps({"code": 'if (a["b"]) { x(c[1]); }\n' * 100_000}).encode(), 100)


@pytest.mark.parametrize("unit", [b"[],", b'"[",[],', b"{}"])
def test_what_would_take_long_to_count_is_refused(unit):
    with pytest.raises(Refusal, match="too many"):
        check_depth(b"[" + unit * 1_000_000, 100)


@given(st.lists(st.sampled_from([b"\\", b'"', b"[", b"}", b"a"]), max_size=60).map(b"".join), st.integers(1, 8))
def test_a_body_in_pieces_is_judged_like_the_whole(body, piece):
    def judged(check) -> str | None:
        try:
            check()
        except Refusal as refusal:
            return str(refusal)
        return None

    whole = judged(lambda: check_depth(body, 1))
    assert judged(lambda: asyncio.run(check_depth_in_turns(body, 1, piece))) == whole


async def test_a_long_body_leaves_the_loop_to_others():
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    await check_depth_in_turns(b"[" * 50 + b'"' + b'\\"' * 1_000_000, 100)
    assert turns == 0, "what is flat is seen at once"
    with pytest.raises(Refusal, match="deeper"):
        await check_depth_in_turns(b"[" * 101 + b'"' + b'\\"' * 1_000_000, 100)
    assert turns > 7
    running.cancel()
