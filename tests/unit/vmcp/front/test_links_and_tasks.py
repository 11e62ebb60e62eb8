"""What an answer hands out can be read, pages belong to their tool, and tasks go no further than the gateway."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from vmcp.backend.interface import Call, Era, Reply
from vmcp.wire.jsonrpc import RpcError

TOOL = {"name": "t", "inputSchema": {"type": "object"}}
LINK = {"type": "resource_link", "uri": "report://run/42", "name": "run 42"}
EMBEDDED = {"type": "resource", "resource": {"uri": "report://run/42", "text": "x"}}


def answering(fake, **results):
    """Let a backend answer by method; everything else is echoed."""

    def answer(call: Call) -> Reply:
        result = results.get(call.method.replace("/", "_"))
        return fake.echo(call) if result is None else Reply(result=json.dumps(result).encode(), era=Era.LEGACY)

    fake.answer = answer
    return fake


def reads(fake) -> list[str]:
    return [json.loads(call.params)["uri"] for call in fake.calls if call.method == "resources/read"]


@pytest.mark.parametrize("block", [LINK, EMBEDDED])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_resource_that_a_tool_handed_out_is_read_where_it_came_from(world, backend, block, era) -> None:
    reports, other = answering(backend("reports", tools=[TOOL]), tools_call={"content": [block]}), backend("other")
    w = world(reports, other)
    await w.initialize()
    ask = w.legacy if era == "legacy" else w.modern
    before = (await ask("resources/read", {"uri": "report://run/42"}).answer()).last
    assert "error" in before, "nobody handed it out yet"
    await ask("tools/call", {"name": "t"}).answer()
    assert "result" in (await ask("resources/read", {"uri": "report://run/42"}).answer()).last
    assert (reads(reports), reads(other)) == (["report://run/42"], [])


@pytest.mark.parametrize(("era", "code"), [("legacy", -32002), ("modern", -32602)])
async def test_a_resource_that_the_only_backend_does_not_know_is_missing_in_the_callers_words(
    world, backend, era, code
):
    fake = backend("one", Era.MODERN, resources=[{"uri": "note://a", "name": "a"}])
    error = RpcError(-32602, "Resource not found", Raw(b'{"uri":"note://b"}'))
    fake.answer = lambda call: Reply(error=error, era=Era.MODERN)
    w = world(fake)
    await w.initialize()
    answer = await (w.legacy if era == "legacy" else w.modern)("resources/read", {"uri": "note://b"}).answer()
    assert answer.last["error"]["code"] == code


async def test_a_link_is_the_session_s_own(world, backend) -> None:
    reports = answering(backend("reports", tools=[TOOL]), tools_call={"content": [LINK]})
    w = world(reports, backend("other"))
    await w.initialize()
    await w.legacy("tools/call", {"name": "t"}).answer()
    await w.initialize()
    assert "error" in (await w.legacy("resources/read", {"uri": LINK["uri"]}).answer()).last
    assert reads(reports) == []


async def test_a_link_leads_no_reader_of_anothers_resources_away(world, backend) -> None:
    evil = answering(backend("evil", tools=[TOOL]), tools_call={"content": [{**LINK, "uri": "bank://7"}]})
    bank = backend("bank", templates=[{"uriTemplate": "bank://{id}", "name": "accounts"}])
    w = world(evil, bank)
    await w.initialize()
    await w.legacy("tools/call", {"name": "t"}).answer()
    await w.legacy("resources/read", {"uri": "bank://7"}).answer()
    assert (reads(evil), reads(bank)) == ([], ["bank://7"])


async def test_a_shared_page_is_read_at_the_backend_of_its_tool(world, backend) -> None:
    shown = {**TOOL, "_meta": {"ui": {"resourceUri": "ui://w/p"}}}
    page = {"contents": [{"uri": "ui://w/p", "text": "<html>"}]}
    fakes = [answering(backend(name, tools=[shown]), resources_read=page) for name in ("a", "b")]
    w = world(*fakes)
    await w.initialize()
    tools = (await w.legacy("tools/list").answer()).last["result"]["tools"]
    uri = next(tool["_meta"]["ui"]["resourceUri"] for tool in tools if tool["name"] == "b_t")
    answer = (await w.legacy("resources/read", {"uri": uri}).answer()).last
    assert answer["result"]["contents"] == [{"uri": uri, "text": "<html>"}]
    assert (reads(fakes[0]), reads(fakes[1])) == ([], ["ui://w/p"])


async def test_a_legacy_clients_tasks_reach_no_backend(world, backend) -> None:
    fake = backend("a", tools=[TOOL])
    w = world(fake)
    tasks = {"requests": {"elicitation": {"create": {}}}}
    await w.initialize({"tasks": tasks, "elicitation": {}})
    await w.legacy("tools/call", {"name": "t", "task": {"ttl": 60000}, "arguments": {"task": 1}}).answer()
    assert json.loads(fake.calls[-1].params) == {"name": "t", "arguments": {"task": 1}}
    assert json.loads(fake.calls[-1].client_capabilities) == {"elicitation": {}}
    assert json.loads(fake.sessions[-1].spec.client_capabilities) == {"elicitation": {}}


async def test_a_modern_clients_tasks_reach_no_backend(world, backend) -> None:
    fake = backend("a", Era.MODERN, tools=[TOOL])
    w = world(fake)
    declared = {"extensions": {"io.modelcontextprotocol/tasks": {}, "com.example/x": {}}, "sampling": {}}
    await w.modern("tools/call", {"name": "t"}, clientCapabilities=declared).answer()
    call = fake.calls[-1]
    assert json.loads(call.client_capabilities) == {"extensions": {"com.example/x": {}}, "sampling": {}}
    assert not call.enveloped, "the client's own envelope is not passed on"
    await w.modern("tools/call", {"name": "t"}, clientCapabilities={"sampling": {}}).answer()
    assert fake.calls[-1].enveloped
