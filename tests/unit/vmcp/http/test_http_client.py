"""The HTTP client: bodies, reuse, repeats, limits, deadlines, redirects, header hygiene, backpressure, cancellation."""

from __future__ import annotations

import asyncio
import gc
import socket
import time

import httptools
import pytest

from tests.support.eventually import at_rest, eventually
from vmcp.http.client import (
    BadRequest,
    BadResponse,
    ConnectError,
    ConnectionLost,
    HttpError,
    HttpTimeout,
    Origin,
    PooledHttpClient,
    ResponseTooLarge,
    parse_origin,
)
from vmcp.tasks import loop_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
            ),
            b"hello",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    ],
    ids=["length", "chunked", "until close", "http 1.0", "interim", "no content", "empty"],
)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_every_way_to_frame_a_body_gives_the_same_body(scripted, client_of, answer, body, piece) -> None:
    async def handler(peer) -> None:
        await peer.request()
        for start in range(0, len(answer), piece):
            await peer.send(answer[start : start + piece])
            await asyncio.sleep(0)

    client = client_of(await scripted.start(handler))
    response = await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert response.body == body


async def test_headers_are_stripped_joined_and_lower_case(scripted, client_of) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nX-A: \t one \t\r\nx-a: two\r\ncontent-length: 0\r\n\r\n")

    client = client_of(await scripted.start(handler))
    response = await client.send("GET", "/", [], deadline=loop_time() + 5)
    assert response.headers["x-a"] == "one, two"


async def test_connections_are_used_again(scripted, client_of) -> None:
    async def handler(peer) -> None:
        while True:
            await peer.request()
            await peer.ok()

    client = client_of(await scripted.start(handler))
    for _ in range(20):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert scripted.connections == 1
    await asyncio.gather(*(client.send("POST", "/", [], b"x", deadline=loop_time() + 5) for _ in range(10)))
    assert scripted.connections <= 10
    assert client.pool.idle == client.pool.open == scripted.connections


async def test_a_kept_connection_that_the_server_closed_is_not_used(scripted, client_of) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.ok()

    client = client_of(await scripted.start(handler))
    for _ in range(3):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
        await eventually(lambda: client.pool.open == 0)
    assert scripted.connections == 3


