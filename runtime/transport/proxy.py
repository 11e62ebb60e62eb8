"""Which proxy leads to the API server, by the environment variables that client-go honours.

The rules are those of Go's golang.org/x/net/http/httpproxy: HTTPS_PROXY or HTTP_PROXY by the scheme of the URL, upper
case before lower case, and NO_PROXY as a comma list of names (with their subdomains; a leading dot means subdomains
only), addresses, networks in CIDR notation, each with an optional port, or `*`. Loopback never goes through a proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_SPOKEN = ("http", "https")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ProxyError(ValueError):
    """A proxy that cannot be used. The message names the variable, never the value: it may hold a password."""


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy for a server's URL; None for a direct connection.

    Raises:
        ProxyError: the variable holds no URL of an HTTP proxy.
    """
    parts = urlsplit(url)
    names = ("HTTPS_PROXY", "https_proxy") if parts.scheme == "https" else ("HTTP_PROXY", "http_proxy")
    name = next((name for name in names if environ.get(name)), None)
    if name is None or not _goes_through(parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0), environ):
        return None
    value = environ[name]
    proxy = value if "://" in value else f"http://{value}"
    try:
        found = urlsplit(proxy)
        usable = bool(found.hostname) and (found.port is None or found.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ProxyError(f"{name} is not the URL of a proxy")
    if found.scheme not in _SPOKEN:
        raise ProxyError(f"{name}: proxies of type {found.scheme[:20]} are not supported, only http and https")
    return proxy


def _goes_through(host: str, port: int, environ: Mapping[str, str]) -> bool:
    host = host.rstrip(".").lower()
    address: Address | None = None
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    excluded = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return not any(_covers(entry.strip().lower(), host, address, port) for entry in excluded.split(","))


def _covers(entry: str, host: str, address: Address | None, port: int) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    if "/" in entry:
        with suppress(ValueError):
            network = ipaddress.ip_network(entry, strict=False)
            return address is not None and address in network
    name, wanted = _split_port(entry)
    if wanted is not None and wanted != port:
        return False
    with suppress(ValueError):
        return ipaddress.ip_address(name) == address
    if address is not None or not name:
        return False
    if name.startswith("*."):
        name = name[1:]
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split `host:port`, `[address]:port` or a bare address of either family."""
    head, colon, tail = entry.rpartition(":")
    if entry.startswith("["):
        inside, bracket, rest = entry[1:].partition("]")
        return (inside, int(rest[1:])) if bracket and rest[1:].isdecimal() else (inside, None)
    if colon and ":" not in head and tail.isdecimal():
        return head, int(tail)
    return entry, None
