"""Between bytes and records: kinds, keys, records, watch lines, patches, selectors, typed errors.

Nothing here does IO. The package is the only one that knows how JSON is parsed.
"""

from runtime.wire.errors import (
    AlreadyExistsError,
    ApiError,
    BadRequestError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    ServerError,
    TimeoutApiError,
    TooManyRequestsError,
    TransportError,
    UnauthorizedError,
)
from runtime.wire.gvk import Key, Request, Resource
from runtime.wire.record import Meta, OwnerReference, Record

__all__ = [
    "AlreadyExistsError",
    "ApiError",
    "BadRequestError",
    "ConflictError",
    "ExpiredError",
    "ForbiddenError",
    "InvalidError",
    "Key",
    "Meta",
    "NotFoundError",
    "OwnerReference",
    "Record",
    "Request",
    "Resource",
    "ServerError",
    "TimeoutApiError",
    "TooManyRequestsError",
    "TransportError",
    "UnauthorizedError",
]
