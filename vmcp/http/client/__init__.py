"""The HTTP/1.1 client of a backend: pools, TLS, limits and deadlines behind one method.

From the bottom: `errors`, `coding`, `under_way`, `stream` and `types`, `tls`, `connection`, `pool`, `client`.
"""

from vmcp.http.client.client import HttpClient, PooledHttpClient
from vmcp.http.client.errors import (
    BadRequest,
    BadResponse,
    ConnectError,
    ConnectionLost,
    HttpError,
    HttpTimeout,
    NoRoom,
    ResponseTooLarge,
)
from vmcp.http.client.origin import Origin, parse_origin
from vmcp.http.client.reach import Reach
from vmcp.http.client.stream import BodyStream
from vmcp.http.client.tls import BundlePathError, Trust
from vmcp.http.client.types import LATER, ClientLimits, Headers, Response

__all__ = [
    "LATER",
    "BadRequest",
    "BadResponse",
    "BodyStream",
    "BundlePathError",
    "ClientLimits",
    "ConnectError",
    "ConnectionLost",
    "Headers",
    "HttpClient",
    "HttpError",
    "HttpTimeout",
    "NoRoom",
    "Origin",
    "PooledHttpClient",
    "Reach",
    "Response",
    "ResponseTooLarge",
    "Trust",
    "parse_origin",
]
