"""Sources: where a controller's events come from.

A source is subscribed to when the controller starts. Its subscription tells when the initial list was delivered to this
very controller, so that workers start only after every existing key is in the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from runtime.control.predicates import Event
from runtime.wire.record import Record

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


@dataclass
class Channel:
    """A source outside of the cluster: a poller or a data plane that wakes reconciles without touching the API.

    Events sent before a controller subscribed are delivered when it does; at most `buffer` are kept.
    """

    name: str
    buffer: int = 1024
    _listeners: list[Listener] = field(default_factory=list, init=False)
    _early: list[Event] = field(default_factory=list, init=False)

    def send(self, record: Record) -> bool:
        """Report that `record` needs a look. Returns False when nobody listens yet and the buffer is full."""
        event = Event(None, record)
        if self._listeners:
            for listener in tuple(self._listeners):
                listener(event)
        elif len(self._early) < self.buffer:
            self._early.append(event)
        else:
            return False
        return True

    def subscribe(self, listener: Listener) -> Subscription:
        """Register; events that came early are delivered first."""
        early, self._early = self._early, []
        self._listeners.append(listener)
        for event in early:
            listener(event)
        return _ChannelSubscription(self._listeners, listener)


@dataclass
class _ChannelSubscription:
    listeners: list[Listener]
    listener: Listener

    async def synced(self) -> None:
        await asyncio.sleep(0)

    def close(self) -> None:
        if self.listener in self.listeners:
            self.listeners.remove(self.listener)
