"""The Python SDK 2.3 as a client, in both eras, in front of backends of each era and of both."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, MCPError

from tests.support.eventually import eventually

MODERN = "2026-07-28"
CELLS = [*((mode, era) for mode in ("legacy", MODERN) for era in ("legacy", "modern")), ("legacy", "dual")]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated as of 2026-07-28.*"),
    pytest.mark.parametrize(("mode", "era"), CELLS, ids=[f"{m}-client-{e}-backend" for m, e in CELLS]),
]


class Person:
    """Who sits in front of the client, and what reached it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.logged: list[str] = []
        self.messages: list[str] = []
        self.news = asyncio.Event()

    async def elicit(self, context: Any, params: Any) -> t.ElicitResult:
        self.asked.append(params.message)
        answers = {name: f"my {name}" for name in params.requested_schema["properties"]}
        return t.ElicitResult(action="accept", content=answers)

    async def sample(self, context: Any, params: Any) -> t.CreateMessageResult:
        self.asked.append(params.messages[0].content.text)
        content = t.TextContent(type="text", text="a sampled answer")
        return t.CreateMessageResult(role="assistant", content=content, model="m", stop_reason="endTurn")

    async def roots(self, context: Any) -> t.ListRootsResult:
        self.asked.append("roots")
        return t.ListRootsResult(roots=[t.Root(uri="file:///home", name="home")])

    async def log(self, params: Any) -> None:
        self.logged.append(str(params.level))

    async def message(self, message: Any) -> None:
        if not isinstance(message, Exception):
            self.messages.append(message.method)
        self.news.set()

    async def until(self, method: str) -> None:
        async with asyncio.timeout(10):
            while method not in self.messages:
                self.news.clear()
                await self.news.wait()


Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def connect(everything, gateway, person, mode, era) -> Connect:
    front = gateway(everything=everything(era).port)

    @asynccontextmanager
    async def open_client(**options: Any) -> AsyncIterator[Client]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            async with Client(
                f"http://127.0.0.1:{front.port}/mcp",
                mode="auto" if mode == MODERN else "legacy",
                elicitation_callback=person.elicit,
                sampling_callback=person.sample,
                list_roots_callback=person.roots,
                logging_callback=person.log,
                message_handler=person.message,
                cache=None,
                **options,
            ) as client:
                yield client

    return open_client


def said(result: Any) -> str:
    assert not result.is_error, result.content
    return str(result.content[0].text)


async def test_initialize_list_call_read_prompt_and_complete(connect, mode):
    async with connect() as client:
        assert client.protocol_version == (MODERN if mode == MODERN else "2025-11-25")
        assert client.server_info.name == "gateway"
        assert client.instructions == "Ask for everything."
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"echo", "test_simple_text", "with_header"} <= tools.keys()
        assert json.loads(said(await client.call_tool("echo", {"a": [1, {"b": None}]}))) == {"a": [1, {"b": None}]}
        read = await client.read_resource("test://template/42/data")
        assert json.loads(read.contents[0].text)["id"] == "42"
        prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "x", "arg2": "y"})
        assert prompt.messages[0].content.text == "Prompt with arguments: arg1='x', arg2='y'"
        ref = t.PromptReference(name="test_prompt_with_arguments")
        completed = await client.complete(ref, {"name": "arg1", "value": "par"})
        assert completed.completion.values == ["paris", "park", "party"]


async def test_unknown_names_are_errors_of_the_era(connect, mode):
    async with connect() as client:
        with pytest.raises(MCPError) as tool:
            await client.call_tool("no such tool", {})
        assert tool.value.error.code == t.INVALID_PARAMS
        with pytest.raises(MCPError) as resource:
            await client.read_resource("test://nothing")
        assert resource.value.error.code == (t.INVALID_PARAMS if mode == MODERN else -32002)


async def test_progress_reaches_the_caller_in_order(connect):
    seen: list[float] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        seen.append(value)

    async with connect() as client:
        said(await client.call_tool("test_tool_with_progress", {}, progress_callback=progress))
    assert seen == [0, 50, 100]


