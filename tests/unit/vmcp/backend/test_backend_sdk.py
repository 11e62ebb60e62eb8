"""The adapters against the Python SDK's own server, in both eras: what a client wants arrives, whoever serves it."""

from __future__ import annotations

import asyncio
import json
import socket
import warnings
from collections.abc import AsyncIterator
from typing import Any

import mcp_types as types
import pytest
import pytest_asyncio
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated, ToolsListChanged

from tests.support.eventually import eventually
from vmcp.backend.backend import McpBackend
from vmcp.backend.interface import Call, Era, RpcFault, SessionSpec
from vmcp.wire.jsonrpc import RpcError

warnings.filterwarnings("ignore", category=DeprecationWarning)

FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
ANSWER = b'{"action":"accept","content":{"name":"Ada"}}'


class Sdk:
    """A server with one tool per behaviour, served over HTTP in this process.

    Attributes:
        cancelled: Set when the tool `hang` was cancelled.
        started: Set when it began.
    """

    def __init__(self) -> None:
        self.bus = InMemorySubscriptionBus()
        self.tools = ["echo", "progress", "log", "ask", "sample", "roots", "hang", "state", "whoami"]
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()
        self.sessions: list[Any] = []
        self.ids: set[str] = set()
        self.levels: list[str] = []
        self.subscribed: list[str] = []
        self.url = ""

    def server(self) -> Server[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Server(
                "sdk",
                instructions="Be kind.",
                on_list_tools=self.on_list_tools,
                on_call_tool=self.on_call_tool,
                on_list_resources=self.on_list_resources,
                on_read_resource=self.on_read_resource,
                on_list_prompts=self.on_list_prompts,
                on_get_prompt=self.on_get_prompt,
                on_completion=self.on_completion,
                on_subscribe_resource=self.on_subscribe,
                on_unsubscribe_resource=self.on_unsubscribe,
                on_subscriptions_listen=ListenHandler(self.bus),
                on_set_logging_level=self.on_level,
            )

    async def on_list_tools(self, ctx, params) -> types.ListToolsResult:
        if ctx.request is not None:
            self.ids.add(ctx.request.headers.get("mcp-session-id", ""))
        page = int(params.cursor) if params is not None and params.cursor else 0
        names = self.tools[page : page + 4]
        tools = [types.Tool(name=name, title=f"The {name}", input_schema={"type": "object"}) for name in names]
        more = str(page + 4) if page + 4 < len(self.tools) else None
        return types.ListToolsResult(tools=tools, next_cursor=more)

    async def on_call_tool(self, ctx, params) -> Any:
        arguments = params.arguments or {}
        match params.name:
            case "progress":
                for step in range(3):
                    await ctx.session.report_progress(step + 1, 3, f"step {step}")
            case "log":
                for level in ("debug", "warning"):
                    await ctx.session.send_log_message(level, f"a {level}", related_request_id=ctx.request_id)
            case "ask" | "sample" | "roots":
                return await self.ask(ctx, params)
            case "hang":
                self.started.set()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return text(json.dumps(arguments, sort_keys=True))

    async def ask(self, ctx, params) -> Any:
        if ctx.protocol_version != "2026-07-28":
            match params.name:
                case "ask":
                    answer = await ctx.session.elicit_form("Who?", FORM, related_request_id=ctx.request_id)
                    return text(f"{answer.action} {answer.content}")
                case "sample":
                    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="hi"))
                    sampled = await ctx.session.create_message(
                        [message], max_tokens=5, related_request_id=ctx.request_id
                    )
                    return text(f"sampled {sampled.model}")
            listed = await ctx.session.list_roots()
            return text(f"roots {len(listed.roots)}")
        responses = getattr(params, "input_responses", None)
        if not responses:
            request = types.ElicitRequest(params=types.ElicitRequestFormParams(message="Who?", requested_schema=FORM))
            return types.InputRequiredResult(input_requests={"who": request}, request_state="opaque+/=")
        return text(f"{responses['who'].action} {responses['who'].content} {params.request_state}")

    async def on_list_resources(self, ctx, params) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=[types.Resource(uri="test://a", name="a")])

    async def on_read_resource(self, ctx, params) -> types.ReadResourceResult:
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text="content")])

    async def on_list_prompts(self, ctx, params) -> types.ListPromptsResult:
        return types.ListPromptsResult(prompts=[types.Prompt(name="hello")])

    async def on_get_prompt(self, ctx, params) -> types.GetPromptResult:
        content = types.TextContent(type="text", text=f"Hello {params.arguments}")
        return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])

    async def on_completion(self, ctx, params) -> types.CompleteResult:
        return types.CompleteResult(completion=types.Completion(values=[params.argument.value + "!"]))

    async def on_subscribe(self, ctx, params) -> types.EmptyResult:
        self.subscribed.append(str(params.uri))
        self.sessions.append(ctx.session)
        return types.EmptyResult()

    async def on_unsubscribe(self, ctx, params) -> types.EmptyResult:
        self.subscribed.remove(str(params.uri))
        return types.EmptyResult()

    async def on_level(self, ctx, params) -> types.EmptyResult:
        self.levels.append(params.level)
        return types.EmptyResult()


