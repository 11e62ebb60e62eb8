"""The programs beside the gateway: the server behind it, the bystander, who drives a limit, and a harmless neighbour.

Each is run as `python -m hack.hostile_matrix.beside NAME ARGUMENTS...`, on the core that they share.
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from hack.hostile_matrix.attacker import Attacker
from hack.hostile_matrix.limits import LIMIT_TABLE
from hack.hostile_matrix.requests import OWN_ECHO, modern

YIELDING: Final = 10
"""Niceness of who drives a limit, of the server that is driven through it, and of the neighbour."""
BIG: Final = 4 * 1024 * 1024
PAUSE: Final = 0.004
"""Seconds between two requests of the bystander."""


class _Params(msgspec.Struct):
    name: str | None = None


class _Message(msgspec.Struct):
    """What the server reads of a message: were it to read 4 MiB of arguments, the bystander would wait for that."""

    id: int | str | None = None
    method: str | None = None
    params: _Params = msgspec.field(default_factory=_Params)


async def _serve(port: int) -> None:  # noqa: C901  one tool after the other
    """A server of the legacy era.

    `echo` answers, `big` with 4 MiB, `zipped` with 32 MiB in 32 KiB, `slow` after a minute; `ask` asks and waits.
    """
    big = json.dumps({"content": [{"type": "text", "text": "x" * BIG}]})
    zipped = gzip.compress(json.dumps({"content": [{"type": "text", "text": "x" * 8 * BIG}]}).encode())

    async def post(request: web.Request) -> web.StreamResponse:
        message = msgspec.json.decode(await request.read(), type=_Message)
        method, name = message.method, message.params.name
        if message.id is None or method is None:
            return web.Response(status=202)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message.id}
        if method == "initialize":
            info = {"name": "b", "version": "1"}
            capabilities = {"tools": {}, "resources": {"subscribe": True}}
            reply["result"] = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
            return web.json_response(reply, headers={"mcp-session-id": os.urandom(8).hex()})
        if method == "tools/list":
            reply["result"] = {
                "tools": [
                    {"name": n, "inputSchema": {"type": "object"}} for n in ("echo", "big", "zipped", "slow", "ask")
                ]
            }
        elif method == "resources/list":
            reply["result"] = {"resources": []}
        elif method == "resources/templates/list":
            reply["result"] = {"resourceTemplates": [{"uriTemplate": "x://{n}", "name": "x"}]}
        elif name == "big":
            body = f'{{"jsonrpc":"2.0","id":{json.dumps(message.id)},"result":{big}}}'
            return web.Response(text=body, content_type="application/json")
        elif name == "zipped":
            return web.Response(body=zipped, content_type="application/json", headers={"content-encoding": "gzip"})
        elif name == "ask":
            stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await stream.prepare(request)
            params = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
            question = {"jsonrpc": "2.0", "id": os.urandom(8).hex(), "method": "elicitation/create", "params": params}
            await stream.write(f"data: {json.dumps(question)}\n\n".encode())
            await asyncio.sleep(60)
            return stream
        elif method in ("tools/call", "resources/subscribe", "ping"):
            if name == "slow":
                await asyncio.sleep(60)
            reply["result"] = {"content": [{"type": "text", "text": "x"}]} if method == "tools/call" else {}
        else:
            reply["error"] = {"code": -32601, "message": "unknown method"}
        return web.json_response(reply)

    async def other(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.method == "DELETE" else 405)

    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_post("/mcp", post)
    app.router.add_route("*", "/mcp", other)
    runner = web.AppRunner(app)
    await runner.setup()
    # Its default of 128 would make the bystander wait for retransmissions that are not the gateway's.
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


def backend(port: str) -> None:
    """Be the server that the bystander calls, until the process is ended."""
    asyncio.run(_serve(int(port)))


def driven(port: str) -> None:
    """Be the server that is called by who drives a limit, until the process is ended."""
    os.nice(YIELDING)
    asyncio.run(_serve(int(port)))


def bystander(port: str) -> None:
    """Call `echo` and ask for `/ping` until the process is ended.

    Says a line of JSON for each: when it began, on `time.monotonic()`, the seconds that it took, whether it worked, and
    whether it was a call.
    """
    body, headers = modern("tools/call", {"name": OWN_ECHO, "arguments": {}}, OWN_ECHO)
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60, source_address=("127.0.0.2", 0))
    while True:
        for call in (True, False):
            start = time.monotonic()
            try:
                if call:
                    connection.request("POST", "/mcp", body, headers)
                else:
                    connection.request("GET", "/ping")
                worked = (b'"result"' if call else b'"ok"') in connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                worked = False
                connection.close()
            print(json.dumps((start, time.monotonic() - start, worked, call)), flush=True)
            time.sleep(PAUSE)


def attacker(port: str, limit: str, count: str) -> None:
    """Drive one limit of the table, say as JSON what was answered, and keep the connections until the input ends."""
    os.nice(YIELDING)
    asyncio.run(_drive(Attacker(int(port)), int(limit), int(count)))


async def _drive(found: Attacker, limit: int, count: int) -> None:
    await LIMIT_TABLE[limit].drive(found, count)
    print(json.dumps(found.answers), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await found.close()


def neighbour() -> None:
    """Be as busy as one who makes requests, and send none of them."""
    os.nice(YIELDING)
    while True:
        json.loads(json.dumps({"x": "y" * 4096, "n": list(range(500))}))


PROGRAMS: Final[dict[str, Callable[..., None]]] = {
    program.__name__: program for program in (backend, driven, bystander, attacker, neighbour)
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
