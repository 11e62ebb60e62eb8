"""What other writers do between a read and a write is no failure of a reconcile.

Two things happen to every controller that works beside others: the object changed in between (409), and the object was
deleted in between (404). Neither says that anything is wrong, so neither may be logged as an error or lengthen the
back-off of real errors: a conflict is decided anew soon, a deletion ends the reconcile.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from runtime import (
    AlreadyExistsError,
    Builder,
    ConflictError,
    Key,
    Manager,
    NotFoundError,
    Reconciler,
    Resource,
    Result,
)

FIRST = 0.02
"""Seconds until the second try after a conflict: about what a watch needs to bring the newer object."""
LONGEST = 1.0
"""Seconds that a try waits at most, however many were lost in a row: a fight stays visible and cheap."""
ROW = 10.0
"""Seconds without a conflict after which the next one is the first of a new row."""
FIGHT = 6
"""Conflicts in a row that are worth a warning."""
LONGEST_BACKOFF = 60.0
"""Seconds between tries after errors: what an administrator mended (a role, a quota) is noticed within a minute."""

log = structlog.get_logger("races")


class Composed:
    """A reconciler that loses races with composure.

    Args:
        reconciler: does the work.
        manager: for asking the server whether an object is really gone.
        kind: what is reconciled.
        clock: seconds, monotonic.
    """

    def __init__(
        self, reconciler: Reconciler, manager: Manager, kind: Resource, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reconciler, self._client, self._kind, self._clock = reconciler, manager.client, kind, clock
        self._lost: dict[Key, tuple[int, float]] = {}

    async def reconcile(self, request: Key) -> Result | None:
        """Reconcile; see `runtime.Reconciler`."""
        try:
            result = await self._reconciler.reconcile(request)
        except ConflictError as error:
            if isinstance(error, AlreadyExistsError):
                raise
            return Result(requeue_after=self._again(request, error))
        except NotFoundError:
            self._lost.pop(request, None)
            if not await self._is_gone(request):
                raise
            return None
        if result is None or result.requeue_after is None:
            # One that only waits (for a burst to end, for a pause to pass) has not won anything yet.
            self._lost.pop(request, None)
        return result

    def _again(self, request: Key, error: ConflictError) -> float:
        before, at = self._lost.get(request, (0, 0.0))
        now = self._clock()
        lost = before + 1 if now - at < ROW else 1
        self._lost[request] = lost, now
        say = log.warning if lost == FIGHT else log.debug
        say("lost a race for an object", kind=self._kind.kind, object=str(request), times=lost, conflict=str(error))
        return min(FIRST * 2.0 ** min(lost - 1, 30), LONGEST)

    async def _is_gone(self, request: Key) -> bool:
        """Ask the server: the cache may not have heard of the deletion yet."""
        try:
            record = await self._client.get_live(self._kind, request)
        except NotFoundError:
            return True
        return record.meta.deleting


def complete(
    builder: Builder, reconciler: Reconciler, manager: Manager, kind: Resource, *, concurrency: int | None = None
) -> None:
    """Hand a controller to the manager, composed and with a bounded back-off.

    Args:
        builder: knows what is watched.
        reconciler: does the work.
        manager: runs it.
        kind: what is reconciled.
        concurrency: reconciles at once; None for the runtime's default.
    """
    builder.options(backoff_cap=LONGEST_BACKOFF)
    if concurrency is not None:
        builder.options(concurrency=concurrency)
    builder.complete(Composed(reconciler, manager, kind))