@pytest.mark.parametrize(
    ("said", "idle", "connections"),
    [
        (b"", 3.9, 1),
        (b"", 4.1, 2),
        (b"keep-alive: timeout=5\r\n", 4.1, 2),
        (b"keep-alive: timeout=75, max=100\r\n", 29.0, 1),
        (b"keep-alive: timeout=75\r\n", 31.0, 2),
        (b"keep-alive: max=100\r\n", 4.1, 2),
        (b"keep-alive: timeout=\xb2\r\n", 4.1, 2),
    ],
)
async def test_a_connection_that_its_server_may_be_closing_is_not_used(
    scripted, client_of, monkeypatch, said, idle, connections
) -> None:
    async def handler(peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\n" + said + b"content-length: 0\r\n\r\n")

    now = [1000.0]
    monkeypatch.setattr("vmcp.http.client.pool.monotonic", lambda: now[0])
    client = client_of(await scripted.start(handler))
    await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    now[0] += idle
    await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert scripted.connections == connections


async def test_a_call_that_may_have_been_executed_is_never_sent_twice(scripted, client_of) -> None:
    seen = []

    async def handler(peer) -> None:
        seen.append(await peer.request())
        await peer.ok()
        seen.append(await peer.request())

    client = client_of(await scripted.start(handler))
    await client.send("POST", "/", [], b"1", deadline=loop_time() + 5)
    with pytest.raises(ConnectionLost) as caught:
        await client.send("POST", "/", [], b"2", deadline=loop_time() + 5)
    assert caught.value.sent
    assert [body for _, body in seen] == [b"1", b"2"]


async def test_an_idempotent_request_is_sent_again_when_a_kept_connection_died_unanswered(scripted, client_of) -> None:
    seen = []

    async def handler(peer) -> None:
        seen.append((await peer.request())[1])
        await peer.ok()
        seen.append((await peer.request())[1])

    client = client_of(await scripted.start(handler))
    await client.send("POST", "/", [], b"1", deadline=loop_time() + 5)
    assert (await client.send("POST", "/", [], b"2", deadline=loop_time() + 5, idempotent=True)).status == 200
    assert seen == [b"1", b"2", b"2"]


async def test_a_new_connection_that_dies_is_not_tried_again(scripted, client_of) -> None:
    async def handler(peer) -> None:
        await peer.request()

    client = client_of(await scripted.start(handler))
    with pytest.raises(ConnectionLost):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5, idempotent=True)
    assert scripted.connections == 1


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (b"garbage garbage garbage\r\n\r\n", BadResponse, "not HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00\x01\x00", BadResponse, "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", BadResponse, "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", BadResponse, "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", BadResponse, "not HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", BadResponse, "not HTTP/1.1"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", BadResponse, "switched protocols"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx", BadResponse, "cannot be decoded"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort", ConnectionLost, "before the answer was complete"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe", ConnectionLost, "before the answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", ResponseTooLarge, "announces more"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000, ResponseTooLarge, "longer than 50000"),
        (b"HTTP/1.1 200 OK\r\n" + b"x-y: z\r\n" * 20_000, ResponseTooLarge, "head of the answer"),
        (b"HTTP/1.1 200 OK\r\nx-y: " + b"z" * 200_000, ResponseTooLarge, "head of the answer"),
        (b"", ConnectionLost, "closed the connection"),
    ],
    ids=[
        "garbage", "tls", "length", "two lengths", "chunk size", "header", "upgrade", "gzip", "short body",
        "short chunk",
        "announced too much", "too much", "many headers", "long header", "nothing",
    ],
)  # fmt: skip
async def test_a_bad_answer_ends_in_a_clean_error_and_leaves_no_connection(
    scripted, client_of, answer, error, reason
) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.send(answer)

    client = client_of(await scripted.start(handler), max_body=50_000)
    with pytest.raises(error, match=reason):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert client.pool.open == 0


async def test_bytes_after_an_answer_poison_the_connection_and_no_other_call(scripted, client_of) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.send(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")
        await peer.closed()

    client = client_of(await scripted.start(handler))
    for _ in range(3):
        assert (await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)).body == b"{}"
        await eventually(lambda: client.pool.open == 0)
    assert scripted.connections == 3


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhe"])
async def test_the_deadline_ends_a_call_wherever_the_answer_stops(scripted, client_of, sent) -> None:
    closed = asyncio.Event()

    async def handler(peer) -> None:
        await peer.request()
        await peer.send(sent)
        await peer.closed()
        closed.set()

    client = client_of(await scripted.start(handler))
    began = time.monotonic()
    with pytest.raises(HttpTimeout) as caught:
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 0.2)
    assert 0.15 < time.monotonic() - began < 2
    assert caught.value.sent
    await asyncio.wait_for(closed.wait(), 5)


async def test_a_body_that_trickles_cannot_stretch_the_deadline(scripted, client_of) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        for _ in range(1000):
            await peer.send(b"x")
            await asyncio.sleep(0.02)

    client = client_of(await scripted.start(handler))
    began = time.monotonic()
    with pytest.raises(HttpTimeout):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 0.3)
    assert time.monotonic() - began < 2


async def test_connecting_has_its_own_limit(client_of) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]  # fill the accept queue: further connections get no answer
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        client = client_of(port, connect_timeout=0.3)
        began = time.monotonic()
        with pytest.raises(HttpTimeout) as caught:
            await client.send("POST", "/", [], b"x", deadline=loop_time() + 30)
        assert not caught.value.sent
        assert time.monotonic() - began < 3
        for filler in fillers:
            filler.close()


