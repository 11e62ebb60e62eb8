"""Which remote URLs may be reached, judged by their text alone: no DNS, no connection.

The rules are those of the stock operator; they are applied to every spelling of an address that some resolver or HTTP
client understands (`2130706433`, `0x7f.1`, `0177.0.0.1`, `[::ffff:7f00:1]`, full-width digits, trailing dots), since
what counts is where a connection would go. This cannot see what a name resolves to; the gateway checks redirects.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

from api.contract.hosts import Address, address_problem, dialled_host, with_embedded

_HOST = re.compile(r"[0-9A-Za-z._:-]+")
_BLOCKED_NAMES = (
    "localhost",
    "localhost.localdomain",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",  # these two stand in the hosts file of every pod
    "ip6-loopback",
    "kubernetes.default.svc.cluster.local",
    "kubernetes.default.svc",
    "kubernetes.default",
    "metadata.google.internal",
)
_CLUSTER = "cluster.local"
_DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})
_SUSPICIOUS = re.compile(r"[\x00-\x20\x7f\\]")
_AUTHORITY = re.compile(r"(\[(?=[^\[\]:]*:)[^\[\]]*\]|[^\[\]:]*)(:[0-9]*)?")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


MAX_AUTHORITY = 512
"""Characters of a URL's host and port. Unicode normalization, which everything that reads hosts applies, takes time
quadratic in a run of combining characters; a host name has 253 at most (RFC 1035)."""


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """An http(s) URL, read once for the rules that judge it and for the client that dials it.

    Attributes:
        tls: https.
        host: what is looked up and connected to (`api.contract.hosts.dialled_host`), without brackets.
        written: the host as it was written.
        port: of the URL, else the scheme's.
        path: as it was written.
        query: as it was written, without the question mark.
    """

    tls: bool
    host: str
    written: str
    port: int
    path: str
    query: str


@lru_cache(maxsize=16_384)
def read_http_url(url: str) -> HttpUrl:
    """Read an http(s) URL. Nothing is said about where it leads.

    Raises:
        ValueError: it is none, or readers of URLs disagree about it; the text continues "the URL ...".
    """
    if _SUSPICIOUS.search(url):
        raise ValueError("must not contain spaces, control characters or backslashes")
    if _has_long_authority(url):
        raise ValueError(f"must not have a host with more than {MAX_AUTHORITY} characters")
    try:
        url.encode()
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except UnicodeEncodeError:
        raise ValueError("is invalid: it holds half a surrogate pair") from None
    except ValueError as error:
        raise ValueError(f"is invalid: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must use the http or https scheme")
    if not host:
        raise ValueError("must have a host")
    if port == 0:
        raise ValueError("must not use port 0")
    if "@" in parts.netloc:
        raise ValueError("must not contain user information; use headerForward or externalAuthConfigRef")
    if not _AUTHORITY.fullmatch(parts.netloc):
        # "x[::1]y": some readers take what is in the brackets, some what is around them.
        raise ValueError("must have a host that is a name, an IPv4 address, or an IPv6 address in brackets")
    try:
        dialled = dialled_host(host)
    except ValueError as error:
        raise ValueError(f"is invalid: {error}") from None
    tls = parts.scheme == "https"
    return HttpUrl(tls, dialled, host, port or (443 if tls else 80), parts.path, parts.query)


@lru_cache(maxsize=16_384)
def validate_remote_url(url: str, *, allow_private: bool = False) -> str | None:
    """Say why a remote URL may not be used; None when it may.

    Args:
        url: as the user wrote it.
        allow_private: accept private networks and names of the cluster; loopback, link-local and metadata addresses
            stay refused.
    """
    try:
        read = read_http_url(url)
    except ValueError as error:
        return f"remote URL {error}"
    # What other clients and resolvers make of the text, and what our own client looks up.
    for reading in dict.fromkeys((_normalized(read.written), read.host.rstrip("."))):
        problem = _host_problem(reading, allow_private=allow_private)
        if problem is not None:
            return problem
    return None


def has_http_url_shape(url: str) -> bool:
    """Whether a text is an http(s) URL that can be dialled; nothing is said about where it leads."""
    try:
        read_http_url(url)
    except ValueError:
        return False
    return True


def _has_long_authority(url: str) -> bool:
    start = url.find("//") + 2
    ends = [end for mark in "/?#" if (end := url.find(mark, start)) >= 0]
    return min(ends, default=len(url)) - start > MAX_AUTHORITY


def _normalized(host: str) -> str:
    # What IDNA processing does before a look-up, as far as it can turn one host into another.
    return unicodedata.normalize("NFKC", host.translate(_DOTS)).translate(_DOTS).casefold().rstrip(".")


def _host_problem(host: str, *, allow_private: bool) -> str | None:
    if not host or "%" in host:
        return "remote URL must have a plain host, without percent signs or zones"
    if ":" in host:
        try:
            return address_problem(with_embedded(IPv6Address(host)), allow_private=allow_private)
        except ValueError:
            return "remote URL has an invalid IPv6 address"
    labels = host.split(".")
    if not all(labels):
        return "remote URL has an empty label in its host"
    if _NUMBER.fullmatch(labels[-1]):
        addresses = list(_ipv4_readings(labels))
        if not addresses:
            return "remote URL has an invalid IPv4 address"
        return address_problem(addresses, allow_private=allow_private)
    return _name_problem(host, allow_private=allow_private)


def _name_problem(host: str, *, allow_private: bool) -> str | None:
    for name in _BLOCKED_NAMES:
        if host == name or host.endswith(f".{name}"):
            return f"remote URL must not point to {name}"
    if not allow_private and (host == _CLUSTER or host.endswith(f".{_CLUSTER}")):
        return "remote URL must not point into the cluster (cluster.local); set allowPrivateEndpoint to allow it"
    return None


def read_host_port(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; an IPv6 address stands in brackets.

    Raises:
        ValueError: It is something else; the text says what is expected.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not _HOST.fullmatch(host) or (":" in host) is not bracketed:
        raise ValueError("must be HOST:PORT")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError("must be HOST:PORT with a port from 1 to 65535")
    return host, int(port)


def _ipv4_readings(labels: list[str]) -> Iterator[Address]:
    """Yield what the classic `inet_aton` makes of a host, and what a reader that ignores leading zeros makes of it."""
    for octal in (True, False):
        numbers = [_number(label, octal=octal) for label in labels]
        if len(numbers) > 4 or any(number is None for number in numbers):
            continue
        *firsts, last = [number for number in numbers if number is not None]
        if any(number > 255 for number in firsts) or last >= 256 ** (5 - len(numbers)):
            continue
        value = last
        for index, number in enumerate(firsts):
            value += number << (24 - 8 * index)
        yield IPv4Address(value)


def _number(label: str, *, octal: bool) -> int | None:
    if not _NUMBER.fullmatch(label) or len(label) > 40:
        return None
    if label[:2] in ("0x", "0X"):
        return int(label[2:] or "0", 16)
    if octal and len(label) > 1 and label.startswith("0"):
        return int(label, 8) if all(digit in "01234567" for digit in label) else None
    return int(label)