def text(value: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=value)])


class LegacyOnly:
    """Hides the modern era of a dual-era app, as a server of an older SDK would."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", []))
        if headers.get(b"mcp-protocol-version") == b"2026-07-28":
            body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Unsupported version"}}'
            await send(
                {"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": body})
            return
        await self.app(scope, receive, send)


@pytest.fixture(params=["legacy", "legacy-json", "modern"])
def wire(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest_asyncio.fixture
async def sdk(wire: str) -> AsyncIterator[Sdk]:
    sdk = Sdk()
    app: Any = sdk.server().streamable_http_app(json_response=wire == "legacy-json")
    if wire != "modern":
        app = LegacyOnly(app)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(
        sockets=[sock]
    )  # without serve(): its loop only ticks every 0.1 s, at the start and at the end
    sdk.url = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
    yield sdk
    server.force_exit = True
    await server.shutdown(sockets=[sock])
    await server.lifespan.shutdown()


@pytest_asyncio.fixture
async def backend(sdk: Sdk, backend_of) -> McpBackend:
    made: McpBackend = backend_of(sdk.url)
    await made.start()
    assert await made.wait_known(5)
    assert made.state.last_error == ""
    return made


class Client:
    """What stands behind the core: collects, and answers questions."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer = ANSWER

    def sink(self, method: str, params: bytes) -> None:
        self.heard.append((method, json.loads(params)))

    async def bridge(self, method: str, params: bytes) -> bytes:
        self.asked.append((method, json.loads(params)))
        if method == "roots/list":
            return b'{"roots":[{"uri":"file:///x"}]}'
        if method == "sampling/createMessage":
            return b'{"role":"assistant","content":{"type":"text","text":"x"},"model":"m1"}'
        return self.answer

    def notification(self, backend: str, method: str, params: bytes) -> None:
        self.heard.append((method, json.loads(params)))

    async def request(self, backend: str, method: str, params: bytes) -> bytes:
        return await self.bridge(method, params)


CAPABILITIES = b'{"elicitation":{},"sampling":{},"roots":{}}'


def tool(name: str, **changes: Any) -> Call:
    params = {"name": name, "arguments": changes.pop("arguments", {})}
    if token := changes.pop("token", None):
        params["_meta"] = {"progressToken": token}
    defaults: dict[str, Any] = {"client_capabilities": CAPABILITIES, "timeout": 10}
    return Call(method="tools/call", params=json.dumps(params).encode(), **(defaults | changes))


def words(reply: Any) -> str:
    assert reply.result is not None, reply
    return json.loads(reply.result)["content"][0]["text"]


async def test_the_catalogue_holds_every_page_and_every_list(backend, sdk, wire) -> None:
    catalogue = backend.catalogue
    assert [item.key for item in catalogue.tools] == sdk.tools
    assert json.loads(catalogue.tools[0].raw)["title"] == "The echo"
    assert [item.key for item in catalogue.resources] == ["test://a"]
    assert [item.key for item in catalogue.prompts] == ["hello"]
    assert catalogue.instructions == "Be kind."
    assert catalogue.era is (Era.MODERN if wire == "modern" else Era.LEGACY)
    assert json.loads(catalogue.server_info or b"{}")["name"] == "sdk"


