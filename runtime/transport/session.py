"""Connections to one API server: one pool for calls, one without limit for watches.

Calls go over connections of our own (`calls`); watches, and everything that goes through a proxy, over aiohttp.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

from runtime.transport.calls import Calls, HandshakeError, keep_alive
from runtime.transport.config import Endpoint
from runtime.transport.connection import RawAnswer
from runtime.transport.retry import MAX_ATTEMPTS, NotSentError, retrying, should_retry
from runtime.transport.stream import MAX_LINE, read_lines
from runtime.transport.tls import ReloadingContext
from runtime.wire.errors import ApiError, TransportError, UnauthorizedError, error_from_answer

READS = frozenset({"GET", "HEAD"})
JSON = "application/json"
MAX_REFUSAL = 256 * 1024
"""Bytes that are read of a refusal's body."""


class WriteFencedError(TransportError):
    """This process may not write (any more): it does not hold the lease."""


@dataclass(frozen=True)
class TransportSettings:
    """Limits of the connections."""

    call_timeout: float = 30.0
    """Seconds for one try of a call, from the start to the last byte of the answer."""
    connect_timeout: float = 10.0
    """Seconds for TCP and TLS."""
    pool_size: int = 64
    """Connections for calls. Watches have their own pool, without a limit: the one beyond it would wait for ever."""
    attempts: int = MAX_ATTEMPTS
    """Tries of a call in total."""
    max_line: int = MAX_LINE
    """Bytes of one watch line."""
    check_files_every: float = ReloadingContext.CHECK_EVERY
    """Seconds between two looks at whether certificates have changed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, read to its end."""

    status: int
    body: bytes
    warnings: tuple[str, ...] = ()
    """Texts of `Warning` headers."""


@dataclass(frozen=True, slots=True)
class RequestDone:
    """What a request hook learns: for `rest_client_requests_total` and its like."""

    method: str
    host: str
    code: str
    """HTTP status, or `<error>` as client-go says when no answer came."""
    seconds: float
    """Until the headers of the answer."""
    path: str
    """URL path without query. Not for labels: unbounded."""
    watch: bool


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    query: Mapping[str, str] | None
    body: bytes | None
    headers: Mapping[str, str]
    limit: float | None
    watch: bool = False


RequestHook = Callable[[RequestDone], None]


