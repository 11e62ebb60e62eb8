"""Static headers of a backend: from the file or the environment to what is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.auth.forward import ForwardSpec, manifest_variable, read_manifest, resolve_static


def test_secret_values_come_from_the_environment_and_missing_ones_are_named():
    spec = ForwardSpec({"X-Plain": "p"}, {"X-Key": "HEADER_FORWARD_X_KEY_GH", "X-Gone": "HEADER_FORWARD_X_GONE_GH"})
    headers, errors = resolve_static(spec, {"TOOLHIVE_SECRET_HEADER_FORWARD_X_KEY_GH": "s"})
    assert headers == (("X-Plain", "p"), ("X-Key", "s"))
    (error,) = errors
    assert error.message == 'header "X-Gone": environment variable TOOLHIVE_SECRET_HEADER_FORWARD_X_GONE_GH is not set'
    assert error.missing


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_break_that_echo_leaves_at_the_end_of_a_secret_is_not_part_of_it(end):
    headers, errors = resolve_static(ForwardSpec({}, {"X-Key": "ID"}), {"TOOLHIVE_SECRET_ID": f"token{end}"})
    assert (headers, errors) == ((("X-Key", "token"),), ())


@pytest.mark.parametrize("value", ["a\n\n", "a\nb", "tok ", " tok", "a\tb\x00", "\u4e2d", "\udce9", "v" * 9000])
def test_a_secret_value_that_cannot_stand_in_a_header_is_named_by_its_variable_and_never_shown(value):
    headers, (error,) = resolve_static(ForwardSpec({}, {"X-Key": "ID"}), {"TOOLHIVE_SECRET_ID": value})
    assert headers == ()
    assert error.message.startswith('header "X-Key": the value of environment variable TOOLHIVE_SECRET_ID ')
    assert value not in error.message
    assert not error.missing


def test_the_manifest_of_the_environment_is_read():
    spec = read_manifest('{"addPlaintextHeaders":{"A":"1"},"addHeadersFromSecret":{"B":"ID"}}')
    assert (dict(spec.plaintext), dict(spec.secret)) == ({"A": "1"}, {"B": "ID"})


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"x":{}}', '{"addPlaintextHeaders":[]}', '{"addPlaintextHeaders":{"A":1}}']
)
def test_a_manifest_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match=r"JSON|keys|object|strings"):
        read_manifest(text)


def test_variables_are_named_as_the_operator_names_them():
    assert manifest_variable("my-server.v2") == "TOOLHIVE_HEADER_FORWARD_MY_SERVER_V2"


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=40), max_size=4), st.text(max_size=40))
def test_nothing_that_is_sent_can_break_a_header_line(plain, secret):
    headers, _ = resolve_static(ForwardSpec(plain, {"X-Key": "ID"}), {"TOOLHIVE_SECRET_ID": secret})
    for name, value in headers:
        assert f"{name}: {value}".encode("latin-1").isascii() or value
        assert not set(name + value) & {"\r", "\n", "\0"}
        assert value == value.strip(" \t") != ""
