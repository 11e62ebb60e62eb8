"""Header values survive the trip, and nothing that could break a header line gets on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.inbound import decode_header_value

from vmcp.wire import protocol


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_value_survives_the_header(value: str) -> None:
    coded = protocol.encode_value(value)
    protocol.check_header("mcp-name", coded)
    assert coded.strip() == coded
    assert protocol.decode_value(coded) == value
    assert decode_header_value(coded) == value, "the SDK reads it differently"


@pytest.mark.parametrize("value", ["=?base64?eA==?=", "=?base64??=", " a", "a ", "é", "a\nb", "\x7f"])
def test_values_that_a_field_cannot_carry_are_coded(value: str) -> None:
    assert protocol.encode_value(value).startswith("=?base64?")
    assert protocol.decode_value(protocol.encode_value(value)) == value


@pytest.mark.parametrize("value", ["=?base64?%%?=", "=?base64?eB==?=", "=?base64?/w==?=", "=?base64?eA?="])
def test_a_malformed_coding_stands_for_nothing(value: str) -> None:
    assert protocol.decode_value(value) is None


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\n", "\0", "\x1b", "a\x7f", "日本"])
def test_control_characters_are_refused_without_naming_the_value(value: str) -> None:
    with pytest.raises(protocol.HeaderError) as caught:
        protocol.check_header("X-Key", value)
    assert value not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r", "é", "(x)"])
def test_names_that_are_no_token_are_refused(name: str) -> None:
    assert not protocol.is_token(name)
    with pytest.raises(protocol.HeaderError):
        protocol.check_header(name, "v")
