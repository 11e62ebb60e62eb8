"""Is an entry of a backend's list one that clients can take?

Clients validate a list as a whole: one tool without `inputSchema`, and an official SDK refuses the tools of every
backend. So each entry is held against the specification's schema (2025-11-25, and 2026-07-28 where that is wider), one
by one.
An entry that breaks it is left out, and said. Two slips of ordinary servers are mended instead, because what is meant
is beyond doubt: an optional member that is `null` is taken away, and a property whose schema is `true` or `false` gets
the object that means the same. Every other entry keeps every byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from msgspec import UNSET, Raw, Struct, UnsetType
from pydantic import AnyUrl, TypeAdapter, UrlConstraints, ValidationError

from vmcp.backend.model import LIST_KINDS, Era, Kind
from vmcp.wire.jsonrpc import fields, join

MAX_ENTRY: Final = 1024 * 1024
"""Bytes of one entry."""
MAX_KEY: Final = 8192
"""Characters of a name, a URI or a template."""
MAX_DEPTH: Final = 100
"""Levels of objects and arrays in one entry; parsers of clients give up at 200, and the list around it has some too."""


class EntryError(ValueError):
    """The entry cannot be offered; the text says why, without the entry's own words."""


class _Icon(Struct):
    src: str
    mimeType: str | UnsetType = UNSET  # noqa: N815  the protocol's names, here and below
    sizes: list[str] | UnsetType = UNSET
    theme: str | UnsetType = UNSET


class _Named(Struct):
    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    icons: list[_Icon] | UnsetType = UNSET
    meta: dict[str, Raw] | UnsetType = msgspec.field(default=UNSET, name="_meta")


class _InputSchema(Struct):
    type: Literal["object"]
    properties: dict[str, dict[str, Raw]] | UnsetType = UNSET
    required: list[str] | UnsetType = UNSET


class _ToolAnnotations(Struct):
    title: str | UnsetType = UNSET
    readOnlyHint: bool | UnsetType = UNSET  # noqa: N815
    destructiveHint: bool | UnsetType = UNSET  # noqa: N815
    idempotentHint: bool | UnsetType = UNSET  # noqa: N815
    openWorldHint: bool | UnsetType = UNSET  # noqa: N815


class _Execution(Struct):
    taskSupport: Literal["forbidden", "optional", "required"] | UnsetType = UNSET  # noqa: N815


class _Tool(_Named, kw_only=True):
    inputSchema: _InputSchema  # noqa: N815
    annotations: _ToolAnnotations | UnsetType = UNSET
    execution: _Execution | UnsetType = UNSET


class _ModernTool(_Tool, kw_only=True):
    outputSchema: dict[str, Raw] | UnsetType = UNSET  # noqa: N815


class _LegacyTool(_Tool, kw_only=True):
    outputSchema: _InputSchema | UnsetType = UNSET  # noqa: N815


class _Annotations(Struct):
    audience: list[Literal["user", "assistant"]] | UnsetType = UNSET
    priority: float | UnsetType = UNSET
    lastModified: str | UnsetType = UNSET  # noqa: N815


class _Resource(_Named, kw_only=True):
    uri: str
    mimeType: str | UnsetType = UNSET  # noqa: N815
    size: float | UnsetType = UNSET
    annotations: _Annotations | UnsetType = UNSET


class _Template(_Named, kw_only=True):
    uriTemplate: str  # noqa: N815
    mimeType: str | UnsetType = UNSET  # noqa: N815
    annotations: _Annotations | UnsetType = UNSET


class _Argument(Struct):
    name: str
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    required: bool | UnsetType = UNSET


class _Prompt(_Named, kw_only=True):
    arguments: list[_Argument] | UnsetType = UNSET


def _decoders(era: Era) -> Mapping[Kind, msgspec.json.Decoder[Any]]:
    return {
        Kind.TOOLS: msgspec.json.Decoder(_ModernTool if era is Era.MODERN else _LegacyTool),
        Kind.RESOURCES: msgspec.json.Decoder(_Resource),
        Kind.TEMPLATES: msgspec.json.Decoder(_Template),
        Kind.PROMPTS: msgspec.json.Decoder(_Prompt),
    }


