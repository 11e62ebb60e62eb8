"""The shortest way through both eras."""

from __future__ import annotations

import json

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}


async def test_a_modern_client_lists_and_calls(world, backend):
    w = world(backend("a", tools=[TOOL]))
    listed = await w.modern("tools/list").answer()
    assert listed.status == 200
    assert [tool["name"] for tool in listed.json["result"]["tools"]] == ["echo"]
    called = await w.modern("tools/call", {"name": "echo", "arguments": {"x": 1}}).answer()
    assert called.status == 200
    assert called.json["result"]["resultType"] == "complete"
    said = json.loads(called.json["result"]["content"][0]["text"])
    assert said["params"]["arguments"] == {"x": 1}


async def test_a_legacy_client_initializes_lists_and_calls(world, backend):
    w = world(backend("a", tools=[TOOL]))
    opened = await w.initialize()
    assert opened.status == 200
    assert opened.json["result"]["serverInfo"] == {"name": "gateway", "version": "1"}
    listed = await w.legacy("tools/list").answer()
    assert [tool["name"] for tool in listed.json["result"]["tools"]] == ["echo"]
    called = await w.legacy("tools/call", {"name": "echo", "arguments": {"x": 1}}).answer()
    assert json.loads(called.json["result"]["content"][0]["text"])["params"]["arguments"] == {"x": 1}
