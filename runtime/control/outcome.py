"""Runs one attempt and turns whatever came out of it into a decision: again, later, or done.

The order of the rules is controller-runtime's: an error decides before a result. Two rules are added. A conflict is
not an error: the object moved between read and write, and the next attempt sees its new state, so it comes soon and
does not grow the back-off of failures. And a server that says when to come back (Retry-After) is believed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from runtime.control.reconcile import Reconciler, Result, TerminalError
from runtime.observe.metrics import ControllerMetrics
from runtime.wire.errors import ApiError, ConflictError, TransportError
from runtime.wire.gvk import Key

log = structlog.get_logger("controller")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the queue is told.

    Attributes:
        retry: Add again with the item's back-off.
        conflict: Add again with the short back-off of conflicts.
        after: Seconds: the least delay of a retry, or when to run again after a success. None: no wish.
        priority: Of the next run; None keeps the present one.
        hold: Whether only the object's own events come earlier than that.
    """

    retry: bool = False
    conflict: bool = False
    after: float | None = None
    priority: int | None = None
    hold: bool = False


_DONE = Outcome()
_RETRY = Outcome(retry=True)
_CONFLICT = Outcome(conflict=True)


async def run_reconcile(
    reconciler: Reconciler, request: Key, *, timeout: float | None, metrics: ControllerMetrics, quiet_conflict: bool
) -> Outcome:
    """Run one attempt, contain its exceptions, count it.

    Args:
        reconciler: The business logic.
        request: What to reconcile.
        timeout: Seconds for the attempt, None for no limit.
        metrics: The controller's series.
        quiet_conflict: Whether a conflict is still the normal result of a race and not an error.

    Raises:
        asyncio.CancelledError: The process is stopping and the attempt took too long to finish.
    """
    clock = asyncio.get_running_loop().time
    started = clock()
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            result = await reconciler.reconcile(request)
        return _succeeded(result, metrics)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Not meant for us: the reconciler awaited something that somebody else cancelled. A worker must survive that.
        return _failed(RuntimeError(f"awaited something that was cancelled: {error!r}"), metrics)
    except Exception as error:  # noqa: BLE001  one object's bug must not stop the others
        return _failed(error, metrics, timed_out=limit.expired(), quiet_conflict=quiet_conflict)
    finally:
        metrics.time.observe(clock() - started)


def _succeeded(result: Result | None, metrics: ControllerMetrics) -> Outcome:
    if result is None or result.requeue_after is None:
        metrics.success.inc()
        return _DONE
    metrics.requeue_after.inc()
    return Outcome(after=max(0.0, result.requeue_after), priority=result.priority, hold=result.hold)


def _failed(
    error: Exception, metrics: ControllerMetrics, *, timed_out: bool = False, quiet_conflict: bool = False
) -> Outcome:
    if quiet_conflict and isinstance(error, ConflictError):
        metrics.requeue.inc()
        log.debug("reconcile lost a race", conflict=str(error))
        return _CONFLICT
    metrics.error.inc()
    metrics.errors.inc()
    if timed_out:
        metrics.timeouts.inc()
        log.error("Reconciler error", error="the reconcile took longer than the controller's time limit")
        return _RETRY
    if isinstance(error, TerminalError):
        metrics.terminal.inc()
        log.error("Reconciler error", error=str(error), terminal=True)
        return _DONE
    if isinstance(error, ApiError | TransportError):
        # Expected in life: the message says what the server said, a stack would only say where we asked.
        log.error("Reconciler error", error=str(error), error_type=type(error).__name__)
        conflict = isinstance(error, ConflictError)
        return Outcome(retry=not conflict, conflict=conflict, after=getattr(error, "retry_after", None))
    metrics.panics.inc()
    log.error("Reconciler error", error=str(error), error_type=type(error).__name__, exc_info=error)
    return _RETRY
