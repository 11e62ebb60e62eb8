"""A legacy MCP server that tells what reached it: `python tests/e2e/vmcp/echo_backend.py NAME PORT [ADDRESS]`.

Tools: `echo` (gives back its nonce, its own name, the session and the credentials that came), `count` (one counter
    per session, to see that state stays), `slow` (answers after a while), `fail` (a tool error), `ask` (asks the client
    for its name in the middle of the call, and gives back what it said). Sessions are real: an unknown id gets 404.

Environment: `TLS_DIRECTORY` holds tls.crt and tls.key, as a Secret of that type has them; without the header that
`REQUIRED_HEADER` names, or a token for the audience `REQUIRED_AUDIENCE` (the signature is not looked at), it answers
401; with `STATUS` it answers everything with that status.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
import uuid
from pathlib import Path
from typing import Any

from aiohttp import web

TOOLS = [
    {"name": name, "description": name, "inputSchema": {"type": "object", "properties": {"nonce": {"type": "string"}}}}
    for name in ("echo", "count", "slow", "fail", "ask")
]


class Echo:
    def __init__(self, name: str) -> None:
        self.name = name
        self.sessions: dict[str, int] = {}
        self.seen: list[dict[str, str]] = []
        self.questions: dict[str, asyncio.Future[Any]] = {}

    async def post(self, request: web.Request) -> web.StreamResponse:
        message = await request.json()
        method, session = message.get("method"), request.headers.get("Mcp-Session-Id", "")
        self.seen = [*self.seen[-200:], {"method": str(method), **dict(request.headers)}]
        if method == "initialize":
            session = uuid.uuid4().hex
            self.sessions[session] = 0
            result: Any = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": self.name, "version": "1"},
            }
            return web.json_response(self._answer(message, result), headers={"Mcp-Session-Id": session})
        if method == "server/discover":
            error = {"code": -32601, "message": "unknown method"}
            return web.json_response({"jsonrpc": "2.0", "id": message.get("id"), "error": error})
        if session not in self.sessions:
            return web.json_response({"error": "no session"}, status=404)
        if "method" not in message:
            question = self.questions.pop(str(message.get("id")), None)
            if question is not None:
                question.set_result(message.get("result"))
            return web.Response(status=202)
        if "id" not in message:
            return web.Response(status=202)
        if method == "tools/call" and message["params"]["name"] == "ask":
            return await self._ask(message, session, request)
        return web.json_response(self._answer(message, await self._result(message, session, request)))

    async def _result(self, message: dict[str, Any], session: str, request: web.Request) -> Any:
        if message["method"] == "tools/list":
            return {"tools": TOOLS}
        if message["method"] != "tools/call":
            return {}
        params = message["params"]
        arguments = params.get("arguments") or {}
        if params["name"] == "slow":
            await asyncio.sleep(float(arguments.get("seconds", 0.2)))
        if params["name"] == "count":
            self.sessions[session] += 1
        told = {
            "nonce": arguments.get("nonce"),
            "backend": self.name,
            "session": session,
            "count": self.sessions[session],
            "authorization": request.headers.get("Authorization"),
            "key": request.headers.get("X-Key"),
        }
        return {"content": [{"type": "text", "text": json.dumps(told)}], "isError": params["name"] == "fail"}

    async def _ask(self, message: dict[str, Any], session: str, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        key = uuid.uuid4().hex
        question = self.questions[key] = asyncio.get_running_loop().create_future()
        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        params = {"message": "who are you?", "requestedSchema": schema}
        await self._say(stream, {"jsonrpc": "2.0", "id": key, "method": "elicitation/create", "params": params})
        nonce = (message["params"].get("arguments") or {}).get("nonce")
        told = {"nonce": nonce, "session": session, "said": await question}
        await self._say(stream, self._answer(message, {"content": [{"type": "text", "text": json.dumps(told)}]}))
        return stream

    async def _say(self, stream: web.StreamResponse, message: dict[str, Any]) -> None:
        await stream.write(f"data: {json.dumps(message)}\n\n".encode())

    def _answer(self, message: dict[str, Any], result: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    async def get(self, request: web.Request) -> web.Response:
        return web.Response(status=405, headers={"Allow": "POST, DELETE"})

    async def delete(self, request: web.Request) -> web.Response:
        self.sessions.pop(request.headers.get("Mcp-Session-Id", ""), None)
        return web.Response(status=200)

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response({"seen": self.seen, "sessions": len(self.sessions)})


@web.middleware
async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
    if status := os.environ.get("STATUS"):
        return web.Response(status=int(status))
    header, audience = (os.environ.get(name) for name in ("REQUIRED_HEADER", "REQUIRED_AUDIENCE"))
    if (header and header not in request.headers) or (audience and _audience(request) != audience):
        return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
    return await handler(request)


def _audience(request: web.Request) -> Any:
    """The `aud` of the bearer's JWT; None = there is none."""
    parts = request.headers.get("Authorization", "").removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    return json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))).get("aud")


def _tls() -> ssl.SSLContext | None:
    directory = os.environ.get("TLS_DIRECTORY")
    if not directory:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(directory, "tls.crt"), Path(directory, "tls.key"))
    return context


def main() -> None:
    name, port, *address = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    echo = Echo(name)
    app = web.Application(middlewares=[guard])
    app.router.add_post("/mcp", echo.post)
    app.router.add_get("/mcp", echo.get)
    app.router.add_delete("/mcp", echo.delete)
    app.router.add_get("/seen", echo.show)
    web.run_app(
        app, host=address[0] if address else "127.0.0.1", port=port, ssl_context=_tls(), print=None, access_log=None
    )


if __name__ == "__main__":
    main()
