"""The ways in which a request can fail.

Errors never hold a header value or a part of a body: they end up in logs and in answers to clients.
"""

from __future__ import annotations

from typing import Self


class HttpError(Exception):
    """A request has no usable answer.

    Attributes:
        sent: False when not a byte of the request can have reached the server, so that any request may be repeated.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent

    def unraised(self) -> Self:
        """Return one that says the same and was never raised: whoever keeps it keeps nobody's frames."""
        made = type(self).__new__(type(self), *self.args)
        made.__dict__.update(self.__dict__)
        return made


class ConnectError(HttpError):
    """No connection: refused, unreachable, unknown host, TLS failed. Nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=False)


class HttpTimeout(HttpError):  # noqa: N818  says what happened
    """A deadline passed: while waiting for a connection, connecting, or waiting for the answer."""


class ConnectionLost(HttpError):  # noqa: N818  says what happened
    """The server closed the connection before its answer was complete."""


class BadResponse(HttpError):  # noqa: N818  says what happened
    """The answer is not acceptable HTTP/1.1: garbage, a lying length, an unwanted upgrade, a refused redirect."""

    def __init__(self, reason: str, *, status: int = 0) -> None:
        super().__init__(reason, sent=True)
        self.status = status


class NoRoom(HttpError):  # noqa: N818  says what happened
    """The answer does not fit beside the large answers that are under way (`vmcp.http.client.under_way`)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=True)


class ResponseTooLarge(HttpError):  # noqa: N818  says what happened
    """Head, body or buffered stream exceed their limit."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=True)


class BadRequest(HttpError):  # noqa: N818  says what happened
    """The request must not be sent: an illegal header or target."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=False)
