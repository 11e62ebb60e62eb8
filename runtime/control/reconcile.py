"""What a reconciler is and what it may answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from runtime.wire.gvk import Key, Request


@dataclass(frozen=True, slots=True)
class Result:
    """A reconcile that ended well.

    Attributes:
        requeue_after: Seconds until the next run, even if nothing happens; None waits for the next event. Resets the
            item's back-off, as success does.
        priority: Priority of that next run; None keeps the one that this run had.
        hold: Until then only events of the object itself wake it. For what is looked at now and then while thousands of
            others change: each of them would cost a reconcile that finds out that it is too early. Default False.
    """

    requeue_after: float | None = None
    priority: int | None = None
    hold: bool = False


class TerminalError(Exception):
    """Trying again cannot help until an object changes: counted and logged, not retried.

    For mistakes of users set a condition and return instead; this is for states that the controller cannot express.
    """


class Reconciler(Protocol):
    """Business logic of one kind: level based, idempotent, woken with nothing but a key."""

    async def reconcile(self, request: Key) -> Result | None:
        """Make the world fit the object named by `request`, or clean up after it when it is gone.

        An exception means: try again with back-off. At most one call per key runs at a time.
        """


__all__ = ["Reconciler", "Request", "Result", "TerminalError"]
