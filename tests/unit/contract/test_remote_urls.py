"""Which remote URLs are refused, in every spelling that some client understands."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.contract import validate_remote_url
from vmcp.http.client import parse_origin

GOOD = [
    "https://mcp.example.com/mcp",
    "http://mcp.example.com",
    "https://mcp.example.com:8443/a?b=c#d",
    "https://8.8.8.8/mcp",
    "https://[2606:4700::1111]/mcp",
    "http://backend.svc:8080/mcp",
    "http://backend.team.svc/mcp",
    "https://localhost.example.com/",
    "https://notlocalhost/",
    "https://my-cluster.local.example.com/",
    "https://xn--bcher-kva.example/",
    "https://bücher.example/",
    "HTTPS://EXAMPLE.COM/",
    "http://172.15.0.1/",
    "http://172.32.0.1/",
    "http://11.0.0.1/",
    "http://1.2.3.4.example.com/",
]
BLOCKED = [
    "http://localhost/",
    "http://LOCALHOST:80/",
    "http://localhost./",
    "http://localhost../",
    "http://a.localhost/",
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7F.0.0.1/",
    "http://0x7f.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://0127.0.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://0x/",
    "http://169.254.169.254/latest/meta-data",
    "http://2852039166/",
    "https://::f4[::f4]\x9d/",
    "https://%[::f4]x/",
    "https://xn--bcher-k\xa0\xa01/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[::ffff:0:169.254.169.254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00:ec2::254]/",
    "http://100.100.100.200/",
    "http://metadata.google.internal/",
    "http://METADATA.google.internal./",
    "http://x.metadata.google.internal/",
    "https://kubernetes.default/",
    "https://kubernetes.default.svc/",
    "https://kubernetes.default.svc.cluster.local/",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://ｌocalhost/",
    "http://loc\u212aalhost.localhost/",
    "http://%6c%6f%63alhost/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1@example.com/",
    "http://user:password@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://exam ple.com/",
    "http://example.com/\r\nX: y",
    "http://",
    "http:///path",
    "ftp://example.com/",
    "file:///etc/passwd",
    "//example.com/",
    "example.com",
    "",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:port/",
    "http://[::1/",
    "http://[v1.x]/",
    "http://999.1.1.1/",
    "http://1.2.3.4.5/",
    "http://1.2.3.0x100/",
    "http://a..b/",
    "http://./",
]
PRIVATE = [
    "http://10.0.0.1/",
    "http://172.16.5.4/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://3232235777/",
    "http://0xc0.0xa8.1.1/",
    "http://[fc00::1]/",
    "http://[fd12:3456::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://svc.team.svc.cluster.local:8080/mcp",
    "http://cluster.local/",
    "http://SVC.CLUSTER.LOCAL./",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_public_url_is_accepted(url: str):
    assert validate_remote_url(url) is None


@pytest.mark.parametrize("url", BLOCKED)
@pytest.mark.parametrize("allow_private", [False, True])
def test_loopback_metadata_and_malformed_urls_are_refused_whatever_the_user_allows(url: str, allow_private: bool):
    problem = validate_remote_url(url, allow_private=allow_private)
    assert problem is not None
    assert problem.startswith("remote URL ")


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused_unless_the_user_allows_them(url: str):
    problem = validate_remote_url(url)
    assert problem is not None
    assert "allowPrivateEndpoint" in problem
    assert validate_remote_url(url, allow_private=True) is None


def test_a_password_in_a_url_is_not_repeated_in_the_message():
    assert "hunter2" not in str(validate_remote_url("https://user:hunter2@example.com/"))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{0}", "0x{0:x}", "0{0:o}", "[::ffff:{1}]", "[64:ff9b::{1}]"]))
def test_every_spelling_of_an_address_gets_the_verdict_of_its_plain_form(number: int, form: str):
    plain = IPv4Address(number)
    spelled = form.format(number, plain)
    for allow_private in (False, True):
        expected = validate_remote_url(f"http://{plain}/", allow_private=allow_private)
        found = validate_remote_url(f"http://{spelled}/", allow_private=allow_private)
        # Octal may also be read as decimal; then the stricter reading wins.
        assert found is not None if expected is not None else (found is None or form == "0{0:o}")


# Characters that IDNA drops, folds or turns into dots, beside those that addresses and blocked names are made of.
_INVISIBLE = "\u00ad\u200b\u200d\u2060\ufe0f\u034f"
_FOLDED = "\u3002\uff0e\uff61\uff11\u2460\u24db\u1d7ce\u0131\u017f"
_ODD = st.sampled_from([*"0123456789.xXfaelochst", *_INVISIBLE, *_FOLDED])


@st.composite
def _disguised(draw: st.DrawFn) -> str:
    """Hosts that should not be reached, with odd characters strewn in."""
    plain = draw(st.sampled_from(["127.0.0.1", "localhost", "169.254.169.254", "metadata.google.internal", "10.0.0.1"]))
    text = list(plain)
    for _ in range(draw(st.integers(0, 4))):
        text.insert(draw(st.integers(0, len(text))), draw(_ODD))
    return "".join(text)


@settings(max_examples=settings.default.max_examples * 6)
@given(_disguised())
def test_what_is_dialled_for_an_accepted_host_would_be_accepted_as_it_is_dialled(host: str):
    url = f"http://{host}/"
    if validate_remote_url(url) is None:
        origin, _ = parse_origin(url)
        name = f"[{origin.host}]" if ":" in origin.host else origin.host
        assert validate_remote_url(f"http://{name}/") is None


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254\u00ad", "127.0.0.1\u00ad", "loca\u00adlhost", "metadata.google.intern\u00adal", "10.0.0.1\u200b"],
)
def test_characters_that_nobody_sees_do_not_hide_where_a_url_leads(host: str):
    assert validate_remote_url(f"http://{host}/") is not None


@given(st.text(max_size=60))
def test_no_text_makes_the_check_fail(text: str):
    validate_remote_url(text)
    validate_remote_url(f"http://{text}/")
