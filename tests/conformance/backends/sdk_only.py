"""A server as the documentation of the official Python SDK shows it: `MCPServer`, decorators, no thought of eras.

    python sdk_only.py --port 0

Prints `listening on PORT` when it serves. It has what the conformance suite asks for. Nothing here knows which era a
request came in: `ctx.elicit`, `create_message` and `list_roots` are the SDK's way to ask in the middle of a call, which
works in the legacy era only, and `InputRequiredResult` is its way in the modern one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import warnings
from typing import Annotated, Any, Literal

import mcp_types as t
import uvicorn
from mcp.server.mcpserver import Audio, Context, Image, MCPServer, Resolve
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.resolve import Elicit, Sample
from pydantic import BaseModel, Field

warnings.filterwarnings("ignore", message=".*deprecated as of 2026-07-28.*")

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV = base64.b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=")
WATCHED = "test://watched-resource"

mcp = MCPServer("sdk-only", version="1.0.0", instructions="Ordinary.", log_level="ERROR")


def embedded(uri: str, text: str, kind: str = "text/plain") -> t.EmbeddedResource:
    return t.EmbeddedResource(type="resource", resource=t.TextResourceContents(uri=uri, mime_type=kind, text=text))


# --- tools ------------------------------------------------------------------------------------------------------------


@mcp.tool()
def echo(text: str = "") -> str:
    """Says what it was called with"""
    return text


@mcp.tool()
def test_simple_text() -> str:
    """Returns a text"""
    return "This is a simple text response for testing."


@mcp.tool()
def test_image_content() -> Image:
    """Returns an image"""
    return Image(data=PNG, format="png")


@mcp.tool()
def test_audio_content() -> Audio:
    """Returns audio"""
    return Audio(data=WAV, format="wav")


@mcp.tool()
def test_embedded_resource() -> t.EmbeddedResource:
    """Returns an embedded resource"""
    return embedded("test://embedded-resource", "This is an embedded resource content.")


@mcp.tool()
def test_multiple_content_types() -> list[t.ContentBlock]:
    """Returns text, image and resource"""
    data = json.dumps({"test": "data", "value": 123})
    return [
        t.TextContent(type="text", text="Multiple content types test:"),
        Image(data=PNG, format="png").to_image_content(),
        embedded("test://mixed-content-resource", data, "application/json"),
    ]


@mcp.tool()
def test_error_handling() -> str:
    """Fails"""
    raise ValueError("This tool intentionally returns an error for testing")


@mcp.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs three messages"""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
        await asyncio.sleep(0.05)
    return "Tool with logging executed successfully"


