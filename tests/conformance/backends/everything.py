"""A server that has everything the conformance suite asks for, on the `mcp` SDK; speaks both eras, or only one.

    python everything.py --port 0 [--era dual|legacy|modern] [--delay SECONDS]

Prints `listening on PORT` when it serves. Every tool that needs the client works in both eras: `ask` sends a request in
the legacy era and returns `input_required` in the modern one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as t
import uvicorn
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.subscriptions import PromptsListChanged, ResourceUpdated, ToolsListChanged

warnings.filterwarnings("ignore", message=".*deprecated as of 2026-07-28.*")

MODERN = "2026-07-28"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA="
SECRET = b"conformance fixture: signs request state"
WATCHED = "test://watched-resource"

bus = InMemorySubscriptionBus()
listen = ListenHandler(bus)
sessions: dict[int, Any] = {}
subscribed: dict[str, list[Any]] = {}
extra = {"tools": False, "prompts": False}
notes = {"cancelled": 0, "roots_changed": 0}


class Asked(Exception):  # noqa: N818  it is an answer
    """The modern era's way to ask: this result instead of an answer."""

    def __init__(self, result: t.InputRequiredResult) -> None:
        super().__init__("input required")
        self.result = result


def text(value: str) -> t.CallToolResult:
    return t.CallToolResult(content=[t.TextContent(type="text", text=value)])


def is_modern(ctx: Any) -> bool:
    return bool(ctx.protocol_version == MODERN)


def elicit(message: str, **properties: Any) -> t.ElicitRequest:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str, tokens: int = 100) -> t.CreateMessageRequest:
    message = t.SamplingMessage(role="user", content=t.TextContent(type="text", text=prompt))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[message], max_tokens=tokens))


def roots() -> t.ListRootsRequest:
    return t.ListRootsRequest(params=t.RequestParams())


RESULTS: Mapping[str, Any] = {
    "elicitation/create": t.ElicitResult,
    "sampling/createMessage": t.CreateMessageResult,
    "roots/list": t.ListRootsResult,
}
NEEDS = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


def declared(ctx: Any, method: str) -> bool:
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and getattr(capabilities, NEEDS[method]) is not None


def sign(value: str) -> str:
    return value + "." + hmac.new(SECRET, value.encode(), hashlib.sha256).hexdigest()


def verify(state: str) -> str:
    value, _, mac = state.rpartition(".")
    if not hmac.compare_digest(hmac.new(SECRET, value.encode(), hashlib.sha256).hexdigest(), mac):
        raise MCPError(t.INVALID_PARAMS, "requestState failed its integrity check")
    return value


