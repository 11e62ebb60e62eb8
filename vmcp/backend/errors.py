"""The ways in which a backend can fail to answer. What it does answer, errors included, is a Reply."""

from __future__ import annotations

from vmcp.http.client import Response


class BackendError(Exception):
    """The call has no answer. The text is safe to show: no header, no token, no body of the backend.

    Attributes:
        backend: Its name.
        reason: What happened, in a sentence.
        category: One word for metrics, audit and `/api/backends/health`.
        status: HTTP status, 0 = none came.
        sent: The request may have reached the backend; False = it certainly did not, so a retry is safe.
    """

    category = "unavailable"

    def __init__(self, backend: str, reason: str, *, status: int = 0, sent: bool = True) -> None:
        super().__init__()
        self.backend = backend
        self.reason = reason
        self.status = status
        self.sent = sent

    def __str__(self) -> str:
        return f"backend {self.backend}: {self.reason}"


class BackendUnavailable(BackendError):  # noqa: N818
    """It cannot be reached, closed the connection, or answered 5xx."""


class CircuitOpen(BackendUnavailable):
    """The circuit breaker is open: nothing was sent."""

    category = "circuit_open"


class BackendTimeout(BackendError):  # noqa: N818
    """The deadline passed."""

    category = "timeout"


class BackendAuthFailed(BackendError):  # noqa: N818
    """It refused our credentials (401, 403), or we could not get any.

    Attributes:
        anonymous: It was our own request, for which the strategy has no credentials: callers have some.
        response: Its refusal, where callers' credentials were refused; it may say more.
    """

    category = "auth"

    def __init__(
        self,
        backend: str,
        reason: str,
        *,
        status: int = 0,
        sent: bool = True,
        anonymous: bool = False,
        response: Response | None = None,
    ) -> None:
        super().__init__(backend, reason, status=status, sent=sent)
        self.anonymous = anonymous
        self.response = response


class BackendOverflow(BackendError):  # noqa: N818
    """It answered, and there is no room for the answer: nothing that the backend did wrong."""

    category = "overflow"


class BackendProtocolError(BackendError):
    """It answered something that is not MCP, or too much of it."""

    category = "protocol"
