"""What a controller depends on: each kind one row, of which informers, indexes, watches and permissions are made.

    DEPENDS = (
        Depends(GROUP, by=GROUP_REF, when=group_changed_for_members, why="entries say whether their group is Ready"),
        Depends(SECRET, by=HEADER_SECRETS, content="whether it has the key is read by name", why="header Secrets"),
    )
    RULES = (Rule.of(ENTRY, *READ, why="the kind itself"), *rules_of(DEPENDS))

    watch(Builder(manager, NAME).for_(ENTRY), manager, ENTRY, DEPENDS)

A row that was forgotten is a permission that is missing, and the tests that run as the operator's role say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controllers.shared.content import contents
from controllers.shared.references import INDEXES, users
from controllers.shared.references import Mapping as Wakes
from runtime import Builder, Manager, PolicyRule, Reader, Record, Resource
from runtime.control.handlers import Handler
from runtime.control.predicates import Event, Predicate, always, never
from runtime.util.rbac import READ, WATCH, Verb
from runtime.wire.selectors import LabelSelector

Index = Callable[[Record], Iterable[str]]
By = Callable[[Reader, Resource], Wakes]
"""Makes the mapping from an object to those of the reconciled kind that must hear of it."""


@dataclass(frozen=True, kw_only=True)
class Depends:
    """A kind that a controller looks at.

    Attributes:
        kind: which.
        why: it is read; stands in the documentation of permissions.
        verbs: that reading takes; list and watch where content is asked for or only metadata is kept.
        by: whom a change wakes: the name of an index of the reconciled kind (the objects that name this one), or a
            function that makes the mapping; None: nobody, or whoever `noted` says.
        when: which events count for `by`.
        events: like `by`, for a handler that sees the whole event.
        noted: which events wake those whose last decision looked the object up (`watch`); None for none.
        owned: objects of this kind that the reconciled one owns wake it.
        metadata_only: bodies are not kept.
        content: why the content of a Secret or ConfigMap is read by name; "" where it is not. Bodies are not kept.
        indexes: of this kind, for look-ups.
        labels: only objects that it matches are watched.
        transform: cuts each object down to what is needed of it.
    """

    kind: Resource = field(kw_only=False)
    why: str
    verbs: tuple[Verb, ...] = ()
    by: str | By | None = None
    when: Predicate = always
    events: Handler | None = None
    noted: Predicate | None = None
    owned: bool = False
    metadata_only: bool = False
    content: str = ""
    indexes: Mapping[str, Index | None] = field(default_factory=dict)
    labels: LabelSelector | None = None
    transform: Callable[[Record], Record] | None = None


def generates(kind: Resource, *, why: str, transform: Callable[[Record], Record] | None = None) -> Depends:
    """Return the row of a kind that is applied for the reconciled objects, and looked up before it is.

    Args:
        kind: which.
        why: it is generated.
        transform: cuts each object down to what is needed of it; None: of metadata only.
    """
    return Depends(
        kind,
        verbs=("get", "list", "watch", "create", "patch"),
        why=why,
        owned=True,
        noted=always,
        metadata_only=transform is None,
        transform=transform,
    )


def rules_of(depends: Iterable[Depends]) -> Iterator[PolicyRule]:
    """Yield the permissions that looking takes."""
    for row in depends:
        yield PolicyRule.of(
            row.kind, *(row.verbs or (WATCH if row.content or row.metadata_only else READ)), why=row.why
        )
        if row.content:
            yield PolicyRule.of(row.kind, "get", why=row.content)


def watch(
    builder: Builder,
    manager: Manager,
    kind: Resource,
    depends: Iterable[Depends],
    *,
    noted: Handler | None = None,
    owned: Predicate = always,
    known: Predicate = never,
) -> None:
    """Declare the informers and indexes of a controller, and what wakes it.

    Args:
        builder: of the controller, which knows the reconciled kind.
        manager: has the informers.
        kind: what is reconciled.
        depends: its rows.
        noted: from an event to those whose last decision looked the object up; needed by rows that say `noted`.
        owned: which events of owned objects count.
        known: which events tell what `by` was told by another source before.
    """
    rows = tuple(depends)
    for row in rows:
        if isinstance(row.by, str):
            manager.informer(kind, indexes={row.by: INDEXES.get(row.by)})
        if row.content:
            contents(manager, row.kind)
        else:
            manager.informer(
                row.kind,
                metadata_only=row.metadata_only,
                indexes=row.indexes or None,
                labels=row.labels,
                transform=row.transform,
            )
    for row in rows:
        if row.by is not None:
            make = row.by if not isinstance(row.by, str) else _naming(row.by)
            builder.watches(row.kind, make(manager.reader, kind), predicate=_new(row.when, known))
        if row.events is not None:
            builder.watches_events(row.kind, row.events, predicate=row.when)
        if row.owned:
            builder.owns(row.kind, predicate=owned)
        if row.noted is not None:
            assert noted is not None, f"{row.kind}: nobody notes what is looked up"
            builder.watches_events(row.kind, noted, predicate=row.noted)


def _new(when: Predicate, known: Predicate) -> Predicate:
    def new(event: Event) -> bool:
        return not known(event) and when(event)

    return new if known is not never else when


def _naming(index: str) -> By:
    return lambda reader, kind: users(reader, kind, index)
