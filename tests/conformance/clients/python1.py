"""Walks through a gateway with the 1.x line of the Python SDK: `python python1.py URL`; prints its facts as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamablehttp_client

facts: dict[str, Any] = {"asked": [], "logged": [], "progress": []}
changed = asyncio.Event()
updated = asyncio.Event()


async def elicit(context: Any, params: Any) -> types.ElicitResult:
    facts["asked"].append(params.message)
    return types.ElicitResult(action="accept", content=dict.fromkeys(params.requestedSchema["properties"], "mine"))


async def sample(context: Any, params: Any) -> types.CreateMessageResult:
    facts["asked"].append(params.messages[0].content.text)
    content = types.TextContent(type="text", text="a sampled answer")
    return types.CreateMessageResult(role="assistant", content=content, model="m", stopReason="endTurn")


async def roots(context: Any) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///home", name="home")])  # type: ignore[arg-type]


async def log(params: Any) -> None:
    facts["logged"].append(params.level)


async def message(message: Any) -> None:
    if isinstance(message, types.ServerNotification):
        if isinstance(message.root, types.ToolListChangedNotification):
            changed.set()
        if isinstance(message.root, types.ResourceUpdatedNotification):
            updated.set()


def text(result: Any) -> str:
    return str(result.content[0].text)


async def walk(session: ClientSession) -> None:
    opened = await session.initialize()
    facts["version"], facts["server"] = opened.protocolVersion, opened.serverInfo.name
    facts["tools"] = len((await session.list_tools()).tools)
    facts["echo"] = json.loads(text(await session.call_tool("echo", {"x": 1})))
    read = await session.read_resource("test://static-text")  # type: ignore[arg-type]
    facts["read"] = read.contents[0].text  # type: ignore[union-attr]
    prompt = await session.get_prompt("test_simple_prompt")
    facts["prompt"] = prompt.messages[0].content.text  # type: ignore[union-attr]
    ref = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
    facts["complete"] = (await session.complete(ref, {"name": "arg1", "value": "par"})).completion.values

    async def progress(value: float, total: float | None, message: str | None) -> None:
        facts["progress"].append(value)

    await session.call_tool("test_tool_with_progress", {}, progress_callback=progress)
    await session.set_logging_level("warning")
    await session.call_tool("test_logging_tool", {})
    facts["elicited"] = text(await session.call_tool("test_elicitation", {"message": "Who?"}))
    facts["sampled"] = text(await session.call_tool("test_sampling", {"prompt": "Say"}))
    facts["roots"] = text(await session.call_tool("test_input_required_result_list_roots", {}))
    await session.call_tool("test_trigger_tool_change", {})
    await asyncio.wait_for(changed.wait(), 10)
    facts["tools_after_change"] = len((await session.list_tools()).tools)
    await session.call_tool("test_trigger_tool_change", {})
    await session.subscribe_resource("test://watched-resource")  # type: ignore[arg-type]
    await session.call_tool("touch", {})
    await asyncio.wait_for(updated.wait(), 10)
    await cancel(session)


async def cancel(session: ClientSession) -> None:
    """This line does not tell the server when a call is given up, so it is told here, as its users do."""
    before = json.loads(text(await session.call_tool("notes", {})))["cancelled"]
    number = session._request_id  # noqa: SLF001  the SDK does not say which id it will use
    try:
        await session.call_tool("slow", {"seconds": 60}, read_timeout_seconds=timedelta(seconds=0.5))
    except McpError as error:
        facts["timeout_code"] = error.error.code
    params = types.CancelledNotificationParams(requestId=number, reason="enough")
    note = types.CancelledNotification(method="notifications/cancelled", params=params)
    await session.send_notification(types.ClientNotification(note))
    async with asyncio.timeout(10):
        while json.loads(text(await session.call_tool("notes", {})))["cancelled"] == before:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    facts["cancelled"] = True


async def main() -> None:
    async with (
        streamablehttp_client(sys.argv[1]) as (read, write, _),
        ClientSession(
            read,
            write,
            elicitation_callback=elicit,
            sampling_callback=sample,
            list_roots_callback=roots,
            logging_callback=log,
            message_handler=message,
        ) as session,
    ):
        await walk(session)
    print(json.dumps(facts))


asyncio.run(main())
