"""How deep a body is nested is known before it is parsed, whatever its strings hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.front.guard import check_depth
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
