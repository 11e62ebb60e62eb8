"""Which headers may be sent to a backend: one rule, which the operator and the gateway both ask."""

from __future__ import annotations

import json

import pytest

from api.common.headers import HeaderForwardConfig
from api.contract import ConfigErrors, load_config
from api.contract.headers import (
    NO_PASSTHROUGH,
    PROTOCOL_HEADERS,
    RESTRICTED_HEADERS,
    header_problems,
    header_value_problem,
    is_header_value,
    passthrough_problem,
)
from api.contract.secrets import secret_problem, secret_text, session_secret
from controllers.shared import remote
from tests.unit.contract.test_config_refusals import GOOD, backend
from vmcp.auth.forward import ForwardSpec, resolve_static

RESERVED = sorted(RESTRICTED_HEADERS | PROTOCOL_HEADERS | {"Mcp-Param-City"})
BAD_NAMES = ["", "X Key", "X:Key", "X\nKey", "X-Key\n", "\u00dcnicode", "x" * 256]
BAD_VALUES = ["", " tok", "tok ", "\ttok", "a\n", "a\r\nX: y", "a\0b", "\x7f", "\u4e2d", "\udc80", "v" * 8193]
GOOD_HEADERS = {
    "Authorization": "Bearer x",
    "X-A": "a\tb c",
    "Mcp-Api-Key": "k",
    "X-Latin": "\xe9",
    "x" * 255: "v" * 8192,
}


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_headers_are_refused_however_they_are_written(name):
    for spelled in (name, name.lower(), name.upper()):
        assert [p.reserved for p in header_problems({spelled: "v"})] == [True]
        assert [p.reserved for p in header_problems({}, [spelled])] == [True]
        assert passthrough_problem(spelled)


@pytest.mark.parametrize("name", sorted(NO_PASSTHROUGH))
def test_credentials_of_the_client_are_never_passed_on_but_may_be_set(name):
    assert passthrough_problem(name.lower())
    assert header_problems({name: "v"}) == []


@pytest.mark.parametrize("value", BAD_VALUES)
def test_no_sentence_about_a_value_holds_it(value):
    problem = header_value_problem(value)
    assert problem
    assert not is_header_value(value)
    assert not value or value not in problem


@pytest.mark.parametrize("value", ["v", "a b", "caf\xe9", "x" * 8000])
def test_a_value_that_can_be_sent_is_one(value):
    assert is_header_value(value)


CASES = [
    *(({name: "v"}, False) for name in (*RESERVED, *BAD_NAMES)),
    *(({"X-A": value}, False) for value in BAD_VALUES),
    ({"X-A": "1", "x-a": "2"}, False),
    *(({name: value}, True) for name, value in GOOD_HEADERS.items()),
]


@pytest.mark.parametrize(("plain", "good"), CASES)
def test_entries_the_contract_and_the_gateway_judge_headers_alike(plain, good):
    restricted, illegal = remote.header_problems(HeaderForwardConfig(add_plaintext_headers=plain), {})
    _, errors = resolve_static(ForwardSpec(plain), {})
    document = GOOD | {"backends": backend(headerForward={"addPlaintextHeaders": plain})}
    try:
        load_config(json.dumps(document))
        loads = True
    except ConfigErrors:
        loads = False
    assert (not restricted and not illegal, not errors, loads) == (good, good, good)


@pytest.mark.parametrize(
    ("given", "used"),
    [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("\n", ""), ("a", "a"), ("", "")],
)
def test_exactly_one_line_break_at_the_end_of_a_secret_is_not_part_of_it(given, used):
    assert secret_text(given) == used


@pytest.mark.parametrize("value", ["", "a\n", "a\0", "s" * 200_000])
def test_a_credential_that_no_process_can_be_given_is_refused_without_being_shown(value):
    problem = secret_problem(value)
    assert problem
    assert not value or value not in problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [("!", "is not base64"), ("\xe9", "is not base64"), ("c2hvcnQ=", "holds 5 bytes"), ("A" * 44, "is all zero")],
)
def test_a_bad_session_secret_is_described_without_its_value(text, problem):
    found, said = session_secret(text)
    assert found == b""
    assert said.startswith(problem)
