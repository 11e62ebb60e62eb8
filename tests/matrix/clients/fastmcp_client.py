"""FastMCP 2, 3 and 4 as a client: `python fastmcp_client.py URL`, then the commands of `steps`."""

import asyncio
import inspect
import sys
from typing import Any

import steps
from fastmcp import Client

# Since 2.10.
ASKS = "elicitation_handler" in inspect.signature(Client.__init__).parameters


async def elicit(message: str, response_type: Any, params: Any, context: Any) -> Any:
    return response_type(sure=True)


def opened() -> Client:
    return Client(sys.argv[1], **({"elicitation_handler": elicit} if ASKS else {}))


def text(result: Any) -> str:
    """The first text; until 2.10 a call gave the bare list of contents."""
    return str(getattr(result, "content", result)[0].text)


def version(client: Client) -> str:
    """The protocol version; in the modern era nothing is initialized."""
    opened = client.initialize_result
    if opened is None:
        return "2026-07-28"
    return str(getattr(opened, "protocol_version", None) or opened.protocolVersion)


async def walk(client: Client, seconds: float) -> dict[str, Any]:
    seen: list[float] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        seen.append(value)

    facts: dict[str, Any] = {"version": version(client)}
    facts["tools"] = sorted(tool.name for tool in await client.list_tools())
    facts["sum"] = text(await client.call_tool("add", {"a": 2, "b": 3}))
    facts["read"] = (await client.read_resource("note://greeting"))[0].text
    facts["prompt"] = (await client.get_prompt("review", {"code": "x"})).messages[0].content.text
    facts["long"] = text(await client.call_tool("work", {"seconds": seconds}, progress_handler=progress))
    facts["progress"] = await steps.told(seen)
    facts["asked"] = None
    if ASKS and "remove" in facts["tools"]:
        facts["asked"] = await steps.outcome(client.call_tool("remove", {"name": "file"}), text)
    return facts


async def process(client: Client) -> dict[str, Any]:
    return {"process": text(await client.call_tool("process", {}))}


asyncio.run(steps.serve(opened, walk, process))
