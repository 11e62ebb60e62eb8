"""Fetches a backend's lists: all pages, every item's own bytes, and an end to what has none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import msgspec
from msgspec import Raw

from vmcp.backend.entries import EntryError, check_entry, name_for_people
from vmcp.backend.errors import BackendProtocolError
from vmcp.backend.interface import Item, Kind, Reply
from vmcp.backend.model import LIST_KINDS, Era, Handshake, ListKind
from vmcp.backend.modern.discover import ttl_of
from vmcp.backend.modern.mirrored import InvalidMirrorError, mirror_of
from vmcp.wire.jsonrpc import dumps, fields, loads_str
from vmcp.wire.lineage import MAX_HOPS, Lineage, read_lineage
from vmcp.wire.protocol import METHOD_NOT_FOUND

MAX_PAGES = 1000
MAX_ITEMS = 10_000
MAX_BYTES = 16 * 1024 * 1024
"""Of one list, over all pages. What is larger is refused, not cut: half a list would look like a removal."""
MAX_SENTENCES = 20
"""Entries left out that are told of one by one; the rest is counted."""

Ask = Callable[[str, bytes], Awaitable[Reply]]
"""(method, params) -> reply."""

_items = msgspec.json.Decoder(list[Raw])


@dataclass(frozen=True, slots=True)
class FetchedList:
    """One list.

    Attributes:
        items: In the backend's order, keys unique.
        ttl: Seconds that they stay fresh, the least of all pages; None = not said.
        left_out: Sentences on what could not be taken of it.
        gateway: Mark of the gateway that made it; "" = it was none of ours.
    """

    items: tuple[Item, ...]
    ttl: float | None
    left_out: tuple[str, ...] = ()
    gateway: str = ""


@dataclass(slots=True)
class _Gathering:
    """A list on its way in.

    Attributes:
        known: Items that were good before, by their bytes: what did not change is neither checked nor kept twice.
        own: Mark of the gateway that asks.
        lineage: What the newest page says about where it comes from.
    """

    kind: Kind
    known: dict[bytes, Item]
    own: str
    lineage: Lineage | None = None
    items: dict[str, Item] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    lost: int = 0
    size: int = 0

    def add(self, raw: bytes, era: Era) -> None:
        """Take one entry, or say why not."""
        item = self.known.get(raw)
        try:
            item = item or _item(self.kind, raw, era)
            if item.key in self.items:
                raise EntryError("an earlier entry has the same key")
            item = self._marked(item)
        except EntryError as err:
            self.say(f"{self.kind.value}: {name_for_people(self.kind, raw)} is left out: {err}")
        else:
            self.items[item.key] = item

    def _marked(self, item: Item) -> Item:
        """Note which gateways an item came through.

        Raises:
            EntryError: This one is among them, or they are too many.
        """
        via = () if self.lineage is None else self.lineage.of(item.key)
        if self.own and self.own in via:
            raise EntryError("it comes from this gateway itself")
        if len(via) > MAX_HOPS:
            raise EntryError(f"it comes through more than {MAX_HOPS} gateways")
        return item if via == item.via else Item(item.key, item.raw, via)

    def say(self, sentence: str) -> None:
        """Note what could not be taken."""
        self.lost += 1
        if len(self.sentences) < MAX_SENTENCES:
            self.sentences.append(sentence)

    def listed(self, ttl: float | None) -> FetchedList:
        """Return what came of it."""
        more = self.lost - len(self.sentences)
        told = (*self.sentences, f"{self.kind.value}: {more} more") if more else tuple(self.sentences)
        return FetchedList(tuple(self.items.values()), ttl, told, "" if self.lineage is None else self.lineage.id)


async def fetch(
    backend: str, kind: Kind, handshake: Handshake, ask: Ask, *, known: Iterable[Item] = (), own: str = ""
) -> FetchedList:
    """Return one list, empty when the backend does not announce it.

    Args:
        backend: Its name.
        kind: Which.
        handshake: What the backend announced.
        ask: Sends a request.
        known: What the list held before.
        own: Mark of the gateway that asks (`vmcp.wire.lineage`).

    Raises:
        BackendError: No answer, a refusal, an answer that is no list, or one without end.
    """
    spec = LIST_KINDS[kind]
    if not handshake.offers(spec.capability):
        return FetchedList((), None)
    gathering = _Gathering(kind, {item.raw: item for item in known}, own)
    cursors: set[str] = set()
    ttl: float | None = None
    params = b"{}"
    for _ in range(MAX_PAGES):
        reply = await ask(spec.method, params)
        if reply.error is not None:
            if reply.error.code == METHOD_NOT_FOUND:
                return gathering.listed(ttl)
            raise BackendProtocolError(
                backend, f"refused {spec.method} (error {reply.error.code})", status=reply.status
            )
        result = fields(reply.result)
        gathering.size += len(reply.result or b"")
        ttl = _least(ttl, ttl_of(result))
        gathering.lineage = read_lineage(result.get("_meta"))
        if own and gathering.lineage is not None and gathering.lineage.id == own:
            gathering.items.clear()
            gathering.say(f"{kind.value}: the backend is this gateway itself, so nothing of it is offered again")
            return gathering.listed(ttl)
        _add(backend, spec, result.get(spec.member), gathering, era=reply.era)
        if gathering.size > MAX_BYTES or len(gathering.items) > MAX_ITEMS:
            raise BackendProtocolError(backend, f"the answer to {spec.method} is too large", status=reply.status)
        cursor = loads_str(result.get("nextCursor"))
        if not cursor:  # an empty cursor is how some servers say that there is no next page
            return gathering.listed(ttl)
        if cursor in cursors:
            gathering.say(f"{kind.value}: a cursor came twice, so the list is taken to end there")
            return gathering.listed(ttl)
        cursors.add(cursor)
        params = dumps({"cursor": cursor})
    raise BackendProtocolError(backend, f"{spec.method} has more than {MAX_PAGES} pages")


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _add(backend: str, spec: ListKind, raw: Raw | None, gathering: _Gathering, *, era: Era) -> None:
    try:
        items = _items.decode(raw if raw is not None else b"null")
    except (msgspec.DecodeError, RecursionError) as err:
        raise BackendProtocolError(backend, f"the answer to {spec.method} contains no list {spec.member!r}") from err
    for item in items:
        gathering.add(bytes(item), era)


def _item(kind: Kind, raw: bytes, era: Era) -> Item:
    """Return the item in an entry.

    Raises:
        EntryError: Clients could not take it.
    """
    key, own = check_entry(kind, raw, era)
    if kind is Kind.TOOLS and era is Era.MODERN:
        try:
            mirror_of(own)
        except InvalidMirrorError as err:  # the specification wants such tools dropped, one by one
            raise EntryError(str(err)) from None
    return Item(key, own)
