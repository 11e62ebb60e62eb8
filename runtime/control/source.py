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


class Channel:
    """A source that this process itself feeds, as controller-runtime's `source.Channel`. It has no initial list.

    Args:
        name: for logs and errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._listeners: list[Listener] = []

    @property
    def has_listeners(self) -> bool:
        """Whether anybody would hear of an event."""
        return bool(self._listeners)

    def send(self, event: Event) -> None:
        """Deliver an event to every listener before returning."""
        for listener in self._listeners:
            listener(event)

    def subscribe(self, listener: Listener) -> Subscription:
        """See `Source`."""
        self._listeners = [*self._listeners, listener]
        return _ChannelSubscription(self, listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Deliver nothing more to a listener."""
        self._listeners = [known for known in self._listeners if known is not listener]


class _ChannelSubscription:
    def __init__(self, channel: Channel, listener: Listener) -> None:
        self._channel, self._listener = channel, listener

    async def synced(self) -> None:
        return

    def close(self) -> None:
        self._channel.unsubscribe(self._listener)
