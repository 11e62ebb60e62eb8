"""How gateways recognise themselves and each other: a mark in the `_meta` of every list.

A gateway that is a member of its own group, directly or through another gateway, would offer its own tools again under
one more prefix with every fetch. So each list says which gateway made it, and which entries came through which further
ones; whoever finds its own mark on an entry leaves the entry out. The mark is a digest of what a gateway is configured
as, so that all replicas of one bear the same, and two gateways with different members never do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from vmcp.wire.jsonrpc import dumps, fields

META_GATEWAY: Final = "mcp-operator.vmcp/gateway"
"""The member of a list result's `_meta`."""
MAX_HOPS: Final = 8
"""Gateways that an entry may come through."""


class Lineage(msgspec.Struct, frozen=True):
    """What a list says about where it comes from.

    Attributes:
        id: Mark of the gateway that made it.
        through: Marks of the gateways behind that one, by the key of the entry; entries of its own members are not in
            it.
    """

    id: str
    through: Mapping[str, tuple[str, ...]] = {}

    def of(self, key: str) -> tuple[str, ...]:
        """Return all marks of an entry, the nearest first."""
        return (self.id, *self.through.get(key, ()))


_lineage = msgspec.json.Decoder(Lineage)


def gateway_mark(name: str, group: str, backends: Iterable[tuple[str, str]]) -> str:
    """Return the mark of a gateway; `backends` are (name, URL)."""
    digest = hashlib.sha256(dumps([name, group, sorted(backends)]))
    return digest.hexdigest()[:24]


def read_lineage(meta: Raw | None) -> Lineage | None:
    """Return what the `_meta` of a list result says; None = no gateway of ours made it."""
    raw = fields(meta).get(META_GATEWAY)
    try:
        return None if raw is None else _lineage.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def lineage_member(lineage: Lineage) -> bytes:
    """Return the member for the `_meta` of a list result: name and value, without braces."""
    value = {"id": lineage.id, "through": lineage.through} if lineage.through else {"id": lineage.id}
    return b"%b:%b" % (dumps(META_GATEWAY), dumps(value))
