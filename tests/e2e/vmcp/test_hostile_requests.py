"""Requests that no honest client sends: each gets the right status, and a neighbour's calls go on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.e2e.vmcp.kit import ACCEPT, Client, EchoBackend, Gateway, config
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass
class House:
    gateway: Gateway
    backend: EchoBackend


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory) -> AsyncIterator[House]:
    backend = await EchoBackend("a").start()
    gateway = Gateway(
        config(backend.entry),
        tmp_path_factory.mktemp("gw"),
        backend.resolve,
        environ={"VMCP_ALLOWED_ORIGINS": "https://app.example:8443,http://intranet.example"},
        flags=("--allow-origin", "https://console.example"),
    )
    await gateway.start()
    await eventually(lambda: gateway.knows("a"))
    yield House(gateway, backend)
    code = await gateway.stop()
    await backend.stop()
    gateway.clean()
    assert code == 0


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def neighbour(house, connect) -> AsyncIterator[None]:
    """Somebody honest, whose session and calls must not suffer from any test here."""
    honest: Client = await connect(house.gateway.url)
    before = (await honest.call("a_count")).told["count"]
    yield
    assert (await honest.call("a_count")).told["count"] == before + 1


async def raw(house: House, data: bytes, seconds: float = 20.0) -> bytes:
    """Send bytes as they are; return everything that comes back until the other side closes or is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gateway.port)
    writer.write(data)
    await writer.drain()
    found = b""
    try:
        async with asyncio.timeout(seconds):
            while chunk := await reader.read(65536):
                found += chunk
                head, _, body = found.partition(b"\r\n\r\n")
                if body and f"content-length: {len(body)}".encode() in head.lower():
                    break
    finally:
        writer.close()
    return found


def request(body: bytes = b"", method: bytes = b"POST", **headers: str) -> bytes:
    fields = {"host": "127.0.0.1", "content-type": "application/json", "accept": ACCEPT, "connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    if body:
        fields.setdefault("content-length", str(len(body)))
    lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in fields.items())
    return method + b" /mcp HTTP/1.1\r\n" + lines + b"\r\n" + body


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


def error_of(answer: bytes) -> dict:
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert found["jsonrpc"] == "2.0"
    return found["error"]


def modern(method: str = "tools/list", **params: object) -> bytes:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}}', -32700),
        (b'{"a":' * 200 + b"1" + b"}" * 200, -32600),
        (b"7", -32600),
        (b'"text"', -32600),
        (b"null", -32600),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
    ],
)
async def test_what_is_no_request_is_a_clean_error(house, body, code):
    answer = await raw(house, request(body))
    assert status_of(answer) == 400
    assert error_of(answer)["code"] == code


async def test_bodies_beyond_the_limit_are_413_whether_announced_or_not(house):
    announced = request(content_length=str(100 * 1024 * 1024))
    assert status_of(await raw(house, announced)) == 413
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    assert status_of(await raw(house, request(transfer_encoding="chunked") + chunk * 200 + b"0\r\n\r\n")) == 413


async def test_heads_beyond_the_limit_are_431(house):
    assert status_of(await raw(house, request(b"{}", x_big="a" * 70_000))) == 431
    many = {f"x_{number}": "a" * 100 for number in range(1000)}
    assert status_of(await raw(house, request(b"{}", **many))) == 431


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /mcp HTTP/9.9\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nbad header\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -5\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nx-a: b\r\n\x00evil: 1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nx-a: b\rX-Evil: 1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nx-a: b\0c\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nx-a: b\r\n folded: 1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost : 127.0.0.1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nmcp-session-id: a\rb\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_the_connection_closed(house, data):
    answer = await raw(house, data)
    assert status_of(answer) in (400, 411, 415)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
async def test_a_foreign_host_is_refused_on_a_loopback_listener(house, host):
    assert status_of(await raw(house, request(modern(), host=host))) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1.evil.example",
        "file://",
        "",
        "http://console.example",
        "https://console.example:444",
        "https://console.example.evil.example",
        "https://evil.example/https://console.example",
        "https://app.example",
    ],
)
async def test_a_foreign_page_is_refused(house, origin):
    assert status_of(await raw(house, request(modern(), origin=origin))) == 403


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:6274", "https://console.example", "https://app.example:8443", "http://intranet.example"],
)
async def test_a_local_page_is_welcome_and_so_are_those_that_were_allowed(house, origin):
    head = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/list"}
    assert status_of(await raw(house, request(modern(), origin=origin, **head))) == 200


