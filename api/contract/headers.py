"""Which headers may be sent to a backend, and what a legal header is (RFC 9110): one rule for operator and gateway.

The operator judges a member by it before anything is published, the gateway judges the same headers again when it
reads them, and both say the same sentence. No sentence ever holds a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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

PROTOCOL_HEADERS = frozenset(
    {
        "Accept",
        "Accept-Encoding",
        "Content-Type",
        "Content-Encoding",
        "Last-Event-Id",
        "Mcp-Session-Id",
        "Mcp-Protocol-Version",
        "Mcp-Method",
        "Mcp-Name",
    }
)
"""Canonical names of the headers by which the two ends agree on the protocol: the gateway writes them itself."""

PARAMETER_PREFIX = "Mcp-Param-"
"""Canonical prefix of the headers that mirror a tool's arguments (MCP 2026-07-28)."""

NO_PASSTHROUGH = frozenset({"Authorization", "Cookie", "Set-Cookie"})
"""Headers that static configuration may set, but that are never taken over from a client's request."""

MAX_NAME = 255
"""Characters of a header's name; the bound of the API's `headerName`."""
MAX_VALUE = 8192
"""Characters of a header's value: what common servers accept for one line."""

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  a grammar
"""A header's name (RFC 9110, 5.6.2)."""
FIELD_VALUE = r"[\t\x20-\x7e\x80-\xff]*"
"""What may stand in a header's line without breaking out of it (RFC 9110, 5.5)."""

_TOKEN = re.compile(TOKEN)
_VALUE = re.compile(FIELD_VALUE)


@dataclass(frozen=True, slots=True)
class HeaderProblem:
    """Why one header may not be sent.

    Attributes:
        header: its name, as it was written.
        message: a sentence about it, without its value.
        reserved: the header is legal, but belongs to the gateway or to HTTP.
        secret: it is one of those whose values come from Secrets.
    """

    header: str
    message: str
    reserved: bool = False
    secret: bool = False


def canonical_header(name: str) -> str:
    """Return a header name as Go prints it: each part between dashes capitalized."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def is_header_name(name: str) -> bool:
    """Whether the text is a token of RFC 9110."""
    return _TOKEN.fullmatch(name) is not None


def is_restricted_header(name: str) -> bool:
    """Whether forwarding the header is refused, however it is written."""
    canonical = canonical_header(name.strip())
    return canonical in RESTRICTED_HEADERS or canonical in PROTOCOL_HEADERS or canonical.startswith(PARAMETER_PREFIX)


def header_name_problem(name: str) -> str | None:
    """Say why a header may not be sent by static configuration; None when it may."""
    if not is_header_name(name):
        return f"{name[:64]!r} is not a legal header name"
    if len(name) > MAX_NAME:
        return f"the header name that begins with {name[:32]!r} is longer than {MAX_NAME} characters"
    canonical = canonical_header(name)
    if canonical in RESTRICTED_HEADERS:
        return f'header "{canonical}" is restricted and cannot be forwarded'
    if is_restricted_header(name):
        return f'header "{canonical}" is written by the gateway itself and cannot be forwarded'
    return None


def header_value_problem(value: str) -> str | None:
    """Say why a value may not stand in a header; None when it may. The sentence never holds the value.

    Refused are values that servers and proxies read differently (empty ones, blanks at an edge), values that cannot be
    sent (line breaks and other control characters, characters beyond Latin-1), and values that are too long.
    """
    if not value:
        return "is empty"
    if len(value) > MAX_VALUE:
        return f"is longer than {MAX_VALUE} characters"
    if _VALUE.fullmatch(value) is None:
        beyond = any(char > "\xff" for char in value)
        return "contains characters outside Latin-1" if beyond else "contains a line break or another control character"
    if value[0] in " \t" or value[-1] in " \t":
        return "begins or ends with a space or tab"
    return None


def is_header_value(value: str) -> bool:
    """Whether the text may stand in a header; see `header_value_problem`. For programs that check configurations."""
    return header_value_problem(value) is None


def header_problems(plain: Mapping[str, str], secret: Iterable[str] = ()) -> list[HeaderProblem]:
    """Say why static headers of a backend may not be sent; nothing when all may.

    Args:
        plain: header -> value.
        secret: names of the headers whose values come from Secrets; see `header_value_problem` for those.
    """
    found: list[HeaderProblem] = []
    seen: set[str] = set()
    for name, hidden in (*((name, False) for name in plain), *((name, True) for name in secret)):
        problem = header_name_problem(name)
        if problem is not None:
            reserved = is_header_name(name) and is_restricted_header(name)
            found.append(HeaderProblem(name, problem, reserved, hidden))
        elif canonical_header(name) in seen:
            found.append(HeaderProblem(name, f'header "{name}" is set more than once', secret=hidden))
        seen.add(canonical_header(name))
    for name, value in plain.items():
        problem = header_value_problem(value)
        if problem is not None and is_header_name(name):
            found.append(HeaderProblem(name, f'the value of header "{name[:64]}" {problem}'))
    return found


def passthrough_problem(name: str) -> str | None:
    """Say why a header may not be passed through from clients; None when it may."""
    if not name:
        return "the name is empty"
    problem = header_name_problem(name)
    if problem is None and canonical_header(name) in NO_PASSTHROUGH:
        return f'header "{canonical_header(name)}" carries the client\'s credentials and cannot be passed through'
    return problem