async def test_a_refused_connection_and_an_unknown_host_were_not_sent(client_of) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with pytest.raises(ConnectError) as caught:
        await client_of(port).send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert not caught.value.sent
    client = PooledHttpClient(Origin(False, "host.invalid", 80))
    with pytest.raises(HttpError) as unknown:
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert not unknown.value.sent


async def test_calls_beyond_the_limit_wait_their_turn_and_no_longer_than_their_deadline(scripted, client_of) -> None:
    release = asyncio.Event()

    async def handler(peer) -> None:
        while True:
            _, body = await peer.request()
            if body == b"slow":
                await release.wait()
            await peer.ok(body)

    client = client_of(await scripted.start(handler), max_connections=1)
    slow = asyncio.create_task(client.send("POST", "/", [], b"slow", deadline=loop_time() + 5))
    await eventually(lambda: client.pool.open == 1)
    with pytest.raises(HttpTimeout) as caught:
        await client.send("POST", "/", [], b"late", deadline=loop_time() + 0.1)
    assert not caught.value.sent
    waiting = asyncio.create_task(client.send("POST", "/", [], b"next", deadline=loop_time() + 5))
    release.set()
    assert ((await slow).body, (await waiting).body) == (b"slow", b"next")
    assert scripted.connections == 1


async def test_cancelling_a_call_closes_its_connection_and_spoils_no_other(scripted, client_of) -> None:
    gone = asyncio.Event()

    async def handler(peer) -> None:
        while True:
            _, body = await peer.request()
            if body == b"cancelled":
                await peer.closed()
                gone.set()
                return
            await peer.ok(body)

    client = client_of(await scripted.start(handler))
    task = asyncio.create_task(client.send("POST", "/", [], b"cancelled", deadline=loop_time() + 5))
    await eventually(lambda: scripted.connections == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(gone.wait(), 5)
    assert (await client.send("POST", "/", [], b"other", deadline=loop_time() + 5)).body == b"other"


async def test_answers_never_cross_while_calls_are_cancelled_at_random(scripted, client_of) -> None:
    async def handler(peer) -> None:
        while True:
            _, body = await peer.request()
            await asyncio.sleep(int(body) % 5 / 1000)
            await peer.ok(body)

    client = client_of(await scripted.start(handler), max_connections=8)

    async def one(number: int) -> None:
        call = asyncio.create_task(client.send("POST", "/", [], b"%d" % number, deadline=loop_time() + 5))
        if number % 3 == 0:
            await asyncio.sleep(number % 7 / 1000)
            call.cancel()
        try:
            assert (await call).body == b"%d" % number
        except asyncio.CancelledError:
            assert number % 3 == 0

    await asyncio.gather(*(one(number) for number in range(300)))
    assert client.pool.open <= 8


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_on_the_same_host_keeps_method_and_body(scripted, client_of, status) -> None:
    seen = []

    async def handler(peer) -> None:
        head, body = await peer.request()
        seen.append((head.split(b"\r\n")[0], body))
        await peer.send(b"HTTP/1.1 %d X\r\nlocation: /mcp/?a=b\r\ncontent-length: 0\r\n\r\n" % status)
        head, body = await peer.request()
        seen.append((head.split(b"\r\n")[0], body))
        await peer.ok()

    client = client_of(await scripted.start(handler))
    assert (await client.send("POST", "/mcp", [], b"x", deadline=loop_time() + 5)).status == 200
    assert seen == [(b"POST /mcp HTTP/1.1", b"x"), (b"POST /mcp/?a=b HTTP/1.1", b"x")]


@pytest.mark.parametrize(
    ("status", "location", "reason"),
    [
        (307, b"http://169.254.169.254/latest", "another host"),
        (308, b"//evil.example/x", "another host"),
        (307, b"http://127.0.0.1:1/", "another host"),
        (307, b"file:///etc/passwd", "without a usable location"),
        (307, b"", "another host|usable"),
        (302, b"/there", "into GET"),
        (303, b"/there", "into GET"),
        (307, b"/mcp", "more than 3 redirects"),
    ],
)
async def test_a_redirect_that_would_leak_or_change_the_call_is_refused(
    scripted, client_of, status, location, reason
) -> None:
    async def handler(peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 %d X\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, location))

    client = client_of(await scripted.start(handler))
    with pytest.raises(BadResponse, match=reason) as caught:
        await client.send("POST", "/mcp", [("authorization", "Bearer secret")], b"x", deadline=loop_time() + 5)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ([("x-key", "a\r\nx-evil: 1")], "/"),
        ([("x-key", "a\nb")], "/"),
        ([("x-key", "a\0b")], "/"),
        ([("x-key", "日本")], "/"),
        ([("x key", "a")], "/"),
        ([("x-key\r\n", "a")], "/"),
        ([("content-length", "0")], "/"),
        ([("Transfer-Encoding", "chunked")], "/"),
        ([("host", "evil")], "/"),
        ([], "/a b"),
        ([], "/a\r\nx: y"),
        ([], "/é"),
    ],
)
async def test_what_could_smuggle_a_request_is_refused_before_a_connection_is_made(
    scripted, client_of, headers, target
) -> None:
    async def handler(peer) -> None:
        await peer.request()

    client = client_of(await scripted.start(handler))
    with pytest.raises(BadRequest) as caught:
        await client.send("POST", target, headers, b"x", deadline=loop_time() + 5)
    assert not caught.value.sent
    assert scripted.connections == 0


