"""The command line's values, and curl's `--resolve`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4483


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `serve` was asked for.

    Attributes:
        config: The configuration file; watched.
        host: Address to listen on.
        port: Port to listen on; 0 = any free one.
        debug: Log at debug level.
        resolve: (host, port) -> address, for every outgoing connection.
        root: Put before absolute paths of CA bundles; empty = none.
    """

    config: Path
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    debug: bool = False
    resolve: Mapping[tuple[str, int], str] = field(default_factory=dict)
    root: str = ""


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
