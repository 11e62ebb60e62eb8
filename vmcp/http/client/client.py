"""The HTTP client of one backend: one method, same-host redirects, a repeat only where nothing can have happened.

Deadlines are the event loop's time. They are handed down, not made again from seconds on each floor: asking for the
running loop costs more than asking the system for the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urljoin

from vmcp.http.client.connection import ClientConnection
from vmcp.http.client.errors import BadResponse, ConnectionLost
from vmcp.http.client.heads import Heads
from vmcp.http.client.origin import Origin, parse_origin
from vmcp.http.client.pool import Pool
from vmcp.http.client.reach import Reach
from vmcp.http.client.tls import Trust
from vmcp.http.client.types import ClientLimits, Headers, Response
from vmcp.http.client.under_way import AnswerShare
from vmcp.turns import LARGE, turn

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class HttpClient(Protocol):
    """What the adapters need of an HTTP client.

    Attributes:
        answers: What large answers may take together.
    """

    answers: AnswerShare

    async def send(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | None = None,
        *,
        deadline: float,
        idempotent: bool = False,
        long_lived: bool = False,
        for_others: bool = False,
    ) -> Response:
        """Send a request and return the answer."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class PooledHttpClient:
    """HTTP/1.1 towards one backend, with pools of its own: another backend's troubles never use up its connections.

    Sends no cookies, uses no proxy, asks for no compression and undoes it where a server compresses all the same. Never
    follows a redirect to another host.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        trust: Trust | None = None,
        limits: ClientLimits | None = None,
        resolve: Mapping[tuple[str, int], str] | None = None,
        reach: Reach | None = None,
    ) -> None:
        """Make a client; opens nothing.

        Args:
            origin: Where requests go.
            trust: TLS trust; None = the system's.
            limits: Bounds; None = the defaults.
            resolve: (host, port) -> address, instead of asking DNS; certificates are checked for the host.
            reach: Which addresses DNS may lead to; None = all but loopback, link-local and metadata addresses.
        """
        self._origin = origin
        self._trust = trust or Trust()
        self._limits = limits or ClientLimits()
        self.answers = self._limits.answers
        self._resolve = resolve or {}
        self._reach = reach or Reach()
        self._pools: dict[Origin, Pool] = {}
        self._heads = Heads(origin)
        self.pool = self._pool(origin)

    def _pool(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(origin, self._trust, self._limits, self._resolve, self._reach)
        return pool

    async def send(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes | None = None,
        *,
        deadline: float,
        idempotent: bool = False,
        long_lived: bool = False,
        for_others: bool = False,
    ) -> Response:
        """Send a request and return the answer; of an event stream as soon as its head is there.

        Args:
            method: GET, POST or DELETE.
            target: Path and query on the client's origin.
            headers: Everything but Host, Content-Length and Connection. A tuple is taken for one that comes again:
                its encoded form is kept, so it must hold nothing secret and nothing that differs per call.
            body: None = no body.
            deadline: Loop time for everything: a connection, the request, the whole answer (a stream: its head).
            idempotent: Once more on a new connection when a kept one died without a byte of an answer. Without it,
                only what certainly was not sent is repeated.
            long_lived: The answer is a stream that stays open.
            for_others: Calls under way may be waiting for this message: it does not wait for their connections.

        Raises:
            HttpError: See its subclasses.
        """
        origin = self._origin
        long = body if body is not None and len(body) > LARGE else b""
        if long:
            await turn()
        for _ in range(self._limits.max_redirects + 1):
            data = self._heads.encode(origin, method, target, headers, body)
            connection = None if long_lived or origin is not self._origin else self.pool.take_idle()
            if connection is not None and not idempotent:
                answer = connection.request(data, deadline, long)
                del data
                response = await answer
            else:
                response = await self._exchange(
                    origin,
                    data,
                    long,
                    deadline,
                    connection,
                    idempotent=idempotent,
                    long_lived=long_lived,
                    for_others=for_others,
                )
            if response.status not in _REDIRECTS:
                return response
            origin, target = self._redirect(origin, target, method, response)
        raise BadResponse(f"more than {self._limits.max_redirects} redirects", status=response.status)

    async def _exchange(
        self,
        origin: Origin,
        data: bytes,
        long: bytes,
        deadline: float,
        connection: ClientConnection | None,
        *,
        idempotent: bool,
        long_lived: bool,
        for_others: bool,
    ) -> Response:
        """Send on `connection`, or on one that is to be made, and a second time where that is harmless."""
        pool = self.pool if origin is self._origin else self._pool(origin)
        if connection is None:
            connection = await pool.acquire(deadline, long_lived=long_lived, for_others=for_others)
        used_before = connection.served > 0
        try:
            return await connection.request(data, deadline, long)
        except ConnectionLost:
            if not (idempotent and used_before) or connection.answered:
                raise
        connection = await pool.acquire(deadline, fresh=True, long_lived=long_lived, for_others=for_others)
        return await connection.request(data, deadline, long)

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
        self._heads.forget()
        for pool in self._pools.values():
            pool.close()