async def test_a_stream_nobody_reads_makes_its_sender_wait(scripted, client_of) -> None:
    sent = 0

    async def handler(peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for _ in range(2000):
            await peer.send(b"x" * 65536)
            sent += 65536

    client = client_of(await scripted.start(handler), stream_buffer=100_000)
    response = await client.send("GET", "/", [], deadline=loop_time() + 5)
    assert response.stream is not None
    last = await at_rest(lambda: sent)
    assert sent < 30_000_000, "the socket was never paused"
    got = 0
    while got < 2 * last:
        got += len(await response.stream.chunk() or b"")
    response.stream.close()
    await eventually(lambda: client.pool.open == 0)


async def test_a_stream_ends_by_silence_by_deadline_or_by_its_end(scripted, client_of) -> None:
    async def handler(peer) -> None:
        head = b"/ends"
        while b"/ends" in head:
            head, _ = await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            await peer.send(b"5\r\nhello\r\n" + (b"0\r\n\r\n" if b"/ends" in head else b""))
        await peer.closed()

    client = client_of(await scripted.start(handler))
    loop = asyncio.get_running_loop()
    ended = (await client.send("GET", "/ends", [], deadline=loop_time() + 5)).stream
    assert ended is not None
    assert await ended.chunk() == b"hello"
    assert await ended.chunk() is None
    assert client.pool.idle == 1, "a stream that ended leaves its connection usable"
    silent = (await client.send("GET", "/", [], deadline=loop_time() + 5)).stream
    assert silent is not None
    assert await silent.chunk(idle=1) == b"hello"
    with pytest.raises(HttpTimeout):
        await silent.chunk(idle=0.05)
    late = (await client.send("GET", "/", [], deadline=loop_time() + 5)).stream
    assert late is not None
    await late.chunk()
    late.deadline = loop.time() + 60
    loop.call_later(0.02, setattr, late, "deadline", loop.time() + 0.05)
    with pytest.raises(HttpTimeout):
        await late.chunk()


async def test_streams_that_stay_do_not_use_up_the_connections_of_calls(scripted, client_of) -> None:
    async def handler(peer) -> None:
        while True:
            head, _ = await peer.request()
            if head.startswith(b"GET"):
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                await peer.closed()
                return
            await peer.ok()

    client = client_of(await scripted.start(handler), max_connections=1)
    streams = [await client.send("GET", "/", [], deadline=loop_time() + 5, long_lived=True) for _ in range(5)]
    assert (await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)).status == 200
    for stream in streams:
        assert stream.stream is not None
        stream.stream.close()


