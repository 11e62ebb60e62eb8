"""One reading of a message: what is judged here is what a backend reads, whatever parser it has.

Parsers differ in two ways. Of a member that stands twice some take the first value and some the last; and some find a
member whose name is written in another case (Go's `encoding/json`). A message whose meaning depends on that is refused,
wherever a member appears twice, and where the name of a known member is written in another case. Arguments are known by
the policies that look at them: under such policies their names must differ by more than case.

Nearly all messages are as long as the members that they are known to hold, so that there is room for no other, and
their arguments are written again, which shows whether one stood twice. Only where something is wrong they are read
member by member.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from vmcp.front.request import Params, read_params
from vmcp.http.server.asgi import Refusal
from vmcp.wire.jsonrpc import Message, RequestId, known_id
from vmcp.wire.protocol import ENVELOPE_KEYS, INVALID_PARAMS, INVALID_REQUEST

_decode = msgspec.json.Decoder().decode
_decode_leniently = msgspec.json.Decoder(float_hook=str).decode
"""Fractions stay text: they are not looked at, and need not be in the range of ours."""
_encode = msgspec.json.Encoder().encode
_LONGEST: Final = 2048
"""Bytes of a `_meta` that is worth remembering; the usual ones have 100 to 400."""
_MOST: Final = 512
"""`_meta` that are remembered."""
_metas: set[bytes] = set()
_LONGEST_BY_MEMBER: Final = 64 * 1024
"""Bytes of a message that is read member by member where something is wrong with it, or cannot be read otherwise: that
takes long, and holds up everybody else meanwhile. Of longer ones less is said."""
_BARE: Final = len('{"jsonrpc":"2.0","id":,"method":"","params":}')


class _Known:
    """Names of members that mean something here."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)
        self._folded = {name.casefold(): name for name in names}

    def variant(self, members: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return a member that is one of these but for its case, and the one that it is."""
        if self.names.issuperset(members):
            return None
        for name in members:
            meant = self._folded.get(name.casefold())
            if meant is not None and meant != name:
                return name, meant
        return None


_ENVELOPE = _Known("jsonrpc", "id", "method", "params", "result", "error")
_PARAMS = _Known(
    *("name", "uri", "arguments", "_meta", "cursor", "level", "ref", "argument", "context", "task", "notifications"),
    *("inputResponses", "requestState", "protocolVersion", "capabilities", "clientInfo", "requestId", "progressToken"),
)
_INNER: Final = {
    "_meta": _Known(*ENVELOPE_KEYS, "progressToken", "traceparent", "tracestate", "baggage"),
    "ref": _Known("type", "name", "uri"),
    "capabilities": _Known("elicitation", "sampling", "roots", "tasks", "experimental", "extensions"),
}
"""Members of params that are read further."""


class _TwiceError(ValueError):
    """A member stands twice; the text is its name."""


def check_members(body: bytes, message: Message | None, *, arguments_judged: bool) -> Params | None:
    """Refuse a message that two parsers could read in two ways; return its params if they were read meanwhile.

    Args:
        body: As it came.
        message: What was read of it; None for a batch.
        arguments_judged: Policies look at arguments: their names must not differ in case only.

    Raises:
        Refusal: 400.
    """
    if message is None:
        messages = _one_reading(body, None)
        for one in messages if isinstance(messages, list) else ():
            if isinstance(one, dict):
                _check_envelope(one, None)
                _check_params(one.get("params"), None, arguments_judged=arguments_judged)
    elif arguments_judged or (params := _ordinary(body, message)) is None:
        request_id = known_id(message)
        whole = _one_reading(body, request_id)
        _check_envelope(whole, request_id)
        _check_params(whole.get("params"), request_id, arguments_judged=arguments_judged)
    else:
        return params
    return None


def _ordinary(body: bytes, message: Message) -> Params | None:
    """Return the params of a request that is written as nearly all are; None of others. Costs little.

    An envelope of four members that stand once each is exactly as long as they are: a text or a whole number is never
    shorter in JSON than what was read of it, so that nothing can hide behind one. The same holds for params.
    """
    request_id, method, params = message.id, message.method, message.params
    if type(request_id) is int:
        size = len(str(request_id))
    elif type(request_id) is str and request_id.isascii():
        size = len(request_id) + 2
    else:
        return None
    if type(params) is not Raw or type(method) is not str or not method.isascii():
        return None
    raw = bytes(params)
    if len(body) != _BARE + size + len(method) + len(raw):
        return None
    try:
        read = read_params(raw)
        return read if _holds_no_more(raw, read) else None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _holds_no_more(raw: bytes, read: Params) -> bool:
    """Say whether params hold name, arguments and `_meta`, or some of these, each once, and nothing twice in them."""
    size = len("{}") - len(",")
    if read.name is not UNSET:
        if not read.name.isascii():
            return False
        size += len(read.name) + len('"name":"",')
    arguments = meta = b""
    if read.arguments is not UNSET:
        arguments = bytes(read.arguments)
        size += len(arguments) + len('"arguments":,')
    if read.meta is not UNSET:
        meta = bytes(read.meta)
        size += len(meta) + len('"_meta":,')
    if size != len(raw) or (meta and meta not in _metas and not _is_good_meta(meta)):
        return False
    return not arguments or _stands_once(arguments, _decode(arguments))


def _is_good_meta(raw: bytes) -> bool:
    """Look at a `_meta`, and remember one that holds known members once: clients say the same in every request."""
    meta = _decode(raw)
    if type(meta) is not dict or _encode(meta) != raw or not _INNER["_meta"].names.issuperset(meta):
        return False
    if len(raw) <= _LONGEST:
        if len(_metas) >= _MOST:
            _metas.clear()
        _metas.add(raw)
    return True


def _stands_once(raw: bytes, value: Any) -> bool:
    """Say whether no member stands twice in a JSON text, at any depth, given what was read of it.

    What is read keeps one member of several; so writing it again gives fewer colons, those in texts included, exactly
    if one stood twice. That holds for every way to write the same, and costs no look at single members.
    """
    again = _encode(value)
    return again == raw or again.count(b":") == _colons(raw)


def _colons(raw: bytes) -> int:
    if b"\\" not in raw:
        return raw.count(b":")
    raw = raw.replace(b"\\\\", b"")
    return raw.count(b":") + raw.count(b"\\u003a") + raw.count(b"\\u003A")


def _one_reading(raw: bytes, request_id: RequestId | None) -> Any:
    """Return a JSON value in which no member stands twice, at any depth.

    Raises:
        Refusal: One does.
    """
    problem = "a member appears twice in one object"
    try:
        value = _decode_leniently(raw)
        if _stands_once(raw, value):
            return value
    except (msgspec.DecodeError, RecursionError):
        problem = "the JSON cannot be read"  # a number, for example: its own kind of trouble, and not ours here
    if len(raw) > _LONGEST_BY_MEMBER:
        raise Refusal(400, INVALID_REQUEST, problem, id=request_id)
    try:
        return _by_member(raw.decode())
    except _TwiceError as err:
        message = f"the member {str(err)[:64]!r} appears twice in one object"
        raise Refusal(400, INVALID_REQUEST, message, id=request_id) from None
    except (ValueError, RecursionError):
        raise Refusal(400, INVALID_REQUEST, "the JSON cannot be read", id=request_id) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _TwiceError(name)
            seen.add(name)
    return members


_by_member = json.JSONDecoder(object_pairs_hook=_once, parse_int=str, parse_float=str).decode
"""Numbers stay text: they are not looked at, and long ones cost time."""


def _check_envelope(whole: Any, request_id: RequestId | None) -> None:
    _refuse_variant(_ENVELOPE, whole, INVALID_REQUEST, request_id)


def _check_params(params: Any, request_id: RequestId | None, *, arguments_judged: bool) -> None:
    if not isinstance(params, dict):
        return
    _refuse_variant(_PARAMS, params, INVALID_PARAMS, request_id)
    for name, known in _INNER.items():
        if name in params:
            _refuse_variant(known, params[name], INVALID_PARAMS, request_id)
    if arguments_judged and "arguments" in params:
        pair = _alike(params["arguments"])
        if pair is not None:
            message = f"invalid params: the arguments {pair[0][:64]!r} and {pair[1][:64]!r} differ in case only"
            raise Refusal(400, INVALID_PARAMS, message, id=request_id)


def _refuse_variant(known: _Known, members: Any, code: int, request_id: RequestId | None) -> None:
    found = known.variant(members) if isinstance(members, dict) else None
    if found is not None:
        raise Refusal(400, code, f"the member {found[0][:64]!r} must be written {found[1]!r}", id=request_id)


def _alike(value: Any) -> tuple[str, str] | None:
    """Return two members of one object, at any depth, whose names differ in case only."""
    stack = [value]
    while stack:
        value = stack.pop()
        inside: Collection[Any] = ()
        if isinstance(value, dict):
            folded: dict[str, str] = {}
            for name in value:
                other = folded.setdefault(name.casefold(), name)
                if other is not name:
                    return other, name
            inside = value.values()
        elif isinstance(value, list):
            inside = value
        stack.extend(item for item in inside if isinstance(item, dict | list))
    return None
