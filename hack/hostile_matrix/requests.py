"""Requests of the two eras, as bodies, headers and bytes."""

from __future__ import annotations

import json
from typing import Any, Final

OWN_ECHO: Final = "own_echo"
"""The bystander's tool: of the server `own`. Limits are driven with the tools of the server `b`."""
MODERN: Final = "2026-07-28"
BASE: Final = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
OPEN: Final = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
"""Params of an `initialize` of the version that has batches."""


def modern(method: str, params: dict[str, Any], name: str | None = None, **more: Any) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request of the modern era; `more` goes into the capabilities."""
    prefix = "io.modelcontextprotocol/"
    meta = {prefix + "protocolVersion": MODERN, prefix + "clientCapabilities": more}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    headers = {**BASE, "mcp-protocol-version": MODERN, "mcp-method": method}
    return json.dumps(message).encode(), headers | ({"mcp-name": name} if name else {})


def legacy(method: str, params: dict[str, Any], session: str = "", request_id: Any = 1) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request of the legacy era."""
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    return json.dumps(message).encode(), BASE | ({"mcp-session-id": session} if session else {})


def raw(body: bytes, headers: dict[str, str]) -> bytes:
    """Return a whole request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body
