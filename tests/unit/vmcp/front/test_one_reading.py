"""Policy and backend read the same request: nothing that two parsers could read in two ways goes through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.authz.cedar import CedarAuthorizer, CedarSettings
from vmcp.front.members import check_members
from vmcp.http.server.asgi import Refusal
from vmcp.wire.jsonrpc import parse

TOOLS = [
    {"name": "read", "inputSchema": {"type": "object"}},
    {"name": "delete", "inputSchema": {"type": "object"}},
    {"name": "query", "inputSchema": {"type": "object", "properties": {"table": {"type": "string"}}}},
    {"name": "grep", "inputSchema": {"type": "object", "properties": {"a": {}, "A": {}}}},
]
POLICIES = (
    'permit(principal, action == Action::"call_tool", resource == Tool::"read");',
    'permit(principal, action == Action::"call_tool", resource == Tool::"grep");',
    """permit(principal, action == Action::"call_tool", resource == Tool::"query")
    unless { resource has arg_table && resource.arg_table == "secret" };""",
)
META = (
    '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'
)
TWO_READINGS = {
    "a doubled name": '{"name":"delete","name":"read",%s}',
    "a name in two cases": '{"name":"read","Name":"delete",%s}',
    "a name in other letters that fold": '{"\\u017fome":1,"name":"read","argument\\u017f":{},%s}',
    "a name that an escape hides": '{"name":"delete","n\\u0061me":"read",%s}',
    "two arguments": '{"name":"query","arguments":{"table":"secret"},"arguments":{"table":"a"},%s}',
    "arguments in two cases": '{"name":"query","arguments":{"table":"a"},"Arguments":{"table":"secret"},%s}',
    "a doubled argument": '{"name":"query","arguments":{"table":"secret","table":"a"},%s}',
    "a doubled argument far inside": '{"name":"read","arguments":{"a":[{"b":{"c":1,"c":2}}]},%s}',
    "an argument in two cases": '{"name":"query","arguments":{"table":"a","Table":"secret"},%s}',
    "an argument in two cases far inside": '{"name":"read","arguments":{"a":[{"b":{"c":1,"C":2}}]},%s}',
    "a declared argument in another case": '{"name":"query","arguments":{"TABLE":"secret"},%s}',
    "spaces around": '{ "name": "delete", "name" : "read", %s }',
    "doubled members of the envelope": '{"name":"read",%s},"params":{"name":"read",%s}',
    "a method in two cases": '{"name":"read",%s},"Method":"x"',
    "params in two cases": '{"name":"read",%s},"PARAMS":{"name":"delete"}',
    "a doubled id": '{"name":"read",%s},"id":2',
    "a number that hides a member": '{"name":"read","arguments":{"a":1e5,"b":1,"b":2},%s}',
    "an escaped colon beside a doubled argument": '{"name":"read","arguments":{"a":"\\u003a","b":1,"b":2},%s}',
    "a colon in a doubled argument": '{"name":"read","arguments":{"b":":","b":"\\u003A:"},%s}',
    "a number beyond all ranges beside one": '{"name":"read","arguments":{"a":1e999,"b":1,"b":2},%s}',
    "a doubled member of _meta": '{"name":"read","_meta":{"progressToken":1,"progressToken":2}}',
    "a member of _meta in another case": '{"name":"read","_meta":{"ProgressToken":1}}',
}


@pytest.fixture
async def w(world, backend):
    made = world(
        backend("a", tools=TOOLS),
        authorizer=CedarAuthorizer(CedarSettings(server="gateway", policies=POLICIES)),
    )
    await made.initialize()
    return made


def body(params: str) -> bytes:
    return ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + params + "}").encode()


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("what", TWO_READINGS)
async def test_a_request_with_two_readings_does_not_reach_a_backend(w, what, era):
    params = TWO_READINGS[what]
    meta = META if era == "modern" else '"_meta":{}'
    sent = body(params % ((meta,) * params.count("%s")))
    headers = w.session_headers()
    if era == "modern":
        name = "query" if '"query"' in params else "read"
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": name}
    answer = await w.post(sent, headers).answer()
    assert answer.last["error"]["code"] in (-32600, -32602)
    assert not w.backends["a"].calls


@pytest.mark.parametrize(
    "params",
    [
        '{"name":"query","arguments":{"table":"public"}}',
        '{"name": "query", "arguments": {"table": "public", "x": [1, 2.50, {"a": null}]}}',
        '{"name":"grep","arguments":{"a":1}}',
        '{"name":"read","arguments":{"\\u00e9":"\\u00e9\\/","n":1e2,"m":123456789012345678901234567890}}',
        '{"name":"read","arguments":{"a":{"x":1},"b":{"x":1}},"X-vendor":{"Name":1}}',
        '{"name":"read","arguments":{"name":"a","Arguments":{}}}',
    ],
)
async def test_what_has_one_reading_reaches_its_backend_as_it_was(w, params):
    answer = await w.post(body(params), w.session_headers()).answer()
    assert "result" in answer.last
    assert bytes(w.backends["a"].calls[-1].params) == params.encode()


async def test_arguments_may_differ_in_case_where_no_policy_looks_at_them(world, backend):
    w = world(backend("a", tools=TOOLS))
    await w.initialize()
    params = '{"name":"query","arguments":{"n":1,"N":2,"TABLE":"x"}}'
    assert "result" in (await w.post(body(params), w.session_headers()).answer()).last


async def test_a_batch_is_read_once_too(world, backend):
    w = world(backend("a", tools=TOOLS))
    await w.initialize(version="2025-03-26")
    headers = {**w.session_headers(), "mcp-protocol-version": "2025-03-26"}
    for params in ('{"name":"delete","name":"read"}', '{"name":"read","NAME":"delete"}'):
        answer = await w.post(b"[" + body(params) + b"," + body('{"name":"read"}') + b"]", headers).answer()
        assert answer.status == 400
    assert not w.backends["a"].calls


NAMES = st.sampled_from(["a", "b", "é", "name", "arguments", '"', "\\", "\n", ":", "\\u003a"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("judged", [True, False])
@pytest.mark.parametrize(
    "arguments",
    ['{"a:":"\\u003a\\\\u003a:"}', '{"a":"\\\\\\u003A","b":1e999}', '{"a":' + "9" * 5000 + "}", '{ "a" : 1e1 }'],
)
def test_colons_in_texts_and_numbers_of_any_size_are_no_second_reading(arguments, judged):
    sent = body('{"name":"read","arguments":' + arguments + "}")
    check_members(sent, parse(sent), arguments_judged=judged)


LARGE = '"x": [' + "1e1, " * 20_000 + "1]"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ('{"a":1,%s}', ""),
        ('{"a":1,"a":2,%s}', "a member appears twice"),
        ('{%s,"b":[{"a":"\\u003a","a":""}]}', "a member appears twice"),
        ('{"a":' + "9" * 5000 + ",%s}", "cannot be read"),
    ],
)
@pytest.mark.parametrize("judged", [True, False])
def test_a_long_message_is_not_read_member_by_member(arguments, problem, judged):
    sent = body('{"name":"read","arguments":' + arguments % LARGE + "}")
    if problem:
        with pytest.raises(Refusal, match=problem):
            check_members(sent, parse(sent), arguments_judged=judged)
    else:
        check_members(sent, parse(sent), arguments_judged=judged)


STYLES = st.sampled_from([{}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"indent": 1}])


@given(VALUES, STYLES, st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False))
def test_no_style_of_writing_makes_a_request_ambiguous(value, style, request_id):
    sent = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "m", "params": {"x": value}}, **style).encode()
    check_members(sent, parse(sent), arguments_judged=True)


@given(VALUES, VALUES, STYLES, st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False))
def test_no_style_of_writing_hides_a_member_that_stands_twice(one, other, style, request_id):
    marker = {"@1": one, "rest": [other, 1e20, 123456789], "@2": other}
    text = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "m", "params": {"x": [marker]}}, **style)
    sent = text.replace('"@1"', '"twice"').replace('"@2"', '"twice"').encode()
    with pytest.raises(Refusal, match="twice"):
        check_members(sent, parse(sent), arguments_judged=False)


@given(
    st.sampled_from(["jsonrpc", "id", "method", "params"]), st.sampled_from(["1", "1e15", '"a"', "1.0", "-0", "1e2"])
)
def test_no_id_hides_a_doubled_member_of_the_envelope(name, request_id):
    value = {"jsonrpc": '"2.0"', "id": request_id, "method": '"m"', "params": "{}"}[name]
    sent = f'{{"jsonrpc":"2.0","id":{request_id},"method":"m","params":{{}},"{name}":{value}}}'.encode()
    with pytest.raises(Refusal):
        check_members(sent, parse(sent), arguments_judged=False)
