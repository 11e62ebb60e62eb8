"""A proxy on a real listener, in this process; a scripted remote behind it, a client of either era in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.e2e.vmcp.issuer import Issuer
from tests.e2e.vmcp.kit import Client
from tests.support.eventually import eventually
from tests.unit.vmcp.backend.conftest import McpScript, Request
from vmcp.backend.backend import McpBackend
from vmcp.config.load import load_proxy
from vmcp.ending import Ending
from vmcp.run import front_of_proxy
from vmcp.server import Server
from vmcp.serving import serve


class Proxy:
    """One that serves on `url`.

    Attributes:
        audit: Where its audit log goes, when `audited` was asked for.
    """

    def __init__(self, document: dict[str, Any], environ: dict[str, str], audit: Path) -> None:
        loaded = load_proxy(json.dumps(document).encode(), environ)
        self.server = Server(
            loaded.settings,
            make_backend=lambda settings, auth, resolve: McpBackend(settings, auth, resolve=resolve),
            front=front_of_proxy("test"),
        )
        self.environ = environ
        self.audit = audit
        self.port = 0
        self._stop = asyncio.Event()
        self._listening = asyncio.Event()

    async def start(self) -> None:
        ending = Ending(0.0, grace=5)
        coming = serve(self.server, host="127.0.0.1", port=0, stop=self._stop, listening=self._on, ending=ending)
        self._task = asyncio.create_task(coming)
        await asyncio.wait_for(self._listening.wait(), 10)

    def _on(self, port: int) -> None:
        self.port = port
        self._listening.set()

    async def heard(self) -> None:
        """Wait until the proxy looked at its remote for the first time."""
        (remote,) = self.server.gateway.plan.backends.values()
        await eventually(lambda: remote.state.last_check is not None)

    async def apply(self, document: dict[str, Any]) -> None:
        await self.server.apply(load_proxy(json.dumps(document).encode(), self.environ).settings)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """Return the audit log once it has so many lines."""

        def there() -> bool:
            return self.audit.exists() and len(self.audit.read_text().splitlines()) >= count

        await eventually(there)
        return [json.loads(line) for line in self.audit.read_text().splitlines()]

    async def stop(self) -> None:
        self._stop.set()
        await asyncio.wait_for(self._task, 20)


Start = Callable[..., Awaitable[Proxy]]


def document(script: McpScript, **config: Any) -> dict[str, Any]:
    """Return a proxy's configuration in front of a script; `remote` in `config` adds to its section."""
    section = {"url": script.url, "transport": "streamable-http", **config.pop("remote", {})}
    made = {"name": "notion", "remote": section, "incomingAuth": {"type": "anonymous"}, **config}
    return {key: value for key, value in made.items() if value is not None}


@pytest_asyncio.fixture
async def remote() -> AsyncIterator[McpScript]:
    script = McpScript()
    await script.start()
    yield script
    await script.stop()
    assert script.failures == []


@pytest_asyncio.fixture
async def proxy(remote: McpScript, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts proxies in front of the remote, with the given keys in their configuration."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(environ: dict[str, str] | None = None, *, audited: bool = False, **config: Any) -> Proxy:
            audit = tmp_path / "audit.log"
            if audited:
                config["audit"] = {"enabled": True, "logFile": str(audit)}
            made = Proxy(document(remote, **config), environ or {}, audit)
            await made.start()
            stack.push_async_callback(made.stop)
            await made.heard()
            remote.seen.clear()
            return made

        yield start


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def opened(proxy: Proxy, era: str = "legacy", **options: Any) -> Client:
            return await stack.enter_async_context(Client(proxy.url, era=era, **options))

        yield opened


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as made:
        yield made


def answers(remote: McpScript, method: str, result: Any) -> None:
    """Let a remote answer a method with this."""

    async def answer(request: Request) -> None:
        await request.peer.result(request, result)

    remote.on[method] = answer
