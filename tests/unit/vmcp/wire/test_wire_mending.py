"""Mending changes what is beyond doubt, and nothing that was right."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.wire.jsonrpc import JsonRpcError, RpcError, error_response, parse
from vmcp.wire.mending import MAX_BATCH, MAX_MENDED, MAX_PLACES, read_batch, read_message

PIECES = st.sampled_from(
    [b"NaN", b"-Infinity", b'"', b"\\", b'\\"', b"\\ud83d", b"\\ude00", b"\\uD83D\\uDE00", b"[", b"{", b",", b":", b"1"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
    max_leaves=12,
)


def meant(value):
    """Return what JavaScript and the SDKs would have written."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [meant(item) for item in value]
        case dict():
            return {meant(key): meant(item) for key, item in value.items()}
    return value


@given(value=VALUES)
def test_whatever_pythons_json_writes_is_read_as_it_is_meant(value) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"value": value}}).encode()
    found = json.loads(bytes(read_message(body).result))["value"]
    assert json.dumps(found) == json.dumps(meant(value))


@given(pieces=st.lists(PIECES, max_size=30).map(b"".join), bom=st.booleans())
def test_bytes_are_read_as_json_or_refused_and_what_was_right_stays(pieces, bom) -> None:
    body = b"\xef\xbb\xbf" * bom + b'{"jsonrpc":"2.0","id":1,"result":' + pieces + b"}"
    try:
        right = parse(body)
    except JsonRpcError:
        right = None
    try:
        found = read_message(body)
    except JsonRpcError:
        assert right is None
        return
    json.loads(bytes(found.result), parse_constant=pytest.fail)
    if right is not None:
        assert bytes(found.result) == bytes(right.result)


@pytest.mark.parametrize("filler", [b"x", b"\\ud83d", b'",NaN,"'])
def test_a_text_that_is_too_long_to_be_mended_is_refused(filler) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":["\\ud83d",NaN,"' + filler * (MAX_MENDED // len(filler)) + b'"]}'
    with pytest.raises(JsonRpcError):
        read_message(body)


def test_more_places_than_one_text_may_have_stay_as_they_are() -> None:
    row = b'{"jsonrpc":"2.0","id":1,"result":[%b]}'
    most = b",".join([b"NaN"] * MAX_PLACES)
    assert bytes(read_message(row % most).result) == b"[%b]" % most.replace(b"NaN", b"null")
    with pytest.raises(JsonRpcError):
        read_message(row % (most + b",NaN"))


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"[]", b"{}", b"[[]]", b"[1]", b"null", b"\xff", b"\xef\xbb\xbf", b"[" * 100_000],
)
def test_what_is_no_array_of_messages_holds_none(body) -> None:
    assert read_batch(body) == []


def test_an_array_is_read_up_to_a_length() -> None:
    one = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert len(read_batch(b"[%b]" % b",".join([one] * MAX_BATCH))) == MAX_BATCH
    assert read_batch(b"[%b]" % b",".join([one] * (MAX_BATCH + 1))) == []


def test_an_error_is_always_written_with_a_message() -> None:
    assert json.loads(error_response(1, RpcError(-32000, "")))["error"] == {"code": -32000, "message": ""}
