"""A gateway in one process: fake backends behind it, an ASGI client in front. No sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from vmcp.audit.log import NoAudit
from vmcp.auth.interface import ANONYMOUS, Principal, Unauthenticated
from vmcp.authz.cedar import AllowAll
from vmcp.backend.interface import (
    BackendSettings,
    BackendState,
    Call,
    Catalogue,
    CatalogueChange,
    Era,
    Health,
    Item,
    Kind,
    Reply,
    SessionSpec,
)
from vmcp.core.gateway import Gateway
from vmcp.core.plan import Plan
from vmcp.core.rules import AggregationRules, ConflictPolicy
from vmcp.core.seal import Sealer
from vmcp.front.app import App
from vmcp.front.base import Front
from vmcp.front.legacy import LegacyFront
from vmcp.front.modern import ModernFront
from vmcp.front.service import Service
from vmcp.front.sessions import Sessions
from vmcp.front.settings import FrontSettings
from vmcp.sessions.store import SessionStore

MODERN = "2026-07-28"
LEGACY = "2025-11-25"


class FakeSession:
    def __init__(self, backend: FakeBackend, spec: SessionSpec) -> None:
        self.backend, self.spec, self.closed = backend, spec, False
        self.notified: list[tuple[str, bytes]] = []

    async def call(self, call: Call) -> Reply:
        self.backend.calls.append(call)
        reply = self.backend.answer(call)
        return await reply if asyncio.iscoroutine(reply) else reply

    async def notify(self, method: str, params: bytes) -> None:
        self.notified.append((method, params))

    async def close(self, *, leave: bool = False) -> None:
        self.closed, self.left = True, leave


class FakeBackend:
    """Answers every call with what `answer` returns: a Reply, or a coroutine of one."""

    url = "http://backend.test/mcp"
    transport = "streamable-http"
    auth_method = "unauthenticated"
    personal = False

    def __init__(self, name: str, era: Era = Era.LEGACY, **lists: list[dict[str, Any]]) -> None:
        self.name = name
        self.state = BackendState(era=era, version=MODERN if era is Era.MODERN else LEGACY, health=Health.HEALTHY)
        self.calls: list[Call] = []
        self.sessions: list[FakeSession] = []
        self.answer: Callable[[Call], Any] = self.echo
        self._listeners: list[Callable[[CatalogueChange], None]] = []
        self.catalogue = self.make(**lists)

    def make(self, **lists: list[dict[str, Any]]) -> Catalogue:
        keys = {"tools": "name", "prompts": "name", "resources": "uri", "templates": "uriTemplate"}
        made = {
            kind: tuple(Item(entry[keys[kind]], json.dumps(entry).encode()) for entry in entries)
            for kind, entries in lists.items()
        }
        return Catalogue(era=self.state.era, fetched_at=1.0, **made)

    def echo(self, call: Call) -> Reply:
        text = json.dumps({"backend": self.name, "params": json.loads(call.params)})
        result: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
        if self.state.era is Era.MODERN:
            result["resultType"] = "complete"
        return Reply(result=json.dumps(result).encode(), era=self.state.era or Era.LEGACY)

    def change(self, **lists: list[dict[str, Any]]) -> None:
        self.catalogue = self.make(**lists)
        for listener in self._listeners:
            listener(CatalogueChange(self.name, frozenset(Kind), self.catalogue))

    def open(self, spec: SessionSpec) -> FakeSession:
        self.sessions.append(FakeSession(self, spec))
        return self.sessions[-1]

    def subscribe(self, listener: Callable[[CatalogueChange], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def catalogue_for(self, principal: Principal, *, headers: Any = (), timeout: float) -> Catalogue:
        return self.catalogue

    def reconfigure(self, settings: BackendSettings) -> None:
        """Nothing depends on them."""

    async def start(self) -> None:
        """Nothing runs."""

    async def wait_known(self, timeout: float) -> bool:
        return True

    async def close(self) -> None:
        """Nothing runs."""


class NamedCallers:
    """`Authorization: Bearer NAME` is principal NAME; no header is anonymous; `Bearer bad` is refused."""

    async def authenticate(self, headers: Any) -> Principal:
        token = dict(headers).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if token == "bad":
            raise Unauthenticated("bad token", www_authenticate='Bearer error="invalid_token"')
        return Principal(token, "test") if token else ANONYMOUS

    def protected_resource(self) -> None:
        return None

    async def close(self) -> None:
        """Nothing runs."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The messages of an event stream."""
        lines = [line for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [json.loads(line[6:]) for line in lines if line[6:]]

    @property
    def last(self) -> Any:
        """The answer proper, however it came."""
        return self.events[-1] if "event-stream" in self.headers.get("content-type", "") else self.json


class OpenRequest:
    """A request under way: what came so far, and a way to hang up."""

    def __init__(self, app: App, scope: dict[str, Any], body: bytes) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self._news = asyncio.Event()
        self.task = asyncio.create_task(app(scope, self.incoming.get, self._send))  # type: ignore[arg-type]

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]
        self._news.set()

    def hang_up(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            await self.task
        assert self.status is not None, "the request ended without an answer"
        return Answer(self.status, self.headers, self.body)

    async def until(self, condition: Callable[[Answer], bool]) -> Answer:
        """Wait until what came so far fulfils the condition."""
        async with asyncio.timeout(10):
            while True:
                if self.status is not None:
                    answer = Answer(self.status, self.headers, self.body)
                    if condition(answer):
                        return answer
                self._news.clear()
                await self._news.wait()


@dataclass
class World:
    """A gateway with its backends, and requests to it."""

    app: App
    gateway: Gateway
    front: Front
    sessions: Sessions
    backends: dict[str, FakeBackend]
    service: Service
    session_id: str | None = None
    last_id: int = 0
    opened: list[OpenRequest] = field(default_factory=list)

    def open(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> OpenRequest:
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": raw, "client": ("192.0.2.1", 5)}
        request = OpenRequest(self.app, scope, body)
        self.opened.append(request)
        return request

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        return await self.open(method, path, headers, body).answer()

    def post(self, body: Any, headers: dict[str, str] | None = None) -> OpenRequest:
        base = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        merged = {name: value for name, value in {**base, **(headers or {})}.items() if value is not None}
        return self.open("POST", "/mcp", merged, data)

    # --- modern ---

    def modern_body(self, method: str, params: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
        self.last_id += 1
        prefix = "io.modelcontextprotocol/"
        envelope = {prefix + "protocolVersion": MODERN, prefix + "clientCapabilities": {}}
        envelope |= {prefix + key if key != "progressToken" else key: value for key, value in meta.items()}
        return {
            "jsonrpc": "2.0",
            "id": self.last_id,
            "method": method,
            "params": {**(params or {}), "_meta": envelope},
        }

    def modern(
        self, method: str, params: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None, **meta: Any
    ) -> OpenRequest:
        body = self.modern_body(method, params, **meta)
        extra = {"mcp-protocol-version": MODERN, "mcp-method": method}
        key = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}.get(method)
        if key is not None and params and key in params:
            extra["mcp-name"] = params[key]
        return self.post(body, {**extra, **(headers or {})})

    # --- legacy ---

    async def initialize(
        self, capabilities: dict[str, Any] | None = None, version: str = LEGACY, headers: dict[str, str] | None = None
    ) -> Answer:
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        answer = await self.post(body, headers).answer()
        self.session_id = answer.headers.get("mcp-session-id")
        return answer

    def legacy(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
        request_id: Any = None,
    ) -> OpenRequest:
        self.last_id += 1
        body = {
            "jsonrpc": "2.0",
            "id": self.last_id if request_id is None else request_id,
            "method": method,
            "params": params or {},
        }
        return self.post(body, {**self.session_headers(), **(headers or {})})

    def session_headers(self) -> dict[str, str]:
        return {"mcp-session-id": self.session_id or "", "mcp-protocol-version": LEGACY}

    def stream(self, headers: dict[str, str] | None = None) -> OpenRequest:
        base = {"accept": "text/event-stream", **self.session_headers()}
        return self.open("GET", "/mcp", {**base, **(headers or {})})


Build = Callable[..., World]


@pytest.fixture
async def world() -> AsyncIterator[Build]:
    """Builds gateways; ends them after the test."""
    made: list[World] = []

    def build(
        *backends: FakeBackend,
        rules: AggregationRules | None = None,
        settings: FrontSettings | None = None,
        page_size: int = 1000,
        store: SessionStore | None = None,
        **plan: Any,
    ) -> World:
        parts = {
            "name": "gateway",
            "group": "group",
            "backends": {backend.name: backend for backend in backends},
            "rules": rules or AggregationRules(strategy=ConflictPolicy.PRIORITY),
            "authenticator": NamedCallers(),
            "authorizer": AllowAll(),
            "limiter": None,
            "audit": NoAudit(),
            **plan,
        }
        gateway = Gateway(Plan(**parts), Sealer(), page_size=page_size)
        front = Front(gateway, settings or FrontSettings(version="1"))
        sessions = Sessions(gateway, front.settings, store)
        service = Service(gateway, front.settings, lambda: None, sessions)
        app = App(front, LegacyFront(front, sessions), ModernFront(front), service)
        made.append(World(app, gateway, front, sessions, {backend.name: backend for backend in backends}, service))
        return made[-1]

    yield build
    for one in made:
        for request in one.opened:
            request.hang_up()
        await one.sessions.close()
        await one.gateway.close()
        one.front.aside.close()
        async with asyncio.timeout(10):
            await asyncio.gather(*(request.task for request in one.opened), return_exceptions=True)


@pytest.fixture
def backend() -> type[FakeBackend]:
    """Makes fake backends."""
    return FakeBackend