async def test_proxies_of_the_environment_are_not_used(scripted, client_of, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def handler(peer) -> None:
        await peer.request()
        await peer.ok()

    client = client_of(await scripted.start(handler))
    assert (await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)).status == 200


async def test_a_host_is_reached_at_the_address_that_resolve_names(scripted) -> None:
    heads = []

    async def handler(peer) -> None:
        heads.append((await peer.request())[0])
        await peer.ok()

    port = await scripted.start(handler)
    origin, target = parse_origin(f"http://Remote.Example:{port}/mcp?x=1")
    client = PooledHttpClient(origin, resolve={("remote.example", port): "127.0.0.1"})
    assert (await client.send("POST", target, [], b"x", deadline=loop_time() + 5)).status == 200
    assert heads[0].startswith(f"POST /mcp?x=1 HTTP/1.1\r\nhost: remote.example:{port}\r\n".encode())
    client.close()


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("http://a.example", "a.example", "/"),
        ("https://a.example:443/x", "a.example", "/x"),
        ("https://a.example:80/x?y#z", "a.example:80", "/x?y"),
        ("http://[::1]:8080/", "[::1]:8080", "/"),
        ("http://bücher.example/", "xn--bcher-kva.example", "/"),
        ("http://a.example/wege/über?größe=ü%20", "a.example", "/wege/%C3%BCber?gr%C3%B6%C3%9Fe=%C3%BC%20"),
        ("http://a.example/a%2Fb;c=d,e:f@g!$&'()*+~[x]?{y}|^`", "a.example", "/a%2Fb;c=d,e:f@g!$&'()*+~[x]?{y}|^`"),
    ],
)
def test_urls_are_split_as_the_wire_wants_them(url, authority, target) -> None:
    origin, found = parse_origin(url)
    assert (origin.authority, found) == (authority, target)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a", "http://", "/x", "a.example", "http://[::1", "http://a:99999/", "http://a:0/",
        "http://user:secret@a.example/", "http://user@a.example/", "http://@a.example/",
        "http://a.example/\u0001", "http://a.exam\tple/", "http://a.example/x y", "http://a.example\\@b.example/",
        "http://127.0.0.1\u00ad/", "http://127.0.0.1\u200b/", "http://\uff11\uff12\uff17.0.0.1/", "http://0x7f\u3002\uff11/",
    ],
)  # fmt: skip
def test_what_would_lead_elsewhere_than_it_says_is_refused(url) -> None:
    with pytest.raises(ValueError):
        parse_origin(url)


async def test_deadlines_of_later_requests_hold_on_a_connection_that_is_used_again(scripted, client_of) -> None:
    async def handler(peer) -> None:
        while True:
            _, body = await peer.request()
            if body == b"never":
                await peer.closed()
                return
            await peer.ok()

    client = client_of(await scripted.start(handler))
    for first, second in ((30.0, 0.1), (0.15, 0.4), (0.1, 0.1)):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + first)
        began = time.monotonic()
        with pytest.raises(HttpTimeout):
            await client.send("POST", "/", [], b"never", deadline=loop_time() + second)
        assert second - 0.01 <= time.monotonic() - began < second + 2
    assert scripted.connections == 3


async def test_a_connection_that_is_closed_leaves_nothing_to_the_garbage_collector(scripted, client_of) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello")

    client = client_of(await scripted.start(handler))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert (await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)).body == b"hello"
        assert client.pool.open == 0
        await eventually(lambda: not any(isinstance(one, httptools.HttpResponseParser) for one in gc.get_objects()))
    finally:
        gc.enable()
