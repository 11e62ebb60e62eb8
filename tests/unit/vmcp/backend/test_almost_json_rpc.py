"""Answers of servers that are not quite JSON-RPC: what is meant reaches the client, and one slip costs one thing."""

from __future__ import annotations

import json

import pytest

from vmcp.backend.interface import BackendError, BackendProtocolError, Call, SessionSpec

ECHO = b'{"content":[{"type":"text","text":"done"}]'


def call(**changes) -> Call:
    return Call(method="tools/call", params=b'{"name":"echo","arguments":{}}', timeout=5.0, **changes)


def answered(request, result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (request.id, result)


def as_body(make, kind: str = "application/json", status: int = 200):
    async def handler(request) -> None:
        body = make(request)
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        await request.peer.raw(head.encode() + body)

    return handler


def as_events(make, status: int = 200):
    return as_body(lambda request: b"data: " + make(request) + b"\n\n", "text/event-stream", status)


TOLD = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"hear"}}'
ODD_RESULTS = {
    "byte order mark": (lambda r: b"\xef\xbb\xbf" + answered(r, ECHO + b"}"), ECHO + b"}"),
    "no numbers": (
        lambda r: answered(r, ECHO + b',"n":[NaN,-Infinity,Infinity],"s":"NaN, \\"NaN"}'),
        ECHO + b',"n":[null,null,null],"s":"NaN, \\"NaN"}',
    ),
    "half a surrogate pair": (
        lambda r: answered(r, ECHO + b',"s":"\\ud83d \\ud83d\\ude00 \\\\ud83d \\ude00"}'),
        ECHO + b',"s":"\\ufffd \\ud83d\\ude00 \\\\ud83d \\ufffd"}',
    ),
    "members that are null": (
        lambda r: (
            b'{"jsonrpc":"2.0","id":%d,"method":null,"params":null,"error":null,"result":%b}' % (r.id, ECHO + b"}")
        ),
        ECHO + b"}",
    ),
    "an array of one": (lambda r: b" [" + answered(r, ECHO + b"}") + b"]", ECHO + b"}"),
    "an array": (lambda r: b"[" + TOLD + b"," + answered(r, ECHO + b"}") + b"]", ECHO + b"}"),
}


@pytest.mark.parametrize("form", [as_body, as_events])
@pytest.mark.parametrize("odd", ODD_RESULTS)
async def test_a_result_arrives_whatever_slip_its_server_makes(server, backend_of, odd, form) -> None:
    written, read = ODD_RESULTS[odd]
    server.on["tools/call"] = form(written)
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(call())).result == read
    assert len(server.posts("tools/call")) == 1
    await session.close()


async def test_one_odd_word_in_a_list_costs_no_tool(server, backend_of) -> None:
    schema = b'{"type":"object","properties":{"a":{"default":Infinity}}}'
    tools = b'{"tools":[{"name":"one","description":"cut \\ud83d","inputSchema":%b},' % schema
    server.on["tools/list"] = as_body(
        lambda r: answered(r, tools + b'{"name":"two","inputSchema":{"type":"object"}}]}'),
    )
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5.0)
    assert [item.key for item in backend.catalogue.tools] == ["one", "two"]


async def test_messages_of_an_array_in_a_stream_come_one_after_the_other(server, backend_of) -> None:
    heard: list[bytes] = []
    server.on["tools/call"] = as_events(lambda r: b"[" + TOLD + b",7," + answered(r, ECHO + b"}") + b"]")
    session = backend_of(server.url).open(SessionSpec())
    reply = await session.call(call(sink=lambda method, params: heard.append(params), log_level="debug"))
    assert reply.result == ECHO + b"}"
    assert [json.loads(params)["data"] for params in heard] == ["hear"]
    await session.close()


ODD_ERRORS = {
    "a text": (b'"it is broken"', -32603, "it is broken"),
    "a code that is a word": (b'{"code":"E_QUOTA","message":"it is broken"}', -32603, "it is broken"),
    "a code that is a fraction": (b'{"code":-32050.0,"message":"it is broken"}', -32050, "it is broken"),
    "a code that is a text": (b'{"code":"-32050","message":"it is broken"}', -32050, "it is broken"),
    "a code that no client can read": (b'{"code":%d,"message":"it is broken"}' % 10**30, -32603, "it is broken"),
    "no code": (b'{"message":"it is broken"}', -32603, "it is broken"),
    "no message": (b'{"code":-32050}', -32050, ""),
    "a message that is null": (b'{"code":-32050,"message":null}', -32050, ""),
    "a message that is an object": (b'{"code":-32050,"message":{"why":"it"}}', -32050, '{"why":"it"}'),
    "half a surrogate pair": (b'{"code":-32050,"message":"cut \\ud83d"}', -32050, "cut \N{REPLACEMENT CHARACTER}"),
}


