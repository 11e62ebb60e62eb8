"""Header forwarding: what may travel towards a backend, from the configuration, the environment and the client."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmcp.auth.forward import (
    CREDENTIALS,
    PROTOCOL,
    RESTRICTED,
    ForwardSpec,
    Passthrough,
    owner,
    passthrough_refusal,
    read_manifest,
    resolve_static,
    static_refusal,
)


@pytest.mark.parametrize("name", sorted(RESTRICTED | PROTOCOL | {"mcp-param-city"}))
def test_restricted_and_protocol_headers_are_refused_from_everywhere_in_any_case(name):
    for spelled in (name, name.title(), name.upper()):
        assert static_refusal(spelled, "v")
        assert passthrough_refusal(spelled)
        assert Passthrough([spelled]).capture([(name.encode(), b"v")]) == ()


@pytest.mark.parametrize("name", sorted(CREDENTIALS))
def test_credentials_of_the_client_are_never_passed_on(name):
    assert passthrough_refusal(name)
    assert Passthrough([name]).capture([(name.encode(), b"secret")]) == ()


def test_authorization_may_be_a_static_header():
    assert static_refusal("Authorization", "Bearer x") is None


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\n", "a\0b", "", " a", "a ", "\x7f", "a" * 9000])
def test_values_that_could_break_a_request_are_refused_and_not_repeated(value):
    headers, errors = resolve_static(ForwardSpec({"X-Key": value}), {})
    assert headers == ()
    assert len(errors) == 1
    assert errors[0].startswith("header 'X-Key' has a value that no header may have")


@pytest.mark.parametrize("name", ["", "X Key", "X:Key", "X\nKey", "X-Key\n", "Ünicode", "x" * 256])
def test_names_that_are_no_tokens_are_refused(name):
    assert static_refusal(name, "v") == "is not a header name"


def test_secret_values_come_from_the_environment_and_missing_ones_are_named():
    spec = ForwardSpec({"X-Plain": "p"}, {"X-Key": "HEADER_FORWARD_X_KEY_GH", "X-Gone": "HEADER_FORWARD_X_GONE_GH"})
    headers, errors = resolve_static(spec, {"TOOLHIVE_SECRET_HEADER_FORWARD_X_KEY_GH": "s"})
    assert headers == (("X-Plain", "p"), ("X-Key", "s"))
    assert errors == ("header 'X-Gone': environment variable TOOLHIVE_SECRET_HEADER_FORWARD_X_GONE_GH is not set",)


def test_a_header_given_twice_in_different_case_is_refused():
    _, errors = resolve_static(ForwardSpec({"X-Key": "a", "x-key": "b"}), {})
    assert errors == ("header 'x-key' is given twice",)


def test_the_manifest_of_the_environment_is_read():
    spec = read_manifest('{"addPlaintextHeaders":{"A":"1"},"addHeadersFromSecret":{"B":"ID"}}')
    assert (dict(spec.plaintext), dict(spec.secret)) == ({"A": "1"}, {"B": "ID"})


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"x":{}}', '{"addPlaintextHeaders":[]}', '{"addPlaintextHeaders":{"A":1}}']
)
def test_a_manifest_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match=r"JSON|keys|object|strings"):
        read_manifest(text)


def test_owners_are_spelled_as_the_operator_does():
    assert owner("my-server.v2") == "MY_SERVER_V2"


def test_the_first_value_of_a_client_header_is_taken_under_the_configured_name():
    passthrough = Passthrough(["X-Tenant"])
    headers = [(b"x-tenant", b" a "), (b"x-tenant", b"b"), (b"x-other", b"c")]
    assert passthrough.capture(headers) == (("X-Tenant", "a"),)


@example([(b"x-b", b"a\n")])
@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=40)), max_size=8))
def test_nothing_captured_can_break_a_header_line(headers):
    headers.append((b"x-a", headers[0][1] if headers else b"\r\n"))
    for name, value in Passthrough(["X-A", "X-B"]).capture(headers):
        assert name in {"X-A", "X-B"}
        assert value
        assert not set(value) & {"\r", "\n", "\0"}
