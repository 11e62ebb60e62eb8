"""Holding objects that somebody may delete at any moment."""

from __future__ import annotations

from runtime import Client, NotFoundError, Record, add_finalizer


async def hold(client: Client, record: Record, finalizer: str) -> Record | None:
    """Put our finalizer on an object; None when it was gone first, which ends the reconcile and is no error.

    Raises:
        ConflictError: the object changed since it was read.
    """
    try:
        return await add_finalizer(client, record, finalizer)
    except NotFoundError:
        return None
