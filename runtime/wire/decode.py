"""From bytes to records: single objects, pages of a list, lines of a watch."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any, Literal

import msgspec
import orjson
from msgspec.structs import force_setattr

from runtime.wire.gvk import Key, Resource
from runtime.wire.record import NO_BYTES, Meta, Record

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PARTIAL = "PartialObjectMetadata"
_MANAGED_FIELDS = b'"managedFields":'


class _Envelope(msgspec.Struct, gc=False, rename="camel"):
    """What every object has."""

    api_version: str = ""
    kind: str = ""
    metadata: Meta = msgspec.field(default_factory=Meta)


class _BareEnvelope(msgspec.Struct, gc=False):
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


class ListMeta(msgspec.Struct, gc=False, rename="camel"):
    """The metadata of a list answer."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class _ListEnvelope(msgspec.Struct, gc=False, rename="camel"):
    kind: str = ""
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)
    items: list[msgspec.Raw] | None = None


class WatchLine(msgspec.Struct, gc=False):
    """One line of a watch stream; the object is not parsed yet."""

    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _Bookmark(msgspec.Struct, gc=False):
    metadata: Meta = msgspec.field(default_factory=Meta)


class UnexpectedKindError(ValueError):
    """An object of another kind than the one asked for, for example a Table."""


DecodeError = msgspec.DecodeError
"""What undecodable bytes raise; a wrong shape too."""

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]

_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_bare = msgspec.json.Decoder(_BareEnvelope).decode
_decode_list = msgspec.json.Decoder(_ListEnvelope).decode
decode_watch_line = msgspec.json.Decoder(WatchLine).decode
"""Split one watch line into its type and its raw object. Raises msgspec.DecodeError on anything else."""


def decode_record(resource: Resource, data: bytes | msgspec.Raw, *, metadata_only: bool = False) -> Record:
    """Make the record of one object.

    Cuts managedFields out, adds apiVersion and kind where the server leaves them out (items of a list), and turns a
    PartialObjectMetadata into an object of `resource` with nothing but metadata.

    Args:
        resource: the kind.
        data: the object's JSON.
        metadata_only: drop everything but the metadata, whatever the server sent.

    Raises:
        DecodeError: not JSON, or metadata of another shape.
        UnexpectedKindError: an object of another kind.
    """
    raw = bytes(data).strip()  # answers end with a line feed, watch objects do not
    envelope = _decode_envelope(raw)
    if envelope.kind not in (resource.kind, "", _PARTIAL):
        raise UnexpectedKindError(f"expected {resource.kind}, got {envelope.kind[:80]!r}")
    meta = envelope.metadata
    if meta.managed_fields is not NO_BYTES:
        managed = bytes(meta.managed_fields)
        # The decoded field keeps the whole document alive; let go of it.
        force_setattr(meta, "managed_fields", NO_BYTES)
        raw = _cut_managed_fields(raw, managed) if managed != b"[]" else raw
    _compact(meta)
    if metadata_only or envelope.kind == _PARTIAL:
        raw = _head(resource) + b'"metadata":' + bytes(_decode_bare(raw).metadata) + b"}"
    elif not envelope.kind or not envelope.api_version:
        raw = _with_type(resource, raw)
    version = meta.resource_version
    return Record(
        resource=resource,
        meta=meta,
        raw=raw,
        key=Key(meta.namespace, meta.name),
        version=parse_version(version),
    )


def record_from_body(resource: Resource, body: Any) -> Record:
    """Make a record from plain Python, for tests and for objects that were never on a server."""
    return decode_record(resource, bytes(memoryview(orjson.dumps(body))))


def metadata_only(record: Record) -> Record:
    """Return the record without its body, as a metadata-only informer keeps it."""
    return decode_record(record.resource, record.raw, metadata_only=True)


def decode_list(data: bytes) -> tuple[ListMeta, list[msgspec.Raw]]:
    """Split a list answer into its metadata and its raw items.

    The items share the memory of `data` until each was made into a record.

    Raises:
        msgspec.DecodeError: not a list answer.
    """
    envelope = _decode_list(data)
    if not envelope.kind.endswith("List"):
        raise msgspec.ValidationError(f"expected a list, got {envelope.kind or 'an object without kind'}")
    return envelope.metadata, envelope.items or []


def is_status(data: bytes) -> bool:
    """Whether an answer is a Status and not an object."""
    return _decode_envelope(data).kind == "Status"


def decode_bookmark(data: msgspec.Raw) -> tuple[str, Mapping[str, str]]:
    """Return the resourceVersion and the annotations of a bookmark's object."""
    meta = msgspec.json.decode(data, type=_Bookmark).metadata
    return meta.resource_version, meta.annotations


def parse_version(resource_version: str) -> int:
    """Return a resourceVersion as a number; 0 when it is none (some aggregated servers).

    Comparable within one resource, as apimachinery's `resourceversion.CompareResourceVersion` allows.
    """
    return int(resource_version) if resource_version.isascii() and resource_version.isdigit() else 0


def _cut_managed_fields(raw: bytes, managed: bytes) -> bytes:
    before, found, after = raw.partition(_MANAGED_FIELDS + managed)
    if found and _MANAGED_FIELDS not in after and _MANAGED_FIELDS not in before:
        # "[]" on an update leaves the server's managedFields as they are, so such a body may be sent back.
        return b"".join((before, _MANAGED_FIELDS, b"[]", after))
    # The same text also elsewhere in the document, or spaces around the colon: only a parse tells which one it is.
    parsed = orjson.loads(raw)
    parsed["metadata"]["managedFields"] = []
    # orjson's buffer keeps its growth reserve: copy to the exact size.
    return bytes(memoryview(orjson.dumps(parsed)))


def _compact(meta: Meta) -> None:
    """Share the strings that many objects have in common."""
    force_setattr(meta, "namespace", intern(meta.namespace))
    if meta.labels:
        force_setattr(meta, "labels", {intern(name): intern(value) for name, value in meta.labels.items()})
    if _LAST_APPLIED in meta.annotations:
        kept = {name: value for name, value in meta.annotations.items() if name != _LAST_APPLIED}
        force_setattr(meta, "annotations", kept)


def _head(resource: Resource) -> bytes:
    return f'{{"apiVersion":"{resource.api_version}","kind":"{resource.kind}",'.encode()


def _with_type(resource: Resource, raw: bytes) -> bytes:
    parsed = orjson.loads(raw) if b'"apiVersion"' in raw[:200] or b'"kind"' in raw[:200] else None
    if parsed is not None and ("apiVersion" in parsed or "kind" in parsed):
        parsed.update(apiVersion=resource.api_version, kind=resource.kind)
        return bytes(memoryview(orjson.dumps(parsed)))
    rest = raw.lstrip()[1:]
    return _head(resource) + rest if rest.lstrip() != b"}" else _head(resource)[:-1] + rest
