"""What the HTTP client takes and gives, and the ways in which it fails.

Errors never hold a header value or a part of a body: they end up in logs and in answers to clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmcp.http.stream import Stream

Headers = Sequence[tuple[str, str]]
"""Names and values in the order in which they are written."""


class HttpError(Exception):
    """A request has no usable answer.

    Attributes:
        sent: False when not a byte of the request can have reached the server, so that any request may be repeated.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class ConnectError(HttpError):
    """No connection: refused, unreachable, unknown host, TLS failed. Nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=False)


class HttpTimeout(HttpError):  # noqa: N818  says what happened
    """A deadline passed: while waiting for a connection, connecting, or waiting for the answer."""


class ConnectionLost(HttpError):  # noqa: N818  says what happened
    """The server closed the connection before its answer was complete."""


class BadResponse(HttpError):  # noqa: N818  says what happened
    """The answer is no acceptable HTTP/1.1: garbage, a lying length, an unwanted upgrade, a refused redirect."""

    def __init__(self, reason: str, *, status: int = 0) -> None:
        super().__init__(reason, sent=True)
        self.status = status


class ResponseTooLarge(HttpError):  # noqa: N818  says what happened
    """Head, body or buffered stream exceed their limit."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=True)


class BadRequest(HttpError):  # noqa: N818  says what happened
    """The request must not be sent: an illegal header or target."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=False)


@dataclass(slots=True)
class Response:
    """An answer, complete or still streaming.

    Attributes:
        status: 200..599; interim (1xx) answers are swallowed.
        headers: Lower-case names; optional whitespace stripped; repeated fields joined by ", ".
        body: The whole body; b"" when `stream` is set.
        stream: Set for a successful `text/event-stream`; must be closed by the caller.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    stream: Stream | None = None

    @property
    def media_type(self) -> str:
        """The content type without parameters, lower case; "" when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one client.

    Attributes:
        max_head: Bytes of status line and headers.
        max_body: Bytes of a body that is read whole.
        stream_buffer: Bytes of a stream that may wait for their reader; beyond, reading from the socket pauses.
        max_connections: For calls; long-lived streams are not counted, so that they cannot starve calls.
        idle_timeout: Seconds that an unused connection is kept; a shorter `Keep-Alive: timeout` of the server wins.
        silent_idle_timeout: The same where the server does not say how long it waits. Less than the 5 s of the servers
            that most MCP servers run in (uvicorn, Node): a request that meets the end of the server's patience is
            lost, and a tool call must not be sent twice.
        max_redirects: Same-host redirects that are followed.
        connect_timeout: Seconds to connect, TLS included.
    """

    max_head: int = 64 * 1024
    max_body: int = 100 * 1024 * 1024
    stream_buffer: int = 256 * 1024
    max_connections: int = 512
    idle_timeout: float = 30.0
    silent_idle_timeout: float = 4.0
    max_redirects: int = 3
    connect_timeout: float = 10.0
