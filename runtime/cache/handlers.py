"""What listeners of an informer learn, and how they are called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import structlog

from runtime.wire.record import Record

log = structlog.get_logger("runtime.cache")


class Change(NamedTuple):
    """One change of one object, told after the store has it."""

    type: Literal["added", "updated", "deleted"]
    old: Record | None
    """What handlers were told before; None for "added"."""
    new: Record | None
    """None for "deleted"."""
    initial: bool = False
    """Part of the first list, or of the replay to a late handler."""
    stale: bool = False
    """A deletion that a relist found: `old` may not be the last state."""


Handler = Callable[[Change], None]


class Registration:
    """One handler at one informer."""

    def __init__(self, handler: Handler, name: str, remove: Callable[[Registration], None]) -> None:
        self.handler = handler
        self.name = name
        self._remove = remove
        self._synced = asyncio.Event()

    @property
    def has_synced(self) -> bool:
        """Whether the first list was delivered to this handler."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait until the first list was delivered to this handler."""
        await self._synced.wait()

    def mark_synced(self) -> None:
        """Note that the first list was delivered."""
        self._synced.set()

    def remove(self) -> None:
        """Take the handler out; it is not called again."""
        self._remove(self)


class Handlers:
    """The handlers of one informer. Each gets the changes in order; there is no order between handlers."""

    def __init__(self) -> None:
        self._registrations: list[Registration] = []
        self.errors = 0
        """Exceptions that handlers raised."""

    def add(self, handler: Handler, name: str, known: Iterable[Record], *, synced: bool) -> Registration:
        """Register a handler and replay what is known to it, before any newer change.

        Args:
            handler: called with each change, synchronously; what it raises is logged and counted.
            name: for the log; "" for the handler's own.
            known: what the store has now.
            synced: the first list is through already.
        """
        registration = Registration(handler, name or getattr(handler, "__qualname__", "handler"), self._remove)
        for record in known:
            self._call(registration, Change("added", None, record, initial=True))
        self._registrations.append(registration)
        if synced:
            registration.mark_synced()
        return registration

    def emit(self, change: Change) -> None:
        """Call every handler. One that raises is logged and counted; the others and the reflector go on."""
        for registration in self._registrations:
            self._call(registration, change)

    def mark_synced(self) -> None:
        """Tell all handlers that the first list is through."""
        for registration in self._registrations:
            registration.mark_synced()

    def _remove(self, registration: Registration) -> None:
        # A new list: `emit` may be walking the old one.
        self._registrations = [known for known in self._registrations if known is not registration]

    def _call(self, registration: Registration, change: Change) -> None:
        try:
            registration.handler(change)
        except Exception:
            self.errors += 1
            record = change.new or change.old
            log.exception("event handler failed", handler=registration.name, object=repr(record))
