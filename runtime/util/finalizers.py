"""Finalizers: written with an optimistic lock, because the list belongs to several writers.

A JSON merge patch replaces the whole list. Without the resourceVersion in the patch, two controllers that add or remove
their finalizers at the same time lose one of them, and an object then vanishes before it was cleaned up or never.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from runtime.wire.errors import NotFoundError
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record


class MergePatcher(Protocol):
    """The part of a client that finalizers need."""

    async def merge_patch(
        self, resource: Resource, key: Key, patch: Mapping[str, Any], *, resource_version: str | None = None
    ) -> Record:
        """See `runtime.client`."""


def has_finalizer(record: Record, name: str) -> bool:
    """Whether `name` holds the object."""
    return name in record.meta.finalizers


async def add_finalizer(client: MergePatcher, record: Record, name: str) -> Record:
    """Hold the object until `remove_finalizer`. Does nothing when it is held already or is being deleted.

    Add it before the first side effect that needs cleaning up: the other order leaks what a crash leaves in between.
    Raises ConflictError when the record is stale; the reconcile is then repeated with a fresh one.
    """
    if has_finalizer(record, name) or record.meta.deleting:
        return record
    return await _write(client, record, [*record.meta.finalizers, name])


async def remove_finalizer(client: MergePatcher, record: Record, name: str) -> Record | None:
    """Release the object. Returns None when it is gone already, which is what was wanted."""
    if not has_finalizer(record, name):
        return record
    try:
        return await _write(client, record, [f for f in record.meta.finalizers if f != name])
    except NotFoundError:
        return None


async def _write(client: MergePatcher, record: Record, finalizers: list[str]) -> Record:
    return await client.merge_patch(
        record.resource,
        record.key,
        {"metadata": {"finalizers": finalizers}},
        resource_version=record.meta.resource_version,
    )
