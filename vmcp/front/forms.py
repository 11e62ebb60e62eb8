"""Which forms of an answer a client takes: the specification wants it to list both, some clients list one.

An answer fits a client that takes JSON alone as long as nothing has to be asked before it; what is merely told before
it is left out. A client that takes event streams alone gets every answer as the only event of one.
"""

from __future__ import annotations

import enum
from collections.abc import MutableMapping
from typing import Any, Final

from vmcp.front.exchange import SSE_HEADERS
from vmcp.http.server.asgi import JSON, Send
from vmcp.wire.sse import encode

_JSON: Final = (b"application/json", b"application/*")
_EVENTS: Final = (b"text/event-stream", b"text/*")


class Form(enum.Enum):
    """What a client takes."""

    ANY = "any"
    JSON = "json"
    EVENTS = "events"


def accepted(accept: bytes) -> Form | None:
    """Return what an `Accept` header takes; None = neither form."""
    accept = accept.lower()
    if b"*/*" in accept:
        return Form.ANY
    json, events = any(kind in accept for kind in _JSON), any(kind in accept for kind in _EVENTS)
    if json and events:
        return Form.ANY
    if json:
        return Form.JSON
    return Form.EVENTS if events else None


def as_events(send: Send) -> Send:
    """Return a `send` that turns JSON answers into event streams of one event."""
    rewriting = False

    async def rewritten(message: MutableMapping[str, Any]) -> None:
        nonlocal rewriting
        if message["type"] == "http.response.start" and message["status"] == 200 and JSON in message["headers"]:
            rewriting = True
            kept = [pair for pair in message["headers"] if pair[0] not in {b"content-type", b"content-length"}]
            message = {**message, "headers": [*SSE_HEADERS, *kept]}
        elif rewriting and message["type"] == "http.response.body":
            message = {**message, "body": encode(message["body"])}
        await send(message)

    return rewritten
