"""Where a URL leads: the origin that is connected to and the target that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from api.contract.urls import read_http_url

_SAFE: Final = "".join(map(chr, range(0x21, 0x7F)))
"""Everything visible of ASCII stays as it is written."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port.

    Attributes:
        tls: https.
        host: Lower case, without brackets.
        port: As in the URL or the scheme's.
    """

    tls: bool
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of `Host`: without the scheme's own port, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_origin(url: str) -> tuple[Origin, str]:
    """Split an http(s) URL into its origin and the target (path and query; "/" when empty).

    Characters beyond ASCII in path and query are written as the bytes of their UTF-8 (RFC 3987, 3.1); the host is what
    is looked up for it.

    Raises:
        ValueError: No http(s) URL with a host, or one whose parts would be lost: user information (put credentials into
            a header or an auth strategy), characters that are dropped while reading.
    """
    try:
        read = read_http_url(url)
    except ValueError as error:
        raise ValueError(f"the URL {error}") from None
    target = quote(read.path, safe=_SAFE) or "/"
    if read.query:
        target += f"?{quote(read.query, safe=_SAFE)}"
    return Origin(read.tls, read.host, read.port), target
