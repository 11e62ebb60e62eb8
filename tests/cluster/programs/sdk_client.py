"""Lists and calls every tool with either line of the official SDK, as its documentation shows it: `python sdk_client.py
URL [TOKEN]`. Prints `{"version": the protocol's, "tools": {name: text of the answer}}`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

URL, HEADERS = sys.argv[1], {"Authorization": f"Bearer {sys.argv[2]}"} if sys.argv[2:] else {}
VALUES = {"integer": 2, "string": "client"}


async def walk(session: Any, version: str) -> None:
    told = {}
    for tool in (await session.list_tools()).tools:
        schema = getattr(tool, "inputSchema", None) or tool.input_schema
        arguments = {name: VALUES[part["type"]] for name, part in schema["properties"].items()}
        result = await session.call_tool(tool.name, arguments)
        told[tool.name] = result.content[0].text
    print(json.dumps({"version": version, "tools": told}))


async def newer() -> None:
    from mcp import Client
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

    async with (
        create_mcp_http_client(headers=HEADERS) as http,
        Client(streamable_http_client(URL, http_client=http)) as client,
    ):
        await walk(client, client.protocol_version)


async def older() -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(URL, headers=HEADERS) as (read, write, _), ClientSession(read, write) as session:
        await walk(session, (await session.initialize()).protocolVersion)


try:
    from mcp import Client  # noqa: F401  the newer line has it
except ImportError:
    asyncio.run(older())
else:
    asyncio.run(newer())
