"""Keeps secrets out of everything that is written down: logs, audit lines, error texts, `/status`.

Three nets, because each has holes of its own: values under a telling key, text that looks like a credential, and the
very secrets that this process was configured with, in the encodings in which they travel.
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

REDACTED = "[redacted]"
MIN_SECRET = 6
"""Shorter secrets are not searched for: they would redact half of every line and are no secrets."""

MAX_TOKEN = 16 * 1024
"""Characters of the longest credential that is recognized where a text is cut: no longer token is accepted anyway."""

_SECRET_NAMES = frozenset({"authorization", "proxyauthorization", "cookie", "setcookie"})
_SECRET_ENDINGS = (
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "credential",
    "privatekey",
    "assertion",
    "sessionid",
)
_HARMLESS_KEYS = frozenset({"progresstoken", "subjecttokentype", "requestedtokentype", "issuedtokentype"})
_LONGEST_KEY = 64
"""Of a longer key only the end is looked at: that is where keys say what they are."""


def _unless_short(match: re.Match[str]) -> str:
    return match.group() if match.group(1) is None else REDACTED


_PATTERNS: tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    ("bearer", re.compile(r"(?i)\b(bearer)\s++[A-Za-z0-9._~+/=-]{4,}+"), r"\1 " + REDACTED),
    ("basic", re.compile(r"(?i)\b(basic)\s++[A-Za-z0-9._~+/=-]{4,}+"), r"\1 " + REDACTED),
    # The second half is optional so that a run of letters without dots is consumed, and never looked at again from
    # each of the places in it where a token could begin.
    ("eyj", re.compile(r"eyJ[A-Za-z0-9_-]{5,}+(\.[A-Za-z0-9_-]{5,}+\.[A-Za-z0-9_-]*+)?"), _unless_short),
    (
        "=",
        re.compile(
            r"(?i)([?&;](?:access_token|token|api_key|apikey|key|password|secret|code|client_secret)=)[^&\s\"']++"
        ),
        r"\1" + REDACTED,
    ),
    ("://", re.compile(r"(?i)(://[^/\s:@\"']*+:)[^/\s@\"']++@"), r"\1" + REDACTED + "@"),
)
"""What every match holds in lower case, the pattern, and what stands in its place.

Texts come from clients and backends, so each pattern takes time linear in the text: repetitions are possessive, and
what a failed attempt has read is not read again by the next.
"""
_MAX_DEPTH = 32


def is_secret_key(key: str) -> bool:
    """Say whether values under this key are never written down."""
    name = key[-_LONGEST_KEY:].strip().lower().replace("-", "").replace("_", "")
    return (name.endswith(_SECRET_ENDINGS) or name in _SECRET_NAMES) and name not in _HARMLESS_KEYS


class Redactor:
    """Takes secrets out of text and JSON, in time linear in its length. Immutable; a reload makes a new one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Know the secrets of this process."""
        spellings: set[str] = set()
        for secret in secrets:
            if len(secret) >= MIN_SECRET:
                spellings |= _spellings(secret)
        self._known = re.compile(_any_of(spellings)) if spellings else None
        self._shortest = min(map(len, spellings), default=0)
        self._margin = max(MAX_TOKEN, *map(len, spellings), 0)

    def text(self, value: str, limit: int | None = None) -> str:
        """Return `value` without secrets; with `limit` at most so many characters of it, and no piece of a secret.

        Most texts hold none: a look for the few characters that every pattern needs costs a tenth of the patterns.
        """
        if limit is not None and len(value) > limit:
            return self._start(value, limit)
        if self._known is not None and len(value) >= self._shortest:
            value = self._known.sub(REDACTED, value)
        if "=" in value or ":" in value or "." in value or " " in value:
            lower = value.lower()
            for hint, pattern, replacement in _PATTERNS:
                if hint in lower:
                    value = pattern.sub(replacement, value)
        # A mark may be longer than the secret in whose place it stands.
        return value if limit is None else value[:limit]

    def _start(self, value: str, limit: int) -> str:
        """Return the start of a text that is too long: cut first, so that its length costs nothing.

        A secret that lies across the cut must not leave its first half: the cut moves to where it begins.
        """
        window = value[: limit + self._margin]
        lower = window.lower()
        patterns = [pattern for hint, pattern, _ in _PATTERNS if hint in lower]
        if self._known is not None:
            patterns.append(self._known)
        cut = limit
        for pattern in patterns:
            for match in pattern.finditer(window):
                if match.start() >= limit:
                    break
                if match.end() > limit:
                    cut = min(cut, match.start())
        end = REDACTED if cut < limit else ""
        return (self.text(value[:cut])[: max(limit - len(end), 0)] + end)[:limit]

    def value(self, value: Any, depth: int = 0, limit: int | None = None) -> Any:
        """Return a JSON value without secrets; `limit` bounds each text in it, in characters."""
        if isinstance(value, str):
            return self.text(value, limit)
        if depth >= _MAX_DEPTH:
            return REDACTED
        if isinstance(value, Mapping):
            return {
                self.text(key, limit) if isinstance(key, str) else key: (
                    REDACTED
                    if isinstance(key, str) and is_secret_key(key) and item
                    else self.value(item, depth + 1, limit)
                )
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item, depth + 1, limit) for item in value]
        return value if value is None or isinstance(value, bool | int | float) else self.text(str(value), limit)


def _any_of(words: Iterable[str], place: int = 0) -> str:
    """Return an expression for any of the words, the longest that fits.

    Grouped by their first characters: a plain list of alternatives is tried one by one at every place of a text, which
    is a thousandfold cost where there are a thousand secrets.
    """
    if place == _GROUPED:
        return "|".join(re.escape(word[place:]) for word in sorted(words, key=len, reverse=True))
    groups: dict[str, list[str]] = {}
    for word in sorted(words):
        groups.setdefault(word[place], []).append(word)
    return "|".join(f"{re.escape(char)}(?:{_any_of(group, place + 1)})" for char, group in groups.items())


_GROUPED = 3
assert _GROUPED < MIN_SECRET


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
