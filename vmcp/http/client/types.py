"""What the HTTP client takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from vmcp.http.client.coding import Decoder
from vmcp.http.client.stream import BodyStream
from vmcp.http.client.under_way import UNDER_WAY, AnswerShare, Held

Headers = Sequence[tuple[str, str]]
"""Names and values in the order in which they are written."""


@dataclass(slots=True)
class Response:
    """An answer, complete or still streaming.

    Attributes:
        status: 200..599; interim (1xx) answers are swallowed.
        headers: Lower-case names; optional whitespace stripped; repeated fields joined by ", ".
        body: The whole body; b"" when `stream` is set.
        stream: Set for a successful `text/event-stream`; must be closed by the caller.
        held: What counts the bytes of a large body: to be kept as long as they are.
        decoder: Has the body, which is encoded; of answers that the client has yet to read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    stream: BodyStream | None = None
    held: Held | None = None
    decoder: Decoder | None = None

    @property
    def media_type(self) -> str:
        """The content type without parameters, lower case; "" when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


LATER: Final = frozenset({408, 425, 429})
"""Statuses below 500 that say "not now": a request that meets one may succeed a moment later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
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
        answers: What large answers may take together.
    """

    max_head: int = 64 * 1024
    max_body: int = 100 * 1024 * 1024
    stream_buffer: int = 256 * 1024
    max_connections: int = 512
    idle_timeout: float = 30.0
    silent_idle_timeout: float = 4.0
    max_redirects: int = 3
    connect_timeout: float = 10.0
    answers: AnswerShare = field(default_factory=UNDER_WAY.share)