class Transport:
    """HTTP to one API server, as one identity, on one event loop.

    Args:
        endpoint: from `load_endpoint`.
        user_agent: sent with each request; apiserver audit logs and metrics show it.
        settings: limits.
        on_request: called after the headers of each answer, each retry too.
        may_write: the fence. Asked right before a request that is not a read goes out, each retry too; when it says no,
            the request ends with WriteFencedError.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        user_agent: str = "mcp-operator",
        settings: TransportSettings | None = None,
        on_request: RequestHook | None = None,
        may_write: Callable[[], bool] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.settings = settings or TransportSettings()
        self._user_agent = user_agent
        self._on_request = on_request
        self.may_write = may_write
        self._host = urlsplit(endpoint.url).netloc
        self._secure = endpoint.url.startswith("https:")
        self._tls = ReloadingContext(endpoint.tls, self.settings.check_files_every)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._direct_calls: Calls | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout: float | None = None,
        retry: bool = True,
    ) -> Answer:
        """Send one request and read its whole answer.

        Args:
            method: upper case.
            path: from `Resource.collection_path` or `object_path`.
            query: parameters, not yet encoded.
            body: JSON bytes.
            content_type: of the body.
            accept: wanted content type.
            timeout: seconds for one try; None for the settings'.
            retry: False for one try only.

        Raises:
            ApiError: the server refused.
            TransportError: no usable answer.
            WriteFencedError: the fence is down.
        """
        headers = {"Accept": accept, "Content-Type": content_type} if body is not None else {"Accept": accept}
        call = _Call(method, path, query, body, headers, timeout or self.settings.call_timeout)

        once = partial(self._direct if self.endpoint.proxy is None else self._proxied, call)

        if not retry:
            return await once()
        try:
            return await once()
        except (ApiError, TransportError) as error:
            if not should_retry(error, read=method in READS):
                raise
            return await self._again(once, error, read=method in READS)

    async def _again(self, once: Callable[[], Awaitable[Answer]], first: Exception, *, read: bool) -> Answer:
        """Go on after a failed first try. Apart, because the machinery costs a fifth of a request that succeeds."""
        failures = [first]

        async def attempt() -> Answer:
            if failures:
                raise failures.pop()
            return await once()

        answer: Answer = await retrying(read=read, attempts=self.settings.attempts)(attempt)
        return answer

    async def _direct(self, call: _Call) -> Answer:
        """Try a call once, and once more with new credentials after a 401."""
        try:
            async with asyncio.timeout(call.limit):
                for last in (False, True):
                    authorization = await self.endpoint.credentials.header()
                    answer = await self._exchange(call, authorization)
                    if answer.status < 400:
                        return Answer(answer.status, answer.body, _texts(answer.warnings))
                    retry_after = _seconds(answer.headers.get(b"retry-after", ""))
                    error = error_from_answer(answer.status, answer.body[:MAX_REFUSAL], retry_after)
                    if last or not isinstance(error, UnauthorizedError):
                        raise error
                    if not await self.endpoint.credentials.rejected(authorization):
                        raise error
        except TimeoutError as error:
            raise TransportError(f"no answer within {call.limit:g} s") from error
        except (OSError, ssl.SSLError) as error:
            raise _transport_error(error) from error
        raise AssertionError(call)

    async def _exchange(self, call: _Call, authorization: str | None) -> RawAnswer:
        headers = call.headers if authorization is None else {**call.headers, "Authorization": authorization}
        read = call.method in READS
        if not read:
            self._check_fence()
        start = asyncio.get_running_loop().time()
        seen: tuple[str, float] = ("<error>", 0.0)

        def on_head(status: int, when: float) -> None:
            nonlocal seen
            seen = str(status), when - start

        try:
            return await self._calls().send(
                call.method,
                call.path,
                call.query,
                {**headers, "Accept-Encoding": "gzip"} if read else headers,
                call.body,
                context=self._tls.current(start) if self._secure else None,
                before=_nothing if read else self._check_fence,
                on_head=on_head,
                repeat=read,
            )
        except HandshakeError:
            self._tls.invalidate()
            raise
        finally:
            if self._on_request is not None:
                code, seconds = seen
                seconds = seconds or asyncio.get_running_loop().time() - start
                self._on_request(RequestDone(call.method, self._host, code, seconds, call.path, watch=False))

    def _check_fence(self) -> None:
        """Ask the fence: before a connection is waited for, and again right before the bytes go to the socket.

        Between the two lies time enough for a process to be stopped, and to send a write when it wakes in somebody
        else's reign.
        """
        if self.may_write is not None and not self.may_write():
            raise WriteFencedError("this process does not hold the lease, so it does not write")

    def _calls(self) -> Calls:
        if self._direct_calls is None:
            self._direct_calls = Calls(
                self.endpoint.url,
                size=self.settings.pool_size,
                connect_timeout=self.settings.connect_timeout,
                server_name=self.endpoint.tls.server_name,
                user_agent=self._user_agent,
            )
        return self._direct_calls

    async def _proxied(self, call: _Call) -> Answer:
        try:
            async with self._open(call) as response:
                return Answer(response.status, await response.read(), _warnings(response))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _transport_error(error) from error

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], accept: str = JSON, silence: Callable[[], float]
    ) -> AsyncIterator[AsyncGenerator[list[bytes], None]]:
        """Open a watch; the context gives batches of its lines.

        Args:
            path: of the collection.
            query: parameters, `watch` among them.
            accept: wanted content type.
            silence: seconds without a byte after which `StalledError` is raised, asked before each read.

        Raises:
            ApiError: the server refused.
            TransportError: no connection, or it broke.
            StalledError: silence, while connecting or later.
        """
        # Compressing a stream of small events costs latency and gains little.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        try:
            async with self._open(_Call("GET", path, query, None, headers, None, watch=True)) as response:
                yield read_lines(response.content, silence=silence, max_line=self.settings.max_line)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _transport_error(error) from error

    async def close(self) -> None:
        """Close all connections, watches too."""
        if self._direct_calls is not None:
            self._direct_calls.close()
            self._direct_calls = None
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            await session.close()

    @asynccontextmanager
    async def _open(self, call: _Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send, raise for refusals, and renew credentials once after a 401."""
        for last in (False, True):
            authorization = await self.endpoint.credentials.header()
            headers = call.headers if authorization is None else {**call.headers, "Authorization": authorization}
            if call.method not in READS:
                self._check_fence()
            async with self._send(call, headers) as response:
                if response.status < 400:
                    yield response
                    return
                error = await _refusal(response)
            if last or not isinstance(error, UnauthorizedError):
                raise error
            if not await self.endpoint.credentials.rejected(authorization):
                raise error

    @asynccontextmanager
    async def _send(self, call: _Call, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        start = asyncio.get_running_loop().time()
        code = "<error>"
        try:
            # The head of a watch's answer comes at once; only its body may be silent for long.
            async with asyncio.timeout(self.settings.call_timeout if call.watch else None):
                response = await self._session(call.watch).request(
                    call.method,
                    self.endpoint.url + call.path,
                    params=call.query,
                    data=self._body(call),
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=call.limit, sock_connect=self.settings.connect_timeout),
                    ssl=self._tls.current(start) if self._secure else True,
                    server_hostname=self.endpoint.tls.server_name,
                    proxy=self.endpoint.proxy,
                    allow_redirects=False,
                )
            code = str(response.status)
        except aiohttp.ClientConnectorSSLError:
            self._tls.invalidate()
            raise
        finally:
            if self._on_request is not None:
                seconds = asyncio.get_running_loop().time() - start
                self._on_request(RequestDone(call.method, self._host, code, seconds, call.path, call.watch))
        try:
            yield response
        finally:
            # A watch is not read to its end, so its connection cannot be reused.
            response.close() if call.watch else response.release()

    def _body(self, call: _Call) -> FencedBody | bytes | None:
        if call.body is None or call.method in READS or self.may_write is None:
            return call.body
        return FencedBody(call.body, self.may_write)

    def _session(self, watch: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(watch)
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=0 if watch else self.settings.pool_size,
                ttl_dns_cache=10,
                socket_factory=_keepalive_socket,
            )
            session = self._sessions[watch] = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": self._user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return session


