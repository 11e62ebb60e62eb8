"""Wires a controller: what it reconciles, what it owns, what else wakes it.

Builder(manager, "mcpserverentry").for_(ENTRY).watches(GROUP, entries_of_group).complete(reconciler)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, Self

from runtime.cache.handlers import Change, Registration
from runtime.cache.handlers import Handler as ChangeHandler
from runtime.control.controller import Controller, ControllerOptions, Watch
from runtime.control.handlers import Handler, Mapping, enqueue_mapped, enqueue_object, enqueue_owner
from runtime.control.predicates import Event, Predicate, always
from runtime.control.reconcile import Reconciler
from runtime.control.source import Listener, Source, Subscription
from runtime.wire.gvk import Resource


class InformerLike(Protocol):
    """The part of an informer that a controller needs."""

    @property
    def resource(self) -> Resource:
        """What it watches."""

    def add_handler(self, handler: ChangeHandler, *, name: str = "") -> Registration:
        """See `runtime.cache`."""


class ControllerHost(Protocol):
    """The part of a manager that the builder needs."""

    def informer_of(self, resource: Resource) -> InformerLike:
        """The declared informer of this kind; declares a plain one where that is harmless."""

    def controller_options(self, name: str) -> ControllerOptions:
        """Defaults of a controller of this name."""

    def add_controller(self, controller: Controller) -> None:
        """Run it with the others. Refuses a name that is taken."""


class BuilderError(ValueError):
    """The controller as described cannot work."""


class InformerSource:
    """Events of one informer."""

    def __init__(self, informer: InformerLike) -> None:
        self.name = str(informer.resource)
        self._informer = informer

    def subscribe(self, listener: Listener) -> Subscription:
        """Register with the informer; what it knows is delivered first, as initial events."""

        def deliver(change: Change) -> None:
            listener(Event(change.old, change.new, change.initial, change.stale))

        return _InformerSubscription(self._informer.add_handler(deliver, name=self.name))


class _InformerSubscription:
    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    async def synced(self) -> None:
        await self._registration.wait_synced()

    def close(self) -> None:
        self._registration.remove()


class Builder:
    """Describes one controller; `complete` makes it and hands it to the manager.

    Args:
        manager: Who runs it.
        name: Name in metrics and logs, unique in the manager: the kind in lower case.
    """

    def __init__(self, manager: ControllerHost, name: str) -> None:
        self._manager = manager
        self._name = name
        self._kind: Resource | None = None
        self._watches: list[Watch] = []
        self._options = manager.controller_options(name)

    def for_(self, kind: Resource, *, predicate: Predicate = always) -> Self:
        """The kind that is reconciled.

        Raises:
            BuilderError: It was named already.
        """
        if self._kind is not None:
            raise BuilderError(f"controller {self._name}: for_ was called twice ({self._kind}, {kind})")
        self._kind = kind
        return self._watch(kind, enqueue_object, predicate)

    def owns(self, kind: Resource, *, predicate: Predicate = always, controller_only: bool = True) -> Self:
        """Objects that the reconciled kind owns wake their owner.

        Args:
            kind: The child's kind.
            predicate: Which events count.
            controller_only: Only the managing owner, or with False every owner of that kind.

        Raises:
            BuilderError: `for_` has not said yet whose objects they are.
        """
        if self._kind is None:
            raise BuilderError(f"controller {self._name}: owns({kind}) needs for_ before it")
        return self._watch(kind, enqueue_owner(self._kind, controller_only=controller_only), predicate)

    def watches(self, kind: Resource, mapping: Mapping, *, predicate: Predicate = always) -> Self:
        """Objects that the reconciled kind depends on wake whatever `mapping` names, for their old and new state."""
        return self._watch(kind, enqueue_mapped(mapping), predicate)

    def watches_events(self, kind: Resource, handler: Handler, *, predicate: Predicate = always) -> Self:
        """As `watches`, with a handler that sees the whole event."""
        return self._watch(kind, handler, predicate)

    def watches_source(self, source: Source, mapping: Mapping, *, predicate: Predicate = always) -> Self:
        """As `watches`, for events that come from no informer."""
        self._watches.append(Watch(source, enqueue_mapped(mapping), predicate))
        return self

    def options(self, **changes: Any) -> Self:
        """Change fields of `ControllerOptions`. The composition root's own choice for this controller wins."""
        chosen = self._manager.controller_options(self._name)
        defaults = ControllerOptions()
        kept = {n: v for n, v in changes.items() if getattr(chosen, n) == getattr(defaults, n)}
        self._options = replace(self._options, **kept)
        return self

    def complete(self, reconciler: Reconciler) -> Controller:
        """Make the controller and give it to the manager.

        Raises:
            BuilderError: Nothing is watched.
        """
        if not self._watches:
            raise BuilderError(f"controller {self._name} watches nothing")
        controller = Controller(self._name, self._kind, reconciler, self._watches, self._options)
        self._manager.add_controller(controller)
        return controller

    def _watch(self, kind: Resource, handler: Handler, predicate: Callable[[Event], bool]) -> Self:
        self._watches.append(Watch(InformerSource(self._manager.informer_of(kind)), handler, predicate))
        return self
