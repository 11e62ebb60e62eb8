"""Params that are long are not read again on their way: what stands before `_meta` keeps its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.backend.meta import legacy_params
from vmcp.core.requests import with_name
from vmcp.turns import LARGE
from vmcp.wire.jsonrpc import request, response

LONG = "y" * (2 * LARGE)
VERSION = "io.modelcontextprotocol/protocolVersion"


@pytest.mark.parametrize("gap", ["", " ", "\r\n\t "])
def test_long_params_keep_their_bytes_before_their_meta(gap: str) -> None:
    head = f'{{"name":{gap}"e",{gap}"arguments":{gap}{{"x":{gap}"{LONG}"}}'
    params = f'{head}{gap},{gap}"_meta":{gap}{{"{VERSION}":{gap}"2026-07-28",{gap}"a":{gap}1}}{gap}}}'
    assert legacy_params(params.encode(), None).startswith(head.encode())
    assert json.loads(legacy_params(params.encode(), None)) == {**json.loads(head + "}"), "_meta": {"a": 1}}


def test_params_that_are_long_for_their_blanks_stay_json() -> None:
    params = " " * (2 * LARGE) + '{"_meta":{"' + VERSION + '":"2026-07-28","a":1}}'
    assert json.loads(legacy_params(params.encode(), None)) == {"_meta": {"a": 1}}


META: dict[str, Any] = {VERSION: "2026-07-28", "a": 1}
ODD = ['"_meta"', '"_meta":{}', ',"_meta":{}}', 'x,"_meta', "_meta", '","_meta":{"b":2}}', "\\", '{"_meta":']
values = st.recursive(
    st.sampled_from([*ODD, LONG]) | st.just(META),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*ODD, "x"]), inner, max_size=3),
    max_leaves=5,
)


@given(
    members=st.dictionaries(st.sampled_from([*ODD, "name", "arguments"]), values, max_size=4),
    last=st.booleans(),
    own=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :\n")]),
)
def test_only_the_meta_of_the_params_themselves_is_changed(
    members: dict[str, Any], last: bool, own: bool, separators: tuple[str, str]
) -> None:
    members = {key: value for key, value in members.items() if key != "_meta"} | {"long": LONG}
    if own:
        members = {**members, "_meta": META} if last else {"_meta": META, **members}
    found = json.loads(legacy_params(json.dumps(members, separators=separators).encode(), None))
    expected = {**members, "_meta": {"a": 1}} if own else members
    assert found == expected


@pytest.mark.parametrize("begin", ['{"name":', '{"name": ', ' {\r\n\t"name" : '])
def test_a_name_that_comes_first_is_changed_alone(begin: str) -> None:
    rest = ', "arguments": {"x" : 1} }'
    assert with_name(f'{begin}"b_e"{rest}'.encode(), "b_e", "e") == f'{{"name":"e"{rest}'.encode()


def test_messages_are_put_together_of_bytes_and_of_raw_members() -> None:
    assert request(1, "m", b'{"a":1}') == b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1}}'
    assert response("i", b"{}") == b'{"jsonrpc":"2.0","id":"i","result":{}}'
