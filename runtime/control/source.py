"""Sources: where a controller's events come from.

A source is subscribed to when the controller starts. Its subscription tells when the initial list was delivered to this
very controller, so that workers start only after every existing key is in the queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from runtime.control.predicates import Event

Listener = Callable[[Event], None]


class Subscription(Protocol):
    """A listener that is registered with a source."""

    async def synced(self) -> None:
        """Return when the initial list was delivered to the listener."""

    def close(self) -> None:
        """Deliver nothing more."""


class Source(Protocol):
    """Anything that can wake a controller."""

    @property
    def name(self) -> str:
        """For logs and errors: what is watched."""

    def subscribe(self, listener: Listener) -> Subscription:
        """Deliver events to `listener`, synchronously and in order, the objects that are there first."""