@pytest.mark.parametrize(
    "head",
    [
        {"mcp_protocol_version": "2026-07-28"},
        {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call"},
        {"mcp_protocol_version": "2026-07-28", "mcp_method": "Tools/List"},
        {"mcp_protocol_version": "2025-11-25", "mcp_method": "tools/list"},
        {"mcp_protocol_version": "2026-07-28", "mcp_method": "=?base64?!!!?="},
    ],
)
async def test_headers_that_say_something_else_than_the_body_are_refused(house, head):
    answer = await raw(house, request(modern(), **head))
    assert status_of(answer) == 400
    assert error_of(answer)["code"] in (-32020, -32022)


@pytest.mark.parametrize("name", ["other", "a_echo2", "A_ECHO", "=?base64?YV9jb3VudA==?=", "a_echo,a_echo"])
async def test_the_name_in_the_header_must_be_the_body_s(house, name):
    head = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": name}
    answer = await raw(house, request(modern("tools/call", name="a_echo", arguments={}), **head))
    assert status_of(answer) == 400
    assert error_of(answer)["code"] == -32020


async def test_blanks_around_a_header_s_value_do_not_count(house):
    head = {"mcp_protocol_version": " 2026-07-28\t", "mcp_method": "  tools/call ", "mcp_name": "a_echo  "}
    answer = await raw(house, request(modern("tools/call", name="a_echo", arguments={}), **head))
    assert status_of(answer) == 200


async def test_a_header_that_must_be_single_may_not_come_twice(house):
    doubled = request(modern(), mcp_protocol_version="2026-07-28", mcp_method="tools/list").replace(
        b"mcp-method: tools/list\r\n", b"mcp-method: tools/list\r\nMcp-Method: tools/call\r\n"
    )
    assert status_of(await raw(house, doubled)) == 400


async def test_unknown_methods_and_paths_say_so(house):
    head = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/steal"}
    answer = await raw(house, request(modern("tools/steal"), **head))
    assert (status_of(answer), error_of(answer)["code"]) == (404, -32601)
    assert status_of(await raw(house, request(modern(), method=b"PUT"))) == 405
    assert (await house.gateway.get("/.well-known/openid-configuration"))[0] == 404


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
async def test_line_breaks_in_names_never_become_headers_or_lines(house, connect, value):
    client = await connect(house.gateway.url)
    reply = await client.call(f"a_echo{value}")
    assert reply.status in (200, 400)
    assert "error" in reply.message
    told = (await client.call("a_echo", nonce=value)).told
    assert told["nonce"] == value


async def test_slow_senders_are_cut_off_while_others_are_served(house, connect):
    started = time.monotonic()
    slow = [await asyncio.open_connection("127.0.0.1", house.gateway.port) for _ in range(40)]
    for _, writer in slow:
        writer.write(b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")
    client = await connect(house.gateway.url)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Send a byte a second, like slowloris, until the gateway has had enough."""
        answer = asyncio.create_task(reader.read())
        while not answer.done():
            if not writer.is_closing():
                writer.write(b"a")
            await asyncio.wait({answer}, timeout=1.0)
        writer.close()
        return answer.result()

    drips = [asyncio.create_task(drip(*pair)) for pair in slow]
    while not all(task.done() for task in drips):
        asked = time.monotonic()
        assert (await client.call("a_echo", nonce="n")).told["nonce"] == "n"
        assert time.monotonic() - asked < 3.0
        assert time.monotonic() - started < 40.0, "slow senders are still connected"
        await asyncio.wait(drips, timeout=0.25)
    answers = [task.result() for task in drips]
    assert all(answer == b"" or status_of(answer) == 408 for answer in answers)


async def test_time_that_a_sender_takes_is_not_held_against_the_backend(house, connect):
    head = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "a_echo"}
    data = request(modern("tools/call", name="a_echo", arguments={}), **head)
    before = await spent(house)
    reader, writer = await asyncio.open_connection("127.0.0.1", house.gateway.port)
    writer.write(data[:-5])
    await writer.drain()
    # The rest of the body follows when somebody else's call, which takes a second at the backend, is over.
    client = await connect(house.gateway.url)
    assert (await client.call("a_slow", seconds=1)).told["nonce"] is None
    writer.write(data[-5:])
    assert status_of(await reader.read()) == 200
    writer.close()
    requests, backends = (after - start for after, start in zip(await spent(house), before, strict=True))
    assert backends >= 1.0
    assert requests >= backends + 1.0


async def spent(house: House) -> tuple[float, float]:
    """Return the seconds of all calls of tools so far: of requests, and of the backend."""
    sums = [0.0, 0.0]
    for line in (await house.gateway.get("/metrics"))[1].splitlines():
        name, _, value = line.rpartition(" ")
        if 'mcp_method="tools/call"' in name:
            sums[0] += float(value) if name.startswith("toolhive_mcp_request_duration_seconds_sum") else 0.0
            sums[1] += float(value) if name.startswith("toolhive_vmcp_backend_requests_duration_seconds_sum") else 0.0
    return sums[0], sums[1]


async def test_callers_that_hang_up_in_the_middle_leave_nothing_behind(house, connect):
    async def hang_up(part: int) -> None:
        body = modern("tools/call", name="a_slow", arguments={"seconds": 5})
        head = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "a_slow"}
        _, writer = await asyncio.open_connection("127.0.0.1", house.gateway.port)
        data = request(body, **head)
        writer.write(data[: len(data) * part // 10])
        await writer.drain()
        writer.close()

    await asyncio.gather(*(hang_up(number % 11) for number in range(100)))
    client = await connect(house.gateway.url, era="modern")
    assert (await client.call("a_echo", nonce="after")).told["nonce"] == "after"
