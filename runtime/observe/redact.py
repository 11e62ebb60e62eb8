"""Keeps secret values out of log lines, whoever wrote the line.

The first defence is that nobody logs secrets; this is the second. It works by shape: values under names that promise
a credential, the data of anything that says it is a Secret, bearer tokens and passwords inside of texts and URLs. Names
of Secrets and of their keys stay readable, because finding the object is what a log is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

REDACTED = "[redacted]"

_CREDENTIAL_KEYS = frozenset(
    {
        "accesstoken",
        "apikey",
        "authorization",
        "bearer",
        "clientsecret",
        "clientassertion",
        "cookie",
        "credential",
        "credentials",
        "idtoken",
        "passphrase",
        "passwd",
        "password",
        "privatekey",
        "proxyauthorization",
        "refreshtoken",
        "setcookie",
        "secretvalue",
        "subjecttoken",
        "token",
        "tokendata",
        "xapikey",
    }
)
_SECRET_DATA = frozenset({"data", "stringData", "binaryData"})
_TEXT_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 " + REDACTED),
    (re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s:@]+:[^/\s@]+@"), r"\1" + REDACTED + "@"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), REDACTED),
    (re.compile(r"(?i)([?&](?:access_token|token|api_key|client_secret|password)=)[^&\s]+"), r"\1" + REDACTED),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL), REDACTED),
)
_MAX_DEPTH = 12


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor; put it right before the renderer, after exceptions were made texts."""
    for key, value in event.items():
        event[key] = redact(value, key)
    return event


def redact(value: Any, key: str = "", depth: int = 0) -> Any:
    """Return `value` without secrets; `key` is the name that it stands under."""
    if depth > _MAX_DEPTH:
        return "[too deep]"
    if isinstance(value, str):
        return REDACTED if value and _is_credential(key) else redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping):
        return _redact_mapping(value, key, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, key, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))


def redact_text(text: str) -> str:
    """Cut tokens, passwords in URLs and private keys out of a text."""
    for pattern, replacement in _TEXT_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _redact_mapping(value: Mapping[Any, Any], key: str, depth: int) -> dict[str, Any]:
    is_secret = value.get("kind") == "Secret"
    if _is_credential(key):
        return dict.fromkeys(map(str, value), REDACTED)
    return {
        str(name): REDACTED if is_secret and name in _SECRET_DATA else redact(item, str(name), depth + 1)
        for name, item in value.items()
    }


def _is_credential(key: str) -> bool:
    return key.replace("-", "").replace("_", "").lower() in _CREDENTIAL_KEYS
