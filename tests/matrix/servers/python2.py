"""A small server as the 2.x line of the Python SDK is used: `python python2.py PORT`."""

import asyncio
import os
import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

mcp = MCPServer("everyday")


class Consent(BaseModel):
    sure: bool


@mcp.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool()
def process() -> int:
    """Tell which process answers."""
    return os.getpid()


@mcp.tool()
async def work(seconds: float, ctx: Context) -> str:  # type: ignore[type-arg]
    """Work for a while and tell how far it is."""
    for step in range(1, 6):
        await asyncio.sleep(seconds / 5)
        await ctx.report_progress(step, 5)
    return "done"


@mcp.tool()
async def remove(name: str, ctx: Context) -> str:  # type: ignore[type-arg]
    """Remove something, if the person agrees."""
    answer = await ctx.elicit(f"Remove {name}?", schema=Consent)
    return f"removed {name}" if answer.action == "accept" and answer.data.sure else "kept"


@mcp.resource("note://greeting")
def greeting() -> str:
    return "Hello!"


@mcp.prompt()
def review(code: str) -> str:
    """Ask for a review."""
    return f"Please review: {code}"


mcp.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
