"""An audit event as a line of JSON.

The shape is ToolHive's (NIST SP 800-53 AU-3: what, when, where, source, outcome, who).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from weakref import WeakKeyDictionary

import orjson

from vmcp.audit.interface import AuditEvent
from vmcp.auth.interface import Principal
from vmcp.observe.redact import Redactor

MAX_TEXT = 256
MAX_ERROR = 1024
"""Characters of an error's text: backends write it."""
MAX_KEPT = 4096
"""Encoded parts that a maker keeps; then it begins anew."""
MAX_PARSED = 1 << 20
"""Longest request or response data that is looked into; of longer ones only the size is written."""

_RANDOM = 16 * 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TARGET_TYPE = {"tools/call": "tool", "resources/read": "resource", "prompts/get": "prompt"}


@dataclass(frozen=True, slots=True)
class LineSettings:
    """What of the audit section decides about a line's content."""

    component: str = "vmcp-server"
    include_request_data: bool = False
    include_response_data: bool = False
    max_data_size: int = 1024
    max_delegation_depth: int = 10

    @property
    def includes_data(self) -> bool:
        """A line may hold parts of bodies, which take time to look through."""
        return self.include_request_data or self.include_response_data


class LineMaker:
    """Makes lines. What lines have in common is searched for secrets and encoded once, and kept as bytes.

    Only what comes from outside is searched; the rest are words and numbers of our own. Not for several threads at a
    time.
    """

    def __init__(self, settings: LineSettings, redactor: Redactor) -> None:
        """Make lines under these settings.

        Args:
            settings: What to include.
            redactor: Takes secrets out of every text; with another one, make another maker.
        """
        self.redactor = redactor
        self._settings = settings
        self._component = orjson.dumps(settings.component)
        self._kept: dict[Hashable, bytes] = {}
        self._subjects: WeakKeyDictionary[Principal, tuple[bytes, bytes]] = WeakKeyDictionary()
        self._nobody = (orjson.dumps({"user": "unknown"}), b"")
        self._second = -1
        self._stamp = b""
        self._random = b""
        self._used = 0

    def line(self, event: AuditEvent, at: float) -> bytes:
        """Return the line of an event that happened at `at` (Unix seconds), newline included."""
        principal = event.principal
        subjects, chain = self._nobody if principal is None else self._who(principal)
        return b"".join(
            (
                b'{"metadata":{"auditId":"',
                self._id(),
                b'","extra":{',
                self._extra(event, chain),
                b'}},"type":"',
                event.type.value.encode(),
                b'","loggedAt":"',
                self._time(at),
                b'","source":{"type":"network","value":',
                self._source(event),
                b'},"outcome":"',
                event.outcome.value.encode(),
                b'","subjects":',
                subjects,
                b',"component":',
                self._component,
                b',"target":',
                self._target(event),
                _data(event, self._settings, self.redactor),
                b"}\n",
            )
        )

    def _id(self) -> bytes:
        """Return a random UUID (version 4): the system is asked for many at a time."""
        if self._used >= len(self._random):
            self._random, self._used = os.urandom(_RANDOM), 0
        found = self._random[self._used : self._used + 16].hex()
        self._used += 16
        variant = "89ab"[int(found[16], 16) & 3]
        return f"{found[:8]}-{found[8:12]}-4{found[13:16]}-{variant}{found[17:20]}-{found[20:]}".encode()

    def _time(self, at: float) -> bytes:
        second = int(at)
        if second != self._second:
            self._second = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        return b"%b.%03dZ" % (self._stamp, (at - second) * 1000)

    def _who(self, principal: Principal) -> tuple[bytes, bytes]:
        """Return the subjects, and the delegation chain as a member of `extra`; kept as long as the principal."""
        known = self._subjects.get(principal)
        if known is None:
            chain = delegation(principal.claims, self._settings.max_delegation_depth)
            member = b',"delegation_chain":' + orjson.dumps(self.redactor.value(chain)) if chain else b""
            known = self._subjects[principal] = (orjson.dumps(_subjects(principal, self.redactor)), member)
        return known

    def _source(self, event: AuditEvent) -> bytes:
        """Return value and extra of the source."""
        address = self._text(event.client_ip or "unknown")
        agent = self._text(event.user_agent) if event.user_agent else b""
        if event.request_id is None:
            return b'%b,"extra":{"user_agent":%b}' % (address, agent) if agent else address
        asked = orjson.dumps(_short(self.redactor.text(event.request_id, MAX_TEXT)))
        if agent:
            return b'%b,"extra":{"user_agent":%b,"request_id":%b}' % (address, agent, asked)
        return b'%b,"extra":{"request_id":%b}' % (address, asked)

    def _extra(self, event: AuditEvent, chain: bytes) -> bytes:
        """Return the members of `extra`."""
        parts = [self._outcome(event)]
        if event.duration_ms is not None:
            parts.append(b',"duration_ms":%.3f' % event.duration_ms)
        if event.trace_id is not None:
            parts.append(b',"trace_id":' + orjson.dumps(event.trace_id))
        if event.backend is not None or event.remote_url or event.auth_method is not None or event.remote_status:
            parts.append(self._remote(event))
        if event.error:
            parts.append(b',"error":' + orjson.dumps(self.redactor.text(event.error, MAX_ERROR)))
        if event.session_id:
            parts.append(b',"session":"%b"' % self._session(event.session_id))
        parts.append(chain)
        return b"".join(parts).removeprefix(b",")

    def _outcome(self, event: AuditEvent) -> bytes:
        key = (event.era, event.status)
        return self._kept.get(key) or self._keep(key, _members({"era": event.era, "status": event.status}))

    def _remote(self, event: AuditEvent) -> bytes:
        key = (event.backend, event.remote_url, event.auth_method, event.remote_status)
        known = self._kept.get(key)
        if known is not None:
            return known
        url = self.redactor.text(bare_url(event.remote_url)) if event.remote_url else None
        members = {
            "backend_name": event.backend,
            "remote_url": url,
            "auth_method": event.auth_method,
            "remote_status": event.remote_status,
        }
        return self._keep(key, _members(members))

    def _target(self, event: AuditEvent) -> bytes:
        key = (event.method, event.name, event.backend, event.backend_tool, None)
        known = self._kept.get(key)
        if known is not None:
            return known
        text = self.redactor.text
        pairs = {
            "endpoint": "/mcp",
            "method": text(event.method, MAX_TEXT),
            "type": _TARGET_TYPE.get(event.method),
            "name": text(event.name, MAX_TEXT) if event.name else None,
            "backend": event.backend,
            "backend_name": event.backend_tool,
        }
        made = orjson.dumps({name: _short(value) for name, value in pairs.items() if value})
        # Names of any length come from outside: only those that may come again are worth a place.
        long = len(event.method) > MAX_TEXT or (event.name is not None and len(event.name) > MAX_TEXT)
        return made if long else self._keep(key, made)

    def _session(self, session_id: str) -> bytes:
        known = self._kept.get(session_id)
        if known is not None:
            return known
        return self._keep(session_id, hashlib.sha256(session_id.encode()).hexdigest()[:12].encode())

    def _text(self, value: str) -> bytes:
        key = (value,)
        return self._kept.get(key) or self._keep(key, orjson.dumps(_short(self.redactor.text(value, MAX_TEXT))))

    def _keep(self, key: Hashable, made: bytes) -> bytes:
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[key] = made
        return made


