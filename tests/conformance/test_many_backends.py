"""One gateway before backends of both eras, of which some are dead or never answer."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, MCPError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated as of 2026-07-28.*"),
    pytest.mark.parametrize("mode", ["legacy", "auto"]),
]


@pytest.fixture(scope="module")
def dead() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        yield int(sock.getsockname()[1])


@pytest.fixture
def connect(everything, gateway, dead, silent, mode):
    ports = {"old": everything("legacy").port, "new": everything("modern").port, "dead": dead, "silent": silent}
    front = gateway(strategy="prefix", extra={"operational": {"timeouts": {"default": "25s"}}}, **ports)

    async def elicit(context: Any, params: Any) -> t.ElicitResult:
        return t.ElicitResult(action="accept", content=dict.fromkeys(params.requested_schema["properties"], "mine"))

    @asynccontextmanager
    async def open_client() -> AsyncIterator[Client]:
        url = f"http://127.0.0.1:{front.port}/mcp"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            async with Client(url, mode=mode, elicitation_callback=elicit, cache=None) as client:
                yield client

    return open_client


def said(result: Any) -> Any:
    assert not result.is_error, result.content
    return result.content[0].text


async def test_names_are_prefixed_and_lead_to_their_backends(connect):
    async with connect() as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"old_echo", "new_echo", "old_slow", "new_slow"} <= names
        assert "echo" not in names
        for prefix in ("old", "new"):
            assert json.loads(said(await client.call_tool(f"{prefix}_echo", {"who": prefix}))) == {"who": prefix}
            answer = said(await client.call_tool(f"{prefix}_test_elicitation", {"message": "?"}))
            assert '"username": "mine"' in answer
            prompt = await client.get_prompt(f"{prefix}_test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
            assert prompt.messages[0].content.text == "Prompt with arguments: arg1='a', arg2='b'"
            ref = t.PromptReference(name=f"{prefix}_test_prompt_with_arguments")
            assert (await client.complete(ref, {"name": "arg1", "value": "part"})).completion.values == ["party"]
        with pytest.raises(MCPError):
            await client.call_tool("echo", {})


async def test_a_header_parameter_is_mirrored_for_the_backend_that_wants_it(connect):
    async with connect() as client:
        await client.list_tools()
        found = json.loads(said(await client.call_tool("new_with_header", {"region": "é u", "q": "x"})))
    assert found["arguments"] == {"region": "é u", "q": "x"}
    assert found["header"] == "=?base64?w6kgdQ==?="


async def test_dead_and_silent_backends_delay_nobody(connect):
    async with asyncio.timeout(20):
        begun = time.monotonic()
        async with connect() as client:
            await client.list_tools()
            for _ in range(5):
                said(await client.call_tool("new_echo", {}))
                said(await client.call_tool("old_echo", {}))
            # Far below the 25 seconds that a call to the silent one would take, even on a busy machine.
            assert time.monotonic() - begun < 12


async def test_many_calls_at_once_get_their_own_answers(connect, scale):
    async with connect() as client:

        async def one(number: int) -> None:
            prefix = "old" if number % 2 else "new"
            assert json.loads(said(await client.call_tool(f"{prefix}_echo", {"n": number}))) == {"n": number}

        for start in range(0, scale(60, 600), 20):
            await asyncio.gather(*(one(number) for number in range(start, start + 20)))
