"""Keeps secrets out of everything that is written down: logs, audit lines, error texts, `/status`.

Three nets, because each has holes of its own: values under a telling key, text that looks like a credential, and the
very secrets that this process was configured with, in the encodings in which they travel.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

REDACTED = "[redacted]"
MIN_SECRET = 6
"""Shorter secrets are not searched for: they would redact half of every line and are no secrets."""

_KEY = re.compile(
    r"(?i)^(authorization|proxy-authorization|cookie|set-cookie|.*(password|passwd|secret|token|api[-_]?key|apikey|"
    r"credential|private[-_]?key|assertion|session[-_]?id))$"
)
_HARMLESS_KEYS = frozenset({"progresstoken", "subject_token_type", "requested_token_type", "issued_token_type"})
_PATTERNS = (
    ("bearer", re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{4,}"), r"\1 " + REDACTED),
    ("basic", re.compile(r"(?i)\b(basic)\s+[A-Za-z0-9._~+/=-]{4,}"), r"\1 " + REDACTED),
    ("eyj", re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"), REDACTED),
    (
        "=",
        re.compile(
            r"(?i)([?&;](?:access_token|token|api_key|apikey|key|password|secret|code|client_secret)=)[^&\s\"']+"
        ),
        r"\1" + REDACTED,
    ),
    ("://", re.compile(r"(?i)(://[^/\s:@\"']*:)[^/\s@\"']+@"), r"\1" + REDACTED + "@"),
)
"""What every match holds in lower case, the pattern, and what stands in its place."""
_MAX_DEPTH = 32


def is_secret_key(key: str) -> bool:
    """Say whether values under this key are never written down."""
    return _KEY.match(key) is not None and key.lower() not in _HARMLESS_KEYS


class Redactor:
    """Takes secrets out of text and JSON. Immutable; a reload makes a new one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Know the secrets of this process."""
        spellings: set[str] = set()
        for secret in secrets:
            if len(secret) >= MIN_SECRET:
                spellings |= _spellings(secret)
        ordered = sorted(spellings, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._shortest = min(map(len, ordered), default=0)

    def text(self, value: str) -> str:
        """Return `value` without secrets.

        Most texts hold none: a look for the few characters that every pattern needs costs a tenth of the patterns.
        """
        if self._known is not None and len(value) >= self._shortest:
            value = self._known.sub(REDACTED, value)
        if "=" in value or ":" in value or "." in value or " " in value:
            lower = value.lower()
            for hint, pattern, replacement in _PATTERNS:
                if hint in lower:
                    value = pattern.sub(replacement, value)
        return value

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a JSON value without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if depth >= _MAX_DEPTH:
            return REDACTED
        if isinstance(value, Mapping):
            return {
                self.text(key) if isinstance(key, str) else key: (
                    REDACTED if isinstance(key, str) and is_secret_key(key) and item else self.value(item, depth + 1)
                )
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1) for item in value]
        return value if value is None or isinstance(value, bool | int | float) else self.text(str(value))


def _spellings(secret: str) -> set[str]:
    raw = secret.encode()
    found = {secret, quote(secret, safe=""), quote_plus(secret), orjson.dumps(secret)[1:-1].decode()}
    # Base64 of a longer text that holds the secret depends on where the secret starts, modulo three.
    for shift in range(3):
        padded = b"\0" * shift + raw
        for encode in (b64encode, urlsafe_b64encode):
            text = encode(padded).rstrip(b"=").decode()
            start, cut = (shift * 8 + 5) // 6, (len(padded) * 8) // 6
            found.add(text[start:cut])
    return {spelling for spelling in found if len(spelling) >= MIN_SECRET}
