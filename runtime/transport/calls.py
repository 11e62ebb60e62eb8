"""Calls on direct connections: requests whose answers are read to their end.

A pool of `Connection`s, used again last-in-first-out. Each connection keeps the TLS context that it was made with, so
a rotated certificate is used by the next request and not by the next process.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import chain, zip_longest
from urllib.parse import quote, urlencode, urlsplit

from runtime.transport.connection import Connection, ConnectionLostError, RawAnswer
from runtime.transport.retry import NotSentError

IDLE = 15.0
"""Seconds for which an unused connection is kept."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._:~-]*").fullmatch
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 30_000))


class HandshakeError(NotSentError):
    """TLS with the server failed: perhaps files have changed."""


class Calls:
    """Sends requests to one server.

    Args:
        url: scheme, host, port and perhaps a path prefix.
        size: connections at once; a call beyond it waits.
        connect_timeout: seconds for TCP and TLS.
        server_name: name to verify instead of the URL's host.
        user_agent: sent with each request.
    """

    def __init__(
        self, url: str, *, size: int, connect_timeout: float, server_name: str | None, user_agent: str
    ) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._prefix = parts.path.rstrip("/")
        self._server_name = server_name or self._host
        self._connect_timeout = connect_timeout
        self._fixed = f"Host: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: {user_agent}\r\n"
        self._turns = asyncio.Semaphore(size)
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        context: ssl.SSLContext | None,
        before: Callable[[], None],
        on_head: Callable[[int, float], None],
        repeat: bool,
    ) -> RawAnswer:
        """Send one request and return its answer, whatever its status. Without a limit of time of its own.

        Args:
            method: upper case.
            path: without prefix, not encoded.
            query: parameters, not encoded.
            headers: without Host, User-Agent and Content-Length.
            body: None for none.
            context: for TLS.
            before: called right before the request goes to the socket; what it raises ends the call with nothing sent.
            on_head: called with status and loop time of the answer's head.
            repeat: once more on a new connection when a kept one turns out to be dead before a byte of an answer came.

        Raises:
            NotSentError: no connection.
            TransportError: no usable answer.
        """
        request = self._encode(method, path, query, headers, body)
        async with self._turns:
            connection = self._kept(context) or await self._connect(context)
            while True:
                try:
                    before()
                except BaseException:
                    self._release(connection)
                    raise
                try:
                    answer = await connection.exchange(request)
                    break
                except ConnectionLostError:
                    if not (repeat and connection.answers and not connection.touched):
                        raise
                connection = await self._connect(context)
            on_head(answer.status, connection.headed_at)
            self._release(connection)
            return answer

    def close(self) -> None:
        """Close every connection; calls under way fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()

    def _encode(
        self, method: str, path: str, query: Mapping[str, str] | None, headers: Mapping[str, str], body: bytes | None
    ) -> bytes:
        target = self._prefix + (path if _PLAIN_PATH(path) else quote(path, safe="/:@!$&'()*+,;="))
        if query:
            target += _query(tuple(query.items()))
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
        if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
            raise ValueError("a header holds a line break")
        head = f"{method} {target} HTTP/1.1\r\n{self._fixed}{lines}{length}\r\n".encode("latin-1")
        return head + body if body else head

    def _kept(self, context: ssl.SSLContext | None) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.context is context:
                return connection
            connection.abort()
        return None

    def _release(self, connection: Connection) -> None:
        if not connection.usable:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(IDLE, self._sweep)

    def _sweep(self) -> None:
        """Close what was not used for a while: the longest unused are in front."""
        loop = asyncio.get_running_loop()
        while self._idle and loop.time() - self._idle[0].idle_since >= IDLE:
            self._idle.popleft().abort()
        self._sweeper = loop.call_later(IDLE, self._sweep) if self._idle else None

    async def _connect(self, context: ssl.SSLContext | None) -> Connection:
        where = f"{self._host}:{self._port}"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout) as limit:
                infos = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                addresses = _by_turns([(int(info[0]), str(info[4][0])) for info in infos])
                return await self._first_of(loop, addresses, context, limit)
        except TimeoutError:
            raise NotSentError(f"no connection to {where} within {self._connect_timeout:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise HandshakeError(f"the certificate of {where} is not trusted: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise HandshakeError(f"TLS with {where} failed: {error.reason or 'handshake'}") from error
        except OSError as error:
            raise NotSentError(f"no connection to {where}: {error.strerror or type(error).__name__}") from error

    async def _first_of(
        self,
        loop: asyncio.AbstractEventLoop,
        addresses: list[str],
        context: ssl.SSLContext | None,
        limit: asyncio.Timeout,
    ) -> Connection:
        """Try the addresses in turn, each with an equal share of the time that is left."""
        failure: Exception = OSError("no address")
        for index, address in enumerate(addresses):
            left = (limit.when() or 0.0) - loop.time()
            try:
                async with asyncio.timeout(left / (len(addresses) - index)):
                    return await self._dial(loop, address, context)
            except ssl.SSLError:
                raise
            except (TimeoutError, OSError) as error:
                failure = error
        raise failure

    async def _dial(self, loop: asyncio.AbstractEventLoop, host: str, context: ssl.SSLContext | None) -> Connection:
        transport, connection = await loop.create_connection(
            lambda: Connection(loop, context, self._open.discard),
            host,
            self._port,
            ssl=context,
            server_hostname=self._server_name if context is not None else None,
        )
        self._open.add(connection)
        keep_alive(transport.get_extra_info("socket"))
        return connection


def keep_alive(sock: socket.socket) -> None:
    """Have a dead peer noticed within a minute: neither aiohttp nor asyncio asks for it."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _by_turns(found: list[tuple[int, str]]) -> list[str]:
    """Order (family, address) so that families take turns: one that leads nowhere costs a share of the time."""
    first = [address for family, address in found if family == found[0][0]]
    others = [address for family, address in found if family != found[0][0]]
    return [address for address in chain.from_iterable(zip_longest(first, others)) if address is not None]


@lru_cache(maxsize=256)
def _query(items: tuple[tuple[str, str], ...]) -> str:
    return "?" + urlencode(items, quote_via=quote)
