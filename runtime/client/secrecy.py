"""Refusals of Secrets without their texts.

The API server quotes what it could not read: a body with a wrong value comes back in the message ("error found in #10
byte of ..."). Such a message would go into logs, conditions and events.
"""

from __future__ import annotations

from runtime.wire.errors import ApiError, BadRequestError, InvalidError, StatusCause, StatusDetails
from runtime.wire.gvk import Resource


def withheld(error: ApiError, resource: Resource) -> ApiError:
    """Return the error, without the server's words when they may hold a Secret's values."""
    if (resource.group, resource.kind) != ("", "Secret") or not isinstance(error, (BadRequestError, InvalidError)):
        return error
    details = None
    fields = ""
    if error.details is not None:
        causes = tuple(StatusCause(reason=cause.reason, field=cause.field) for cause in error.details.causes)
        details = StatusDetails(name=error.details.name, kind=error.details.kind, causes=causes)
        fields = ", ".join(cause.field for cause in causes)
    message = f"the Secret was refused ({fields or 'unreadable'}); the server's message is withheld"
    return type(error)(error.status, error.reason, message, error.retry_after, details)
