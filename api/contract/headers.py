"""Which headers may be forwarded, and what a legal header is (RFC 9110)."""

from __future__ import annotations

import re

RESTRICTED_HEADERS = frozenset(
    {
        "Host",
        "Connection",
        "Keep-Alive",
        "Te",
        "Trailer",
        "Upgrade",
        "Http2-Settings",
        "Proxy-Authorization",
        "Proxy-Authenticate",
        "Proxy-Connection",
        "Transfer-Encoding",
        "Content-Length",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Real-Ip",
    }
)
"""Canonical names of the headers that only the gateway itself may set: they steer HTTP or name a caller."""

NO_PASSTHROUGH = frozenset({"Authorization", "Cookie"})
"""Headers that static configuration may set, but that are never taken over from a client's request."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def canonical_header(name: str) -> str:
    """Return a header name as Go prints it: each part between dashes capitalized."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def is_header_name(name: str) -> bool:
    """Whether the text is a token of RFC 9110."""
    return _TOKEN.fullmatch(name) is not None


def is_header_value(value: str) -> bool:
    """Whether the text may stand in a header: no control characters but the tab, and nothing that folds lines."""
    return _BAD_VALUE.search(value) is None


def is_restricted_header(name: str) -> bool:
    """Whether forwarding the header is refused, however it is written."""
    return canonical_header(name.strip()) in RESTRICTED_HEADERS


def header_name_problem(name: str) -> str | None:
    """Say why a header may not be forwarded by static configuration; None when it may."""
    if not is_header_name(name):
        return f"{name!r} is not a legal header name"
    if is_restricted_header(name):
        return f'header "{canonical_header(name)}" is restricted and cannot be forwarded'
    return None


def passthrough_problem(name: str) -> str | None:
    """Say why a header may not be passed through from clients; None when it may."""
    if not name:
        return "the name is empty"
    problem = header_name_problem(name)
    if problem is None and canonical_header(name) in NO_PASSTHROUGH:
        return f'header "{canonical_header(name)}" carries the client\'s credentials and cannot be passed through'
    return problem
