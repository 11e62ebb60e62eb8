"""What the command line says: values such as curl's `--resolve`, read and checked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from api.contract.identifiers import GATEWAY_PORT
from api.contract.urls import read_http_url
from vmcp.auth.outgoing.token_exchange import UNCHECKED
from vmcp.ending import Ending

DEFAULT_HOST = "127.0.0.1"
ORIGINS_ENV = "VMCP_ALLOWED_ORIGINS"
"""Comma list of origins, besides those of the command line: a pod template can add a variable, but hardly a flag."""
NETWORKS_ENV = "VMCP_ALLOWED_NETWORKS"
"""Comma list of networks, besides those of the command line."""
HTTP_TOKENS_ENV = "VMCP_ALLOW_HTTP_TOKEN_URL"
"""`true` = as the command line's flag."""
OPAQUE_TOKENS_ENV = "VMCP_OPAQUE_TOKENS"
"""Comma list of `TOKEN_URL=HOW`, besides those of the command line."""
SEPARATE_ANONYMOUS_ENV = "VMCP_SEPARATE_ANONYMOUS"
"""`true` = as the command line's flag."""
MAX_NAME_ENV = "VMCP_MAX_NAME_LENGTH"
"""The most characters of a name that is advertised, as the command line's flag."""
RATE_LIMIT_FAILURE_ENV = "VMCP_RATE_LIMIT_FAILURE_MODE"
"""What holds while the store of shared limits does not answer: `open` = each replica counts by itself, `closed` = no
tool is called."""
REDIS_USERNAME_ENV = "VMCP_SESSION_REDIS_USERNAME"
"""ACL user at the server that replicas share; without it the default user."""
REDIS_PASSWORD_FILE_ENV = "VMCP_SESSION_REDIS_PASSWORD_FILE"  # noqa: S105  a name
"""File with its password, which is read for every new connection: a mounted Secret may change."""
REDIS_TLS_ENV = "VMCP_SESSION_REDIS_TLS"
"""`true` = TLS, with the system's authorities unless a file names others."""
REDIS_CA_FILE_ENV = "VMCP_SESSION_REDIS_CA_FILE"
"""PEM of the authorities that sign the server's certificate; means TLS."""
REDIS_CERT_FILE_ENV = "VMCP_SESSION_REDIS_CERT_FILE"
"""PEM of the gateway's certificate; means TLS."""
REDIS_KEY_FILE_ENV = "VMCP_SESSION_REDIS_KEY_FILE"
"""PEM of its key; without it the key is in the certificate's file."""
_OPAQUE = re.compile(rf"(https?://.+)=({UNCHECKED}|https?://.+)")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `serve` was asked for.

    Attributes:
        config: The configuration file; watched. None = the ConfigMap that the API server has.
        host: Address to listen on.
        port: Port to listen on; 0 = any free one.
        service_port: Port for `/status`, `/metrics` and `/api/backends/health`; None = the same as for MCP.
        debug: Log at debug level.
        resolve: (host, port) -> address, for every outgoing connection.
        root: Put before absolute paths of CA bundles; empty = none.
        allowed_origins: Of pages that may call although they are not the gateway's own.
        allowed_networks: Networks (CIDR) that may be connected to although they are refused otherwise: loopback,
            link-local and metadata ones of backends, private ones of token endpoints as well.
        allow_http_tokens: Token endpoints may be without TLS.
        opaque_tokens: Token endpoint -> introspection endpoint that says for whom its opaque tokens are good, or
            `UNCHECKED`; those of other endpoints are refused where an audience is configured.
        separate_anonymous: Anonymous modern clients share no sessions with backends.
        proxy: The configuration is a proxy's, and comes from the file only.
        ending: How the time between SIGTERM and the end is divided.
    """

    config: Path | None
    host: str = DEFAULT_HOST
    port: int = GATEWAY_PORT
    service_port: int | None = None
    debug: bool = False
    resolve: Mapping[tuple[str, int], str] = field(default_factory=dict)
    root: str = ""
    allowed_origins: frozenset[str] = frozenset()
    allowed_networks: tuple[str, ...] = ()
    allow_http_tokens: bool = False
    opaque_tokens: Mapping[str, str] = field(default_factory=dict)
    separate_anonymous: bool = False
    proxy: bool = False
    ending: Ending = field(default_factory=Ending)


def parse_resolve(values: Iterable[str]) -> dict[tuple[str, int], str]:
    """Read `HOST:PORT:ADDRESS` values; the address may be IPv6, with or without brackets. The last one wins.

    Raises:
        ValueError: A value has another form; the text says which and why.
    """
    found: dict[tuple[str, int], str] = {}
    for value in values:
        host, _, rest = value.partition(":")
        port, _, address = rest.partition(":")
        address = address.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{value!r} is not HOST:PORT:ADDRESS")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(f"{value!r}: {address!r} is not an IP address") from None
        found[host.lower(), int(port)] = address
    return found


def parse_networks(values: Iterable[str]) -> tuple[str, ...]:
    """Read networks, `ADDRESS/BITS` or one address. Blank values do not count.

    Raises:
        ValueError: A value is none; the text says which and why.
    """
    return tuple(str(ipaddress.ip_network(value.strip())) for value in values if value.strip())


def parse_origins(values: Iterable[str]) -> frozenset[str]:
    """Read origins, `SCHEME://HOST[:PORT]`, into the form in which browsers send them. Blank values do not count.

    Raises:
        ValueError: A value is none; the text says which. There is no wildcard: every page on the web would be let in.
    """
    return frozenset(_origin(value.strip()) for value in values if value.strip())


def parse_opaque_tokens(values: Iterable[str]) -> dict[str, str]:
    """Read `TOKEN_URL=INTROSPECTION_URL` and `TOKEN_URL=none`. Blank values do not count.

    Raises:
        ValueError: A value has another form, or an endpoint is named twice; the text says which.
    """
    found: dict[str, str] = {}
    for value in values:
        if not value.strip():
            continue
        token_url, how = _split_opaque(value.strip())
        if found.setdefault(token_url, how) != how:
            raise ValueError(f"{token_url} is named twice, with {found[token_url]} and with {how}")
    return found


def _split_opaque(value: str) -> tuple[str, str]:
    parts = _OPAQUE.fullmatch(value)
    if parts is None:
        raise ValueError("a value is not TOKEN_URL=INTROSPECTION_URL or TOKEN_URL=none")
    token_url, how = parts.groups()
    for name, url in (("token", token_url), ("introspection", how)):
        if url == UNCHECKED:
            continue
        try:
            read_http_url(url)
        except ValueError as error:
            # Not the URL itself, which may hold a password; nor the advice, which is for URLs of backends.
            raise ValueError(f"the {name} URL {str(error).partition(';')[0]}") from None
    return token_url, how


def _origin(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"{value!r} is not an origin") from None
    rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username or "", parts.password or "")
    if parts.scheme not in _DEFAULT_PORTS or not host or "*" in host or any(rest):
        raise ValueError(f"{value!r} is not an origin: http(s)://HOST[:PORT], without a path and without wildcards")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def is_loopback(host: str) -> bool:
    """Say whether a listener on `host` is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
