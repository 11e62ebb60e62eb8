"""JSON-RPC envelopes keep what they carry byte for byte, and refuse what is none."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.wire import jsonrpc

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.integers(0, 3))
def test_params_pass_through_byte_for_byte(params: dict, indent: int) -> None:
    raw = json.dumps(params, indent=indent).encode()
    message = jsonrpc.parse(b'{"vendor": 1, "jsonrpc": "2.0", "id": 7, "method": "x", "params": ' + raw + b"}")
    assert bytes(message.params) == raw
    again = jsonrpc.parse(jsonrpc.request("a", "x", message.params))
    assert bytes(again.params) == raw
    assert again.id == "a"


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_taking_an_object_apart_and_joining_it_keeps_every_member(value: dict) -> None:
    raw = json.dumps(value).encode()
    parts = jsonrpc.fields(raw)
    assert json.loads(jsonrpc.join(parts)) == value
    assert list(parts) == list(value)


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"", -32700, "JSON"),
        (b"{", -32700, "JSON"),
        (b'{"jsonrpc":"2.0","method":"\xff"}', -32700, "JSON"),
        (b"[" * 100_000, -32600, "batches"),
        (b' [{"jsonrpc":"2.0","id":1,"method":"x"}]', -32600, "batches"),
        (b"3", -32600, "not a JSON-RPC message"),
        (b'{"id":1,"method":"x"}', -32600, "2.0"),
        (b'{"jsonrpc":"1.0","id":1,"method":"x"}', -32600, "2.0"),
        (b'{"jsonrpc":"2.0","id":1}', -32600, "neither"),
        (b'{"jsonrpc":"2.0","id":null,"method":"x"}', -32600, "neither"),
        (b'{"jsonrpc":"2.0","id":{},"method":"x"}', -32600, "not a JSON-RPC message"),
        (b'{"jsonrpc":"2.0","id":true,"method":"x"}', -32600, "not a JSON-RPC message"),
    ],
)
def test_what_is_no_message_is_refused_with_its_code(body: bytes, code: int, reason: str) -> None:
    with pytest.raises(jsonrpc.JsonRpcError, match=reason) as caught:
        jsonrpc.parse(body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"jsonrpc":"2.0","id":0,"method":"x"}', "request"),
        (b'{"jsonrpc":"2.0","method":"x"}', "notification"),
        (b'{"jsonrpc":"2.0","id":"","result":null}', "response"),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m","data":[1.0]}}', "response"),
    ],
)
def test_a_message_is_exactly_one_of_three_kinds(body: bytes, kind: str) -> None:
    message = jsonrpc.parse(body)
    found = [name for name in ("request", "notification", "response") if getattr(message, f"is_{name}")]
    assert found == [kind]


def test_an_error_answer_keeps_its_data_bytes() -> None:
    message = jsonrpc.parse(
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no","data":{"n": 1.50, "x":[ ]}}}'
    )
    assert isinstance(message.error, jsonrpc.RpcError)
    again = jsonrpc.parse(jsonrpc.error_response(1, message.error))
    assert isinstance(again.error, jsonrpc.RpcError)
    assert bytes(again.error.data) == b'{"n": 1.50, "x":[ ]}'


def test_an_unknown_id_is_left_out_or_null() -> None:
    error = jsonrpc.RpcError(-32600, "no")
    assert json.loads(jsonrpc.error_response(None, error)) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "no"},
    }
    assert "id" not in json.loads(jsonrpc.error_response(None, error, omit_id=True))


@pytest.mark.parametrize("raw", [None, b"", b"[]", b"3", b"{", b'"x"'])
def test_fields_of_what_is_no_object_are_none(raw: bytes | None) -> None:
    assert jsonrpc.fields(raw) == {}


def test_a_string_is_read_and_other_values_are_not() -> None:
    assert jsonrpc.loads_str(msgspec.Raw(b'"a\\u00e9"')) == "aé"
    assert jsonrpc.loads_str(b"3") is None
    assert jsonrpc.loads_str(None) is None
    assert jsonrpc.loads_str(b'"') is None
