"""Whole programs for the end-to-end tests: the gateway as users start it, backends that can be killed, clients of
both eras."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

from tests.support.eventually import eventually

ROOT = Path(__file__).parents[3]
ACCEPT = "application/json, text/event-stream"
START_SECONDS = 30.0


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A program of ours, its output in a file."""

    def __init__(self, *command: str, environ: dict[str, str] | None = None) -> None:
        self.command = [sys.executable, *command]
        self.environ = environ or {}
        self.output = Path(tempfile.mkstemp(suffix=".log")[1])
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> Self:
        with self.output.open("ab") as file:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **self.environ},
                stdout=file,
                stderr=file,
            )
        return self

    async def stop(self, number: int = signal.SIGTERM, seconds: float = 20.0) -> int:
        """Send a signal, wait for the end, return the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
            try:
                await asyncio.wait_for(self.process.wait(), seconds)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        code = self.process.returncode
        assert code is not None
        return code

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def text(self) -> str:
        """Return everything that was written so far."""
        return self.output.read_text(errors="replace")


class Named:
    """A backend under a name of its own, on a port of loopback."""

    name: str
    port: int

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry in a configuration."""
        url = f"http://{self.name}.example:{self.port}/mcp"
        return {"name": self.name, "url": url, "transport": "streamable-http"}

    @property
    def resolve(self) -> str:
        """The value of `--resolve` that leads its name here."""
        return f"{self.name}.example:{self.port}:127.0.0.1"


class EchoBackend(Named, Process):
    """`echo_backend.py` on a port of its own."""

    def __init__(self, name: str, port: int = 0) -> None:
        self.name, self.port = name, port or free_port()
        super().__init__(str(Path(__file__).with_name("echo_backend.py")), name, str(self.port))

    async def start(self) -> Self:
        await super().start()
        await eventually(self._listens)
        return self

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


def config(*backends: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a configuration in front of these backends."""
    base: dict[str, Any] = {
        "name": "gw",
        "groupRef": "tests",
        "backends": list(backends),
        "incomingAuth": {"type": "anonymous"},
        "outgoingAuth": {"source": "inline"},
        "aggregation": {
            "conflictResolution": "prefix",
            "conflictResolutionConfig": {"prefixFormat": "{workload}_"},
        },
        "telemetry": {"enablePrometheusMetricsPath": True},
        "operational": {"failureHandling": {"healthCheckInterval": "2s", "healthCheckTimeout": "1s"}},
    }
    base.update(changes)
    return base


class Gateway(Process):
    """`python -m vmcp serve`, or another of its commands, as a user starts it."""

    def __init__(
        self,
        document: dict[str, Any],
        directory: Path,
        *resolve: str,
        environ: dict[str, str] | None = None,
        flags: tuple[str, ...] = (),
        command: str = "serve",
    ) -> None:
        self.config = directory / "config.yaml"
        self.write(document)
        self.port = 0
        options = [part for value in resolve for part in ("--resolve", value)]
        super().__init__(
            "-m", "vmcp", command, "--config", str(self.config), "--port", "0", "--debug", *options, *flags,
            environ=environ,
        )  # fmt: skip

    def write(self, document: dict[str, Any]) -> None:
        """Replace the configuration file at once."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(document))
        fresh.rename(self.config)

    async def start(self) -> Self:
        await super().start()
        await eventually(lambda: self._listens() or self._ended(), within=START_SECONDS)
        assert not self._ended(), self.text()
        return self

    def _ended(self) -> bool:
        return self.process is not None and self.process.returncode is not None

    def _listens(self) -> bool:
        for line in self.text().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "listening":
                    self.port = event["port"]
                    return True
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return response.status, await response.text()

    async def status(self) -> dict[str, Any]:
        return json.loads((await self.get("/status"))[1])

    async def knows(self, *backends: str) -> bool:
        """Say whether these backends are healthy and their lists were fetched (and had time to be merged)."""
        found = json.loads((await self.get("/api/backends/health"))[1])["backends"]
        return all(
            name in found and found[name]["Status"] == "healthy" and (found[name]["CatalogueAgeSeconds"] or 0) > 0.2
            for name in backends
        )

    def rss(self) -> int:
        """Return the resident memory, in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def clean(self) -> None:
        """Assert that no traceback was written."""
        assert "Traceback" not in self.text(), self.text()[-4000:]
        assert "failed unexpectedly" not in self.text()


class Reply:
    """An HTTP answer with its JSON-RPC message, whether it came as JSON or as a stream."""

    def __init__(self, status: int, headers: Any, body: str) -> None:
        self.status, self.headers, self.body = status, headers, body
        text = body
        if headers.get("content-type", "").startswith("text/event-stream"):
            data = [line.removeprefix("data:").strip() for line in body.splitlines() if line.startswith("data:")]
            text = next((item for item in reversed(data) if '"id"' in item), "")
        try:
            self.message: Any = json.loads(text) if text else None
        except ValueError:
            self.message = None

    @property
    def result(self) -> Any:
        assert self.message is not None, (self.status, self.body)
        assert "result" in self.message, self.message
        return self.message["result"]

    @property
    def error(self) -> Any:
        assert self.message is not None, (self.status, self.body)
        return self.message["error"]

    @property
    def told(self) -> dict[str, Any]:
        """What the echo backend said."""
        return json.loads(self.result["content"][0]["text"])


class Client:
    """A client of one era; `async with Client(url, era="legacy")` (which opens a session) or `"modern"`."""

    def __init__(self, url: str, *, era: str = "legacy", token: str | None = None) -> None:
        self.url, self.era, self.token = url + "/mcp", era, token
        self.session_id = ""
        self._ids = itertools.count(1)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        if self.era == "legacy":
            await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._http is not None
        await self._http.close()

    async def open(self) -> None:
        info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        reply = await self.request("initialize", info)
        assert reply.result["protocolVersion"] == "2025-11-25"
        self.session_id = reply.headers["mcp-session-id"]
        await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def headers(self, method: str = "", name: str | None = None) -> dict[str, str]:
        found = {"Accept": ACCEPT, "Content-Type": "application/json"}
        if self.token is not None:
            found["Authorization"] = f"Bearer {self.token}"
        if self.era == "legacy":
            if self.session_id:
                found |= {"Mcp-Session-Id": self.session_id, "MCP-Protocol-Version": "2025-11-25"}
            return found
        found |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
        return found | ({"Mcp-Name": name} if name is not None else {})

    async def request(self, method: str, params: dict[str, Any] | None = None, **headers: str) -> Reply:
        body = dict(params or {})
        if self.era == "modern":
            body["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        message = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": body}
        return await self.send(message, **headers)

    async def send(self, message: Any, **headers: str) -> Reply:
        method = message.get("method", "") if isinstance(message, dict) else ""
        params = message.get("params", {}) if isinstance(message, dict) else {}
        name = params.get("name", params.get("uri")) if isinstance(params, dict) else None
        return await self.post(json.dumps(message).encode(), {**self.headers(method, name), **headers})

    async def post(self, body: bytes, headers: dict[str, str], method: str = "POST") -> Reply:
        assert self._http is not None
        async with self._http.request(method, self.url, data=body, headers=headers) as response:
            return Reply(response.status, response.headers, await response.text())

    async def call(self, tool: str, **arguments: Any) -> Reply:
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def tools(self) -> list[str]:
        return [tool["name"] for tool in (await self.request("tools/list")).result["tools"]]
