"""The vocabulary of MCP over HTTP: versions, methods, error codes, header names and header values.

Two eras share one endpoint. *Legacy* (2025-11-25 and older) opens a session with `initialize`; *modern* (2026-07-28)
describes every request in its own `_meta` and mirrors parts of the body in headers, so that intermediaries may route
without parsing. Header values of the modern era that a field cannot carry are written as `=?base64?...?=`.
"""

from __future__ import annotations

import base64
import binascii
import re
from types import MappingProxyType
from typing import Final

from api.contract.headers import FIELD_VALUE, TOKEN

MODERN: Final = "2026-07-28"
"""The version of the modern era."""

LATEST_LEGACY: Final = "2025-11-25"
"""The newest version that is spoken over `initialize`."""

LEGACY_VERSIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Versions that an `initialize` may agree on, newest first."""

SUPPORTED_VERSIONS: Final = (MODERN, *LEGACY_VERSIONS)

# --- header names, lower case as they travel in ASGI ------------------------------------------------------------------

H_SESSION: Final = "mcp-session-id"
H_VERSION: Final = "mcp-protocol-version"
H_METHOD: Final = "mcp-method"
H_NAME: Final = "mcp-name"
H_PARAM_PREFIX: Final = "mcp-param-"
H_LAST_EVENT: Final = "last-event-id"

JSON_TYPE: Final = "application/json"
SSE_TYPE: Final = "text/event-stream"
ACCEPT_BOTH: Final = f"{JSON_TYPE}, {SSE_TYPE}"

# --- keys of `_meta` --------------------------------------------------------------------------------------------------

META_PREFIX: Final = "io.modelcontextprotocol/"
META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
META_CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
META_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
META_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
META_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
META_SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"
ENVELOPE_KEYS: Final = frozenset({META_VERSION, META_CLIENT_INFO, META_CAPABILITIES, META_LOG_LEVEL})
"""What a modern request says about its client; belongs to one hop and is written anew on the next."""

# --- methods ----------------------------------------------------------------------------------------------------------

INITIALIZE: Final = "initialize"
INITIALIZED: Final = "notifications/initialized"
DISCOVER: Final = "server/discover"
LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
PING: Final = "ping"
SET_LEVEL: Final = "logging/setLevel"
TOOLS_LIST: Final = "tools/list"
TOOLS_CALL: Final = "tools/call"
RESOURCES_LIST: Final = "resources/list"
TEMPLATES_LIST: Final = "resources/templates/list"
RESOURCES_READ: Final = "resources/read"
RESOURCES_SUBSCRIBE: Final = "resources/subscribe"
RESOURCES_UNSUBSCRIBE: Final = "resources/unsubscribe"
PROMPTS_LIST: Final = "prompts/list"
PROMPTS_GET: Final = "prompts/get"
COMPLETE: Final = "completion/complete"
ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"
ROOTS_LIST: Final = "roots/list"

CANCELLED: Final = "notifications/cancelled"
PROGRESS: Final = "notifications/progress"
MESSAGE: Final = "notifications/message"
TOOLS_CHANGED: Final = "notifications/tools/list_changed"
RESOURCES_CHANGED: Final = "notifications/resources/list_changed"
PROMPTS_CHANGED: Final = "notifications/prompts/list_changed"
ROOTS_CHANGED: Final = "notifications/roots/list_changed"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
ELICITATION_COMPLETE: Final = "notifications/elicitation/complete"

NAME_OF: Final = MappingProxyType({TOOLS_CALL: "name", PROMPTS_GET: "name", RESOURCES_READ: "uri"})
"""Method -> the key of `params` whose value `Mcp-Name` mirrors."""

INPUT_METHODS: Final = frozenset({TOOLS_CALL, PROMPTS_GET, RESOURCES_READ})
"""Methods whose result may be `input_required`."""

SERVER_REQUESTS: Final = frozenset({ELICIT, SAMPLE, ROOTS_LIST})
"""What a backend may ask a client for."""

# --- error codes ------------------------------------------------------------------------------------------------------

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
RESOURCE_NOT_FOUND_LEGACY: Final = -32002
"""Legacy only; modern says INVALID_PARAMS."""
URL_ELICITATION_REQUIRED: Final = -32042
"""Legacy only (2025-11-25)."""
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022

MODERN_CODES: Final = frozenset({HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION})
"""Codes that only a modern server answers: a 4xx with one of them proves the era."""

RESULT_COMPLETE: Final = "complete"
RESULT_INPUT_REQUIRED: Final = "input_required"

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""Least severe first (RFC 5424)."""

# --- header names and values ------------------------------------------------------------------------------------------

_TOKEN = re.compile(TOKEN)
_VALUE = re.compile(FIELD_VALUE)
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_CODED_HEAD = "=?base64?"
_CODED_TAIL = "?="
OWS: Final = " \t"
"""Optional whitespace (RFC 9110, 5.6.3): no part of a header value. httptools leaves it in place."""


class HeaderError(ValueError):
    """A header name or value that must not be put on the wire. The text never holds the value."""


def is_token(name: str) -> bool:
    """Tell whether `name` may be a header name (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(name) is not None


def check_header(name: str, value: str) -> None:
    """Refuse what could break out of its header line or means different things to different parsers.

    Raises:
        HeaderError: The name is no token, or the value holds CR, LF, NUL or another control character (RFC 9110, 5.5).
    """
    if _TOKEN.fullmatch(name) is None:
        raise HeaderError(f"illegal header name {name[:64]!r}")
    if _VALUE.fullmatch(value) is None:
        raise HeaderError(f"illegal character in the value of header {name!r}")


def encode_value(value: str) -> str:
    """Return `value` as a modern header carries it: as it is, or as `=?base64?...?=`.

    Coded are values with characters outside visible ASCII, with space at an edge, empty ones, and literals that look
    coded already, so that decoding is exact.
    """
    if _PLAIN.fullmatch(value) and not (value.startswith(_CODED_HEAD) and value.endswith(_CODED_TAIL)):
        return value
    if not value:
        return value
    return f"{_CODED_HEAD}{base64.b64encode(value.encode()).decode('ascii')}{_CODED_TAIL}"


def decode_value(value: str) -> str | None:
    """Return what a modern header value stands for; None when it claims to be coded and is not canonical base64."""
    if not (value.startswith(_CODED_HEAD) and value.endswith(_CODED_TAIL)):
        return value
    payload = value[len(_CODED_HEAD) : -len(_CODED_TAIL)]
    try:
        decoded = base64.b64decode(payload, validate=True)
        if base64.b64encode(decoded).decode("ascii") != payload:
            return None
        return decoded.decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
