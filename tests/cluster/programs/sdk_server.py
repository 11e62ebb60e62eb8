"""A server of two tools, written with either line of the official SDK: `python sdk_server.py NAME`, on port 8000.

Environment: `TLS_DIRECTORY` holds tls.crt and tls.key; without the header of `REQUIRED_HEADER` (`Name: value`), or a
token for the audience `REQUIRED_AUDIENCE` (the signature is not looked at), it answers 401.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any

import uvicorn

try:
    from mcp.server import MCPServer

    mcp, options = MCPServer(sys.argv[1]), {"host": "0.0.0.0"}
except ImportError:
    from mcp.server.fastmcp import FastMCP

    mcp, options = FastMCP(sys.argv[1], host="0.0.0.0"), {}


@mcp.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool()
def whose(who: str) -> str:
    """Tell who asked whom."""
    return f"{who} asked {sys.argv[1]}"


def admitted(headers: dict[str, str]) -> bool:
    name, _, value = os.environ.get("REQUIRED_HEADER", "").partition(": ")
    if name and headers.get(name.lower()) != value:
        return False
    audience = os.environ.get("REQUIRED_AUDIENCE")
    if not audience:
        return True
    parts = headers.get("authorization", "").removeprefix("Bearer ").split(".")
    return len(parts) == 3 and json.loads(base64.urlsafe_b64decode(f"{parts[1]}==")).get("aud") == audience


def guarded(app: Any) -> Any:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in scope.get("headers", ())}
        if scope["type"] != "http" or admitted(headers):
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
        await send({"type": "http.response.body", "body": b""})

    return serve


if __name__ == "__main__":
    directory = os.environ.get("TLS_DIRECTORY")
    tls = {"ssl_certfile": f"{directory}/tls.crt", "ssl_keyfile": f"{directory}/tls.key"} if directory else {}
    app = guarded(mcp.streamable_http_app(**options))
    uvicorn.run(app, host="0.0.0.0", port=8000, log_level="warning", **tls)
