"""The few HTTP requests that authentication makes itself: discovery, key sets, token endpoints.

They are rare and small, so they do not share the hot path's client; they share its rules: no redirects (a key set that
moves is a change that an administrator makes), bounded answers, one deadline for the whole exchange, TLS 1.2 or newer
with the system's trust plus an optional bundle that is read again when its file changes, and `--resolve`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from api.contract.hosts import dialled_host, with_embedded
from vmcp.http.client import ConnectError, Reach, Trust
from vmcp.http.client.reach import is_this_machine

log = structlog.get_logger(__name__)

MAX_ANSWER_BYTES = 1 << 20
"""Longest answer accepted. A key set of 100 RSA keys has about 100 KB."""

Overrides = Mapping[tuple[str, int], str]
"""`--resolve`: (host, port) -> address."""


class FetchError(Exception):
    """The other side could not be asked, or gave no usable HTTP answer. Holds neither headers nor bodies."""


class FetchUnreachableError(FetchError):
    """No connection could be made, so nothing that was to be sent can be the reason."""


@dataclass(frozen=True, slots=True)
class FetchedAnswer:
    """A complete HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Fetcher(Protocol):
    """One request, one complete answer."""

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> FetchedAnswer:
        """Ask.

        Args:
            method: `GET` or `POST`.
            url: Absolute http or https URL.
            headers: Sent as given.
            body: Of a POST.
            timeout: Seconds for everything, connecting included.

        Raises:
            FetchError: No complete answer within limits.
        """
        ...

    async def close(self) -> None:
        """Close pooled connections."""
        ...


class AiohttpFetcher:
    """`Fetcher` on aiohttp."""

    def __init__(
        self,
        *,
        ca_bundle: str | None = None,
        resolve: Overrides | None = None,
        allow_private: bool = True,
        allow_http: bool = True,
        reach: Reach | None = None,
    ) -> None:
        """Remember the rules; connections are opened on first use.

        Args:
            ca_bundle: PEM file trusted in addition to the system's certificates.
            resolve: Addresses to use instead of looking names up.
            allow_private: False refuses loopback, private, link-local and other special addresses, after the lookup, so
                that a name cannot lead there either.
            allow_http: False refuses plain http, but to this machine.
            reach: With `allow_private` False: which of the refused addresses may be used all the same; a loopback
                address in the URL, or `localhost`, was meant. None = none.

        Raises:
            OSError: The bundle cannot be read, or holds no certificate.
        """
        self._trust = Trust(ca_bundle)
        try:
            self._trust.context()
        except ConnectError as error:
            raise OSError(str(error)) from None
        self._told = ""
        self._rules = _Rules(allow_private, allow_http, reach)
        self._resolve = dict(resolve or {})
        self._session: aiohttp.ClientSession | None = None

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> FetchedAnswer:
        """See `Fetcher.fetch`."""
        host = self._rules.checked_host(url)
        try:
            async with self._open().request(
                method,
                url,
                headers=list(headers),
                data=body,
                allow_redirects=False,
                ssl=self._context(),
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as response:
                content = await _read_bounded(response)
                return FetchedAnswer(
                    response.status, {key.lower(): value for key, value in response.headers.items()}, content
                )
        except TimeoutError:
            raise FetchError(f"no answer from {host} within {timeout:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise FetchUnreachableError(f"cannot reach {host}: {error.os_error}") from None
        except aiohttp.ClientError as error:
            # The text of aiohttp's errors holds host, port and the system's reason; never headers or bodies.
            raise FetchError(f"cannot reach {host}: {type(error).__name__}: {error}") from None
        except ValueError:
            raise FetchError("the URL is not valid") from None

    def _context(self) -> ssl.SSLContext:
        """Return the trust as the file says it now; connections that were made under another are not used again."""
        context = self._trust.context()
        if self._trust.problem != self._told:
            self._told = self._trust.problem
            if self._told:
                log.warning("the CA bundle cannot be reloaded, keeping the previous one", reason=self._told)
        return context

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_Resolver(self._resolve, self._rules),
                limit=8,
                ttl_dns_cache=60,
            )
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=True, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session

    async def close(self) -> None:
        """Close pooled connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            response.close()
            raise FetchError(f"the answer of {response.url.host} is longer than {MAX_ANSWER_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class _Rules:
    """Where requests may go."""

    allow_private: bool
    allow_http: bool
    reach: Reach | None

    def checked_host(self, url: str) -> str:
        """Return the host that is dialled for a URL.

        Raises:
            FetchError: It must not be asked.
        """
        try:
            parts = urlsplit(url)
            host = dialled_host(parts.hostname or "")
        except ValueError as error:
            raise FetchError(f"the URL is not valid: {error}") from None
        if not self.allow_http and parts.scheme != "https" and not is_this_machine(host):
            raise FetchError(f"{host} would be asked without TLS, which is not allowed here")
        if not self.allows(host, host):
            raise FetchError(f"{host} is a private address, which is not allowed here")
        return host

    def allows(self, host: str, address: str) -> bool:
        """Whether `address`, to which `host` leads, may be connected to; a name passes."""
        if self.allow_private or not _is_special_literal(address):
            return True
        return self.reach is not None and self.reach.is_open(host, address)


class _Resolver(AbstractResolver):
    """Looks names up, with overrides, and drops addresses that are not allowed."""

    def __init__(self, overrides: Overrides, rules: _Rules) -> None:
        self._overrides = overrides
        self._rules = rules
        self._real = ThreadedResolver(loop=asyncio.get_running_loop())

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host` that may be used."""
        address = self._overrides.get((host, port))
        if address is not None:
            version = ipaddress.ip_address(address).version
            # Whoever started the gateway said so: nothing is left to be judged.
            return [
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=socket.AF_INET6 if version == 6 else socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
            ]
        results = await self._real.resolve(host, port, family)
        allowed = [result for result in results if self._rules.allows(host, result["host"])]
        if not allowed:
            raise OSError(f"{host} leads to a private address, which is not allowed here")
        return allowed

    async def close(self) -> None:
        """Release the resolver."""
        await self._real.close()


def _is_special_literal(host: str) -> bool:
    """Say whether `host` is an IP literal that is not a public unicast address."""
    try:
        address: Any = ipaddress.ip_address(host.strip("[]").split("%", 1)[0])
    except ValueError:
        return False
    readings = with_embedded(address) if address.version == 6 else [address]
    if address.version == 6 and address.ipv4_mapped is not None:
        readings = [address.ipv4_mapped]
    return any(not reading.is_global or reading.is_multicast for reading in readings)
