"""httptools' parser of requests, the one that takes its place behind an upgrade, and targets as applications want them.

A request that asks for an upgrade is answered as any other (RFC 9110, 7.8 lets a server ignore `Upgrade`), but the
parser stops at the end of its head, and would take all that follows for the other protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol
from urllib.parse import unquote

import httptools

MAX_PATHS: Final = 256
"""Targets that are kept in the form in which the application wants them."""
_paths: dict[bytes, tuple[str, bytes, bytes]] = {}
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class Callbacks(Protocol):
    """What a parser calls."""

    def on_message_begin(self) -> None:
        """A request begins."""
        ...

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        ...

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        ...

    def on_headers_complete(self) -> None:
        """The head is whole."""
        ...

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        ...

    def on_message_complete(self) -> None:
        """The request is whole."""
        ...


def parser_for(callbacks: Callbacks) -> httptools.HttpRequestParser:
    """Return a parser of the requests of one connection."""
    parser = httptools.HttpRequestParser(callbacks)
    # A request that ends the connection is answered even when somebody sent more behind it.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def parser_behind(
    old: httptools.HttpRequestParser, headers: Iterable[tuple[bytes, bytes]], callbacks: Callbacks
) -> httptools.HttpRequestParser:
    """Return a parser that stands at the begin of the body of the request whose head `old` has read.

    It is told how long the body is, which is all that it has to know of that head.

    Raises:
        httptools.HttpParserError: The headers that say so contradict each other.
    """
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers if pair[0] in _FRAMING)
    if not old.should_keep_alive():
        lines += b"connection: close\r\n"
    muted = _Muted(callbacks)
    parser = parser_for(muted)
    parser.feed_data(b"POST / HTTP/%b\r\n%b\r\n" % (old.get_http_version().encode(), lines))
    muted.speak()
    return parser


class _Muted:
    """Callbacks of a parser that is told about a head which was read already.

    From `speak` on they are those of the connection.
    """

    def __init__(self, to: Callbacks) -> None:
        self._to = to
        self._mute = True
        self.on_body = to.on_body
        self.on_message_complete = to.on_message_complete

    def speak(self) -> None:
        """The next head is a new one."""
        self._mute = False

    def on_message_begin(self) -> None:
        """See `Callbacks`."""
        if not self._mute:
            self._to.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """See `Callbacks`."""
        if not self._mute:
            self._to.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `Callbacks`."""
        if not self._mute:
            self._to.on_header(name, value)

    def on_headers_complete(self) -> None:
        """See `Callbacks`."""
        if not self._mute:
            self._to.on_headers_complete()


def split_target(url: bytes) -> tuple[str, bytes, bytes]:
    """Return path, raw path and query of a target.

    Raises:
        HttpParserInvalidURLError: It is none.
    """
    known = _paths.get(url)
    if known is not None:
        return known
    parsed = httptools.parse_url(url)
    raw = parsed.path or b"/"
    path = raw.decode("ascii")
    found = (unquote(path) if "%" in path else path, raw, parsed.query or b"")
    if len(url) <= 256:
        if len(_paths) >= MAX_PATHS:
            _paths.clear()
        _paths[url] = found
    return found