@pytest.mark.parametrize("form", [as_body, as_events])
@pytest.mark.parametrize("odd", ODD_ERRORS)
async def test_the_words_of_an_error_arrive_whatever_its_form(server, backend_of, odd, form) -> None:
    written, code, message = ODD_ERRORS[odd]
    server.on["tools/call"] = form(lambda r: b'{"jsonrpc":"2.0","id":%d,"error":%b}' % (r.id, written))
    session = backend_of(server.url).open(SessionSpec())
    reply = await session.call(call())
    assert reply.error is not None
    assert (reply.error.code, reply.error.message) == (code, message)
    await session.close()


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize(("said", "read"), [(b"null", b"{}"), (b"[]", None), (b'"x"', None), (b"7", None)])
async def test_a_result_is_an_object_or_an_error(server, backend_of, said, read, era) -> None:
    if era == "modern":
        server.be_modern()
        everything = server.on["*"]

        async def odd(request) -> None:
            plain = as_body(lambda r: answered(r, said))
            await (plain if request.method == "tools/call" else everything)(request)

        server.on["*"] = odd
    else:
        server.on["tools/call"] = as_body(lambda r: answered(r, said))
    session = backend_of(server.url).open(SessionSpec())
    if read is None:
        with pytest.raises(BackendProtocolError, match="not an object"):
            await session.call(call())
    else:
        assert (await session.call(call())).result == read
    await session.close()


@pytest.mark.parametrize("status", [201, 202, 203, 206])
async def test_an_event_stream_is_one_whatever_success_its_head_tells(server, backend_of, status) -> None:
    server.on["tools/call"] = as_events(lambda r: answered(r, ECHO + b"}"), status)
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(call())).result == ECHO + b"}"
    await session.close()


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"])
async def test_the_last_event_of_a_stream_may_lack_its_empty_line(server, backend_of, end) -> None:
    server.on["tools/call"] = as_body(lambda r: b"data: " + answered(r, ECHO + b"}") + end, "text/event-stream")
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(call())).result == ECHO + b"}"
    await session.close()


async def test_a_stream_that_breaks_off_in_its_answer_has_none(server, backend_of) -> None:
    server.on["tools/call"] = as_body(lambda r: b"data: " + answered(r, ECHO + b"}")[:-1], "text/event-stream")
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendError, match="ended without the answer"):
        await session.call(call())
    await session.close()


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_that_names_the_request_keeps_its_words(server, backend_of, status, era) -> None:
    if era == "modern":
        server.be_modern()
    everything = server.on.get("*", server.default)

    async def refuse(request) -> None:
        if request.method == "tools/call":
            await request.peer.error(request, -32003, status, "not yours")
        else:
            await everything(request)

    server.on["*"] = refuse
    session = backend_of(server.url).open(SessionSpec())
    reply = await session.call(call())
    assert reply.error is not None
    assert (reply.error.code, reply.error.message, reply.status) == (-32003, "not yours", status)
    assert len(server.posts("tools/call")) == 1
    await session.close()


async def test_a_server_that_polices_methods_is_still_offered_a_handshake(server, backend_of) -> None:
    async def refuse(request) -> None:
        await request.peer.error(request, 403, 403, "Unauthorized: unknown method")

    server.on["server/discover"] = refuse
    backend = backend_of(server.url)
    await backend.start()
    assert await backend.wait_known(5.0)
    assert [item.key for item in backend.catalogue.tools] == ["echo"]


async def test_a_server_whose_framework_does_not_know_a_log_level_still_answers_calls(server, backend_of) -> None:
    async def unknown(request) -> None:
        await request.peer.text("404 page not found", 404)

    server.capabilities["logging"] = {}
    server.on["logging/setLevel"] = unknown
    session = backend_of(server.url).open(SessionSpec())
    for _ in range(2):
        assert (await session.call(call(log_level="info"))).result is not None
    assert (server.sessions, len(server.posts("logging/setLevel"))) == (1, 1)
    await session.close()


async def test_a_session_that_is_lost_is_recognised_beside_a_result_of_null(server, backend_of) -> None:
    async def every(request) -> None:
        if request.id is not None and request.headers.get("mcp-session-id") not in {None, *server.live}:
            await request.peer.error(request, -32001, 200, "Session not found", result=None)
        else:
            await server.default(request)

    server.on["*"] = every
    session = backend_of(server.url).open(SessionSpec())
    await session.call(call())
    server.live.clear()
    assert (await session.call(call())).result is not None
    assert server.sessions == 2
    await session.close()


@pytest.mark.parametrize("event_id", ["caf\N{LATIN SMALL LETTER E WITH ACUTE}", "\N{SNOWMAN}-1", "a b"])
async def test_a_stream_is_resumed_with_any_id_that_can_travel(server, backend_of, event_id) -> None:
    asked: list[int] = []

    async def begun(request) -> None:
        asked.append(request.id)
        await request.peer.stream()
        await request.peer.event("", id=event_id, retry="1")
        await request.peer.end()

    async def resumed(request) -> None:
        await as_events(lambda _: b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (asked[0], ECHO + b"}"))(request)

    server.on["tools/call"], server.on["GET"] = begun, resumed
    session = backend_of(server.url).open(SessionSpec())
    assert (await session.call(call())).result == ECHO + b"}"
    sent = server.verbs("GET")[-1].headers["last-event-id"]
    assert sent.encode("latin-1").decode() == event_id
    await session.close()


@pytest.mark.parametrize("event_id", ["x" * 1025, "bell\x07"])
async def test_an_id_that_no_header_can_carry_is_none(server, backend_of, event_id) -> None:
    async def begun(request) -> None:
        await request.peer.stream()
        await request.peer.event("", id=event_id)
        await request.peer.end()

    server.on["tools/call"] = begun
    session = backend_of(server.url).open(SessionSpec())
    with pytest.raises(BackendError, match="ended without the answer"):
        await session.call(call())
    assert not [request for request in server.verbs("GET") if "last-event-id" in request.headers]
    await session.close()
