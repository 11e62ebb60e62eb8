"""A call bears the backend's own name for its tool, and is otherwise what the client wrote."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.core.requests import with_name

NAMES = st.text(max_size=8)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (b'{"name":"b_x","arguments":{"name":"b_x"}}', b'{"name":"x","arguments":{"name":"b_x"}}'),
        (b'{"arguments":{"name":"b_x"},"name":"b_x"}', b'{"arguments":{"name":"b_x"},"name":"x"}'),
        (b'{"name":"b_x"}', b'{"name":"x"}'),
        (b'{ "name" : "b_x", "n":1.50}', b'{"name":"x", "n":1.50}'),
        (b'{"n\\u0061me":"b_x","arguments":{"a": 1e2}}', b'{"name":"x","arguments":{"a": 1e2}}'),
        (b'{"name":"b_x","_meta":{"a":"\\u00e9"} }', b'{"name":"x","_meta":{"a":"\\u00e9"} }'),
    ],
)
def test_only_the_name_of_the_tool_changes(params: bytes, expected: bytes) -> None:
    assert with_name(params, "b_x", "x") == expected


@given(NAMES, NAMES, st.dictionaries(NAMES, NAMES | st.integers(), max_size=3), st.booleans())
def test_names_of_any_characters_are_exchanged_wherever_they_stand(
    advertised: str, name: str, arguments: dict[str, object], first: bool
) -> None:
    members: dict[str, object] = {"name": advertised, "arguments": arguments}
    if not first:
        members = dict(reversed(members.items()))
    for escaped in (True, False):
        params = json.dumps(members, ensure_ascii=escaped, separators=(",", ":")).encode()
        assert json.loads(with_name(params, advertised, name)) == {**members, "name": name}
