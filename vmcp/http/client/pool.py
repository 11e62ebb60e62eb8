"""The connections to one origin, used again last-in-first-out, bounded, and never handed out stale."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from time import monotonic

from vmcp.http.client.connection import ClientConnection
from vmcp.http.client.errors import ConnectError, HttpTimeout
from vmcp.http.client.origin import Origin
from vmcp.http.client.reach import Reach
from vmcp.http.client.tls import Trust
from vmcp.http.client.types import ClientLimits

_LOOK_AFTER = 0.001
"""Seconds of idleness after which a connection is looked at before use: a poll(2) costs about a microsecond."""

_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A silent stream may live for hours; this finds out within a minute when its other end is gone."""


class Pool:
    """Connections to one origin with one trust.

    Attributes:
        opened: Connections made so far.
    """

    def __init__(
        self,
        origin: Origin,
        trust: Trust,
        limits: ClientLimits,
        resolve: Mapping[tuple[str, int], str],
        reach: Reach,
    ) -> None:
        self._origin = origin
        self._reach = reach
        self._trust = trust
        self._limits = limits
        self._address = resolve.get((origin.host, origin.port))
        self._idle: deque[ClientConnection] = deque()
        self._all: set[ClientConnection] = set()
        self._counted = 0
        self._long_lived: set[ClientConnection] = set()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._generation = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._all)

    @property
    def idle(self) -> int:
        """Of these, the unused ones."""
        return len(self._idle)

    def take_idle(self) -> ClientConnection | None:
        """Return a connection that is ready for a request, None when a new one is needed."""
        now = monotonic()
        if self._origin.tls:
            self._trust.refresh(now)
            self._drop_outdated()
        while self._idle:
            connection = self._idle.pop()
            idle_for = now - connection.idle_since
            if not connection.usable:
                continue
            if idle_for >= connection.keep_for or (idle_for > _LOOK_AFTER and connection.looks_stale()):
                connection.close()
                continue
            return connection
        return None

    async def acquire(
        self, deadline: float, *, fresh: bool = False, long_lived: bool = False, for_others: bool = False
    ) -> ClientConnection:
        """Return a connection; `fresh` never an old one.

        Args:
            deadline: Loop time.
            fresh: Make a new one.
            long_lived: For a stream that stays: not counted against the limit of calls.
            for_others: For a message that ends the wait of calls under way: never waits for these to end first.

        Raises:
            ConnectError: It cannot be made.
            HttpTimeout: The deadline or the connect timeout passed. Nothing was sent.
        """
        while True:
            if self._closed:
                raise ConnectError("the client is closed")
            if not fresh and (connection := self.take_idle()) is not None:
                if long_lived:
                    self._uncount(connection)
                return connection
            if long_lived or self._counted < self._limits.max_connections:
                return await self._open(deadline, long_lived=long_lived)
            if for_others:
                return await self._open(deadline, long_lived=True)
            if fresh and self._idle:
                self._idle.popleft().close()
                continue
            await self._wait(deadline)

    async def _wait(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_at(deadline, _give_up, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._wake()  # the turn was ours already: pass it on
            raise
        finally:
            timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _open(self, deadline: float, *, long_lived: bool) -> ClientConnection:
        loop = asyncio.get_running_loop()
        if not long_lived:
            self._counted += 1
        try:
            until = min(deadline, loop.time() + self._limits.connect_timeout)
            connection = await self._connect(loop, until)
        except BaseException:
            if not long_lived:
                self._counted -= 1
                self._wake()
            raise
        if self._closed:
            connection.abort()
            raise ConnectError("the client is closed")
        self._all.add(connection)
        if long_lived:
            self._long_lived.add(connection)
        return connection

    async def _connect(self, loop: asyncio.AbstractEventLoop, until: float) -> ClientConnection:
        context = self._trust.context() if self._origin.tls else None
        self._drop_outdated()
        host = self._address or self._origin.host
        where = f"{self._origin.host}:{self._origin.port}"
        try:
            async with asyncio.timeout_at(until):
                infos = await loop.getaddrinfo(host, self._origin.port, type=socket.SOCK_STREAM)
            addresses = self._reachable([str(info[4][0]) for info in infos], where)
            last: Exception = ConnectError(f"{where} has no address")
            for index, address in enumerate(addresses):
                left = until - loop.time()
                later = len(addresses) - index - 1
                share = max(left / (later + 1), min(1.0, left)) if later else left
                try:
                    async with asyncio.timeout(share):
                        return await self._dial(loop, address, context)
                except (TimeoutError, OSError, ssl.SSLError) as err:
                    last = err
            raise last
        except TimeoutError:
            raise HttpTimeout(f"no connection to {where} in time", sent=False) from None
        except ssl.SSLCertVerificationError as err:
            raise ConnectError(f"the certificate of {where} is not trusted: {err.verify_message}") from err
        except ssl.SSLError as err:
            raise ConnectError(f"TLS with {where} failed: {err.reason or 'handshake'}") from err
        except OSError as err:
            raise ConnectError(f"no connection to {where}: {err.strerror or type(err).__name__}") from err

    def _reachable(self, addresses: list[str], where: str) -> list[str]:
        """Leave out what nothing of ours may connect to. What `resolve` says was said by the administrator."""
        if self._address is not None:
            return addresses
        allowed = [address for address in addresses if self._reach.allows(self._origin.host, address)]
        if addresses and not allowed:
            raise ConnectError(
                f"{where} leads to {addresses[0]}: loopback, link-local and metadata addresses are blocked"
            )
        return allowed

    async def _dial(
        self, loop: asyncio.AbstractEventLoop, address: str, context: ssl.SSLContext | None
    ) -> ClientConnection:
        transport, connection = await loop.create_connection(
            lambda: ClientConnection(loop, self._limits, self._on_free, self._on_close, self._uncount),
            address,
            self._origin.port,
            ssl=context,
            server_hostname=self._origin.host if context is not None else None,
        )
        sock = transport.get_extra_info("socket")
        for level, option, value in _KEEPALIVE:
            sock.setsockopt(level, option, value)
        return connection

    def _drop_outdated(self) -> None:
        """Close idle connections that were made under an older CA bundle."""
        if self._trust.generation != self._generation:
            self._generation = self._trust.generation
            while self._idle:
                self._idle.pop().close()

    def _uncount(self, connection: ClientConnection) -> None:
        if connection not in self._long_lived:
            self._long_lived.add(connection)
            self._counted -= 1
            self._wake()

    def _on_free(self, connection: ClientConnection) -> None:
        if self._closed or connection in self._long_lived:
            connection.close()
            return
        connection.idle_since = monotonic()
        self._idle.append(connection)
        if self._waiters:
            self._wake()
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._limits.idle_timeout, self._sweep)

    def _on_close(self, connection: ClientConnection) -> None:
        if connection in self._all:
            self._all.discard(connection)
            if connection in self._long_lived:
                self._long_lived.discard(connection)
            else:
                self._counted -= 1
            if connection in self._idle:
                self._idle.remove(connection)
            self._wake()

    def _sweep(self) -> None:
        self._sweeper = None
        loop = asyncio.get_running_loop()
        for connection in [c for c in self._idle if monotonic() - c.idle_since >= c.keep_for]:
            connection.close()
        if self._idle:
            self._sweeper = loop.call_later(self._limits.idle_timeout, self._sweep)

    def close(self) -> None:
        """Close every connection; requests under way end with ConnectionLost."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self._all):
            connection.abort()
        while self._waiters:
            self._wake()


def _give_up(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(HttpTimeout("no free connection in time", sent=False))
