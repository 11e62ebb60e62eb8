"""The envelope of a modern request: what `_meta` and the headers say, and that they say the same.

Order of the checks: `_meta` complete (-32602), version header equal to the body's (-32020), version
supported (-32022), mirrored headers equal to the body (-32020). All are answered with HTTP 400.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vmcp.backend.modern.mirrored import mirrored_headers
from vmcp.core.carried import carried_capabilities
from vmcp.core.snapshot import Route
from vmcp.front.request import Params
from vmcp.http.server.asgi import RawHeaders, Refusal, text
from vmcp.wire.jsonrpc import Message, RequestId, RpcError, dumps, known_id, loads_str
from vmcp.wire.protocol import (
    H_PARAM_PREFIX,
    HEADER_MISMATCH,
    INVALID_PARAMS,
    LEGACY_VERSIONS,
    LOG_LEVELS,
    META_PREFIX,
    MODERN,
    NAME_OF,
    SUPPORTED_VERSIONS,
    UNSUPPORTED_VERSION,
    decode_value,
)


class RequestMeta(msgspec.Struct, gc=False):
    """The members of `_meta` that the gateway reads."""

    version: str | UnsetType = msgspec.field(default=UNSET, name="io.modelcontextprotocol/protocolVersion")
    capabilities: Raw | UnsetType = msgspec.field(default=UNSET, name="io.modelcontextprotocol/clientCapabilities")
    info: Raw | UnsetType = msgspec.field(default=UNSET, name="io.modelcontextprotocol/clientInfo")
    log_level: str | UnsetType = msgspec.field(default=UNSET, name="io.modelcontextprotocol/logLevel")
    traceparent: Raw | UnsetType = UNSET
    tracestate: Raw | UnsetType = UNSET
    baggage: Raw | UnsetType = UNSET

    @property
    def says_modern(self) -> bool:
        """Only modern clients write one of these."""
        return self.version is not UNSET or self.capabilities is not UNSET or self.info is not UNSET


_meta = msgspec.json.Decoder(RequestMeta)


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What a modern request says about its client, checked.

    Attributes:
        version: Of the protocol.
        capabilities: Raw JSON object, of those that are carried.
        info: Raw JSON object; None = not said.
        log_level: Of the log messages that the client wants; None = none.
        trace: Fields of the trace context in `_meta`; None = there is none.
    """

    version: str
    capabilities: bytes
    info: bytes | None
    log_level: str | None
    trace: dict[str, str] | None


class _Peek(msgspec.Struct):
    meta: RequestMeta | UnsetType = msgspec.field(default=UNSET, name="_meta")


_peek = msgspec.json.Decoder(_Peek)
_MODERN: Final = MODERN.encode()
_LEGACY: Final = frozenset(version.encode() for version in LEGACY_VERSIONS)
_PREFIX: Final = META_PREFIX.encode()
_MIRRORED: Final = H_PARAM_PREFIX.encode()
_LONGEST: Final = 2048
"""Bytes of a `_meta` that is worth remembering; the usual ones have 100 to 400."""
_MOST: Final = 512
"""`_meta` that are remembered."""
_kept: dict[bytes, Envelope] = {}
_NUMBER: Final = re.compile(r"-?[0-9]{1,17}(\.0*)?")
_UNSUPPORTED: Final = "unsupported protocol version"


def names_modern(headers: dict[bytes, bytes]) -> bool:
    """Say whether the version header names the modern era."""
    version = headers.get(b"mcp-protocol-version")
    return version is not None and (version == _MODERN or version.strip(b" \t") == _MODERN)


def is_modern(headers: dict[bytes, bytes], message: Message | None) -> bool:
    """Say which era a POST belongs to.

    The header decides where it names a version that one of the eras knows; without one, `_meta` does. A client that
    names an old version in the header and writes modern `_meta` without a version is legacy (such clients exist). So is
    one that names an unknown version and a session, which the modern era does not have.
    """
    if names_modern(headers):
        return True
    named = headers.get(b"mcp-protocol-version")
    in_session = b"mcp-session-id" in headers
    if named is None and in_session:
        return False
    params = b"" if message is None or message.params is UNSET else bytes(message.params)
    says = _PREFIX in params
    if named in _LEGACY and not says:
        return False
    version = text(headers, b"mcp-protocol-version")
    if not says:
        return version is not None and version not in SUPPORTED_VERSIONS and not in_session
    try:
        meta = _peek.decode(params).meta
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return version is None
    if meta is UNSET:
        return version is not None and version not in SUPPORTED_VERSIONS
    return meta.version is not UNSET or (version is None and meta.says_modern)


def read_envelope(headers: dict[bytes, bytes], message: Message, params: Params) -> Envelope:
    """Return what a request says about its client, once it is whole and the headers say the same.

    Raises:
        Refusal: See the module.
    """
    raw = b"" if params.meta is UNSET else bytes(params.meta)
    envelope = _kept.get(raw)
    if envelope is None:
        envelope = _checked(raw, known_id(message))
        _keep(raw, envelope)
    _check_headers(headers, message, params, envelope.version)
    return envelope


