"""Lists as one kind of caller sees them: filtered by policy, sorted, serialized once, cut into pages.

A view belongs to a snapshot and goes with it. Callers with the same policy view share it, so a list of thousands of
tools is filtered and encoded once per change and not once per request.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import msgspec

from vmcp.auth.interface import Principal
from vmcp.authz.interface import Action, Authorizer, PolicyItem
from vmcp.backend.interface import Kind
from vmcp.core.seal import Purpose, Sealer, SealError
from vmcp.core.snapshot import Route, RoutingSnapshot
from vmcp.wire.lineage import Lineage, lineage_member

MAX_VIEWS = 512
"""Views kept per snapshot; beyond that the oldest goes. They are made again when needed."""

ACTION = {
    Kind.TOOLS: Action.CALL_TOOL,
    Kind.RESOURCES: Action.READ_RESOURCE,
    Kind.TEMPLATES: Action.READ_RESOURCE,
    Kind.PROMPTS: Action.GET_PROMPT,
}
"""A list shows what may be used."""


class CursorError(ValueError):
    """The cursor is not one of ours for this list."""


class _Cursor(msgspec.Struct, array_like=True):
    kind: str
    owner: str
    after: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        items: The items, joined by commas.
        cursor: Where the next page starts; None = this is the last.
        meta: A member for `_meta`, name and value; b"" = none.
    """

    items: bytes
    cursor: str | None
    meta: bytes = b""


@dataclass(slots=True, eq=False)
class ListView:
    """One list for one kind of caller.

    Attributes:
        names: Sorted.
        raws: The items, in the order of `names`.
        etag: Digest of the content; equal etags are equal lists.
        meta: Where the list comes from: a member for `_meta`, name and value; b"" = it does not say.
        rendered: Finished first pages by a key of the front's choice, usually the era.
    """

    names: list[str]
    raws: list[bytes]
    etag: bytes
    meta: bytes = b""
    rendered: dict[str, bytes] = field(default_factory=dict)


class ListViews:
    """All views of one snapshot.

    Attributes:
        snapshot: What they show.
        pinned: Objects that must live as long as these views.
    """

    def __init__(self, snapshot: RoutingSnapshot, mark: str = "") -> None:
        """Take what is shown, and the mark that its lists bear; "" = none."""
        self.snapshot = snapshot
        self._mark = mark
        self.pinned: tuple[object, ...] = ()
        self._views: dict[tuple[Kind, Hashable], ListView] = {}

    def get(self, kind: Kind, principal: Principal, authorizer: Authorizer) -> ListView:
        """Return the list of one kind as `principal` sees it."""
        key = (kind, authorizer.view(principal))
        found = self._views.get(key)
        if found is None:
            if len(self._views) >= MAX_VIEWS:
                del self._views[next(iter(self._views))]
            found = self._views[key] = self._make(kind, principal, authorizer)
        return found

    def _make(self, kind: Kind, principal: Principal, authorizer: Authorizer) -> ListView:
        routes = [route for route in self.snapshot.table(kind).values() if not route.hidden]
        routes = _allowed(routes, kind, principal, authorizer)
        digest = hashlib.sha256()
        for route in routes:
            digest.update(len(route.raw).to_bytes(4, "big"))
            digest.update(route.raw)
        meta = b""
        if self._mark:
            through = {route.name: route.via for route in routes if route.via}
            meta = lineage_member(Lineage(self._mark, through))
        return ListView([route.name for route in routes], [route.raw for route in routes], digest.digest(), meta)


def _allowed(routes: Sequence[Route], kind: Kind, principal: Principal, authorizer: Authorizer) -> list[Route]:
    items = [PolicyItem(route.name, route.annotations) for route in routes]
    verdicts = authorizer.visible(principal, ACTION[kind], items)
    return [route for route, yes in zip(routes, verdicts, strict=True) if yes]


class Pager:
    """Cuts views into pages. Cursors are sealed and bound to the list and the principal.

    A cursor holds the last name that was sent, so a list that changes between two pages neither repeats nor skips what
    stayed.
    """

    def __init__(self, sealer: Sealer, *, size: int = 1000) -> None:
        """Take the most items of one page."""
        self._sealer = sealer
        self.size = size

    def page(self, view: ListView, kind: Kind, principal: Principal, cursor: str | None) -> Page:
        """Return one page.

        Raises:
            CursorError: Not ours, of another list, or of another principal.
        """
        start = 0 if cursor is None else self._start(view, kind, principal, cursor)
        end = start + self.size
        items = b",".join(view.raws[start:end])
        if end >= len(view.raws):
            return Page(items, None, view.meta)
        content = msgspec.json.encode(_Cursor(kind.value, principal.key, view.names[end - 1]))
        return Page(items, self._sealer.seal(Purpose.CURSOR, content), view.meta)

    def _start(self, view: ListView, kind: Kind, principal: Principal, cursor: str) -> int:
        try:
            content = msgspec.json.decode(self._sealer.open(Purpose.CURSOR, cursor), type=_Cursor)
        except (SealError, msgspec.DecodeError) as err:
            raise CursorError("invalid cursor") from err
        if content.kind != kind.value or content.owner != principal.key:
            raise CursorError("invalid cursor")
        # Names are sorted, so the place after a name that is gone meanwhile is still known.
        return bisect_right(view.names, content.after)