async def test_calls_reads_prompts_and_completions_arrive(backend) -> None:
    session = backend.open(SessionSpec())
    assert words(await session.call(tool("echo", arguments={"ü": [1, None]}))) == '{"\\u00fc": [1, null]}'
    read = await session.call(Call(method="resources/read", params=b'{"uri":"test://a"}'))
    assert b'"content"' in (read.result or b"")
    prompt = await session.call(Call(method="prompts/get", params=b'{"name":"hello","arguments":{"a":"b"}}'))
    assert b"Hello" in (prompt.result or b"")
    params = b'{"ref":{"type":"ref/prompt","name":"hello"},"argument":{"name":"a","value":"x"}}'
    completed = await session.call(Call(method="completion/complete", params=params))
    assert b'"x!"' in (completed.result or b"")
    assert (await session.call(Call(method="ping"))).error is None
    await session.close()


@pytest.mark.parametrize("wire", ["legacy", "legacy-json"], indirect=True)
async def test_a_session_is_kept_between_calls(backend, sdk, wire) -> None:
    session = backend.open(SessionSpec())
    for _ in range(3):
        await session.call(Call(method="tools/list"))
    assert len(sdk.ids) == 2, "the gateway's own and the client's"
    await session.close()


@pytest.mark.parametrize("wire", ["legacy", "modern"], indirect=True)
async def test_progress_arrives_in_order_with_the_clients_own_token(backend, wire) -> None:
    client = Client()
    session = backend.open(SessionSpec())
    await session.call(tool("progress", token="my-token", sink=client.sink))
    assert [params["progress"] for _, params in client.heard] == [1, 2, 3]
    assert {params["progressToken"] for _, params in client.heard} == {"my-token"}
    await session.close()


@pytest.mark.parametrize(("level", "expected"), [("debug", ["debug", "warning"]), ("error", []), (None, [])])
@pytest.mark.parametrize("wire", ["legacy", "modern"], indirect=True)
async def test_log_messages_arrive_at_the_clients_level(backend, wire, level, expected) -> None:
    client = Client()
    session = backend.open(SessionSpec())
    await session.call(tool("log", log_level=level, sink=client.sink))
    assert [params["level"] for method, params in client.heard if method == "notifications/message"] == expected
    await session.close()


@pytest.mark.parametrize("wire", ["legacy", "modern"], indirect=True)
async def test_a_question_in_the_middle_of_a_call_reaches_the_client(backend, wire) -> None:
    client = Client()
    session = backend.open(SessionSpec(client_capabilities=CAPABILITIES))
    answer = words(await session.call(tool("ask", bridge=client.bridge)))
    assert answer.startswith("accept {'name': 'Ada'}")
    assert client.asked[0][0] == "elicitation/create"
    assert client.asked[0][1]["message"] == "Who?"
    assert client.asked[0][1]["requestedSchema"] == FORM
    await session.close()


@pytest.mark.parametrize("wire", ["legacy", "modern"], indirect=True)
async def test_waiting_for_a_person_does_not_use_up_the_calls_time(backend, wire) -> None:

    async def slow(method: str, params: bytes) -> bytes:
        await asyncio.sleep(0.8)
        return ANSWER

    session = backend.open(SessionSpec(client_capabilities=CAPABILITIES))
    assert words(await session.call(tool("ask", bridge=slow, timeout=0.5))).startswith("accept")
    await session.close()


@pytest.mark.parametrize("wire", ["legacy"], indirect=True)
async def test_sampling_and_roots_reach_the_client(backend, wire) -> None:
    client = Client()
    session = backend.open(SessionSpec(client_capabilities=CAPABILITIES, events=client))
    assert words(await session.call(tool("sample", bridge=client.bridge))) == "sampled m1"
    assert words(await session.call(tool("roots", bridge=client.bridge))) == "roots 1"
    await session.close()


@pytest.mark.parametrize("wire", ["legacy", "modern"], indirect=True)
async def test_a_refusal_of_the_client_reaches_the_backend(backend, wire) -> None:

    async def refuse(method: str, params: bytes) -> bytes:
        raise RpcFault(RpcError(-32099, "not now"))

    session = backend.open(SessionSpec(client_capabilities=CAPABILITIES))
    reply = await session.call(tool("ask", bridge=refuse))
    assert reply.error is not None or b'"isError":true' in (reply.result or b"").replace(b" ", b"")
    assert b"not now" in (reply.result or b"") or reply.error.message == "not now"
    await session.close()


