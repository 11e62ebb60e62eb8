"""Pages of other origins: what their browsers ask first, and what they let a page read (Fetch standard, CORS protocol).

Only origins that were allowed by name get an answer. There are no cookies here, so none are allowed to be sent.
"""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from typing import Any, Final

from vmcp.http.server.asgi import RawHeaders, Send

MAX_AGE: Final = b"7200"
"""Seconds that a browser may keep our answer; Chromium keeps none longer."""
_METHODS: Final = b"GET, POST, DELETE"
_EXPOSED: Final = b"mcp-session-id, mcp-protocol-version, www-authenticate, retry-after"
_VARY: Final = (b"vary", b"origin")


def allowed_origin(raw: RawHeaders, origins: Collection[str]) -> bytes | None:
    """Return the request's origin when it was allowed by name."""
    if not origins:
        return None
    for name, value in raw:
        if name == b"origin":
            return value if value.decode("latin-1").strip() in origins else None
    return None


def preflight(raw: RawHeaders, origin: bytes) -> RawHeaders | None:
    """Return the headers of the answer to a preflight of an allowed origin; None = the request is none.

    Every header that the page wants to send may be sent: the parameters of tools have headers of their own.
    """
    headers = dict(raw)
    if b"access-control-request-method" not in headers:
        return None
    found = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-max-age", MAX_AGE),
        _VARY,
    ]
    wanted = headers.get(b"access-control-request-headers")
    if wanted is not None:
        found.append((b"access-control-allow-headers", wanted))
    if headers.get(b"access-control-request-private-network") == b"true":
        found.append((b"access-control-allow-private-network", b"true"))
    return found


def readable(send: Send, origin: bytes) -> Send:
    """Return a `send` whose answers the page of an allowed origin may read."""

    async def with_origin(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            extra = [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED), _VARY]
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return with_origin
