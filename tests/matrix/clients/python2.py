"""The 2.x line of the Python SDK as a client: `python python2.py URL [MODE]`, then the commands of `steps`."""

import asyncio
import sys
from typing import Any

import mcp_types as types
import steps
from mcp import Client

URL, MODE = sys.argv[1], (sys.argv[2:] or ["auto"])[0]


async def elicit(context: Any, params: Any) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"sure": True})


def opened() -> Client:
    return Client(URL, mode=MODE, elicitation_callback=elicit)


async def walk(client: Client, seconds: float) -> dict[str, Any]:
    seen: list[float] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        seen.append(value)

    facts: dict[str, Any] = {"version": client.protocol_version}
    facts["tools"] = sorted(tool.name for tool in (await client.list_tools()).tools)
    facts["sum"] = (await client.call_tool("add", {"a": 2, "b": 3})).content[0].text
    facts["read"] = (await client.read_resource("note://greeting")).contents[0].text
    facts["prompt"] = (await client.get_prompt("review", {"code": "x"})).messages[0].content.text
    facts["long"] = (await client.call_tool("work", {"seconds": seconds}, progress_callback=progress)).content[0].text
    facts["progress"] = await steps.told(seen)
    facts["asked"] = None
    if "remove" in facts["tools"]:
        facts["asked"] = await steps.outcome(
            client.call_tool("remove", {"name": "file"}), lambda result: result.content[0].text
        )
    return facts


async def process(client: Client) -> dict[str, Any]:
    result = await client.call_tool("process", {})
    return {"error" if result.is_error else "process": result.content[0].text}


asyncio.run(steps.serve(opened, walk, process))
