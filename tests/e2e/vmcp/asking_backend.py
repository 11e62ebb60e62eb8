"""A modern MCP server in the test's own process: a long list of tools, and one that asks before it answers."""

from __future__ import annotations

from typing import Any, Self

from aiohttp import web

from tests.e2e.vmcp.kit import Named

STATE = "asked-once"


class AskingBackend(Named):
    """`async with AskingBackend("name", tools=1001) as backend`."""

    def __init__(self, name: str, tools: int) -> None:
        self.name = name
        self.tools = [{"name": f"t{number:05}", "inputSchema": {"type": "object"}} for number in range(tools)]
        self.states: list[Any] = []
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/mcp", self._post)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        message = await request.json()
        result = self._result(message["method"], message.get("params", {}))
        if result is None:
            error = {"code": -32601, "message": "unknown method"}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error}, status=404)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        match method:
            case "server/discover":
                return {
                    "resultType": "complete",
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": self.name, "version": "1"},
                }
            case "tools/list":
                return {"resultType": "complete", "tools": self.tools}
            case "tools/call" if "inputResponses" not in params:
                question = {"method": "elicitation/create", "params": {"message": "sure?", "requestedSchema": {}}}
                return {"resultType": "input_required", "inputRequests": {"q": question}, "requestState": STATE}
            case "tools/call":
                self.states.append(params.get("requestState"))
                answer = params["inputResponses"]["q"]["action"]
                return {"resultType": "complete", "content": [{"type": "text", "text": answer}]}
        return None
