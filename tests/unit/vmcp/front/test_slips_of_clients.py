"""What clients write that is not quite MCP or HTTP: served where the meaning is clear, else refused in plain words."""

from __future__ import annotations

import json

import pytest

from vmcp.backend.interface import Reply, RpcFault

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
BOM = b"\xef\xbb\xbf"


@pytest.fixture
def w(world, backend):
    return world(backend("a", tools=[TOOL]))


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_byte_order_mark_in_front_of_a_body_is_no_part_of_it(w, era):
    if era == "modern":
        body = w.modern_body("tools/call", {"name": "echo"})
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "echo"}
    else:
        await w.initialize()
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
        headers = w.session_headers()
    answer = await w.post(BOM + json.dumps(body).encode(), headers).answer()
    assert (answer.status, "result" in answer.json) == (200, True)
    assert (await w.post(BOM + BOM + json.dumps(body).encode(), headers).answer()).status == 400


@pytest.mark.parametrize("method", ["ping", "tools/list", "resources/list", "prompts/list"])
async def test_params_that_are_null_are_none(w, method):
    await w.initialize()
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": None}
    assert "result" in (await w.post(body, w.session_headers()).answer()).json


@pytest.mark.parametrize("cursor", ["", None])
async def test_an_empty_cursor_asks_for_the_first_page(w, cursor):
    await w.initialize()
    answer = await w.legacy("tools/list", {"cursor": cursor}).answer()
    assert [tool["name"] for tool in answer.json["result"]["tools"]] == ["echo"]
    modern = await w.modern("tools/list", {"cursor": cursor}).answer()
    assert [tool["name"] for tool in modern.json["result"]["tools"]] == ["echo"]


@pytest.mark.parametrize("empty", ["", " ", "\t"])
async def test_an_empty_version_header_counts_as_none(w, empty):
    await w.initialize(headers={"mcp-protocol-version": empty})
    answer = await w.legacy("tools/list", headers={"mcp-protocol-version": empty}).answer()
    assert (answer.status, "result" in answer.json) == (200, True)


@pytest.mark.parametrize("version", ["2099-01-01", "DRAFT-2026-v1", "1.0", "undefined"])
async def test_a_session_with_an_unknown_version_is_told_which_ones_there_are(w, version):
    await w.initialize()
    answer = await w.legacy("tools/list", headers={"mcp-protocol-version": version}).answer()
    assert answer.status == 400
    assert answer.json["error"]["message"].startswith("unsupported protocol version; supported: 2025-11-25")


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
async def test_a_body_in_a_coding_that_nobody_undoes_is_refused(w, coding):
    answer = await w.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"content-encoding": coding}).answer()
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, gzip", "deflate", "chunked;q=1"])
async def test_a_body_in_a_framing_that_is_only_half_understood_is_refused(w, coding):
    answer = await w.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"transfer-encoding": coding}).answer()
    assert (answer.status, answer.headers["connection"]) == (501, "close")


@pytest.mark.parametrize("headers", [{"content-encoding": "Identity"}, {"transfer-encoding": "Chunked"}])
async def test_a_body_as_it_is_may_say_so(w, headers):
    assert (await w.initialize(headers=headers)).status == 200


ODD_ANSWERS = {
    "null members": (b'"method":null,"params":null,"error":null,"result":{"action":"decline"}', {"action": "decline"}),
    "a word for a code": (b'"error":{"code":"CANCELLED","message":"not now"}', (-32603, "not now")),
    "a text": (b'"error":"not now"', (-32603, "not now")),
    "half a surrogate pair": (b'"result":{"action":"accept","content":{"a":"\\ud83d"}}', None),
}


@pytest.mark.parametrize("odd", ODD_ANSWERS)
async def test_the_answer_to_a_question_is_read_as_it_is_meant(w, odd):
    heard = []

    async def ask(call):
        try:
            heard.append(json.loads(await call.bridge("elicitation/create", b'{"message":"?"}')))
        except RpcFault as fault:
            heard.append((fault.error.code, fault.error.message))
        return Reply(result=b'{"content":[]}')

    written, meant = ODD_ANSWERS[odd]
    w.backends["a"].answer = ask
    await w.initialize({"elicitation": {}})
    call = w.legacy("tools/call", {"name": "echo"})
    question = (await call.until(lambda answer: len(answer.events) == 1)).events[0]
    reply = b'{"jsonrpc":"2.0","id":%b,%b}' % (json.dumps(question["id"]).encode(), written)
    assert (await w.post(reply, w.session_headers()).answer()).status == 202
    await call.answer()
    assert heard == [meant or {"action": "accept", "content": {"a": "\N{REPLACEMENT CHARACTER}"}}]


@pytest.mark.parametrize(
    "body",
    [
        b'"result":{"a":NaN,"b":"%b"}' % (b"x" * 8192),
        b'"result":{"a":NaN},"method":"ping"',
        b'"params":{"a":NaN},"method":"tools/call"',
    ],
)
async def test_a_request_is_never_mended_and_neither_is_what_is_long(w, body):
    await w.initialize()
    assert (await w.post(b'{"jsonrpc":"2.0","id":1,%b}' % body, w.session_headers()).answer()).status == 400
