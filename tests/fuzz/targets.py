"""What is fuzzed: everything that reads bytes from outside, behind one function each.

A target takes bytes and returns; whatever it raises is a finding. How an input may be refused is written where it is
fed. Beside "nothing unexpected is raised", each states what must hold of what was read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from api.contract.errors import ConfigErrors
from api.contract.headers import header_name_problem, header_value_problem
from api.contract.loader import dump_config
from api.contract.urls import validate_remote_url
from tests.unit.vmcp.front.conftest import FakeBackend
from vmcp.auth.tokens import BadCredential, bearer_token, jose_header
from vmcp.backend.answers import SessionLost, check_session, message_of
from vmcp.backend.errors import BackendError
from vmcp.config.load import load
from vmcp.core.templates import MAX_URI, compile_template
from vmcp.http.client import ClientLimits, HttpError, Response, parse_origin
from vmcp.http.client.connection import ClientConnection
from vmcp.http.server.protocol import GuardedProtocol
from vmcp.observe.redact import Redactor
from vmcp.server import Server
from vmcp.wire.jsonrpc import JsonRpcError, Message, parse
from vmcp.wire.mending import read_batch, read_message
from vmcp.wire.protocol import HeaderError, check_header, decode_value, encode_value
from vmcp.wire.sse import SseError, SseParser

Target = Callable[[bytes], None]
TARGETS: dict[str, Callable[[], Target]] = {}
"""Name -> what makes the target, once per process."""
RUNS: dict[str, int] = {
    "event_streams": 12_000,
    "headers": 300_000,
    "urls": 60_000,
    "templates": 90_000,
    "redactor": 15_000,
    "config_files": 30_000,
    "tokens": 300_000,
    "messages": 75_000,
    "answers": 15_000,
    "requests": 6_000,
}
"""Inputs per target in a run that must end the same way each time: some 2 s on one core."""


def target(make: Callable[[], Target]) -> Callable[[], Target]:
    """Register a target under the name of the function that makes it."""
    TARGETS[make.__name__] = make
    return make


def quiet() -> None:
    """Log to nobody, but make every line: one that cannot be made is a finding, too."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.ReturnLoggerFactory()
    )


def text(data: bytes) -> str:
    """Bytes as the text of a header or a URL; every sequence of bytes is one."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


@target
def event_streams() -> Target:
    """However a stream is cut into pieces, the same events come out of it."""

    def events(data: bytes, size: int) -> list[Any]:
        parser = SseParser(max_event=512)
        found: list[Any] = []
        try:
            for start in range(0, len(data), size):
                found += parser.feed(data[start : start + size])
        except SseError:
            return ["refused"]
        return found

    def run(data: bytes) -> None:
        if data:
            size, data = data[0] % 13 + 1, data[1:]
            assert events(data, size) == events(data, len(data) or 1)

    return run


@target
def headers() -> Target:
    """What both programs accept can be sent, and coded values come back as they were."""

    def run(data: bytes) -> None:
        name, _, value = text(data).partition(":")
        if header_name_problem(name) is None and header_value_problem(value) is None:
            check_header(name, value)
        with contextlib.suppress(HeaderError, UnicodeEncodeError):
            coded = encode_value(value)
            assert decode_value(coded) == value
            coded.encode("ascii")
        decode_value(value)

    return run


@target
def urls() -> Target:
    """What the rules accept the client dials, and the host that it dials is accepted as it is."""

    def run(data: bytes) -> None:
        url = text(data)
        for private in (False, True):
            if validate_remote_url(url, allow_private=private) is None:
                origin, path = parse_origin(url)
                path.encode("ascii")
                dialled = f"{'https' if origin.tls else 'http'}://{origin.authority}/"
                assert validate_remote_url(dialled, allow_private=private) is None, dialled
                assert parse_origin(dialled)[0] == origin

    return run


@target
def templates() -> Target:
    """A template with nothing to fill in matches itself and nothing else."""

    def run(data: bytes) -> None:
        template, _, uri = text(data).partition("\n")
        compiled = compile_template(template)
        if compiled is not None:
            matched = compiled.matches(uri)
            if "{" not in template and len(uri) <= MAX_URI:
                assert matched == (uri == template)

    return run


@target
def redactor() -> Target:
    """No secret of the process is left in a text, whatever stands around it and wherever it is cut."""
    secret = "S3cr3t/of+this=process"
    redact = Redactor([secret])

    def run(data: bytes) -> None:
        limit, given = (data[0], text(data[1:])) if data else (0, "")
        half = len(given) // 2
        for value in (given, given[:half] + secret + given[half:]):
            for cut in (None, limit):
                made = redact.text(value, cut)
                assert secret not in made
                assert cut is None or len(made) <= cut
        redact.value({given: [given, {given: None}]})

    return run


@target
def config_files() -> Target:
    """A file is refused with a list of what is wrong, or is loaded; what was loaded can be written and loaded again."""

    def run(data: bytes) -> None:
        try:
            loaded = load(data, {})
        except ConfigErrors as refused:
            assert refused.errors  # noqa: PT017  this is no test function
            return
        assert load(dump_config(loaded.source), {}).settings == loaded.settings

    return run


@target
def tokens() -> Target:
    """A credential is refused as one, at any stage."""

    def run(data: bytes) -> None:
        with contextlib.suppress(BadCredential):
            jose_header(bearer_token([(b"authorization", data)]))
        with contextlib.suppress(BadCredential):
            jose_header(text(data))

    return run


@target
def messages() -> Target:
    """A body is a JSON-RPC message or refused with one of its codes, and a backend's answer likewise."""

    def run(data: bytes) -> None:
        status, data = ((200, 202, 301, 400, 404, 410, 429, 500)[data[0] % 8], data[1:]) if data else (200, b"")
        try:
            message = parse(data)
        except JsonRpcError as refused:
            assert refused.code in {-32700, -32600}  # noqa: PT017  this is no test function
        else:
            assert isinstance(json.loads(data), dict)
            assert message.is_request or message.is_notification or message.is_response
        response = Response(status, {"content-type": "application/json"}, data)
        with contextlib.suppress(JsonRpcError):
            mended = read_message(data)
            assert mended.is_request or mended.is_notification or mended.is_response
        assert all(isinstance(found, Message) for found in read_batch(data))
        with contextlib.suppress(BackendError, SessionLost):
            check_session(response, message_of("backend", response), 1, "session")

    return run


