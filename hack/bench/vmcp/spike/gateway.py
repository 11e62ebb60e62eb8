"""The smallest gateway that still rewrites: strips a prefix from the tool's name and forwards, over a chosen client.

Only for the comparison of HTTP clients (docs/design/003-http-client.md): everything but the client is the same code.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn

Send = Callable[[list[tuple[str, str]], bytes], Awaitable[tuple[int, bytes]]]


class Params(msgspec.Struct):
    """What is read of a call."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    meta: msgspec.Raw = msgspec.field(name="_meta", default=msgspec.Raw(b"{}"))


class Request(msgspec.Struct):
    """The envelope."""

    jsonrpc: str
    id: int | str
    method: str
    params: Params


def own(url: str) -> Send:
    """Our own pool on httptools."""
    from vmcp.http.client import PooledHttpClient, parse_origin
    from vmcp.tasks import loop_time

    origin, target = parse_origin(url)
    client = PooledHttpClient(origin)

    async def send(headers: list[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        response = await client.send("POST", target, headers, body, deadline=loop_time() + 30)
        return response.status, response.body

    return send


def aiohttp_client(url: str) -> Send:
    """Pool and parser of aiohttp (C extensions)."""
    import aiohttp

    session: list[aiohttp.ClientSession] = []

    async def send(headers: list[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        if not session:
            session.append(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0),
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=30),
                )
            )
        async with session[0].post(url, data=body, headers=headers) as response:
            return response.status, await response.read()

    return send


def pyreqwest_client(url: str) -> Send:
    """Reqwest (Rust, tokio)."""
    from datetime import timedelta

    from pyreqwest.client import ClientBuilder

    client = ClientBuilder().timeout(timedelta(seconds=30)).build()

    async def send(headers: list[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        response = await client.post(url).headers(headers).body_bytes(body).build().send()
        return response.status, bytes(await response.bytes())

    return send


CLIENTS = {"own": own, "aiohttp": aiohttp_client, "pyreqwest": pyreqwest_client}


def app(send: Send) -> Any:
    """Return the ASGI application."""
    decode = msgspec.json.Decoder(Request).decode
    encode = msgspec.json.Encoder().encode

    async def handle(scope: dict[str, Any], receive: Any, respond: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        request = decode(body)
        name = request.params.name = request.params.name.removeprefix("b_")
        headers = [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", request.method),
            ("mcp-name", name),
        ]
        status, answer = await send(headers, encode(request))
        await respond(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await respond({"type": "http.response.body", "body": answer})

    return handle


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", choices=sorted(CLIENTS), required=True)
    parser.add_argument("--backend", required=True, help="MCP endpoint")
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    config = uvicorn.Config(
        app(CLIENTS[args.client](args.backend)),
        port=args.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        lifespan="off",
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