def _checked(raw: bytes, request_id: RequestId | None) -> Envelope:
    try:
        meta = _meta.decode(raw or b"{}")
    except msgspec.ValidationError as err:
        raise Refusal(400, INVALID_PARAMS, f"invalid params: {err}", id=request_id) from err
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as err:
        raise Refusal(400, INVALID_PARAMS, "invalid params", id=request_id) from err
    if meta.version is UNSET or meta.capabilities is UNSET:
        raise Refusal(
            400,
            INVALID_PARAMS,
            "invalid params: _meta must hold io.modelcontextprotocol/protocolVersion and .../clientCapabilities",
            id=request_id,
        )
    if bytes(meta.capabilities)[:1] != b"{":
        raise Refusal(400, INVALID_PARAMS, "invalid params: clientCapabilities must be an object", id=request_id)
    if meta.log_level is not UNSET and meta.log_level not in LOG_LEVELS:
        raise Refusal(400, INVALID_PARAMS, "invalid params: unknown logLevel", id=request_id)
    return Envelope(
        meta.version,
        carried_capabilities(bytes(meta.capabilities)),
        None if meta.info is UNSET or bytes(meta.info)[:1] != b"{" else bytes(meta.info),
        None if meta.log_level is UNSET else meta.log_level,
        _trace_fields(meta),
    )


def _keep(raw: bytes, envelope: Envelope) -> None:
    """Remember what was read: a client says the same of itself in every request. Traces are another each time."""
    if len(raw) <= _LONGEST and envelope.trace is None:
        if len(_kept) >= _MOST:
            _kept.clear()
        _kept[raw] = envelope


def _trace_fields(meta: RequestMeta) -> dict[str, str] | None:
    if meta.traceparent is UNSET:
        return None
    found = {"traceparent": meta.traceparent, "tracestate": meta.tracestate, "baggage": meta.baggage}
    values = {name: loads_str(raw) for name, raw in found.items() if raw is not UNSET}
    return {name: value for name, value in values.items() if value is not None}


def _check_headers(headers: dict[bytes, bytes], message: Message, params: Params, version: str) -> None:
    if version != MODERN or headers.get(b"mcp-protocol-version") != _MODERN:
        header = text(headers, b"mcp-protocol-version")
        if header != version:
            raise _mismatch("mcp-protocol-version", header, version, known_id(message))
        if version != MODERN:
            raise unsupported(version, known_id(message))
    method = text(headers, b"mcp-method")
    if method != message.method:
        raise _mismatch("mcp-method", method, str(message.method), known_id(message))
    key = NAME_OF.get(method or "")
    if key is None:
        return
    name = params.name if key == "name" else params.uri
    if name is UNSET:
        return  # missing in the body: the method itself will say so
    raw = text(headers, b"mcp-name")
    if raw is None or decode_value(raw) != name:
        raise _mismatch("mcp-name", raw, name, known_id(message))


def unsupported(requested: str, request_id: str | float | None) -> Refusal:
    """Return the error for a version that is not spoken here."""
    err = Refusal(400, UNSUPPORTED_VERSION, _UNSUPPORTED, id=request_id)
    data = {"supported": list(SUPPORTED_VERSIONS), "requested": requested}
    err.error = RpcError(UNSUPPORTED_VERSION, _UNSUPPORTED, Raw(dumps(data)))
    return err


def _mismatch(header: str, found: str | None, expected: str, request_id: str | float | None) -> Refusal:
    said = "is missing" if found is None else "differs from the body"
    err = Refusal(400, HEADER_MISMATCH, f"header {header} {said}", id=request_id)
    data = {"header": header, "headerValue": found, "bodyValue": expected}
    err.error = RpcError(HEADER_MISMATCH, err.error.message, Raw(dumps(data)))
    return err


def check_mirrored(scope_headers: RawHeaders, params: bytes, route: Route) -> RpcError | None:
    """Compare the `Mcp-Param-*` headers with the arguments that they mirror; return what is wrong."""
    expected = {name.lower(): value for name, value in mirrored_headers(route.mirror, params)}
    sent: dict[bytes, list[str]] = {}
    for name, value in scope_headers:
        if name.startswith(_MIRRORED):
            sent.setdefault(name, []).append(value.strip(b" \t").decode("latin-1"))
    for _, header in route.mirror:
        wanted = expected.get(header.lower())
        found = sent.get(header.lower().encode(), [])
        if len(found) == (wanted is not None) and (wanted is None or _same(found[0], wanted)):
            continue
        said = "is missing" if not found else "appears twice" if len(found) > 1 else "differs from the body"
        data = {"header": header, "headerValue": found[0] if found else None, "bodyValue": wanted}
        return RpcError(HEADER_MISMATCH, f"header {header} {said}", Raw(dumps(data)))
    return None


def _same(found: str, wanted: str) -> bool:
    """Equal after decoding; numbers by value."""
    value, expected = decode_value(found), decode_value(wanted)
    if value == expected and value is not None:
        return True
    try:
        return _NUMBER.fullmatch(value or "") is not None and float(value or "") == float(expected or "")
    except ValueError:
        return False