class _Wire(asyncio.Transport):
    """One end of a connection: keeps what is written to it, and never blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Nobody reads."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 4483), "peername": ("127.0.0.1", 5)}.get(name, default)

    def pause_reading(self) -> None:
        """All has been given."""

    def resume_reading(self) -> None:
        """All has been given."""


@target
def answers() -> Target:
    """Whatever a server sends, the client gives an answer or says why not; at most one connection is kept."""
    loop = asyncio.new_event_loop()

    async def ask(pieces: list[bytes]) -> None:
        free: list[ClientConnection] = []
        wire = _Wire()
        connection = ClientConnection(
            loop, ClientLimits(max_head=2048, max_body=4096), free.append, lambda _: None, lambda _: None
        )
        connection.connection_made(wire)
        asked = asyncio.ensure_future(connection.request(b"GET / HTTP/1.1\r\n\r\n", loop.time() + 60))
        await asyncio.sleep(0)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
        if not asked.done() or not wire.closed:
            connection.connection_lost(None)
        with contextlib.suppress(HttpError):
            response = await asked
            assert 200 <= response.status <= 599
            if response.stream is not None:
                with contextlib.suppress(HttpError):
                    while await response.stream.chunk() is not None:
                        pass
                response.stream.close()
        assert len(free) <= 1

    def run(data: bytes) -> None:
        size, data = (data[0] or 256, data[1:]) if data else (1, b"")
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        loop.run_until_complete(ask(pieces))

    return run


@target
def requests() -> Target:
    """Whatever a client sends, it gets whole HTTP answers, none of which is the gateway's own failure."""
    loop = asyncio.new_event_loop()
    document = {
        "name": "gateway",
        "groupRef": "group",
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
        "aggregation": {"conflictResolution": "prefix", "conflictResolutionConfig": {"prefixFormat": "{workload}_"}},
        "backends": [{"name": "one", "url": "http://one.example/mcp", "transport": "streamable-http"}],
    }
    backend = FakeBackend(
        "one",
        tools=[{"name": "echo", "inputSchema": {"type": "object"}}],
        resources=[{"uri": "note://one", "name": "one"}],
        templates=[{"uriTemplate": "note://{name}", "name": "any"}],
        prompts=[{"name": "ask"}],
    )

    async def start() -> tuple[Server, Config]:
        settings = load(json.dumps(document).encode(), {}).settings
        server = Server(settings, make_backend=lambda *_: backend)  # type: ignore[arg-type, return-value]
        await server.start()
        config = Config(server.app, lifespan="off", access_log=False, log_config=None)  # type: ignore[arg-type]
        config.load()
        return server, config

    _, config = loop.run_until_complete(start())

    async def serve(pieces: list[bytes]) -> bytes:
        wire, state = _Wire(), ServerState()
        protocol = GuardedProtocol(config, state, {}, loop)
        protocol.connection_made(wire)
        for piece in pieces:
            if not wire.closed:
                protocol.data_received(piece)
            await asyncio.sleep(0)
        # Idle, closed, or waiting for what will never come: then the client hangs up.
        quiet_until = time.monotonic() + 0.02
        while state.tasks and not wire.closed and time.monotonic() < quiet_until:  # noqa: ASYNC110  nothing tells it
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        for _ in range(3):  # the task that answers ends
            await asyncio.sleep(0)
        return bytes(wire.written)

    def run(data: bytes) -> None:
        size, data = (data[0] or 256, data[1:]) if data else (1, b"")
        written = loop.run_until_complete(serve([data[i : i + size] for i in range(0, len(data), size)]))
        # Whoever reads the answer to HEAD must know that it has no body; this reader does not.
        for status in () if b"HEAD" in data else _statuses(written):
            assert status < 500 or status == 503, written[:400]

    return run


def _statuses(written: bytes) -> list[int]:
    """The statuses of a sequence of answers, which must be HTTP."""
    found: list[int] = []

    class Reader:
        def on_headers_complete(self) -> None:
            found.append(parser.get_status_code())

    parser = httptools.HttpResponseParser(Reader())
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(written)
    return found
