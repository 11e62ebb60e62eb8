"""Secrets never reach what is written down, in whatever spelling they come."""

from __future__ import annotations

import base64
import io
import json
import logging
from urllib.parse import quote, quote_plus

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from vmcp.observe import logs
from vmcp.observe.redact import REDACTED, Redactor, is_secret_key

SECRET = 'S3cr+t/"val\\ue ü?'


def spellings(secret: str) -> dict[str, str]:
    raw = secret.encode()
    return {
        "raw": secret,
        "url": quote(secret, safe=""),
        "form": quote_plus(secret),
        "json": json.dumps(secret, ensure_ascii=False)[1:-1],
        "base64": base64.b64encode(raw).decode(),
        "base64url": base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }


@given(limit=st.integers(0, 40))
def test_a_text_is_never_longer_than_its_limit_though_marks_are_longer_than_what_they_hide(limit):
    said = Redactor(["12345678"]).text("x 12345678 basic dXNlcg== 12345678"[: limit + 20], limit)
    assert len(said) <= limit
    assert "12345678" not in said


@pytest.mark.parametrize("spelling", spellings(SECRET))
def test_a_known_secret_is_found_in_every_spelling(spelling):
    text = spellings(SECRET)[spelling]
    said = Redactor([SECRET]).text(f"before {text} after")
    assert text.rstrip("=")[2:-4] not in said
    assert said.startswith("before ")
    assert said.endswith(" after")


@given(
    secret=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=12, max_size=40),
    before=st.binary(max_size=7),
    after=st.binary(max_size=7),
)
def test_a_known_secret_inside_a_longer_base64_text_is_found(secret, before, after):
    whole = base64.b64encode(before + secret.encode() + after).decode()
    said = Redactor([secret]).text(whole)
    assert REDACTED in said


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcDEF123._~+/=",
        "basic dXNlcjpwYXNz",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
        "https://x/?access_token=abcDEF123&b=1",
        "https://user:abcDEF123@host/",
    ],
)
def test_what_looks_like_a_credential_is_redacted(text):
    said = Redactor().text(text)
    assert REDACTED in said
    for secret in ("abcDEF123", "dXNlcjpwYXNz", "eyJzdWIi"):
        assert secret not in said


@pytest.mark.parametrize(
    "key", ["Authorization", "client_secret", "clientSecret", "api-key", "X-API-Key", "refresh_token"]
)
def test_values_under_telling_keys_are_redacted(key):
    assert Redactor().value({key: "v", "other": {key: ["v"]}}) == {key: REDACTED, "other": {key: REDACTED}}


@pytest.mark.parametrize("key", ["progressToken", "tool", "subject_token_type", "tokens_used", "keyboard"])
def test_harmless_keys_stay(key):
    assert not is_secret_key(key)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_redaction_takes_any_json(value):
    json.dumps(Redactor(["needle-in-hay"]).value(value))


def test_text_without_secrets_stays_as_it_is():
    text = "backend gh: connection refused (127.0.0.1:8080), retry in 2 s"
    assert Redactor([SECRET]).text(text) == text


@pytest.fixture
def logged():
    stream = io.StringIO()
    logs.configure(debug=True, stream=stream, json=True)
    logs.set_secrets(Redactor(["configured-secret"]))
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logs.set_secrets(Redactor())
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def test_structured_and_foreign_logs_are_one_redacted_stream_of_json(logged):
    structlog.get_logger("a").debug("asked", token="t0ken-value", url="http://u:configured-secret@h", n=1)
    logging.getLogger("library").warning("sent %s", "Bearer configured-secret")
    try:
        raise ValueError("holds configured-secret")
    except ValueError:
        structlog.get_logger("b").exception("failed")
    first, second, third = logged()
    assert (first["event"], first["level"], first["token"], first["n"]) == ("asked", "debug", REDACTED, 1)
    assert second["level"] == "warning"
    text = json.dumps([first, second, third])
    assert "configured-secret" not in text
    assert "t0ken-value" not in text
    assert "ValueError" in third["exception"]


@given(
    limit=st.integers(0, 64),
    before=st.integers(0, 80),
    secret=st.sampled_from(["s3cr3t-value-1", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.sig", "Bearer abcdefgh123456"]),
    after=st.integers(0, 20_000),
)
def test_a_text_that_is_cut_keeps_no_piece_of_a_secret_that_lay_across_the_cut(limit, before, secret, after):
    said = Redactor(["s3cr3t-value-1"]).text("x" * before + " " + secret + " " + "y" * after, limit)
    assert len(said) <= max(limit, len(REDACTED))
    for start in range(len(secret) - 8):
        assert secret[start + 3 : start + 9] not in said.replace(REDACTED, "")


@pytest.mark.parametrize("before", ["", "token_", "x-", "a.", '{"t":"'])
def test_a_token_is_found_behind_whatever_it_follows(before):
    said = Redactor().text(f"{before}eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.abc")
    assert said == before + REDACTED


@pytest.mark.parametrize(
    "key", ["x" * 100_000 + "_password", "Api_Key", "api-key", "X-Session-Id", "Set-Cookie", "a\npasswd"]
)
def test_a_key_says_by_its_end_that_its_value_is_secret(key):
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ["", "name", "progressToken", "progress_token", "password_hint", "tokens", "keynote"])
def test_other_keys_are_harmless(key):
    assert not is_secret_key(key)
