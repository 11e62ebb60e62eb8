"""The listeners around a gateway: uvicorn for clients, maybe another for who operates it, and an end in good order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, cast

import structlog
import uvicorn

from vmcp.ending import Ending
from vmcp.http.server.door import Door
from vmcp.http.server.protocol import GuardedProtocol
from vmcp.server import Server

log = structlog.get_logger(__name__)

ANY = "::"
"""Every address of both families."""
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
SERVICE_CONNECTIONS = 64
"""Connections to the port of the service endpoints: scrapers and people, no clients."""
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
    service_port: int | None = None,
    ending: Ending | None = None,
) -> None:
    """Serve until `stop` is set, then end: not ready, keep serving a while, end streams, finish calls, close.

    Args:
        server: The gateway; started and closed here.
        host: Address to listen on.
        port: Port to listen on; 0 = any.
        stop: Set it to end.
        listening: Called once with the port.
        service_port: Port for the service endpoints alone, on the same address; None = no such listener.
        ending: How long each part of the end may take; None for the defaults.

    Raises:
        OSError: The address cannot be used.
    """
    ending = ending or Ending()
    sock = listen(host, port)
    try:
        apart = None if service_port is None else listen(host, service_port)
    except OSError:
        sock.close()
        raise
    web = _web(server.app, Door(), ending)
    inside = _web(server.service_app, Door(SERVICE_CONNECTIONS, SERVICE_CONNECTIONS), ending)
    await server.start()
    server.watch(web.server_state.connections, inside.server_state.connections)
    serving = asyncio.create_task(web.serve(sockets=[sock]), name="uvicorn")
    inspected = None if apart is None else asyncio.create_task(inside.serve(sockets=[apart]), name="service endpoints")
    if listening is not None:
        listening(sock.getsockname()[1])
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            server.drain()
            log.info("shutting down", drain_seconds=ending.drain, grace_seconds=ending.grace)
            await asyncio.wait({serving}, timeout=ending.drain)
            server.end_streams()
            web.should_exit = True
        await serving
    finally:
        stopping.cancel()
        if inspected is not None:
            inside.should_exit = True
            await inspected
        try:
            async with asyncio.timeout(ending.close):
                await server.close()
        except TimeoutError:
            log.warning("not everything was closed in time", close_seconds=ending.close)


def _web(app: Any, door: Door, ending: Ending) -> _Uvicorn:
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=cast("Any", partial(GuardedProtocol, door=door)),  # called as a class would be
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # the audit line names the peer of the connection, not what a header claims
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, int(ending.grace)),
        backlog=BACKLOG,
    )
    return _Uvicorn(config)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Args:
        host: An address or a name. "::" takes connections of both families, and those of IPv4 alone where the system
            has no IPv6.
        port: 0 = any.

    Raises:
        OSError: The address cannot be used.
    """
    try:
        return _open(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)
    except OSError as error:
        if host != ANY or error.errno not in _NO_IPV6:
            raise
    log.warning("the system has no IPv6, listening on IPv4 only")
    return _open(socket.AF_INET, "0.0.0.0", port)  # noqa: S104  what "::" means without IPv6


def _open(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == ANY and family == socket.AF_INET6:
            # Not left to net.ipv6.bindv6only.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        # Whoever is told the port may connect at once, before the server accepts.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{error.strerror}: {host} port {port}") from None
    sock.setblocking(False)
    return sock
