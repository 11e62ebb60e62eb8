r"""Messages of deployed servers that are not quite JSON-RPC, read as they are meant.

A client has no choice of servers, and what one of them writes costs a whole answer: a call that was executed and looks
as if it had failed, or all tools of a backend. Where what is meant is beyond doubt, it is mended. Everything else keeps
every byte, and the mended text is what everybody sees from here on.

| what a server writes | what it is read as |
|---|---|
| a byte order mark in front (.NET's default encoding; RFC 8259, 8.1 lets a parser ignore it) | nothing |
| `NaN`, `Infinity`, `-Infinity` (Python's `json.dumps`) | `null`, as the SDKs and JavaScript write them |
| half a surrogate pair, `"\ud83d"` (a text cut in JavaScript) | U+FFFD, as `String.prototype.toWellFormed` does |
| `"method": null`, `"params": null` beside a result or an error (serializers that write every member) | nothing |
| an error whose code is no number, whose message is no text, or that is a text | an internal error with its words |
| several messages in an array (2025-03-26 allows them) | one after the other |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.wire.jsonrpc import MAX_CODE, JsonRpcError, Message, dumps, fields, join, parse
from vmcp.wire.protocol import INTERNAL_ERROR

MAX_MENDED: Final = 256 * 1024
"""Bytes of a text that is mended. It is read several times while everybody waits, so a longer one stays wrong."""
MAX_PLACES: Final = 10_000
"""Places in one text that are looked at, for the same reason."""
MAX_BATCH: Final = 1000
"""Messages of one array."""
MAX_WORDS: Final = 512
"""Characters of an error's message that was none."""

_BOM: Final = b"\xef\xbb\xbf"
_NO_NUMBERS: Final = (b"NaN", b"Infinity")
_HALVES: Final = (b"\\ud", b"\\uD")
_HIGH = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(rb"%b(?!%b)|(?<!%b)%b" % (_HIGH, _LOW, _HIGH, _LOW))
_messages = msgspec.json.Decoder(list[Raw])


def read_message(body: bytes) -> Message:
    """Decode one message of a server; see the module.

    Raises:
        JsonRpcError: It is none, and what is meant is not beyond doubt.
    """
    try:
        return parse(body)
    except JsonRpcError:
        text = _as_json(body)
        if text is None:
            raise
    try:
        return parse(text)
    except JsonRpcError:
        members = _as_members(text)
        if members is None:
            raise
    return parse(members)


def read_batch(body: bytes) -> list[Message]:
    """Return the messages in an array, without what is none; [] for anything else, and for arrays that are too long."""
    text = _as_json(body)
    if text is None or text.lstrip()[:1] != b"[":
        return []
    try:
        raws = _messages.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    if len(raws) > MAX_BATCH:
        return []
    found: list[Message] = []
    for raw in raws:
        try:
            found.append(read_message(bytes(raw)))
        except JsonRpcError:
            continue
    return found


def _as_json(body: bytes) -> bytes | None:
    """Return a text as JSON, as far as that can be done without guessing; None where it is too long to try."""
    text = body.removeprefix(_BOM)
    if len(text) > MAX_MENDED:
        return text if len(text) < len(body) else None
    # The same length without escapes that hide a backslash; below also without those that hide a quote.
    plain = text.replace(b"\\\\", b"__")
    places = [(at, at + 6, b"\\ufffd") for at in _found(_HALVES, plain) if _HALF.match(plain, at)]
    plain = plain.replace(b'\\"', b"__")
    for word in _NO_NUMBERS:
        places += [(start, end, b"null") for start, end in _outside_strings(word, plain)]
    return _replaced(text, sorted(places)) if places else text


def _found(words: Iterable[bytes], text: bytes) -> Iterator[int]:
    """Find the first `MAX_PLACES` places of words."""
    for word in words:
        at = text.find(word)
        for _ in range(MAX_PLACES):
            if at < 0:
                break
            yield at
            at = text.find(word, at + len(word))


def _outside_strings(word: bytes, plain: bytes) -> Iterator[tuple[int, int]]:
    """Find a number that is none, with its sign, where an even number of quotes comes before it."""
    quotes = before = 0
    for at in _found((word,), plain):
        quotes += plain.count(b'"', before, at)
        before = at
        if quotes % 2 == 0:
            yield at - (plain[at - 1 : at] == b"-"), at + len(word)


def _replaced(text: bytes, places: list[tuple[int, int, bytes]]) -> bytes:
    parts: list[bytes] = []
    before = 0
    for start, end, instead in places:
        parts += (text[before:start], instead)
        before = end
    return b"".join((*parts, text[before:]))


def _as_members(text: bytes) -> bytes | None:
    """Return an answer with the members that an answer has; None where it is no object."""
    if len(text) > MAX_MENDED:
        return None
    members = fields(text)
    if not members:
        return None
    for name in ("method", "params"):
        if bytes(members.get(name, b"")) == b"null":
            del members[name]
    error = bytes(members.get("error", b"null"))
    if error != b"null" and "method" not in members:
        members["error"] = Raw(_as_error(error))
    return join(members)


def _as_error(raw: bytes) -> bytes:
    """Return an error with a code and a message; what had another form stays in its data."""
    try:
        said = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw
    if not isinstance(said, dict):
        return dumps({"code": INTERNAL_ERROR, "message": _words(said), "data": Raw(raw)})
    code = _code(said.get("code"))
    message = said.get("message")
    kept = fields(raw).get("data")
    if code is None or not isinstance(message, str):
        kept = kept if kept is not None else Raw(raw)
    out = {"code": INTERNAL_ERROR if code is None else code, "message": _words(message)}
    return dumps(out if kept is None else {**out, "data": kept})


def _code(said: Any) -> int | None:
    """Return a code that is meant as a number; `-32000.0` and `"-32000"` are."""
    try:
        code = int(said) if isinstance(said, str | float) and len(str(said)) < 32 and float(said) % 1 == 0 else said
    except (ValueError, OverflowError):
        return None
    return code if isinstance(code, int) and not isinstance(code, bool) and abs(code) <= MAX_CODE else None


def _words(said: Any) -> str:
    """Return what an error says, whatever its form; "" where it says nothing."""
    if isinstance(said, str):
        return said
    return "" if said is None else dumps(said)[: 4 * MAX_WORDS].decode("utf-8", "replace")[:MAX_WORDS]
