"""Typed errors of the API server, made from its `Status` objects.

The classes follow the reasons of `k8s.io/apimachinery/pkg/api/errors`; where a server or a proxy gives no reason, the
HTTP status decides.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class StatusCause(msgspec.Struct, frozen=True):
    """One cause of a refusal: machine-readable reason, field, and a sentence."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    """The `details` of a Status."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: int = 0


class Status(msgspec.Struct, frozen=True):
    """A `v1.Status`, as far as it matters here."""

    kind: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


class ApiError(Exception):
    """The API server answered, and the answer was a refusal.

    Attributes:
        status: HTTP status code (for an ERROR event of a watch, the `code` of its Status).
        reason: CamelCase reason of the Status, "" when the answer was not a Status (a proxy's HTML page, for example).
        message: the server's sentence. Never holds values of Secrets: the client cuts those.
        retry_after: seconds that the server asks to wait, None when it does not say.
        details: causes, kind and name, None when absent.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        retry_after: float | None = None,
        details: StatusDetails | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.details = details

    def __str__(self) -> str:
        return f"{self.status} {self.reason or 'without reason'}: {self.message}"

    def has_cause(self, reason: str) -> bool:
        """Whether one of the causes has this reason."""
        return self.details is not None and any(cause.reason == reason for cause in self.details.causes)


class BadRequestError(ApiError):
    """400: the request itself is wrong."""


class UnauthorizedError(ApiError):
    """401: no or stale credentials."""


class ForbiddenError(ApiError):
    """403: the credentials do not allow this."""


class NotFoundError(ApiError):
    """404: no such object, or no such kind."""


class ConflictError(ApiError):
    """409 Conflict: the object changed since it was read, a precondition failed, or a field has another owner."""


class AlreadyExistsError(ConflictError):
    """409 AlreadyExists: an object of this name is there."""


class ExpiredError(ApiError):
    """410: the resourceVersion or the continue token is too old. Only a new list helps."""


class InvalidError(ApiError):
    """422: the object breaks its schema or a validation rule."""


class TooManyRequestsError(ApiError):
    """429: slow down."""


class TimeoutApiError(ApiError):
    """504, or 500 ServerTimeout: the server could not finish in time; a write may or may not have happened."""


class ServerError(ApiError):
    """Any other 5xx."""


class TransportError(Exception):
    """No answer, or one that cannot be read: refused, reset, timed out, TLS failure. A write may have happened."""


TOO_LARGE_RESOURCE_VERSION = "ResourceVersionTooLarge"
"""Cause of a 504: the asked resourceVersion lies in this server's future (k8s.io/apimachinery)."""

_BY_REASON: Mapping[str, type[ApiError]] = {
    "AlreadyExists": AlreadyExistsError,
    "BadRequest": BadRequestError,
    "Conflict": ConflictError,
    "Expired": ExpiredError,
    "Forbidden": ForbiddenError,
    "Gone": ExpiredError,
    "InternalError": ServerError,
    "Invalid": InvalidError,
    "NotFound": NotFoundError,
    "ServerTimeout": TimeoutApiError,
    "ServiceUnavailable": ServerError,
    "Timeout": TimeoutApiError,
    "TooManyRequests": TooManyRequestsError,
    "Unauthorized": UnauthorizedError,
}
_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ExpiredError,
    422: InvalidError,
    429: TooManyRequestsError,
    504: TimeoutApiError,
}

_decode_status = msgspec.json.Decoder(Status).decode
_MAX_FOREIGN_TEXT = 200
"""Characters kept of an answer that is not a Status (a proxy's page)."""


def error_from_answer(status: int, body: bytes, retry_after: float | None = None) -> ApiError:
    """Turn an answer of 400 or above, or the object of an ERROR event, into the error of its type.

    Args:
        status: HTTP status; for an ERROR event 0 (its Status carries the code).
        body: the answer, normally a JSON Status, possibly any text.
        retry_after: seconds from the Retry-After header; wins over `details.retryAfterSeconds`.
    """
    try:
        parsed = _decode_status(body)
    except msgspec.DecodeError:
        parsed = Status()
    if parsed.kind != "Status":
        text = " ".join(body[: 4 * _MAX_FOREIGN_TEXT].decode("utf-8", "replace").split())[:_MAX_FOREIGN_TEXT]
        parsed = Status(message=text or "empty answer")
    code = status or parsed.code
    if retry_after is None and parsed.details is not None and parsed.details.retry_after_seconds:
        retry_after = float(parsed.details.retry_after_seconds)
    kind = _BY_REASON.get(parsed.reason) or _BY_STATUS.get(code) or (ServerError if code >= 500 else ApiError)
    return kind(code, parsed.reason, parsed.message, retry_after, parsed.details)
