"""`params._meta` on its way: our envelope for modern backends, none for legacy ones, the trace for both.

Every other member of `params` and of `_meta` keeps its bytes.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Raw

from vmcp.backend.interface import Call
from vmcp.trace import TraceContext
from vmcp.turns import LARGE
from vmcp.version import VERSION
from vmcp.wire.jsonrpc import dumps, fields, join, join_raw
from vmcp.wire.protocol import ENVELOPE_KEYS, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL, META_VERSION, MODERN

CLIENT_NAME = "mcp-operator-vmcp"
OWN_INFO = dumps({"name": CLIENT_NAME, "version": VERSION})
"""`clientInfo` where the client said none, and of our own requests."""

_TRACE_KEYS = frozenset({"traceparent", "tracestate", "baggage"})
_DROPPED_MODERN = ENVELOPE_KEYS | _TRACE_KEYS


@lru_cache(maxsize=256)
def _envelope(capabilities: bytes, info: bytes, level: str | None) -> bytes:
    members = {META_VERSION: dumps(MODERN), META_CAPABILITIES: capabilities, META_CLIENT_INFO: info}
    if level is not None:
        members[META_LOG_LEVEL] = dumps(level)
    return join(members)[1:-1]


def _trace_members(trace: TraceContext | None) -> bytes:
    if trace is None:
        return b""
    if not trace.tracestate and not trace.baggage:
        return b'"traceparent":"%b"' % trace.traceparent.encode("ascii")
    return join({key: dumps(value) for key, value in trace.fields()})[1:-1]


def _meta_last(params: bytes) -> tuple[memoryview, Raw] | None:
    """Return what stands before `_meta` and its value, where it is the last member; else None.

    Reads nothing else, which may be long. A quote behind a comma is not escaped, so it begins a name; and what follows
    is the end of the outermost object only if nothing is left behind it.

    Args:
        params: A JSON object in which no name stands twice.
    """
    start = params.rfind(b'"_meta"')
    before = params[max(0, start - 16) : max(0, start)].rstrip(b" \t\r\n")
    if before[-1:] != b"," or len(params) - start > LARGE:
        return None
    members = fields(b"{" + params[start:])
    if members.keys() != {"_meta"}:
        return None
    end = max(0, start - 16) + len(before)
    return memoryview(params)[: end - 1], members["_meta"]


def _rewrite(params: bytes, drop: frozenset[str], *added: bytes) -> bytes:
    if len(params) > LARGE and (found := _meta_last(params)) is not None:
        head, own = found
        inner = _inner(own, drop, added)
        return b"".join((head, b',"_meta":{', inner, b"}}") if inner else (head, b"}"))
    members = fields(params)
    raw = members.pop("_meta", None)
    inner = _inner(raw, drop, added)
    if not members:
        return b'{"_meta":{%b}}' % inner if inner else b"{}"
    last = b"" if raw is None else b',"_meta":%b}' % bytes(raw)
    # Most clients write it last; then the rest, which may be long, is copied once.
    head = memoryview(params)[: -len(last)] if last and params.endswith(last) else memoryview(join_raw(members))[:-1]
    return b"".join((head, b',"_meta":{', inner, b"}}") if inner else (head, b"}"))


def _inner(raw: Raw | None, drop: frozenset[str], added: tuple[bytes, ...]) -> bytes:
    """Return the members of a `_meta` without those of `drop`, and with those that are added."""
    meta = fields(raw)
    kept = {key: value for key, value in meta.items() if key not in drop} if meta else meta
    parts = [join_raw(kept)[1:-1] if kept else b"", *added]
    return b",".join([part for part in parts if part])


def modern_params(call: Call) -> bytes:
    """Return the params of a modern request: the client's own capabilities, never the gateway's."""
    if call.enveloped and (call.trace is None or b'"traceparent"' in call.params):
        return _with_answers(call, call.params)
    added = [
        _envelope(call.client_capabilities, call.client_info or OWN_INFO, call.log_level),
        _trace_members(call.trace),
    ]
    return _with_answers(call, _rewrite(call.params, _DROPPED_MODERN, *added))


def _with_answers(call: Call, params: bytes) -> bytes:
    if call.input_responses is None and call.request_state is None:
        return params
    members = fields(params)
    if call.input_responses is not None:
        members["inputResponses"] = Raw(call.input_responses)
    if call.request_state is not None:
        members["requestState"] = Raw(dumps(call.request_state))
    return join(members)


def progress_token(params: bytes) -> bytes | None:
    """Return the raw progress token of a request, None when it wants no progress."""
    if b'"progressToken"' not in params:
        return None
    token = fields(fields(params).get("_meta")).get("progressToken")
    return None if token is None else bytes(token)


def are_legacy(params: bytes, trace: TraceContext | None, token: bytes | None) -> bool:
    """Say whether params are those of a legacy request already: `legacy_params` would change nothing."""
    return trace is None and token is None and b"io.modelcontextprotocol/" not in params


def legacy_params(params: bytes, trace: TraceContext | None, *, token: bytes | None = None) -> bytes:
    """Return the params of a legacy request: no modern envelope, the trace, and `token` for the progress token."""
    if are_legacy(params, trace, token):
        return params
    drop = ENVELOPE_KEYS if trace is None else _DROPPED_MODERN
    if token is None:
        return _rewrite(params, drop, _trace_members(trace))
    return _rewrite(params, drop | {"progressToken"}, b'"progressToken":' + token, _trace_members(trace))


def replace_token(params: bytes, token: bytes) -> bytes:
    """Return the params of a progress notification with the client's own token."""
    members = fields(params)
    members["progressToken"] = Raw(token)
    return join(members)