def _members(found: Mapping[str, Any]) -> bytes:
    """Return those members that have a value, each with a comma before it."""
    return b"".join(
        b',"%b":%b' % (name.encode(), orjson.dumps(value)) for name, value in found.items() if value is not None
    )


def _subjects(principal: Principal, redactor: Redactor) -> dict[str, str]:
    claims = principal.claims
    user = next((claims[name] for name in ("name", "preferred_username", "email") if _is_text(claims.get(name))), None)
    found = {
        "user": _short(user or principal.subject),
        "user_id": _short(principal.subject),
        "issuer": principal.issuer,
    }
    for key, claim in (("client_id", "client_id"), ("client_id", "azp")):
        if _is_text(claims.get(claim)):
            found.setdefault(key, _short(claims[claim]))
    return {key: redactor.text(value) for key, value in found.items()}


def delegation(claims: Mapping[str, Any], depth: int) -> list[dict[str, str]]:
    """Return who acted for whom (RFC 8693 `act`), the nearest actor first, `depth` actors at most."""
    chain: list[dict[str, str]] = []
    actor = claims.get("act")
    while isinstance(actor, Mapping) and len(chain) < depth:
        entry = {name: _short(actor[name]) for name in ("sub", "iss") if _is_text(actor.get(name))}
        if entry:
            chain.append(entry)
        actor = actor.get("act")
    return chain


def bare_url(url: str) -> str:
    """Return a URL without user, query and fragment: the parts that hold credentials."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _data(event: AuditEvent, settings: LineSettings, redactor: Redactor) -> bytes:
    """Return the member `data` with a comma before it; nothing where nothing is included."""
    if not settings.includes_data:
        return b""
    wanted = (
        ("request", event.request_data if settings.include_request_data else None),
        ("response", event.response_data if settings.include_response_data else None),
    )
    data = {key: _bounded(raw, settings.max_data_size, redactor) for key, raw in wanted if raw is not None}
    return b',"data":' + orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS) if data else b""


def _bounded(raw: bytes, limit: int, redactor: Redactor) -> Any:
    """Return data as JSON when it is short enough, else the start of its text; redacted before it is cut."""
    if len(raw) > MAX_PARSED:
        return f"[{len(raw)} bytes]"
    try:
        clean = redactor.value(orjson.loads(raw), limit=limit)
        text = orjson.dumps(clean)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return f"[{len(raw)} bytes that are not JSON]"
    return clean if len(text) <= limit else text[:limit].decode("utf-8", "ignore") + "..."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _short(value: str) -> str:
    value = value[:MAX_TEXT]
    return value if value.isprintable() else _CONTROL.sub("?", value)
