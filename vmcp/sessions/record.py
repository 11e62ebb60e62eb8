"""The record of a legacy session: all that another process would have to know to go on with it.

What is under way in a session (streams, questions, tasks, connections) is its life and belongs to one process
(`vmcp.front.session`). A record holds no credential: whoever goes on with the session brings their own.

The encoded form outlives a process, so gateways of two versions may read each other's records while a new one is
rolled out. A field may be added with a default; whatever else changes needs another `FORMAT`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from vmcp.backend.interface import BackendLink

FORMAT: Final = 1
"""First byte of an encoded record."""
MAX_RECORD: Final = 40 * 1024
"""Bytes of an encoded record. What a client declares is bounded before; what it adds later must fit."""


class RecordError(ValueError):
    """The bytes are no record, or one of a format that this version does not know."""


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One session of a legacy client. Immutable: a change makes a new one (`msgspec.structs.replace`).

    Attributes:
        id: As the client knows it: a sealed token (`vmcp.core.seal`).
        owner: `Principal.key` of whoever opened it; nobody else may use it.
        version: The negotiated protocol version.
        capabilities: Raw JSON object, as declared.
        info: Raw JSON object `clientInfo`; None = the client sent none.
        expires_at: Unix seconds at which its life is over, however much it is used.
        level: As set by `logging/setLevel`; None = never set.
        subscriptions: URIs of resources that the client asked to hear of, sorted.
        links: Sessions with legacy backends, by the backend's name.
        revision: Grows with every change that is kept.
    """

    id: str
    owner: str
    version: str
    capabilities: bytes
    info: bytes | None
    expires_at: float
    level: str | None = None
    subscriptions: tuple[str, ...] = ()
    links: dict[str, BackendLink] = {}
    revision: int = 0

    @property
    def fits(self) -> bool:
        """Whether the record is small enough to be kept."""
        return len(encode_record(self)) <= MAX_RECORD

    def with_subscription(self, uri: str) -> SessionRecord:
        """Return the record of a session that is subscribed to `uri` as well."""
        return msgspec.structs.replace(self, subscriptions=tuple(sorted({*self.subscriptions, uri})))

    def without_subscription(self, uri: str) -> SessionRecord:
        """Return the record of a session that is not subscribed to `uri`."""
        return msgspec.structs.replace(self, subscriptions=tuple(kept for kept in self.subscriptions if kept != uri))

    def with_level(self, level: str) -> SessionRecord:
        """Return the record of a session that asked for log messages from `level` on."""
        return msgspec.structs.replace(self, level=level)

    def with_link(self, backend: str, link: BackendLink, before: BackendLink | None) -> SessionRecord:
        """Return the record with a session with a backend in the place of `before`.

        Where another process was faster, its session stays: all have to go on in one.
        """
        known = self.links.get(backend)
        if known is not None and known.id != link.id and (before is None or known.id != before.id):
            return self
        return msgspec.structs.replace(self, links={**self.links, backend: link})


Change = Callable[[SessionRecord], SessionRecord]
"""What is done to a record: once more to a newer one, where another process changed it meanwhile."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SessionRecord)


def encode_record(record: SessionRecord) -> bytes:
    """Return the form in which a record is kept: `FORMAT`, then MessagePack."""
    return bytes((FORMAT,)) + _encoder.encode(record)


def decode_record(data: bytes) -> SessionRecord:
    """Read what `encode_record` made.

    Raises:
        RecordError: It made something else; the text holds nothing of the data.
    """
    if data[:1] != bytes((FORMAT,)):
        raise RecordError("the record has an unknown format")
    try:
        return _decoder.decode(data[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RecordError("the record cannot be read") from None
