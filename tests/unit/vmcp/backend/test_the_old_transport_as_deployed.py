"""HTTP+SSE of 2024-11-05 with servers as they are: odd endpoints, and answers that do not wait for their turn."""

from __future__ import annotations

import pytest

from tests.unit.vmcp.backend.test_backend_adversarial import Sse
from vmcp.backend.interface import BackendError, Call, SessionSpec

ANSWER = {"content": [{"type": "text", "text": "over sse"}]}


class Odd(Sse):
    """Answers `tools/call` as a test says, wherever it is posted.

    Attributes:
        call: Takes the request; None = as ordinary servers do.
        targets: Where messages were posted.
    """

    def __init__(self, server, endpoint: str = "/messages?sid=1", call=None) -> None:
        super().__init__(server, endpoint)
        self.call = call
        self.targets: set[str] = set()

    async def message(self, request) -> None:
        self.targets.add(request.target)
        request.target = "/messages?sid=1"
        if request.method == "tools/call" and self.call is not None:
            await self.call(self, request)
        else:
            await super().message(request)

    async def say(self, request, **members) -> None:
        await self.peer.event({"jsonrpc": "2.0", "id": request.id, **members})


def session_with(server, backend_of):
    return backend_of(server.url, transport="sse").open(SessionSpec())


def call(timeout: float = 5.0) -> Call:
    return Call(method="tools/call", params=b'{"name":"echo"}', timeout=timeout)


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("/nachrichten/b\N{LATIN SMALL LETTER U WITH DIAERESIS}ro?sid=1", "/nachrichten/b%C3%BCro?sid=1"),
        ("/a b?x=c d", "/a%20b?x=c%20d"),
        ("/a\x01b?x=\x7f", "/a%01b?x=%7F"),
        ("/a%20b?x=%zz", "/a%20b?x=%zz"),
        ("messages/?a=b/c?d&e=f:g@h", "/messages/?a=b/c?d&e=f:g@h"),
        ("/messages?sid=1#part", "/messages?sid=1"),
    ],
)
async def test_an_endpoint_is_reached_whatever_characters_it_has(server, backend_of, endpoint, target) -> None:
    odd = Odd(server, endpoint)
    session = session_with(server, backend_of)
    assert b"over sse" in (await session.call(call())).result
    assert odd.targets == {target}
    await session.close()


@pytest.mark.parametrize("endpoint", ["http://[::1", "http://127.0.0.1:99999/x", "//[/x", "http://[v1.a]/"])
async def test_an_endpoint_that_is_no_url_is_an_error_of_its_server(server, backend_of, endpoint) -> None:
    odd = Odd(server, endpoint)
    session = session_with(server, backend_of)
    with pytest.raises(BackendError, match="names an endpoint"):
        await session.call(call())
    assert odd.targets == set()
    await session.close()


async def answered_in_the_body(odd, request) -> None:
    await request.peer.result(request, ANSWER)


async def answered_twice(odd, request) -> None:
    await request.peer.result(request, ANSWER)
    await odd.say(request, result=ANSWER)


async def acknowledged_never(odd, request) -> None:
    await odd.say(request, result=ANSWER)
    await request.peer.gone()


async def acknowledged_late(odd, request) -> None:
    await odd.say(request, result=ANSWER)
    await request.peer.accept()


async def cut_off(odd, request) -> None:
    await odd.say(request, result=ANSWER)
    request.peer.writer.close()


@pytest.mark.parametrize("way", [answered_in_the_body, answered_twice, acknowledged_never, acknowledged_late, cut_off])
async def test_an_answer_counts_whatever_becomes_of_the_post_that_asked(server, backend_of, way) -> None:
    Odd(server, call=way)
    session = session_with(server, backend_of)
    for _ in range(2):
        assert b"over sse" in (await session.call(call())).result
    assert len(server.posts("tools/call")) == 2
    await session.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_that_names_the_request_keeps_its_words(server, backend_of, status) -> None:
    async def refuse(odd, request) -> None:
        await request.peer.error(request, -32003, status, "not yours")

    Odd(server, call=refuse)
    session = session_with(server, backend_of)
    reply = await session.call(call())
    assert (reply.error.code, reply.error.message, reply.status) == (-32003, "not yours", status)
    await session.close()


async def test_a_body_that_answers_another_request_is_no_answer(server, backend_of) -> None:
    async def other(odd, request) -> None:
        await request.peer.json({"jsonrpc": "2.0", "id": 999, "result": {"content": []}})
        await odd.say(request, result=ANSWER)

    Odd(server, call=other)
    session = session_with(server, backend_of)
    assert b"over sse" in (await session.call(call())).result
    await session.close()
