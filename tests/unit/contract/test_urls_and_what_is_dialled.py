"""The rules for URLs beside what the client dials: nothing that is refused is reachable by another spelling.

The oracle is the system's own resolver, asked for numeric hosts only (AI_NUMERICHOST looks nothing up), and the names
that lead to this machine or to metadata without any look-up outside.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from random import Random

import pytest

from api.contract.hosts import always_blocked, dialled_host, is_private
from api.contract.urls import has_http_url_shape, validate_remote_url
from vmcp.http.client import parse_origin

BLOCKED = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "169.254.169.254",
    "100.100.100.200",
    "::1",
    "::",
    "fe80::1",
    "fd00:ec2::254",
]
NAMES = ["localhost", "ip6-localhost", "ip6-loopback", "metadata.google.internal", "kubernetes.default.svc"]
OTHERS = [
    "10.0.0.1",
    "192.168.1.1",
    "8.8.8.8",
    "mcp.example.com",
    "bücher.example",
    "x" * 63 + ".example",
    "svc.team.svc",
]
INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff\ufe0f\u034f\u180e\u00a0"
DOTS = "\u3002\uff0e\uff61\u2024"


def spelled(random: Random, host: str) -> str:
    """Another spelling of a host, as somebody would try it."""
    if ":" in host:
        return f"[{random.choice([host, host.upper(), ip_address(host).exploded, f'{host}%25eth0', f'{host}%1'])}]"
    if host[0].isdigit() and host.count(".") == 3 and random.random() < 0.6:
        host = numeric(random, host)
    for _ in range(random.randint(0, 3)):
        host = disguised(random, host)
    return host


def numeric(random: Random, host: str) -> str:
    parts = [int(part) for part in host.split(".")]
    whole = int.from_bytes(bytes(parts), "big")
    write = random.choice(
        [str, hex, lambda n: f"0{n:o}", lambda n: f"0X{n:X}", lambda n: f"00{n}", lambda n: f"0x0{n:x}"]
    )
    kept = random.randint(0, 3)
    rest = whole & ((1 << (8 * (4 - kept))) - 1)
    form = ".".join([*map(write, parts[:kept]), write(rest)])
    mapped = [f"[::ffff:{host}]", f"[::{host}]", f"[64:ff9b::{host}]", f"[2002:{whole >> 16:x}:{whole & 0xFFFF:x}::]",
              f"[::ffff:{whole >> 16:x}:{whole & 0xFFFF:x}]", f"[64:ff9b:1::{host}]", f"[::ffff:0:{host}]"]  # fmt: skip
    return random.choice([form, form, form, random.choice(mapped)])


def disguised(random: Random, host: str) -> str:
    place = random.randrange(len(host) + 1)
    char = host[place - 1 : place]
    match random.randrange(12):
        case 0:
            return host[:place] + random.choice(INVISIBLE) + host[place:]
        case 1:
            return host.replace(".", random.choice(DOTS), 1)
        case 2 if char.isalnum() and char.isascii():
            return host[: place - 1] + chr(ord(char) + 0xFEE0) + host[place:]
        case 3 if char:
            return f"{host[: place - 1]}%{ord(char) & 0xFF:02x}{host[place:]}"
        case 4:
            return host + random.choice([".", "..", "\u3002", ":80", ":0", ":080"])
        case 5:
            return f"{random.choice(['user@', 'a:b@', 'example.com@', '@'])}{host}"
        case 6:
            return host + random.choice(
                ["@example.com", "\\@example.com", "#@example.com", "?@example.com", "\\.example.com"]
            )
        case 7:
            return random.choice(["a.", "\u200d", ".", "xn--", "-"]) + host
        case 8:
            return host.swapcase()
        case 9 if char.isdigit() and char.isascii():
            return (
                host[: place - 1]
                + chr(random.choice([0x2460 - 0x31, 0x1D7CE - 0x30, 0x660 - 0x30]) + ord(char))
                + host[place:]
            )
        case 10:
            return host.replace("s", "\u017f", 1).replace("k", "\u212a", 1).replace("l", "\u2113", 1)
        case _:
            return host[:place] + random.choice(["\t", "\n", " ", "\0", "\x7f", "\ud7ff", "ß", "\u0301"]) + host[place:]


def leads_to(host: str) -> str | None:
    """Return the address that the system reads in a host without looking anything up; None for a name."""
    try:
        found = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return None
    return str(found[0][4][0])


@pytest.mark.parametrize("allow_private", [False, True])
def test_nothing_that_is_refused_is_reachable_by_another_spelling(allow_private, scale):
    random = Random(scale.seed)
    refused = accepted = 0
    for _ in range(scale(5_000, 100_000)):
        host = spelled(random, random.choice(random.choice([BLOCKED, NAMES, OTHERS])))
        url = f"http{random.choice(['', 's'])}://{host}{random.choice(['', '/', '/mcp'])}"
        if validate_remote_url(url, allow_private=allow_private) is not None:
            refused += 1
            continue
        accepted += 1
        assert has_http_url_shape(url), url
        dialled = parse_origin(url)[0].host
        address = leads_to(dialled)
        if address is not None:
            assert not always_blocked(address), url
            assert allow_private or not is_private(address), url
        name = dialled.rstrip(".")
        assert name not in NAMES, url
        assert not any(name.endswith(f".{one}") for one in NAMES), url
        assert dialled_host(dialled) == dialled, "what is dialled is dialled as it is"
    assert refused > 500
    assert accepted > 500


def test_what_the_gateway_accepts_can_be_dialled_and_what_it_refuses_is_not(scale):
    """A host that a resolver or the client would stumble over is refused when the configuration is read."""
    random = Random(scale.seed + 1)
    for _ in range(scale(2_000, 50_000)):
        url = f"http://{spelled(random, random.choice(random.choice([BLOCKED, NAMES, OTHERS])))}/mcp"
        if not has_http_url_shape(url):
            with pytest.raises(ValueError, match="URL"):
                parse_origin(url)
            continue
        origin, _ = parse_origin(url)
        leads_to(origin.host)  # raises for what no resolver takes
        assert origin.host.isascii()


@pytest.mark.parametrize(
    "host",
    ["x" * 64 + ".example", "\u00fc" * 60 + ".example", ".".join(["abcdefgh"] * 32), "a..example", ".example",
     "a!b.example", "x.[::1]", "[::1]x", "[::1].example",
     "%6d.example", "[fe80::1%25eth0]", "[::g]", "\u200d.example", "xn--\u00fc.example"],
)  # fmt: skip
def test_a_host_that_no_resolver_takes_is_refused_by_rules_and_gateway_alike(host):
    url = f"https://{host}/mcp"
    assert validate_remote_url(url, allow_private=True)
    assert not has_http_url_shape(url)
