"""What other writers do between a read and a write is no failure of a reconcile.

An object that changed in between (409) is decided anew soon: the runtime sees to that. An object that was deleted in
between (404) ends the reconcile, without an error in the log and without back-off: only the controllers know which
object that is.
"""

from __future__ import annotations

from dataclasses import replace

from controllers.shared import skew
from controllers.shared.skew import InstalledSchema
from controllers.shared.status_repairs import StatusRepairs
from runtime import Builder, Key, Manager, NotFoundError, Reconciler, Resource, Result

LONGEST_BACKOFF = 60.0
"""Seconds between tries after errors: what an administrator mended (a role, a quota) is noticed within a minute."""


class TolerantReconciler:
    """A reconciler that ends quietly when its object is deleted under its hands.

    Args:
        reconciler: does the work.
        manager: for asking the server whether an object is really gone.
        kind: what is reconciled.
        schema: what its installed CRD does not know; while that is something, objects are looked at again.
        repairs: of its statuses; an object whose repair waits is looked at again.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        manager: Manager,
        kind: Resource,
        schema: InstalledSchema,
        repairs: StatusRepairs | None,
    ) -> None:
        self._reconciler, self._client, self._kind = reconciler, manager.client, kind
        self._schema, self._repairs = schema, repairs

    async def reconcile(self, request: Key) -> Result | None:
        """Reconcile; see `runtime.Reconciler`."""
        try:
            result = await self._reconciler.reconcile(request)
        except NotFoundError:
            if not await self._is_gone(request):
                raise
            return None
        times = [
            result.requeue_after if result is not None else None,
            skew.RECHECK if result is None and self._schema.outdated else None,
            self._repairs.due_in(request) if self._repairs is not None else None,
        ]
        due = min((after for after in times if after is not None), default=None)
        if due is None:
            return result
        return replace(result, requeue_after=due) if result is not None else Result(due)

    async def _is_gone(self, request: Key) -> bool:
        """Ask the server: the cache may not have heard of the deletion yet."""
        try:
            record = await self._client.get_live(self._kind, request)
        except NotFoundError:
            return True
        return record.meta.deleting


def complete(
    builder: Builder,
    reconciler: Reconciler,
    manager: Manager,
    kind: Resource,
    schema: InstalledSchema,
    repairs: StatusRepairs | None,
    *,
    concurrency: int | None = None,
) -> None:
    """Hand a controller to the manager, composed and with a bounded back-off.

    Args:
        builder: knows what is watched.
        reconciler: does the work.
        manager: runs it.
        kind: what is reconciled.
        schema: what its installed CRD does not know.
        repairs: of its statuses.
        concurrency: reconciles at once; None for the runtime's default.
    """
    builder.options(backoff_cap=LONGEST_BACKOFF)
    if concurrency is not None:
        builder.options(concurrency=concurrency)
    builder.complete(TolerantReconciler(reconciler, manager, kind, schema, repairs))
