"""An audit event as a line of JSON.

The shape is ToolHive's (NIST SP 800-53 AU-3: what, when, where, source, outcome, who).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from vmcp.audit.interface import AuditEvent
from vmcp.auth.interface import Principal
from vmcp.observe.redact import Redactor

MAX_TEXT = 256
MAX_PARSED = 1 << 20
"""Longest request or response data that is looked into; of longer ones only the size is written."""

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


def audit_line(event: AuditEvent, at: float, settings: LineSettings, redactor: Redactor) -> bytes:
    """Return the line, newline included.

    Args:
        event: What happened.
        at: When, Unix seconds.
        settings: What to include.
        redactor: Takes secrets out of every text.
    """
    line: dict[str, Any] = {
        "metadata": {"auditId": str(uuid.uuid4()), "extra": _extra(event, settings, redactor)},
        "type": event.type.value,
        "loggedAt": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "source": _source(event, redactor),
        "outcome": event.outcome.value,
        "subjects": _subjects(event.principal, redactor),
        "component": settings.component,
        "target": _target(event, redactor),
    }
    data = _data(event, settings, redactor)
    if data:
        line["data"] = data
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


# Only what comes from outside is searched for secrets; the rest are words and numbers of our own.


def _source(event: AuditEvent, redactor: Redactor) -> dict[str, Any]:
    extra = {}
    if event.user_agent:
        extra["user_agent"] = _short(redactor.text(event.user_agent))
    if event.request_id is not None:
        extra["request_id"] = _short(redactor.text(event.request_id))
    source: dict[str, Any] = {"type": "network", "value": event.client_ip or "unknown"}
    return {**source, "extra": extra} if extra else source


def _subjects(principal: Principal | None, redactor: Redactor) -> dict[str, str]:
    if principal is None:
        return {"user": "unknown"}
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


def _target(event: AuditEvent, redactor: Redactor) -> dict[str, str]:
    pairs = {
        "endpoint": "/mcp",
        "method": redactor.text(event.method),
        "type": _TARGET_TYPE.get(event.method),
        "name": redactor.text(event.name) if event.name else None,
        "backend": event.backend,
        "backend_name": event.backend_tool,
    }
    return {key: _short(value) for key, value in pairs.items() if value}


def _extra(event: AuditEvent, settings: LineSettings, redactor: Redactor) -> dict[str, Any]:
    extra: dict[str, Any] = {
        "era": event.era,
        "status": event.status,
        "duration_ms": round(event.duration_ms, 3) if event.duration_ms is not None else None,
        "trace_id": event.trace_id,
        "backend_name": event.backend,
        "remote_url": redactor.text(bare_url(event.remote_url)) if event.remote_url else None,
        "auth_method": event.auth_method,
        "remote_status": event.remote_status,
        "error": redactor.text(event.error) if event.error else None,
        "session": hashlib.sha256(event.session_id.encode()).hexdigest()[:12] if event.session_id else None,
    }
    if event.principal is not None and (chain := delegation(event.principal.claims, settings.max_delegation_depth)):
        extra["delegation_chain"] = redactor.value(chain)
    return {key: value for key, value in extra.items() if value is not None}


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


def _data(event: AuditEvent, settings: LineSettings, redactor: Redactor) -> dict[str, Any]:
    wanted = (
        ("request", event.request_data if settings.include_request_data else None),
        ("response", event.response_data if settings.include_response_data else None),
    )
    return {key: _bounded(raw, settings.max_data_size, redactor) for key, raw in wanted if raw is not None}


def _bounded(raw: bytes, limit: int, redactor: Redactor) -> Any:
    """Return data as JSON when it is short enough, else the start of its text; redacted before it is cut."""
    if len(raw) > MAX_PARSED:
        return f"[{len(raw)} bytes]"
    try:
        clean = redactor.value(orjson.loads(raw))
        text = orjson.dumps(clean)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return f"[{len(raw)} bytes that are not JSON]"
    return clean if len(text) <= limit else text[:limit].decode("utf-8", "ignore") + "..."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _short(value: str) -> str:
    return _CONTROL.sub("?", value[:MAX_TEXT])