_DECODERS: Final = {era: _decoders(era) for era in Era}
_PARTS: Final = ("inputSchema", "outputSchema", "annotations", "execution")
"""Members whose own members are mended too."""
_LISTED: Final = ("icons", "arguments")
_URI: Final = TypeAdapter(Annotated[AnyUrl, UrlConstraints(host_required=False)])
"""What the official Python SDK 1.x takes for a URI: a refusal of its own costs the client the whole list."""


def check_entry(kind: Kind, raw: bytes, era: Era) -> tuple[str, bytes]:
    """Return an entry's key and its bytes, mended where that is beyond doubt.

    Args:
        kind: Of the list.
        raw: One JSON value.
        era: Of the backend.

    Raises:
        EntryError: Clients could not take it.
    """
    if len(raw) > MAX_ENTRY:
        raise EntryError(f"it is longer than {MAX_ENTRY} bytes")
    _check_text(raw)
    decoder = _DECODERS[era][kind]
    try:
        entry = decoder.decode(raw)
    except msgspec.DecodeError:
        raw = _mended(raw)
        try:
            entry = decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            raise EntryError(_reason(err)) from None
    except (UnicodeDecodeError, RecursionError) as err:
        raise EntryError(_reason(err)) from None
    key: str = getattr(entry, LIST_KINDS[kind].key)
    if not key or len(key) > MAX_KEY:
        raise EntryError(f"its {LIST_KINDS[kind].key} is empty or longer than {MAX_KEY} characters")
    if kind is Kind.RESOURCES:
        _check_uri(key)
    return key, raw


def name_for_people(kind: Kind, raw: bytes) -> str:
    """Return what an entry calls itself, cut; a dash where it says nothing usable. For logs."""
    try:
        found = msgspec.json.decode(fields(raw).get(LIST_KINDS[kind].key) or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "-"
    return repr(found[:64]) if isinstance(found, str) else "-"


def _reason(err: Exception) -> str:
    return str(err) if isinstance(err, msgspec.ValidationError) else "it is not valid JSON"


def _check_text(raw: bytes) -> None:
    """Refuse half surrogate pairs and bottomless nesting: other parsers would refuse the whole list for them."""
    deep = raw.count(b"{") + raw.count(b"[") > MAX_DEPTH
    if not deep and b"\\ud" not in raw and b"\\uD" not in raw:
        return
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise EntryError("it holds half a surrogate pair, or is nested too deeply") from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise EntryError("it is nested too deeply")


def _check_uri(uri: str) -> None:
    try:
        _URI.validate_python(uri)
    except ValidationError:
        raise EntryError("its uri is not an absolute URI") from None


def _mended(raw: bytes) -> bytes:
    """Take away optional members that are null, and spell boolean schemas as objects."""
    members = _without_nulls(fields(raw))
    for name in _PARTS:
        if name in members:
            members[name] = _mended_part(members[name])
    for name in _LISTED:
        if name in members:
            members[name] = _mended_list(members[name])
    return join(members) if members else raw


def _without_nulls(members: dict[str, Raw]) -> dict[str, Raw]:
    return {name: value for name, value in members.items() if bytes(value) != b"null"}


def _mended_part(raw: Raw) -> Raw:
    members = _without_nulls(fields(raw))
    properties = fields(members.get("properties"))
    if properties:
        spelled = {b"true": Raw(b"{}"), b"false": Raw(b'{"not":{}}')}
        members["properties"] = Raw(join({key: spelled.get(bytes(value), value) for key, value in properties.items()}))
    return Raw(join(members)) if members else raw


def _mended_list(raw: Raw) -> Raw:
    try:
        listed = msgspec.json.decode(raw, type=list[Raw])
    except msgspec.DecodeError:
        return raw
    return Raw(
        b"[%b]" % b",".join(join(_without_nulls(found)) if (found := fields(one)) else bytes(one) for one in listed)
    )
