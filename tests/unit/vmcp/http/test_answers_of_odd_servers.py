"""Answers that are compressed, long, followed by more, or come from where nothing of ours should connect to."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.budget import MemoryBudget
from vmcp.http.client import BadResponse, ConnectError, HttpError, Origin, PooledHttpClient, Reach, ResponseTooLarge
from vmcp.http.client.coding import PIECE, Decoder
from vmcp.http.client.heads import LONGEST, Heads
from vmcp.tasks import loop_time

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "in capitals": ("GZIP", gzip.compress),
    "its old name": ("x-gzip", gzip.compress),
    "several members": ("gzip", members),
    "deflate": ("deflate", zlib.compress),
    "deflate without a head": ("deflate", raw_deflate),
}


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("kind", CODINGS)
@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
async def test_an_answer_that_is_compressed_unasked_is_decoded(scripted, client_of, kind, framing) -> None:
    text = b'{"text": "' + b"hello " * 40_000 + b'"}'
    name, pack = CODINGS[kind]
    packed = pack(text)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\n" % name.encode()
    frames = {
        "length": head + b"content-length: %d\r\n\r\n" % len(packed) + packed,
        "chunked": head + b"transfer-encoding: chunked\r\n\r\n" + chunked(packed, 100),
        "until close": head + b"\r\n" + packed,
    }

    async def handler(peer) -> None:
        await peer.request()
        await peer.send(frames[framing])

    client = client_of(await scripted.start(handler))
    response = await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert response.body == text
    assert "content-encoding" not in response.headers, "what is handed on is not compressed any more"


async def test_servers_are_asked_not_to_compress(scripted, client_of) -> None:
    heads: list[bytes] = []

    async def handler(peer) -> None:
        while True:
            heads.append((await peer.request())[0].lower())
            await peer.ok()

    client = client_of(await scripted.start(handler))
    await client.send("POST", "/", (("accept", "*/*"),), b"x", deadline=loop_time() + 5)
    await client.send("POST", "/", (("Accept-Encoding", "gzip"),), b"x", deadline=loop_time() + 5)
    assert b"\r\naccept-encoding: identity\r\n" in heads[0]
    assert heads[1].count(b"accept-encoding") == 1, "who asks for a coding gets it"


async def test_a_compressed_event_stream_is_decoded_as_it_arrives(scripted, client_of) -> None:
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(b"data: one\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    second = packer.compress(b"data: two\n\n") + packer.flush()
    go_on = asyncio.Event()

    async def handler(peer) -> None:
        await peer.request()
        await peer.send(STREAM + b"content-encoding: gzip\r\n\r\n" + b"%x\r\n%b\r\n" % (len(first), first))
        await go_on.wait()
        await peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(second), second))
        await peer.closed()

    client = client_of(await scripted.start(handler))
    stream = (await client.send("GET", "/", [], deadline=loop_time() + 5)).stream
    assert stream is not None
    assert await stream.chunk(idle=5) == b"data: one\n\n"
    go_on.set()
    assert await stream.chunk(idle=5) == b"data: two\n\n"
    assert await stream.chunk(idle=5) is None
    assert client.pool.idle == 1


@pytest.mark.parametrize(
    ("coding", "body", "error", "reason"),
    [
        ("gzip", b"no gzip at all", BadResponse, "cannot be decoded as gzip"),
        ("gzip", gzip.compress(b"hello " * 99)[:-9], BadResponse, "ends too early"),
        ("deflate", zlib.compress(b"hello") + b"more", BadResponse, "cannot be decoded"),
        ("aes128gcm", b"x", BadResponse, "'aes128gcm', which is not supported"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x")), BadResponse, "not supported"),
        ("gzip", gzip.compress(b"\0" * 60_000_000), ResponseTooLarge, "100 times as long"),
        ("gzip", gzip.compress(b"hello world, " * 20_000), ResponseTooLarge, "longer than 200000"),
    ],
    ids=["garbage", "cut", "trailing", "unknown", "twice", "bomb", "too long"],
)
async def test_a_coding_that_hides_something_ends_in_a_clean_error(
    scripted, client_of, coding, body, error, reason
) -> None:
    async def handler(peer) -> None:
        head, _ = await peer.request()
        frame = b"content-encoding: %b\r\n\r\n" % coding.encode() + chunked(body, 50_000)
        kind = b"text/event-stream" if b"/stream" in head else b"text/plain"
        with_type = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n" % kind
        await peer.send(with_type + frame)
        await peer.closed()

    limit = 200_000 if reason.startswith("longer") else 100_000_000
    client = client_of(await scripted.start(handler), max_body=limit)
    with pytest.raises(error, match=reason):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert client.pool.open == 0
    if limit == 200_000:
        return  # a stream has no length of its own

    async def read_stream() -> None:
        stream = (await client.send("GET", "/stream", [], deadline=loop_time() + 5)).stream
        assert stream is not None
        while await stream.chunk(idle=5) is not None:
            pass

    with pytest.raises(error, match=reason):
        await read_stream()


@given(data=st.binary(max_size=5000), cuts=st.lists(st.integers(1, 900), max_size=20), kind=st.sampled_from([*CODINGS]))
def test_a_text_is_decoded_however_it_is_cut(data: bytes, cuts: list[int], kind: str) -> None:
    name, pack = CODINGS[kind]
    packed = pack(data)
    decoder, out = Decoder(name), []
    for size in [*cuts, len(packed)]:
        decoder.feed(packed[:size])
        packed = packed[size:]
        while piece := decoder.take():
            assert len(piece) <= PIECE
            out.append(piece)
    decoder.finish()
    assert b"".join(out) == data


@pytest.mark.parametrize("size", [500, 5_000, 50_000, 1 << 20])
async def test_a_long_answer_as_a_stream_leaves_its_connection_ready_for_the_next_call(
    scripted, client_of, size
) -> None:
    async def handler(peer) -> None:
        while True:
            await peer.request()
            await peer.send(STREAM + b"\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))

    # The end arrives together with what fills the buffer: nobody takes anything in between.
    client = client_of(await scripted.start(handler), stream_buffer=1000)
    for _ in range(3):
        stream = (await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)).stream
        assert stream is not None
        got = 0
        while (chunk := await stream.chunk(idle=5)) is not None:
            got += len(chunk)
        assert got == size
        stream.close()
    assert scripted.connections == 1


@pytest.mark.parametrize("status", ["600", "800", "999"])
async def test_a_status_that_http_does_not_know_is_no_answer(scripted, client_of, status) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.send(f"HTTP/1.1 {status} Odd\r\ncontent-length: 0\r\n\r\n".encode())
        await peer.closed()

    client = client_of(await scripted.start(handler))
    with pytest.raises(BadResponse, match="status"):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)


@pytest.mark.parametrize(
    "more", [b"HTTP/1.1 200 OK\r\ncontent-le", b"H", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]
)
async def test_bytes_behind_a_complete_answer_cost_the_connection(scripted, client_of, more) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood" + more)
        await peer.closed()

    client = client_of(await scripted.start(handler))
    assert (await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)).body == b"good"
    assert (client.pool.idle, client.pool.open) == (0, 0), "it is not kept for the next call"


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "0", "0.0.0.0", "::ffff:127.0.0.1", "::"])
async def test_a_spelling_of_loopback_that_only_resolvers_know_is_not_connected_to(scripted, host) -> None:
    async def handler(peer) -> None:
        await peer.request()
        await peer.ok()

    port = await scripted.start(handler)
    client = PooledHttpClient(Origin(False, host, port))
    with pytest.raises(ConnectError, match=r"leads to .*blocked") as caught:
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert not caught.value.sent
    assert scripted.connections == 0
    client.close()


async def test_an_administrator_can_let_names_lead_to_loopback(scripted) -> None:
    async def handler(peer) -> None:
        while True:
            await peer.request()
            await peer.ok()

    port = await scripted.start(handler)
    ways = [
        PooledHttpClient(Origin(False, "127.1", port), reach=Reach(["127.0.0.0/8"])),
        PooledHttpClient(Origin(False, "backend.example", port), resolve={("backend.example", port): "127.0.0.1"}),
        PooledHttpClient(Origin(False, "localhost", port)),
        PooledHttpClient(Origin(False, "127.0.0.1", port)),
    ]
    for client in ways:
        assert (await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)).status == 200
        client.close()


def test_addresses_of_metadata_services_are_out_of_reach_in_every_form() -> None:
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "fe80::1%eth0"):
        assert not Reach().allows("metadata.example", address)
        assert not Reach().allows(address, address), "not even when the URL says so: that takes an administrator"
    assert Reach(["169.254.0.0/16"]).allows("metadata.example", "169.254.169.254")
    assert Reach().allows("svc.example", "10.0.0.1"), "services of the cluster have private addresses"


def test_kept_heads_are_bounded_for_one_backend_and_for_all() -> None:
    origin = Origin(False, "b.example", 80)
    budget = MemoryBudget(64 * 1024)
    one, other = (Heads(origin, limit=40 * 1024, budget=budget) for _ in range(2))
    for number in range(5000):
        one.encode(origin, "POST", "/mcp", (("mcp-name", f"chosen-by-a-client-{number}"),), b"{}")
        other.encode(origin, "POST", "/mcp", (("mcp-name", f"x{number}"),), b"{}")
        assert max(one.kept, other.kept) <= 40 * 1024
        assert budget.left == 64 * 1024 - one.kept - other.kept >= 0
    kept = one.kept
    one.encode(origin, "POST", "/mcp", (("mcp-name", "x" * LONGEST),), b"{}")
    assert one.kept == kept, "a long head is not worth keeping"
    one.forget()
    other.forget()
    assert budget.left == 64 * 1024


async def test_a_closed_client_gives_its_heads_back(client_of) -> None:
    client = client_of(1)
    with pytest.raises(HttpError):
        await client.send("POST", "/", (("a", "b"),), b"x", deadline=loop_time() + 5)
    assert client._heads.kept > 0  # noqa: SLF001  what is remembered shows nowhere else
    client.close()
    assert client._heads.kept == 0  # noqa: SLF001  what is remembered shows nowhere else