class FencedBody(BytesPayload):
    """A body that asks the fence once more, at the moment at which head and body go to the socket.

    Between the first question and that moment lies the wait for a connection: long enough for a process to be stopped
    there, and to send a write when it wakes in somebody else's reign.
    """

    def __init__(self, value: bytes, may_write: Callable[[], bool]) -> None:
        super().__init__(value)
        self._may_write = may_write

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write everything, or nothing: aiohttp sends the head together with the first piece of the body."""
        if not self._may_write():
            raise WriteFencedError("the lease was lost before the request was sent")
        await super().write_with_length(writer, content_length)


def _nothing() -> None:
    """A read asks no fence."""


def _transport_error(error: BaseException) -> TransportError:
    # Messages of aiohttp hold host and port, never headers or bodies.
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    sent = not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return TransportError(text) if sent else NotSentError(text)


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    body = b""
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(5):
            body = await response.content.read(MAX_REFUSAL)
    return error_from_answer(response.status, body, _seconds(response.headers.get("Retry-After", "")))


def _seconds(value: str) -> float | None:
    # The API server sends seconds; only proxies use the date form, and no number is better than a wrong one.
    return float(value) if value.isascii() and value.isdigit() else None


def _warnings(response: aiohttp.ClientResponse) -> tuple[str, ...]:
    return _texts(response.headers.getall("Warning")) if "Warning" in response.headers else ()


def _texts(warnings: Iterable[str]) -> tuple[str, ...]:
    """Texts of `299 - "text"` headers (RFC 7234, 5.5)."""
    texts = []
    for value in warnings:
        _, _, rest = value.partition('"')
        texts.append(rest.rpartition('"')[0].replace('\\"', '"') or value)
    return tuple(texts)


def _keepalive_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Make a socket whose dead peer is noticed."""
    family, kind, proto, _, _ = info
    sock = socket.socket(family=family, type=kind, proto=proto)
    keep_alive(sock)
    return sock