@mcp.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports progress"""
    for step in (0, 50, 100):
        await ctx.report_progress(step, 100, f"Completed step {step} of 100")
        await asyncio.sleep(0.05)
    return "done"


@mcp.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks for a sample"""
    message = t.SamplingMessage(role="user", content=t.TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {answer.content.text if isinstance(answer.content, t.TextContent) else answer.content}"


class UserResponse(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


@mcp.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the user"""
    answer = await ctx.elicit(message, UserResponse)
    content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"User response: action={answer.action}, content={content}"


class Defaults(BaseModel):
    name: str = Field(default="John Doe", description="User name")
    age: int = Field(default=30, description="User age")
    score: float = Field(default=95.5, description="User score")
    status: Literal["active", "inactive", "pending"] = Field(default="active", description="User status")
    verified: bool = Field(default=True, description="Verification status")


@mcp.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks with defaults"""
    answer = await ctx.elicit("Please review and update the form fields with defaults", Defaults)
    content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"Elicitation completed: action={answer.action}, content={content}"


TITLED = [{"const": f"value{n}", "title": title} for n, title in enumerate(("First", "Second", "Third"), 1)]


class Enums(BaseModel):
    untitledSingle: Literal["option1", "option2", "option3"]  # noqa: N815  the suite's names
    titledSingle: str = Field(json_schema_extra={"oneOf": TITLED})  # type: ignore[dict-item]  # noqa: N815
    legacyEnum: str = Field(  # noqa: N815
        json_schema_extra={
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        }
    )
    untitledMulti: list[Literal["option1", "option2", "option3"]] = Field(min_length=1, max_length=3)  # noqa: N815
    titledMulti: list[str] = Field(json_schema_extra={"items": {"anyOf": TITLED}})  # type: ignore[dict-item]  # noqa: N815


@mcp.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks with enums"""
    answer = await ctx.elicit("Please select options from the enum fields", Enums)
    content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"Elicitation completed: action={answer.action}, content={content}"


# --- tools that ask in the modern way ---------------------------------------------------------------------------------


def form(message: str, **properties: Any) -> t.ElicitRequest:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str, tokens: int = 100) -> t.CreateMessageRequest:
    message = t.SamplingMessage(role="user", content=t.TextContent(type="text", text=prompt))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[message], max_tokens=tokens))


def given(ctx: Context, key: str) -> Any:
    """Return what the client answered to a question, None when it did not."""
    found = (ctx.input_responses or {}).get(key)
    return found if found is None or isinstance(found, dict) else found.model_dump(by_alias=True)


STRING = {"type": "string"}


@mcp.tool()
async def test_input_required_result_elicitation(ctx: Context) -> str | t.InputRequiredResult:
    """Asks for a name"""
    answer = given(ctx, "user_name")
    if answer is None or "content" not in answer:
        return t.InputRequiredResult(input_requests={"user_name": form("What is your name?", name=STRING)})
    return f"Hello, {(answer.get('content') or {}).get('name')}!"


@mcp.tool()
async def test_input_required_result_sampling(ctx: Context) -> str | t.InputRequiredResult:
    """Asks a model"""
    answer = given(ctx, "capital_question")
    if answer is None:
        return t.InputRequiredResult(input_requests={"capital_question": sample("What is the capital of France?")})
    return str(answer["content"]["text"])


@mcp.tool()
async def test_input_required_result_list_roots(ctx: Context) -> str | t.InputRequiredResult:
    """Asks for roots"""
    answer = given(ctx, "client_roots")
    if answer is None:
        return t.InputRequiredResult(input_requests={"client_roots": t.ListRootsRequest(params=t.RequestParams())})
    return "roots: " + ", ".join(str(root["uri"]) for root in answer["roots"])


@mcp.tool()
async def test_input_required_result_request_state(ctx: Context) -> str | t.InputRequiredResult:
    """Carries a state, which the SDK seals"""
    if given(ctx, "confirm") is None:
        confirm = form("Please confirm", ok={"type": "boolean"})
        return t.InputRequiredResult(input_requests={"confirm": confirm}, request_state="state-1")
    return "state-ok" if ctx.request_state == "state-1" else "wrong state"


@mcp.tool()
async def test_input_required_result_tampered_state(ctx: Context) -> str | t.InputRequiredResult:
    """Refuses a changed state, as the SDK does"""
    return await test_input_required_result_request_state(ctx)


@mcp.tool()
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | t.InputRequiredResult:
    """Asks for three things at once"""
    requests: dict[str, Any] = {
        "user_name": form("What is your name?", name=STRING),
        "greeting": sample("Generate a greeting", 50),
        "client_roots": t.ListRootsRequest(params=t.RequestParams()),
    }
    if not all(given(ctx, key) for key in requests):
        return t.InputRequiredResult(input_requests=requests, request_state="three")
    return json.dumps({key: sorted(given(ctx, key)) for key in requests})


@mcp.tool()
async def test_input_required_result_multi_round(ctx: Context) -> str | t.InputRequiredResult:
    """Asks twice"""
    first, second = given(ctx, "step1"), given(ctx, "step2")
    if second is not None and (ctx.request_state or "").startswith("named:"):
        return f"{(ctx.request_state or '').removeprefix('named:')} likes {second['content']['color']}"
    if first is not None:
        name = first["content"]["name"]
        step = form("Step 2: What is your favorite color?", color=STRING)
        return t.InputRequiredResult(input_requests={"step2": step}, request_state=f"named:{name}")
    step = form("Step 1: What is your name?", name=STRING)
    return t.InputRequiredResult(input_requests={"step1": step}, request_state="begin")


@mcp.tool()
async def test_input_required_result_capabilities(ctx: Context) -> str | t.InputRequiredResult:
    """Asks only what the client can answer"""
    wanted: dict[str, Any] = {}
    declared = ctx.client_capabilities
    if declared is not None and declared.elicitation is not None:
        wanted["name"] = form("What is your name?", name=STRING)
    if declared is not None and declared.sampling is not None:
        wanted["greeting"] = sample("Greet", 50)
    if wanted and not all(given(ctx, key) for key in wanted):
        return t.InputRequiredResult(input_requests=wanted)
    return json.dumps(sorted(wanted))


def ask_model() -> Sample:
    message = t.SamplingMessage(role="user", content=t.TextContent(type="text", text="anything"))
    return Sample([message], max_tokens=50)


@mcp.tool()
async def test_missing_capability(answer: Annotated[t.CreateMessageResult, Resolve(ask_model)]) -> str:
    """Needs sampling, in the way of the SDK that works in both eras"""
    return str(answer.content)


@mcp.tool()
async def test_streaming_elicitation(ctx: Context) -> str | t.InputRequiredResult:
    """Says something, then asks"""
    await ctx.report_progress(1, 2)
    if given(ctx, "name") is None:
        return t.InputRequiredResult(input_requests={"name": form("Your name?", name=STRING)})
    return "done"


@mcp.tool()
async def test_logging_tool(ctx: Context) -> str:
    """Logs at every level"""
    await ctx.debug("a message at debug")
    await ctx.info("a message at info")
    await ctx.warning("a message at warning")
    await ctx.error("a message at error")
    return "logged"


class Name(BaseModel):
    name: str


def ask_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


@mcp.tool()
async def greet(person: Annotated[Name, Resolve(ask_name)]) -> str:
    """Asks for a name, in the way of the SDK that works in both eras"""
    return f"Hello, {person.name}!"


# --- resources --------------------------------------------------------------------------------------------------------


@mcp.resource("test://static-text", name="static-text", mime_type="text/plain")
def static_text() -> str:
    """A text"""
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", name="static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image"""
    return PNG


@mcp.resource(WATCHED, name="watched", mime_type="text/plain")
def watched() -> str:
    """May be subscribed to"""
    return "Watched resource content"


@mcp.resource("test://template/{id}/data", name="template", mime_type="application/json")
def template(id: str) -> str:  # noqa: A002  the template's variable
    """By id"""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


# --- prompts ----------------------------------------------------------------------------------------------------------


@mcp.prompt()
def test_simple_prompt() -> str:
    """Without arguments"""
    return "This is a simple prompt for testing."


@mcp.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """With two"""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@mcp.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803  the suite's name
    """With a resource"""
    resource = embedded(resourceUri, "Embedded resource content for testing.")
    return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]


@mcp.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """With an image"""
    return [UserMessage(Image(data=PNG, format="png")), UserMessage("Please analyze the image above.")]


@mcp.prompt()
async def test_input_required_result_prompt(ctx: Context) -> Any:
    """Asks for its context"""
    answer = given(ctx, "user_context")
    if answer is None:
        question = form("What context should the prompt use?", context=STRING)
        return t.InputRequiredResult(input_requests={"user_context": question})
    return f"Context: {answer['content']['context']}"


@mcp.completion()
async def complete(ref: Any, argument: t.CompletionArgument, context: Any) -> t.Completion:
    values = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
    return t.Completion(values=values, total=len(values), has_more=False)


# --- what `MCPServer` has no decorator for: added as the SDK's own example server adds it -----------------------------


async def accept(ctx: Any, params: Any) -> t.EmptyResult:
    return t.EmptyResult()


mcp._lowlevel_server.add_request_handler("logging/setLevel", t.SetLevelRequestParams, accept)  # noqa: SLF001  the SDK has no public way to add a handler
mcp._lowlevel_server.add_request_handler("resources/subscribe", t.SubscribeRequestParams, accept)  # noqa: SLF001  the SDK has no public way to add a handler
mcp._lowlevel_server.add_request_handler("resources/unsubscribe", t.UnsubscribeRequestParams, accept)  # noqa: SLF001  the SDK has no public way to add a handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    app: Any = mcp.streamable_http_app()
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
