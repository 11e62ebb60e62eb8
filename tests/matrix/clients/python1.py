"""The 1.x line of the Python SDK as a client: `python python1.py URL`, then the commands of `steps`."""

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import steps
from mcp import ClientSession, types
from mcp.client.streamable_http import streamablehttp_client

# Since 1.10.
ASKS = "elicitation_callback" in inspect.signature(ClientSession.__init__).parameters
TELLS = "progress_callback" in inspect.signature(ClientSession.call_tool).parameters


async def elicit(context: Any, params: Any) -> Any:
    return types.ElicitResult(action="accept", content={"sure": True})


@asynccontextmanager
async def opened() -> AsyncIterator[ClientSession]:
    options: dict[str, Any] = {"elicitation_callback": elicit} if ASKS else {}
    async with streamablehttp_client(sys.argv[1]) as (read, write, _), ClientSession(read, write, **options) as session:
        session.opened = await session.initialize()  # type: ignore[attr-defined]
        yield session


async def walk(session: ClientSession, seconds: float) -> dict[str, Any]:
    seen: list[float] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        seen.append(value)

    result = session.opened  # type: ignore[attr-defined]
    facts: dict[str, Any] = {"version": result.protocolVersion}
    facts["tools"] = sorted(tool.name for tool in (await session.list_tools()).tools)
    facts["sum"] = (await session.call_tool("add", {"a": 2, "b": 3})).content[0].text
    facts["read"] = (await session.read_resource("note://greeting")).contents[0].text
    facts["prompt"] = (await session.get_prompt("review", {"code": "x"})).messages[0].content.text
    options: dict[str, Any] = {"progress_callback": progress} if TELLS else {}
    facts["long"] = (await session.call_tool("work", {"seconds": seconds}, **options)).content[0].text
    facts["progress"] = await steps.told(seen) if TELLS else None
    facts["asked"] = None
    if ASKS and "remove" in facts["tools"]:
        facts["asked"] = await steps.outcome(
            session.call_tool("remove", {"name": "file"}), lambda result: result.content[0].text
        )
    return facts


async def process(session: ClientSession) -> dict[str, Any]:
    result = await session.call_tool("process", {})
    return {"error" if result.isError else "process": result.content[0].text}


asyncio.run(steps.serve(opened, walk, process))