async def ask(
    ctx: Any, params: Any, requests: dict[str, Any], *, state: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the client's answers, by key; in the modern era by way of `input_required`."""
    missing = [r.method for r in requests.values() if not declared(ctx, r.method)]
    if missing:
        needed = {NEEDS[method]: {} for method in missing}
        raise MCPError(t.MISSING_REQUIRED_CLIENT_CAPABILITY, "capability", {"requiredCapabilities": needed})
    if not is_modern(ctx):
        meta = ServerMessageMetadata(related_request_id=ctx.request_id)
        found = await asyncio.gather(
            *(ctx.session.send_request(r, RESULTS[r.method], metadata=meta) for r in requests.values())
        )
        return {key: answer.model_dump(by_alias=True) for key, answer in zip(requests, found, strict=True)}
    given = {
        key: value if isinstance(value, dict) else value.model_dump(by_alias=True)
        for key, value in (params.input_responses or {}).items()
    }
    if not all(key in given for key in requests):
        raise Asked(t.InputRequiredResult(input_requests=requests, request_state=state))
    return given


# --- tools ------------------------------------------------------------------------------------------------------------

Handler = Callable[[Any, Any, dict[str, Any]], Awaitable[Any]]
TOOLS: dict[str, tuple[t.Tool, Handler]] = {}


def tool(
    description: str, schema: dict[str, Any] | None = None, name: str | None = None
) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        key = name or handler.__name__
        made = t.Tool(name=key, description=description, input_schema=schema or {"type": "object", "properties": {}})
        TOOLS[key] = (made, handler)
        return handler

    return register


def needs(**properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }


@tool("Returns a text")
async def test_simple_text(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return text("This is a simple text response for testing.")


IMAGE = t.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, value: str, kind: str = "text/plain") -> t.EmbeddedResource:
    contents = t.TextResourceContents(uri=uri, mime_type=kind, text=value)
    return t.EmbeddedResource(type="resource", resource=contents)


@tool("Returns an image")
async def test_image_content(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return t.CallToolResult(content=[IMAGE])


@tool("Returns audio")
async def test_audio_content(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return t.CallToolResult(content=[t.AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


@tool("Returns an embedded resource")
async def test_embedded_resource(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return t.CallToolResult(content=[embedded("test://embedded-resource", "This is an embedded resource content.")])


@tool("Returns text, image and resource")
async def test_multiple_content_types(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    first = t.TextContent(type="text", text="Multiple content types test:")
    data = json.dumps({"test": "data", "value": 123})
    return t.CallToolResult(content=[first, IMAGE, embedded("test://mixed-content-resource", data, "application/json")])


@tool("Fails")
async def test_error_handling(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    said = t.TextContent(type="text", text="This tool intentionally returns an error for testing")
    return t.CallToolResult(content=[said], is_error=True)


async def say(ctx: Any, level: Any, data: Any) -> None:
    await ctx.session.send_log_message(level, data, related_request_id=ctx.request_id)


@tool("Logs three messages")
async def test_tool_with_logging(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await say(ctx, "info", message)
        await asyncio.sleep(0.05)
    return text("Tool with logging executed successfully")


@tool("Logs at every level")
async def test_logging_tool(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    for level in ("debug", "info", "warning", "error"):
        await say(ctx, level, f"a message at {level}")
    return text("logged")


@tool("Reports progress")
async def test_tool_with_progress(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    for step in (0, 50, 100):
        await ctx.session.report_progress(step, 100, f"Completed step {step} of 100")
        await asyncio.sleep(0.05)
    return text("done")


@tool("Asks for a sample", needs(prompt="string"))
async def test_sampling(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    answer = (await ask(ctx, params, {"sample": sample(args["prompt"])}))["sample"]
    return text(f"LLM response: {answer['content']['text']}")


@tool("Asks the user", needs(message="string"))
async def test_elicitation(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    string = {"type": "string", "description": "User's response"}
    request = elicit(args["message"], username=string, email={"type": "string", "description": "User's email address"})
    answer = (await ask(ctx, params, {"answer": request}))["answer"]
    return text(f"User response: action={answer['action']}, content={json.dumps(answer.get('content'))}")


@tool("Asks with defaults")
async def test_elicitation_sep1034_defaults(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    request = elicit(
        "Please review and update the form fields with defaults",
        name={"type": "string", "description": "User name", "default": "John Doe"},
        age={"type": "integer", "description": "User age", "default": 30},
        score={"type": "number", "description": "User score", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "description": "Verification status", "default": True},
    )
    answer = (await ask(ctx, params, {"form": request}))["form"]
    return text(f"Elicitation completed: action={answer['action']}, content={json.dumps(answer.get('content'))}")


@tool("Asks with enums")
async def test_elicitation_sep1330_enums(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": title} for n, title in enumerate(("First", "Second", "Third"), 1)]
    request = elicit(
        "Please select options from the enum fields",
        untitledSingle={"type": "string", "enum": options},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti={"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "enum": options}},
        titledMulti={"type": "array", "minItems": 1, "maxItems": 3, "items": {"anyOf": titled}},
    )
    answer = (await ask(ctx, params, {"form": request}))["form"]
    return text(f"Elicitation completed: action={answer['action']}, content={json.dumps(answer.get('content'))}")


SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@tool("Tool with JSON Schema 2020-12 features", SCHEMA_2020_12)
async def json_schema_2020_12_tool(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return text(json.dumps(args))


@tool("Asks for a name")
async def test_input_required_result_elicitation(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    answers = await ask(ctx, params, {"user_name": elicit("What is your name?", name={"type": "string"})})
    return text(f"Hello, {(answers['user_name'].get('content') or {}).get('name')}!")


@tool("Asks a model")
async def test_input_required_result_sampling(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    answers = await ask(ctx, params, {"capital_question": sample("What is the capital of France?")})
    return text(answers["capital_question"]["content"]["text"])


@tool("Asks for roots")
async def test_input_required_result_list_roots(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    answers = await ask(ctx, params, {"client_roots": roots()})
    return text("roots: " + ", ".join(str(root["uri"]) for root in answers["client_roots"]["roots"]))


CONFIRM = {"confirm": elicit("Please confirm", ok={"type": "boolean"})}


@tool("Carries a state")
async def test_input_required_result_request_state(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    await ask(ctx, params, CONFIRM, state=sign("state-1"))
    if is_modern(ctx) and verify(params.request_state or "") != "state-1":
        return text("wrong state")
    return text("state-ok")


@tool("Refuses a changed state")
async def test_input_required_result_tampered_state(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return await test_input_required_result_request_state(ctx, params, args)


@tool("Asks for three things at once")
async def test_input_required_result_multiple_inputs(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    requests = {
        "user_name": elicit("What is your name?", name={"type": "string"}),
        "greeting": sample("Generate a greeting", 50),
        "client_roots": roots(),
    }
    answers = await ask(ctx, params, requests, state=sign("three"))
    if is_modern(ctx):
        verify(params.request_state or "")
    return text(json.dumps({key: sorted(answer) for key, answer in answers.items()}))


@tool("Asks twice")
async def test_input_required_result_multi_round(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    first = {"step1": elicit("Step 1: What is your name?", name={"type": "string"})}
    second = {"step2": elicit("Step 2: What is your favorite color?", color={"type": "string"})}
    state = verify(params.request_state) if is_modern(ctx) and params.request_state else ""
    if not state.startswith("named:"):
        name = (await ask(ctx, params, first, state=sign("begin")))["step1"]["content"]["name"]
    else:
        name = state.removeprefix("named:")
    color = (await ask(ctx, params, second, state=sign(f"named:{name}")))["step2"]["content"]["color"]
    return text(f"{name} likes {color}")


@tool("Asks only what the client can answer")
async def test_input_required_result_capabilities(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    wanted = {"name": elicit("What is your name?", name={"type": "string"}), "greeting": sample("Greet", 50)}
    possible = {key: request for key, request in wanted.items() if declared(ctx, request.method)}
    return text(json.dumps(sorted(await ask(ctx, params, possible)) if possible else []))


@tool("Needs sampling")
async def test_missing_capability(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return text(str(sorted(await ask(ctx, params, {"sample": sample("anything")}))))


@tool("Says something, then asks")
async def test_streaming_elicitation(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    await ctx.session.report_progress(1, 2)
    return text(str(sorted(await ask(ctx, params, {"name": elicit("Your name?", name={"type": "string"})}))))


def remember(ctx: Any) -> None:
    """Keep legacy sessions, to tell them of changes."""
    if not is_modern(ctx):
        sessions.setdefault(id(ctx.session._connection), ctx.session)  # noqa: SLF001  the SDK has no public name for it


async def tell_legacy(send: Callable[[Any], Awaitable[None]]) -> None:
    for key, session in list(sessions.items()):
        try:
            await send(session)
        except Exception:
            sessions.pop(key, None)


@tool("Adds or removes a tool")
async def test_trigger_tool_change(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    extra["tools"] = not extra["tools"]
    await bus.publish(ToolsListChanged())
    await tell_legacy(lambda session: session.send_tool_list_changed())
    return text("changed")


@tool("Adds or removes a prompt")
async def test_trigger_prompt_change(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    extra["prompts"] = not extra["prompts"]
    await bus.publish(PromptsListChanged())
    await tell_legacy(lambda session: session.send_prompt_list_changed())
    return text("changed")


# What our own suites need besides.


@tool("Says what it was called with", name="echo")
async def echo(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return text(json.dumps(args))


@tool("Counts its calls in this session", name="count")
async def count(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    key = id(ctx.session._connection)  # noqa: SLF001  the SDK has no public name for it
    COUNTS[key] = COUNTS.get(key, 0) + 1
    return text(str(COUNTS[key]))


COUNTS: dict[int, int] = {}


@tool("Takes long; notices when it is cancelled", name="slow")
async def slow(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    try:
        await ctx.session.report_progress(0, 1)
        await asyncio.sleep(float(args.get("seconds", 30)))
    except BaseException:
        notes["cancelled"] += 1
        raise
    return text("slept")


@tool("Says what happened here", name="notes")
async def tell_notes(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    return text(json.dumps(notes))


@tool("Updates the watched resource", name="touch")
async def touch(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    await bus.publish(ResourceUpdated(WATCHED))
    for session in subscribed.get(WATCHED, []):
        await session.send_resource_updated(WATCHED)
    return text("touched")


@tool(
    "Takes a header parameter",
    {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "q": {"type": "string"}},
    },
    name="with_header",
)
async def with_header(ctx: Any, params: Any, args: dict[str, Any]) -> Any:
    headers = ctx.request.headers if ctx.request is not None else {}
    return text(json.dumps({"header": headers.get("mcp-param-region"), "arguments": args}))


# --- the server -------------------------------------------------------------------------------------------------------


async def list_tools(ctx: Any, params: Any) -> t.ListToolsResult:
    remember(ctx)
    tools = [entry[0] for entry in TOOLS.values()]
    if extra["tools"]:
        tools.append(t.Tool(name="appeared", description="Comes and goes", input_schema={"type": "object"}))
    return t.ListToolsResult(tools=tools)


async def call_tool(ctx: Any, params: Any) -> Any:
    remember(ctx)
    if params.name == "appeared" and extra["tools"]:
        return text("appeared")
    found = TOOLS.get(params.name)
    if found is None:
        raise MCPError(t.INVALID_PARAMS, f"Unknown tool: {params.name}")
    try:
        return await found[1](ctx, params, params.arguments or {})
    except Asked as asked:
        return asked.result


RESOURCES = [
    t.Resource(uri="test://static-text", name="static-text", description="A text", mime_type="text/plain"),
    t.Resource(uri="test://static-binary", name="static-binary", description="An image", mime_type="image/png"),
    t.Resource(uri=WATCHED, name="watched", description="May be subscribed to", mime_type="text/plain"),
]
TEMPLATES = [
    t.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", description="By id", mime_type="application/json"
    )
]


async def list_resources(ctx: Any, params: Any) -> t.ListResourcesResult:
    return t.ListResourcesResult(resources=RESOURCES)


async def list_templates(ctx: Any, params: Any) -> t.ListResourceTemplatesResult:
    return t.ListResourceTemplatesResult(resource_templates=TEMPLATES)


async def read_resource(ctx: Any, params: Any) -> t.ReadResourceResult:
    uri = str(params.uri)
    contents: Any
    if uri == "test://static-text":
        value = "This is the content of the static text resource."
        contents = t.TextResourceContents(uri=uri, mime_type="text/plain", text=value)
    elif uri == "test://static-binary":
        contents = t.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    elif uri == WATCHED:
        contents = t.TextResourceContents(uri=uri, mime_type="text/plain", text="Watched resource content")
    elif uri.startswith("test://template/") and uri.endswith("/data"):
        key = uri.removeprefix("test://template/").removesuffix("/data")
        value = json.dumps({"id": key, "templateTest": True, "data": f"Data for ID: {key}"})
        contents = t.TextResourceContents(uri=uri, mime_type="application/json", text=value)
    else:
        raise MCPError(t.INVALID_PARAMS if is_modern(ctx) else -32002, "Resource not found", {"uri": uri})
    return t.ReadResourceResult(contents=[contents])


async def subscribe(ctx: Any, params: Any) -> t.EmptyResult:
    subscribed.setdefault(str(params.uri), []).append(ctx.session)
    return t.EmptyResult()


async def unsubscribe(ctx: Any, params: Any) -> t.EmptyResult:
    connection = ctx.session._connection  # noqa: SLF001  the SDK has no public name for it
    kept = [one for one in subscribed.get(str(params.uri), []) if one._connection is not connection]  # noqa: SLF001  the SDK has no public name for it
    subscribed[str(params.uri)] = kept
    return t.EmptyResult()


def argument(name: str) -> t.PromptArgument:
    return t.PromptArgument(name=name, description=f"The {name}", required=True)


PROMPTS = [
    t.Prompt(name="test_simple_prompt", description="Without arguments"),
    t.Prompt(name="test_prompt_with_arguments", description="With two", arguments=[argument("arg1"), argument("arg2")]),
    t.Prompt(
        name="test_prompt_with_embedded_resource", description="With a resource", arguments=[argument("resourceUri")]
    ),
    t.Prompt(name="test_prompt_with_image", description="With an image"),
    t.Prompt(name="test_input_required_result_prompt", description="Asks for its context"),
]


async def list_prompts(ctx: Any, params: Any) -> t.ListPromptsResult:
    more = [t.Prompt(name="appeared", description="Comes and goes")] if extra["prompts"] else []
    return t.ListPromptsResult(prompts=PROMPTS + more)


def user(content: Any) -> t.PromptMessage:
    return t.PromptMessage(
        role="user", content=t.TextContent(type="text", text=content) if isinstance(content, str) else content
    )


async def get_prompt(ctx: Any, params: Any) -> Any:
    args = params.arguments or {}
    match params.name:
        case "test_simple_prompt" | "appeared":
            messages = [user("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            messages = [user(f"Prompt with arguments: arg1='{args.get('arg1')}', arg2='{args.get('arg2')}'")]
        case "test_prompt_with_embedded_resource":
            resource = embedded(args["resourceUri"], "Embedded resource content for testing.")
            messages = [user(resource), user("Please process the embedded resource above.")]
        case "test_prompt_with_image":
            messages = [user(IMAGE), user("Please analyze the image above.")]
        case "test_input_required_result_prompt":
            request = elicit("What context should the prompt use?", context={"type": "string"})
            try:
                answer = (await ask(ctx, params, {"user_context": request}))["user_context"]
            except Asked as asked:
                return asked.result
            messages = [user(f"Context: {answer['content']['context']}")]
        case _:
            raise MCPError(t.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    return t.GetPromptResult(messages=messages)


async def complete(ctx: Any, params: Any) -> t.CompleteResult:
    values = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
    return t.CompleteResult(completion=t.Completion(values=values, total=len(values), has_more=False))


async def set_level(ctx: Any, params: Any) -> t.EmptyResult:
    return t.EmptyResult()


async def roots_changed(ctx: Any, params: Any) -> None:
    notes["roots_changed"] += 1


class Everything(Server[Any]):
    """Announces that its lists change, in the legacy era too."""

    def create_initialization_options(self, notification_options: Any = None, *args: Any, **kwargs: Any) -> Any:
        options = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=True)
        return super().create_initialization_options(options, *args, **kwargs)


def build() -> Server[Any]:
    return Everything(
        "everything",
        version="1.0.0",
        instructions="Ask for everything.",
        get_tool_input_schema=lambda name: TOOLS[name][0].input_schema if name in TOOLS else None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_subscriptions_listen=listen,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=set_level,
        on_roots_list_changed=roots_changed,
    )


def only(app: Any, era: str) -> Any:
    """Make an application that knows one era, and answers the other as a server does that never heard of it."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            modern = headers.get(b"mcp-protocol-version", b"").strip() == MODERN.encode()
            if (era == "legacy" and modern) or (era == "modern" and not modern):
                code, message, status = (-32600, "Bad Request: unsupported protocol version", 400)
                if era == "modern":
                    data = {"supported": [MODERN], "requested": "legacy"}
                    error: dict[str, Any] = {"code": -32022, "message": "unsupported protocol version", "data": data}
                else:
                    error = {"code": code, "message": message}
                body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
                kind = [(b"content-type", b"application/json")]
                await send({"type": "http.response.start", "status": status, "headers": kind})
                await send({"type": "http.response.body", "body": body})
                return
        await app(scope, receive, send)

    return serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--era", choices=("dual", "legacy", "modern"), default="dual")
    options = parser.parse_args()
    app: Any = build().streamable_http_app()
    if options.era != "dual":
        app = only(app, options.era)
    config = uvicorn.Config(app, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
        if server.started:
            print(f"listening on {server.servers[0].sockets[0].getsockname()[1]}", flush=True)
        await serving

    asyncio.run(run())


if __name__ == "__main__":
    main()
