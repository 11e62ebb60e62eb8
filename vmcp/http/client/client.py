"""The HTTP client of one backend: one method, same-host redirects, a repeat only where nothing can have happened.

Deadlines are `time.monotonic()`, which is the clock of both event loops: asking the loop costs more than asking the
system, because `get_running_loop` looks for a fork each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit

from vmcp.http.client.connection import Connection
from vmcp.http.client.errors import BadRequest, BadResponse, ConnectionLost
from vmcp.http.client.pool import Origin, Pool
from vmcp.http.client.tls import Trust
from vmcp.http.client.types import Headers, Limits, Response
from vmcp.wire.protocol import HeaderError, check_header, is_token

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_HEADS: Final = 4096
"""Encoded heads that are kept."""


class HttpClient(Protocol):
    """What the adapters need of an HTTP client."""

    async def send(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | None = None,
        *,
        timeout: float,
        idempotent: bool = False,
        long_lived: bool = False,
    ) -> Response:
        """Send a request and return the answer."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def parse_origin(url: str) -> tuple[Origin, str]:
    """Split an http(s) URL into its origin and the target (path and query; "/" when empty).

    Raises:
        ValueError: No http(s) URL with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"not an http(s) URL with a host: {url!r}")
    tls = parts.scheme == "https"
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
    target = parts.path or "/"
    return Origin(tls, host, parts.port or (443 if tls else 80)), f"{target}?{parts.query}" if parts.query else target


class Client:
    """HTTP/1.1 towards one backend, with pools of its own: another backend's troubles never use up its connections.

    Sends no cookies, no compression, no proxy. Never follows a redirect to another host.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        trust: Trust | None = None,
        limits: Limits | None = None,
        resolve: Mapping[tuple[str, int], str] | None = None,
    ) -> None:
        """Make a client; opens nothing.

        Args:
            origin: Where requests go.
            trust: TLS trust; None = the system's.
            limits: Bounds; None = the defaults.
            resolve: (host, port) -> address, instead of asking DNS; certificates are checked for the host.
        """
        self._origin = origin
        self._trust = trust or Trust()
        self._limits = limits or Limits()
        self._resolve = resolve or {}
        self._pools: dict[Origin, Pool] = {}
        self._names: set[str] = set()
        self._heads: dict[tuple[str, str, Headers], bytes] = {}
        self.pool = self._pool(origin)

    def _pool(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(origin, self._trust, self._limits, self._resolve)
        return pool

    async def send(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | None = None,
        *,
        timeout: float,
        idempotent: bool = False,
        long_lived: bool = False,
    ) -> Response:
        """Send a request and return the answer; of an event stream as soon as its head is there.

        Args:
            method: GET, POST or DELETE.
            target: Path and query on the client's origin.
            headers: Everything but Host, Content-Length and Connection. A tuple is taken for one that comes again:
                its encoded form is kept, so it must hold nothing secret and nothing that differs per call.
            body: None = no body.
            timeout: Seconds for everything: a connection, the request, the whole answer (a stream: its head).
            idempotent: Once more on a new connection when a kept one died without a byte of an answer. Without it,
                only what certainly was not sent is repeated.
            long_lived: The answer is a stream that stays open.

        Raises:
            HttpError: See its subclasses.
        """
        deadline = monotonic() + timeout
        origin = self._origin
        for _ in range(self._limits.max_redirects + 1):
            data = self._encode(origin, method, target, headers, body)
            connection = None if long_lived or origin is not self._origin else self.pool.take_idle()
            if connection is not None and not idempotent:
                response = await connection.request(data, deadline)
            else:
                response = await self._exchange(
                    origin, data, deadline, connection, idempotent=idempotent, long_lived=long_lived
                )
            if response.status not in _REDIRECTS:
                return response
            origin, target = self._redirect(origin, target, method, response)
        raise BadResponse(f"more than {self._limits.max_redirects} redirects", status=response.status)

    async def _exchange(
        self,
        origin: Origin,
        data: bytes,
        deadline: float,
        connection: Connection | None,
        *,
        idempotent: bool,
        long_lived: bool,
    ) -> Response:
        """Send on `connection`, or on one that is to be made, and a second time where that is harmless."""
        pool = self.pool if origin is self._origin else self._pool(origin)
        if connection is None:
            connection = await pool.acquire(deadline, long_lived=long_lived)
        used_before = connection.served > 0
        try:
            return await connection.request(data, deadline)
        except ConnectionLost:
            if not (idempotent and used_before) or connection.answered:
                raise
        connection = await pool.acquire(deadline, fresh=True, long_lived=long_lived)
        return await connection.request(data, deadline)

    def _encode(self, origin: Origin, method: str, target: str, headers: Headers, body: bytes | None) -> bytes:
        length = b"\r\n\r\n" if body is None else b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        if not isinstance(headers, tuple) or origin is not self._origin:
            return self._head(origin, method, target, headers) + length + (body or b"")
        key = (method, target, headers)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            head = self._heads[key] = self._head(origin, method, target, headers)
        return head + length + (body or b"")

    def _head(self, origin: Origin, method: str, target: str, headers: Headers) -> bytes:
        """Return request line and headers, checked. Anything that could break out of its line is refused."""
        lines = [f"{method} {target} HTTP/1.1\r\nhost: {origin.authority}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join(lines)
        count = len(lines)
        if head.count("\n") != count or head.count("\r") != count or "\0" in head:
            self._refuse(target, headers)
        for name, _value in headers:
            if name not in self._names:
                self._check_name(name)
        if " " in target or not target.isascii():
            raise BadRequest("the request target is not a URL path")
        try:
            return head.encode("latin-1")
        except UnicodeEncodeError:
            raise BadRequest("a header value cannot be written as bytes") from None

    def _check_name(self, name: str) -> None:
        if not is_token(name):
            raise BadRequest(f"illegal header name {name[:64]!r}")
        if name.lower() in {"host", "content-length", "transfer-encoding", "connection"}:
            raise BadRequest(f"the header {name!r} belongs to the transport")
        if len(self._names) < 1024:
            self._names.add(name)

    @staticmethod
    def _refuse(target: str, headers: Headers) -> None:
        for name, value in headers:
            try:
                check_header(name, value)
            except HeaderError as err:
                raise BadRequest(str(err)) from None
        raise BadRequest(f"the request target holds a line end: {target[:64]!r}")

    @staticmethod
    def _redirect(origin: Origin, target: str, method: str, response: Response) -> tuple[Origin, str]:
        status = response.status
        if response.stream is not None:
            response.stream.close()
        location = response.headers.get("location", "")
        base = f"{'https' if origin.tls else 'http'}://{origin.authority}{target}"
        try:
            there, new_target = parse_origin(urljoin(base, location))
        except ValueError:
            raise BadResponse("redirect without a usable location", status=status) from None
        upgraded = there.host == origin.host and there.tls and not origin.tls
        if not location or not (there == origin or upgraded):
            raise BadResponse("redirect to another host refused", status=status)
        if method != "GET" and status not in {307, 308}:
            raise BadResponse(f"redirect {status} would turn {method} into GET", status=status)
        return (origin if there == origin else there), new_target

    def close(self) -> None:
        """Close every connection; requests under way fail."""
        for pool in self._pools.values():
            pool.close()
