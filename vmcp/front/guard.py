"""Checks before anything is read: who is addressed, from which page, in which form.

DNS rebinding: a page in a user's browser must not reach a gateway on the user's machine through a name that the page's
owner points there. A listener on a loopback address therefore answers to loopback names only; elsewhere an `Origin`
must be one that was allowed. That it equals `Host` says nothing there: after a rebinding both hold the page's own name.
Only an address cannot be rebound.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from itertools import accumulate
from typing import Final
from urllib.parse import urlsplit

from vmcp.front.forms import Form, accepted
from vmcp.front.settings import FrontSettings
from vmcp.http.server.asgi import Refusal

MAX_BRACKETS: Final = 400_000
"""Opening and closing brackets of one body: counting more would hold up everybody else."""
_STRING = re.compile(rb'"[^"]*+"?')
_PLAIN = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_STEP = [1 if byte in b"[{" else -1 for byte in range(256)]
_PLAIN_CODINGS = frozenset({b"", b"identity"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


def check_addressee(headers: dict[bytes, bytes], settings: FrontSettings) -> None:
    """Refuse a foreign Host or Origin.

    Raises:
        Refusal: 403.
    """
    if settings.loopback_only:
        host = headers.get(b"host", b"").decode("latin-1").strip()
        if _hostname(host) not in _LOOPBACK:
            raise Refusal(403, -32600, "the Host header names another host")
    origin = headers.get(b"origin")
    if origin is not None:
        _check_origin(origin.decode("latin-1").strip(), headers, settings)


def _check_origin(origin: str, headers: dict[bytes, bytes], settings: FrontSettings) -> None:
    if origin in settings.allowed_origins:
        return
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
    except ValueError:
        parts, name = urlsplit(""), ""
    if settings.loopback_only:
        if name in _LOOPBACK:
            return
    elif _is_address(name) and parts.netloc == headers.get(b"host", b"").decode("latin-1").strip():
        return
    raise Refusal(403, -32600, "the Origin header names a page that is not allowed here")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _hostname(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


def check_post(headers: dict[bytes, bytes]) -> Form:
    """Return which forms of an answer the sender of a POST takes; refuse one whose body is no JSON, or that takes none.

    Raises:
        Refusal: 415, 501 or 406.
    """
    if b"transfer-encoding" in headers or b"content-encoding" in headers:
        _check_codings(headers)
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        raise Refusal(415, -32600, "content-type must be application/json")
    accept = headers.get(b"accept", b"").lower()
    if b"application/json" in accept and b"text/event-stream" in accept:
        return Form.ANY
    form = accepted(accept)
    if form is None:
        raise Refusal(406, -32600, "accept must list application/json and text/event-stream")
    return form


def _check_codings(headers: dict[bytes, bytes]) -> None:
    """Refuse a body in a form that nobody here undoes: it would be read as what it is not (RFC 9110 8.4, 9112 6.1)."""
    if headers.get(b"content-encoding", b"").strip().lower() not in _PLAIN_CODINGS:
        raise Refusal(415, -32600, "content-encoding must be identity", headers=[(b"accept-encoding", b"identity")])
    if headers.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        raise Refusal(501, -32600, "transfer-encoding must be chunked", headers=[(b"connection", b"close")])


def check_depth(body: bytes, limit: int) -> None:
    """Refuse JSON that is nested too deep: whoever decodes it further on may not survive it.

    Runs before the JSON is known to be any, so it takes time linear in the body whatever that holds.

    Raises:
        Refusal: 400.
    """
    if not _is_flat(body, limit):
        _judge(_structure(body), limit)


def _is_flat(body: bytes, limit: int) -> bool:
    return body.count(b"[") + body.count(b"{") <= limit


def _structure(body: bytes) -> bytes:
    """Return brackets, and the quotes around strings; what is in strings is still there."""
    return body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _PLAIN)


def _judge(structure: bytes, limit: int) -> None:
    # Without escapes each quote opens or closes a string, and two side by side cancel each other out.
    structure = structure.replace(b'""', b"")
    if structure.count(b'"') > MAX_BRACKETS:
        raise Refusal(400, -32600, "the JSON contains too many arrays and objects")
    brackets = _STRING.sub(b"", structure)
    if len(brackets) > MAX_BRACKETS:
        raise Refusal(400, -32600, "the JSON contains too many arrays and objects")
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > limit:
        raise Refusal(400, -32600, f"the JSON is nested deeper than {limit} levels")
