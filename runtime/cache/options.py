"""What an informer watches and how it keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record
from runtime.wire.selectors import FieldSelector, LabelSelector

Transform = Callable[[Record], Record]
"""Changes a record before the store and the handlers get it. Must be pure and keep key, uid and version."""


@dataclass(frozen=True)
class Selection:
    """Selectors of one namespace."""

    labels: LabelSelector = field(default_factory=LabelSelector)
    fields: FieldSelector = field(default_factory=FieldSelector)


@dataclass(frozen=True)
class InformerOptions:
    """Options of the informer of one kind."""

    metadata_only: bool = False
    """Keep and transfer only metadata. For Secrets and ConfigMaps: their bodies are read live when needed."""
    namespaces: Mapping[str, Selection | None] | None = None
    """Watch these namespaces only, each by a reflector of its own, with its own selectors or (None) the general ones.
    The key "" stands for all other namespaces. None: everything in one watch."""
    labels: LabelSelector = field(default_factory=LabelSelector)
    """General label selector."""
    fields: FieldSelector = field(default_factory=FieldSelector)
    """General field selector; `metadata.namespace=x` alone requests that namespace only, which RBAC can allow."""
    transform: Transform | None = None
    read_your_writes: bool = True
    """Show own writes before the watch confirms them. Off for servers whose versions cannot be compared."""
    resync: float = 36_000.0
    """Seconds between two rounds in which handlers get every object as unchanged update; 0 for none. 10 h as in
    controller-runtime, jittered by 10 %. Local: costs no request."""

    def merged(self, other: InformerOptions) -> InformerOptions:
        """Return options that serve both declarations.

        Raises:
            ValueError: the two want different objects.
        """
        if (self.namespaces, self.labels, self.fields, self.transform) != (
            other.namespaces,
            other.labels,
            other.fields,
            other.transform,
        ):
            raise ValueError("declared twice with different namespaces, selectors or transform")
        return replace(
            self,
            metadata_only=self.metadata_only and other.metadata_only,
            read_your_writes=self.read_your_writes and other.read_your_writes,
            resync=min(self.resync, other.resync) or max(self.resync, other.resync),
        )


@dataclass(frozen=True)
class Scope:
    """What one reflector watches."""

    namespace: str
    """Of the request path; empty for the collection of all namespaces."""
    selection: Selection
    excluded: frozenset[str] = frozenset()
    """Namespaces that other reflectors of the same informer watch."""

    @property
    def fields(self) -> FieldSelector:
        """The field selector to send."""
        return self.selection.fields.and_(FieldSelector.all_but_namespaces(self.excluded))

    def owns(self, key: Key) -> bool:
        """Whether objects of this key come from this reflector."""
        return key.namespace == self.namespace if self.namespace else key.namespace not in self.excluded

    def shows(self, record: Record) -> bool:
        """Whether the server would show this object to the reflector."""
        if not self.owns(record.key) or not self.selection.labels.matches(record.meta.labels):
            return False
        return self.selection.fields.matches(record.path)


def scopes(resource: Resource, options: InformerOptions) -> list[Scope]:
    """Return one scope per reflector.

    Raises:
        ValueError: namespaces for a cluster-scoped kind.
    """
    general = Selection(options.labels, options.fields)
    if options.namespaces is None:
        return [_narrowed(general)]
    if not resource.namespaced:
        raise ValueError(f"{resource} is cluster-scoped: it cannot be watched by namespace")
    if not options.namespaces:
        raise ValueError(f"{resource}: an empty set of namespaces watches nothing; give None for all")
    named = frozenset(name for name in options.namespaces if name)
    return [
        Scope(name, selection or general, frozenset() if name else named)
        for name, selection in options.namespaces.items()
    ]


def _narrowed(selection: Selection) -> Scope:
    """Turn `metadata.namespace=x` into a request to that namespace."""
    rest = tuple(t for t in selection.fields.terms if not (t.key == "metadata.namespace" and t.operator == "="))
    if len(selection.fields.terms) - len(rest) != 1:
        return Scope("", selection)
    (only,) = (t for t in selection.fields.terms if t not in rest)
    return Scope(next(iter(only.values)), Selection(selection.labels, FieldSelector(rest)))
