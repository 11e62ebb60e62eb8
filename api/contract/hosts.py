"""Hosts and addresses: what is looked up for a host of a URL, and where nothing of ours may connect to.

One function for the rules that judge a URL and for the client that dials it: what is judged is the very text that is
looked up, and the address that comes back is judged once more, because a name can lead anywhere.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

ALWAYS_BLOCKED = tuple(
    map(
        IPv4Network,
        ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32"),  # the last: metadata of Alibaba Cloud
    )
)
ALWAYS_BLOCKED_6 = tuple(
    map(IPv6Network, ("::/128", "::1/128", "fe80::/10", "fd00:ec2::254/128"))  # the last: metadata of AWS
)
"""Nothing of ours connects there: not the client, and not a pod by its NetworkPolicy."""
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_PRIVATE_6 = (IPv6Network("fc00::/7"),)
_EMBEDDING = tuple(
    map(
        IPv6Network,
        # mapped, translated, compatible, NAT64 (RFC 6052) and NAT64 of a network's own (RFC 8215)
        ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    )
)
_SIX_TO_FOUR = IPv6Network("2002::/16")

_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")

_LABEL = re.compile(r"[a-z0-9_-]+")

MAX_NAME = 253
"""Characters of a host name, without a dot at its end (RFC 1035)."""
MAX_LABEL = 63
"""Characters of a label of it, as IDNA writes it."""

Address = IPv4Address | IPv6Address


def dialled_host(host: str) -> str:
    """Return what is looked up for a host: ASCII, lower case, international names as IDNA (RFC 3490) writes them.

    IDNA drops characters that nobody sees (soft hyphen, zero width space) and folds others (full-width digits), so two
    hosts that look different, or the same, can lead to one place or to two. Only the result counts.

    Args:
        host: without brackets and without a port, as `urllib.parse` gives it.

    Raises:
        ValueError: nothing can be looked up for it, or its characters beyond ASCII hide an IP address.
    """
    if host.isascii():
        return _checked(host.lower())
    try:
        dialled = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("the host is not a valid international domain name") from None
    if _NUMBER.fullmatch(dialled.rstrip(".").rpartition(".")[2]):
        raise ValueError("the host is an IP address written with non-ASCII characters")
    return _checked(dialled)


def _checked(host: str) -> str:
    """Return a host that resolvers take: an IPv6 address, or a name within the limits of RFC 1035.

    Resolvers disagree about everything else: some raise, some cut, some decode.
    """
    if ":" in host:
        try:
            IPv6Address(host)
        except ValueError:
            raise ValueError("the host is not a valid IPv6 address") from None
        if "%" in host:
            raise ValueError("the host has a zone identifier")
        return host
    name = host.removesuffix(".")
    if len(name) > MAX_NAME:
        raise ValueError(f"the host is longer than {MAX_NAME} characters")
    for label in name.split("."):
        if len(label) > MAX_LABEL:
            raise ValueError(f"a label of the host is longer than {MAX_LABEL} characters")
        if not _LABEL.fullmatch(label):
            raise ValueError("the host has an empty label, or one with characters other than letters, digits, - and _")
    return host


def always_blocked(address: str) -> bool:
    """Whether an IP address is loopback, link-local, unspecified or a cloud's metadata service, in whatever form.

    Raises:
        ValueError: it is no IP address.
    """
    return any(_is_in(one, ALWAYS_BLOCKED, ALWAYS_BLOCKED_6) for one in _readings(address))


def is_loopback(address: str) -> bool:
    """Whether an IP address is loopback in its plain form: 127.0.0.0/8 or ::1.

    Python's own answer for `::ffff:127.0.0.1` changed with 3.13.

    Raises:
        ValueError: it is no IP address.
    """
    found = ip_address(address.partition("%")[0])
    return found.is_loopback and (isinstance(found, IPv4Address) or found.ipv4_mapped is None)


def is_private(address: str) -> bool:
    """Whether an IP address belongs to a private network (RFC 1918, RFC 4193), in whatever form.

    Raises:
        ValueError: it is no IP address.
    """
    return any(_is_in(one, _PRIVATE, _PRIVATE_6) for one in _readings(address))


def address_problem(addresses: list[Address], *, allow_private: bool) -> str | None:
    """Say why a URL must not lead to any of these addresses; None when it may."""
    for address in addresses:
        if _is_in(address, ALWAYS_BLOCKED, ALWAYS_BLOCKED_6):
            return f"remote URL must not point to {address}: loopback, link-local and metadata addresses are blocked"
        if not allow_private and _is_in(address, _PRIVATE, _PRIVATE_6):
            return f"remote URL must not point to the private address {address}; set allowPrivateEndpoint to allow it"
    return None


def with_embedded(address: IPv6Address) -> list[Address]:
    """Return an address and the IPv4 address that it stands for: mapped, translated, NAT64 or 6to4."""
    found: list[Address] = [address]
    number = int(address)
    # ::/128 and ::1 have reasons of their own, not those of an embedded 0.0.0.0.
    if any(address in network for network in _EMBEDDING) and number > 1:
        found.append(IPv4Address(number & 0xFFFFFFFF))
    if address in _SIX_TO_FOUR:
        found.append(IPv4Address((number >> 80) & 0xFFFFFFFF))
    return found


def _readings(text: str) -> list[Address]:
    address = ip_address(text.partition("%")[0])
    return with_embedded(address) if isinstance(address, IPv6Address) else [address]


def _is_in(address: Address, four: tuple[IPv4Network, ...], six: tuple[IPv6Network, ...]) -> bool:
    if isinstance(address, IPv4Address):
        return any(address in network for network in four)
    return any(address in network for network in six)