async def test_log_messages_come_at_the_level_that_the_client_set(connect, person, mode):
    options = {"log_level": "warning"} if mode == MODERN else {}
    async with connect(**options) as client:
        if mode != MODERN:
            await client.set_logging_level("warning")
        said(await client.call_tool("test_logging_tool", {}))
        await eventually(lambda: len(person.logged) >= 2)
    assert person.logged == ["warning", "error"]


async def test_an_elicitation_is_answered_by_the_person(connect, person):
    async with connect() as client:
        answer = said(await client.call_tool("test_elicitation", {"message": "Who are you?"}))
    assert person.asked == ["Who are you?"]
    assert '"username": "my username"' in answer


async def test_sampling_and_roots_are_answered_by_the_client(connect, person):
    async with connect() as client:
        assert said(await client.call_tool("test_sampling", {"prompt": "Say it"})) == "LLM response: a sampled answer"
        assert "file:///home" in said(await client.call_tool("test_input_required_result_list_roots", {}))
    assert person.asked == ["Say it", "roots"]


async def test_several_questions_in_several_rounds_are_answered(connect, person):
    async with connect() as client:
        answers = json.loads(said(await client.call_tool("test_input_required_result_multiple_inputs", {})))
        assert set(answers) == {"user_name", "greeting", "client_roots"}
        rounds = said(await client.call_tool("test_input_required_result_multi_round", {}))
        assert rounds == "my name likes my color"
        prompt = await client.get_prompt("test_input_required_result_prompt")
        assert prompt.messages[0].content.text == "Context: my context"
    assert len(person.asked) == 6


async def test_cancelling_a_call_reaches_the_backend(connect):
    async with connect() as client:
        before = json.loads(said(await client.call_tool("notes", {})))["cancelled"]
        started = asyncio.Event()

        async def progress(value: float, total: float | None, message: str | None) -> None:
            started.set()

        call = asyncio.create_task(client.call_tool("slow", {"seconds": 60}, progress_callback=progress))
        async with asyncio.timeout(10):
            await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        async def told() -> bool:
            return json.loads(said(await client.call_tool("notes", {})))["cancelled"] != before

        await eventually(told, "the backend learns of it")


async def test_a_changed_list_is_told_and_shows_the_change(connect, person, mode):
    async with connect() as client:

        async def names() -> set[str]:
            return {tool.name for tool in (await client.list_tools()).tools}

        async def change_and_wait(told: Callable[[], Any]) -> None:
            before = await names()
            said(await client.call_tool("test_trigger_tool_change", {}))
            async with asyncio.timeout(10):
                await told()
            assert await names() ^ before == {"appeared"}

        for _ in range(2):  # once it appears, once it goes: removals are told, too
            if mode == MODERN:
                async with client.listen(tools_list_changed=True) as changes:
                    await change_and_wait(lambda changes=changes: anext(aiter(changes)))
            else:
                person.messages.clear()
                await change_and_wait(lambda: person.until("notifications/tools/list_changed"))


async def test_a_subscribed_resource_tells_its_updates(connect, person, mode):
    uri = "test://watched-resource"
    async with connect() as client:
        if mode == MODERN:
            async with client.listen(resource_subscriptions=[uri]) as changes:
                assert list(changes.honored.resource_subscriptions) == [uri]
                said(await client.call_tool("touch", {}))
                async with asyncio.timeout(10):
                    assert str((await anext(aiter(changes))).uri) == uri
        else:
            await client.subscribe_resource(uri)
            said(await client.call_tool("touch", {}))
            await person.until("notifications/resources/updated")
            await client.unsubscribe_resource(uri)


async def test_the_backend_keeps_its_session_between_calls(connect, mode, era):
    if era == "modern":
        pytest.skip("a modern backend has no sessions")
    async with connect() as client:
        first = int(said(await client.call_tool("count", {})))
        assert int(said(await client.call_tool("count", {}))) == first + 1