@pytest.mark.parametrize("wire", ["modern"], indirect=True)
async def test_input_required_is_relayed_untouched_and_continued(backend, wire) -> None:
    client = Client()
    session = backend.open(SessionSpec())
    first = await session.call(tool("ask", bridge=client.bridge, relay_input=True))
    asked = first.input_required
    assert asked is not None
    assert client.asked == []
    assert asked.state == "opaque+/="
    assert json.loads(asked.requests or b"")["who"]["method"] == "elicitation/create"
    again = tool("ask", relay_input=True, input_responses=b'{"who":' + ANSWER + b"}", request_state=asked.state)
    assert words(await session.call(again)) == "accept {'name': 'Ada'} opaque+/="
    await session.close()


async def test_cancelling_a_call_stops_it_at_the_backend(backend, sdk) -> None:
    session = backend.open(SessionSpec())
    task = asyncio.create_task(session.call(tool("hang")))
    await asyncio.wait_for(sdk.started.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(sdk.cancelled.wait(), 5)
    assert backend.state.failures == 0, "a client that leaves is no fault of the backend"
    assert words(await session.call(tool("echo"))) == "{}"
    await session.close()


async def test_a_call_that_takes_too_long_is_ended_and_cancelled(backend, sdk) -> None:
    session = backend.open(SessionSpec())
    with pytest.raises(Exception, match=r"in time|silent") as caught:
        await session.call(tool("hang", timeout=0.2))
    assert caught.value.category == "timeout"
    await asyncio.wait_for(sdk.cancelled.wait(), 5)
    await session.close()


async def test_updates_of_a_subscribed_resource_reach_the_session(backend, sdk, wire) -> None:
    client = Client()
    session = backend.open(SessionSpec(events=client))
    subscribe = Call(method="resources/subscribe", params=b'{"uri":"test://a"}')
    assert (await session.call(subscribe)).error is None

    async def update() -> None:
        if wire == "modern":
            await sdk.bus.publish(ResourceUpdated(uri="test://a"))
        else:
            await sdk.sessions[-1].send_resource_updated("test://a")

    async def heard() -> bool:
        await update()
        return bool(client.heard)

    await eventually(heard, "the stream, which opens in the background: what is sent before is lost")
    assert client.heard[0] == ("notifications/resources/updated", {"uri": "test://a"})
    assert (await session.call(Call(method="resources/unsubscribe", params=b'{"uri":"test://a"}'))).error is None
    if wire == "modern":
        client.heard.clear()
        await update()
        assert client.heard == []
    else:
        assert sdk.subscribed == []
    await session.close()


@pytest.mark.parametrize("wire", ["modern"], indirect=True)
async def test_a_changed_list_of_tools_is_fetched_again(backend, sdk, wire) -> None:
    changes: list[Any] = []
    backend.subscribe(changes.append)
    sdk.tools = ["echo", "new"]

    async def heard() -> bool:
        await sdk.bus.publish(ToolsListChanged())
        return bool(changes)

    await eventually(heard)
    await eventually(lambda: [item.key for item in backend.catalogue.tools] == ["echo", "new"])


async def test_concurrent_calls_of_many_sessions_never_mix(backend) -> None:
    sessions = [backend.open(SessionSpec()) for _ in range(8)]

    async def one(number: int) -> None:
        client = Client()
        reply = await sessions[number % 8].call(
            tool("echo", arguments={"n": number}, token=number + 1, sink=client.sink)
        )
        assert words(reply) == json.dumps({"n": number})

    await asyncio.gather(*(one(number) for number in range(120)))
    await asyncio.gather(*(session.close() for session in sessions))


async def test_the_gateway_declares_what_the_client_declared_and_nothing_more(backend, server, backend_of) -> None:
    other = backend_of(server.url, name="other")
    session = other.open(SessionSpec(client_capabilities=b'{"sampling":{"tools":{}},"experimental":{"x":1.0}}'))
    await session.call(Call(method="tools/list"))
    raw = server.posts("initialize")[0].body
    assert b'"capabilities":{"sampling":{"tools":{}},"experimental":{"x":1.0}}' in raw
    await session.close()
