"""The listener around a gateway: uvicorn on one socket, and an end in good order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator

import structlog
import uvicorn

from vmcp.http.server.protocol import GuardedProtocol
from vmcp.server import Server

log = structlog.get_logger(__name__)

BACKLOG = 2048
"""Connections that wait to be accepted."""


class _Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handlers: when to end is decided outside."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


async def serve(
    server: Server,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    listening: Callable[[int], None] | None = None,
    drain_seconds: float = 0.0,
    grace_seconds: float = 10.0,
) -> None:
    """Serve until `stop` is set, then end: not ready, keep serving a while, end streams, finish calls, close.

    Args:
        server: The gateway; started and closed here.
        host: Address to listen on.
        port: Port to listen on; 0 = any.
        stop: Set it to end.
        listening: Called once with the port.
        drain_seconds: Between "not ready" and the end of accepting, so that load balancers notice.
        grace_seconds: For calls that are under way.

    Raises:
        OSError: The address cannot be used.
    """
    sock = _listen(host, port)
    config = uvicorn.Config(
        server.app,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # the audit line names the peer of the connection, not what a header claims
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, int(grace_seconds)),
        backlog=BACKLOG,
    )
    web = _Uvicorn(config)
    await server.start()
    server.watch(web.server_state.connections)
    serving = asyncio.create_task(web.serve(sockets=[sock]), name="uvicorn")
    if listening is not None:
        listening(sock.getsockname()[1])
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            server.drain()
            log.info("shutting down", drain_seconds=drain_seconds, grace_seconds=grace_seconds)
            await asyncio.wait({serving}, timeout=drain_seconds)
            server.end_streams()
            web.should_exit = True
        await serving
    finally:
        stopping.cancel()
        async with asyncio.timeout(grace_seconds + 10):
            await server.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # Whoever is told the port may connect at once, before the server accepts.
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
