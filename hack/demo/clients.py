"""Two real clients: the `mcp` package for Python, in both eras, and the MCP Inspector's command line for Node."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from hack.demo.servers import NODE_MODULES, node

INSPECTOR = NODE_MODULES / ".bin" / "mcp-inspector"
TIMEOUT = 60.0


async def with_sdk(url: str, era: str, calls: list[tuple[str, dict[str, Any]]]) -> tuple[list[str], list[str]]:
    """List the tools and make the calls with the `mcp` package; return names and texts.

    Args:
        url: Of the gateway.
        era: `legacy` or `2026-07-28`.
        calls: Tool and arguments.
    """
    from mcp import Client

    async with asyncio.timeout(TIMEOUT), Client(url, mode=era) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        texts = []
        for tool, arguments in calls:
            result = await client.call_tool(tool, arguments)
            if result.is_error:
                raise RuntimeError(f"{tool}: {result.content}")
            texts.append(" ".join(getattr(item, "text", f"<{item.type}>") for item in result.content))
        return names, texts


async def with_inspector(url: str, method: str, *arguments: str) -> dict[str, Any]:
    """Run the MCP Inspector's command line and return what it printed.

    Raises:
        RuntimeError: It failed; the text holds its words.
    """
    command = [node(), str(INSPECTOR), "--cli", url, "--transport", "http", "--method", method, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": f"{Path(node()).parent}:{os.environ['PATH']}"},
    )
    out, err = await asyncio.wait_for(process.communicate(), TIMEOUT)
    if process.returncode != 0:
        raise RuntimeError(f"the Inspector ended with {process.returncode}: {err.decode()[-2000:]}")
    printed: dict[str, Any] = json.loads(out)
    return printed
