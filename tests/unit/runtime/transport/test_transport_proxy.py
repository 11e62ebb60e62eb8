"""HTTPS_PROXY, HTTP_PROXY and NO_PROXY mean what they mean to kubectl."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.transport.proxy import ProxyError, proxy_for

PROXY = "http://proxy:3128"
NAMED, ADDRESS, SIX = "https://api.example.com:6443", "https://10.96.0.1", "https://[fd00::1]:6443"

DIRECT = [
    (NAMED, "*"),
    (NAMED, "example.com"),
    (NAMED, ".example.com"),
    (NAMED, "*.example.com"),
    (NAMED, "other, API.example.com"),
    (NAMED, "api.example.com:6443"),
    ("https://api.example.com.:6443", "example.com"),
    (ADDRESS, "10.96.0.1"),
    (ADDRESS, "10.0.0.0/8"),
    (ADDRESS, "10.96.0.1:443"),
    (SIX, "fd00::1"),
    (SIX, "fd00::/8"),
    (SIX, "[fd00::1]:6443"),
    ("https://localhost:6443", ""),
    ("https://127.0.0.1:6443", ""),
    ("https://127.8.8.8", ""),
    ("https://[::1]:6443", ""),
]
THROUGH = [
    (NAMED, ""),
    (NAMED, "ple.com"),
    (NAMED, ".api.example.com"),
    (NAMED, "api.example.com:443"),
    (NAMED, "10.0.0.0/8,,  "),
    (ADDRESS, "10.96.0.2"),
    (ADDRESS, "10.0.0.0/99"),
    (ADDRESS, "10.96.0.1:6443"),
    (ADDRESS, "0.1"),
    (SIX, "fe80::/10"),
]


@pytest.mark.parametrize(("url", "excluded"), DIRECT)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_what_no_proxy_names_and_loopback_are_reached_directly(url: str, excluded: str, name: str):
    assert proxy_for(url, {"HTTPS_PROXY": PROXY, name: excluded}) is None


@pytest.mark.parametrize(("url", "excluded"), THROUGH)
def test_everything_else_goes_through_the_proxy(url: str, excluded: str):
    assert proxy_for(url, {"https_proxy": PROXY, "NO_PROXY": excluded}) == PROXY


def test_the_variable_follows_the_scheme_and_upper_case_comes_first():
    environ = {"HTTPS_PROXY": "a:1", "https_proxy": "b:1", "HTTP_PROXY": "http://c:1"}
    assert proxy_for(NAMED, environ) == "http://a:1"
    assert proxy_for("http://api.example.com", environ) == "http://c:1"
    assert proxy_for(NAMED, {"HTTP_PROXY": PROXY}) is None
    assert proxy_for(NAMED, {"HTTPS_PROXY": ""}) is None


@pytest.mark.parametrize(
    "value", ["socks5://u:secret@p:1", "http://", "http://p:secret", "http://[secret", "://secret"]
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_value(value: str):
    with pytest.raises(ProxyError) as error:
        proxy_for(NAMED, {"HTTPS_PROXY": value})
    assert "HTTPS_PROXY" in str(error.value)
    assert "secret" not in str(error.value)


@given(st.text(max_size=40))
def test_any_text_in_no_proxy_is_an_answer_and_no_failure(text: str):
    for url in (NAMED, ADDRESS, SIX):
        assert proxy_for(url, {"HTTPS_PROXY": PROXY, "NO_PROXY": text}) in (None, PROXY)
