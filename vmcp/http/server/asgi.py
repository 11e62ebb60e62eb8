"""Requests and answers of the ASGI interface, as far as MCP needs them: headers, bounded bodies, JSON answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from vmcp.budget import MemoryBudget
from vmcp.turns import LARGE, turn
from vmcp.wire.jsonrpc import RequestId, RpcError, error_response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
DISCARD_BYTES: Final = 16 * 1024 * 1024
"""Of a body that is refused for its length, so much more is read before the refusal is sent."""
DISCARD_SECONDS: Final = 1.0
_MAY_BE_EMPTY: Final = (b"mcp-session-id", b"mcp-protocol-version")
_CLOSE: Final = ((b"connection", b"close"),)
_SINGLE = frozenset({b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"mcp-session-id", b"host", b"content-type"})
"""Headers that must not come twice: readers would disagree about which one counts."""

BODIES: Final = MemoryBudget(64 * 1024 * 1024)
"""For bodies that are not complete yet; one that comes in one piece needs none of it."""


class Refusal(Exception):  # noqa: N818  what it is, not what went wrong
    """A request that ends before it is understood.

    Attributes:
        status: HTTP status.
        error: The JSON-RPC error of the body.
        headers: Extra response headers.
        id: Of the request, where it is known.
    """

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        id: RequestId | None = None,  # noqa: A002  the member's name
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = RpcError(code, message)
        self.headers = tuple(headers)
        self.id = id


class Disconnected(Exception):  # noqa: N818  it is no error
    """The client went away before its request was complete."""


def read_headers(raw: RawHeaders) -> dict[bytes, bytes]:
    """Return the headers by lower-case name. Repeated ones are joined by commas, as RFC 9110 (5.3) reads them.

    An empty `Mcp-Session-Id` or `Mcp-Protocol-Version` counts as none: it can only mean that there is no session yet.

    Raises:
        Refusal: A header that must be single came twice.
    """
    headers = dict(raw)
    if len(headers) != len(raw):
        headers = {}
        for name, value in raw:
            if name in headers:
                if name in _SINGLE:
                    code = -32020 if name.startswith(b"mcp-") else -32600
                    raise Refusal(400, code, f"header {name.decode('latin-1')} appears twice")
                headers[name] += b", " + value
            else:
                headers[name] = value
    for name in _MAY_BE_EMPTY:
        if name in headers and not headers[name].strip(b" \t"):
            del headers[name]
    return headers


def text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    """Return a header's value without the whitespace around it (httptools leaves it there); None when absent."""
    value = headers.get(name)
    return None if value is None else value.strip(b" \t").decode("latin-1")


async def read_body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """Return the whole body.

    Raises:
        Refusal: It is longer than `limit` bytes (413), its announced length is no number (400), or there is no room
            for it besides the bodies of others (503).
        Disconnected: The client went away.
    """
    if _announced(headers) > limit:
        if b"expect" not in headers:
            await _discard(receive)
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    return await _read_parts(receive, body, limit)


async def _read_parts(receive: Receive, body: bytes, limit: int) -> bytes:
    """Read a body that comes bit by bit, as long as there is room for what all clients together have begun."""
    parts = [body]
    size = 0
    try:
        while True:
            size += len(parts[-1])
            BODIES.left -= len(parts[-1])
            if BODIES.left < 0:
                raise Refusal(503, -32000, "too many request bodies are being received", headers=_CLOSE)
            if size > LARGE:
                await turn()  # many who send much at once are read one after the other
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part: bytes = message.get("body", b"")
            if size + len(part) > limit:
                if message.get("more_body", False):
                    await _discard(receive)
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body", False):
                if size > LARGE:
                    await turn()
                return b"".join(parts)
    finally:
        BODIES.left += size


def _announced(headers: dict[bytes, bytes]) -> int:
    announced = headers.get(b"content-length")
    if announced is None:
        return 0
    if not announced.strip().isdigit():
        raise Refusal(400, -32600, "content-length is not a number")
    return int(announced)


async def _discard(receive: Receive) -> None:
    """Read on for a moment and forget it.

    A connection that is closed while its sender still writes is reset, and a reset takes the refusal away with it.
    """
    left = DISCARD_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


def _too_large(limit: int) -> Refusal:
    return Refusal(413, -32600, f"the body is longer than {limit} bytes", headers=_CLOSE)


async def answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (JSON,)) -> None:
    """Send a whole answer."""
    start = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def answer_error(send: Send, err: Refusal, *, null_id: bool = False) -> None:
    """Send a JSON-RPC error; `null_id` writes an unknown id as null, as the legacy era has it."""
    body = error_response(err.id, err.error, omit_id=not null_id)
    await answer(send, err.status, body, (JSON, *err.headers))
