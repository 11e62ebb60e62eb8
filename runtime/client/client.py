"""The client: reads from the cache, writes to the server, and keeps the two together.

Every answer to a write goes to the cache at once (read your writes), so the next reconcile decides on what this process
has done, and not on what its watch has heard so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from runtime.cache.cache import Cache, Reader
from runtime.client import requests
from runtime.client.requests import Propagation, WriteRequest
from runtime.client.secrecy import withheld
from runtime.transport.session import Transport
from runtime.wire.decode import decode_list, decode_record, is_status
from runtime.wire.errors import ApiError, NotFoundError
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record
from runtime.wire.selectors import FieldSelector, LabelSelector

log = structlog.get_logger("runtime.client")

_MAX_WARNINGS = 1024


class Client:
    """Reads and writes objects.

    Args:
        transport: the connections; its fence decides whether writes go out.
        cache: where reads come from and answers go to. None: a live-only client for tools.
        field_manager: who owns what `create`, `update` and `merge_patch` set; `apply` names its own each time.
        dry_run: let the server check and answer everything, and store nothing.
    """

    def __init__(self, transport: Transport, cache: Cache | None, *, field_manager: str, dry_run: bool = False) -> None:
        self._transport = transport
        self._cache = cache
        self._query = {"fieldManager": field_manager} | ({"dryRun": "All"} if dry_run else {})
        self._dry_run = dry_run
        self._warned: set[str] = set()

    @property
    def cache(self) -> Reader:
        """Cached reads.

        Raises:
            RuntimeError: the client was made without a cache.
        """
        if self._cache is None:
            raise RuntimeError("this client has no cache: use get_live and list_live")
        return self._cache.reader

    async def get_live(self, resource: Resource, key: Key) -> Record:
        """Read one object from the server.

        Raises:
            NotFoundError: there is none.
            ApiError, TransportError: see `Transport.request`.
        """
        answer = await self._transport.request("GET", resource.object_path(key))
        return decode_record(resource, answer.body)

    async def list_live(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        labels: LabelSelector | None = None,
        fields: FieldSelector | None = None,
        page_size: int = 500,
    ) -> list[Record]:
        """Read the objects of a namespace from the server, page by page.

        Args:
            resource: the kind.
            namespace: "" for all, and for kinds without namespaces.
            labels: what their labels must match.
            fields: what their fields must match; the server knows few besides name and namespace.
            page_size: objects per request.

        Raises:
            ExpiredError: the pages took longer than the server keeps its history (5 minutes by default).
        """
        query = {"limit": str(page_size)}
        for name, selector in (("labelSelector", labels), ("fieldSelector", fields)):
            if selector is not None and selector.terms:
                query[name] = str(selector)
        found: list[Record] = []
        while True:
            answer = await self._transport.request("GET", resource.collection_path(namespace), query=query)
            meta, items = decode_list(answer.body)
            found.extend(decode_record(resource, item) for item in items)
            if not meta.continue_:
                return found
            query["continue"] = meta.continue_

    async def create(self, resource: Resource, body: Mapping[str, Any], *, field_manager: str | None = None) -> Record:
        """Create an object.

        Raises:
            AlreadyExistsError: one of this name is there.
        """
        return await self._send(resource, None, requests.create(resource, body, self._owner(field_manager)))

    async def update(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
        field_manager: str | None = None,
    ) -> Record:
        """Replace an object, or one of its subresources.

        Args:
            resource: the kind.
            body: the whole object; its name and namespace say which.
            subresource: such as `status`; None for the object itself.
            field_manager: whose the fields are to be; None for the client's own.

        Raises:
            ConflictError: `metadata.resourceVersion` is given and the object has changed since.
            NotFoundError: there is none.
        """
        write = requests.update(resource, body, subresource, self._owner(field_manager))
        return await self._send(resource, requests.key_of(resource, body), write)

    async def merge_patch(
        self,
        resource: Resource,
        key: Key,
        patch: Mapping[str, Any],
        *,
        resource_version: str | None = None,
        subresource: str | None = None,
        field_manager: str | None = None,
    ) -> Record:
        """Change some fields; lists are replaced whole, null removes.

        Args:
            resource: the kind.
            key: the object.
            patch: RFC 7386.
            resource_version: fail when the object has changed since this version.
            subresource: `status`, for example.
            field_manager: instead of the client's.

        Raises:
            ConflictError: the object has changed since `resource_version`.
            NotFoundError: there is none.
        """
        write = requests.merge_patch(
            resource,
            key,
            patch,
            resource_version=resource_version,
            subresource=subresource,
            query=self._owner(field_manager),
        )
        return await self._send(resource, key, write)

    async def apply(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        field_manager: str,
        force: bool = True,
        subresource: str | None = None,
    ) -> Record:
        """Server-side apply: the body is everything that `field_manager` wants of the object.

        An apply that changes nothing keeps the resourceVersion and makes no event, but costs a request.

        Args:
            resource: the kind.
            body: those fields, with name and namespace; what an earlier apply of this manager had and this one has not
                is removed.
            field_manager: who wants them.
            force: take fields that other managers have.
            subresource: such as `status`; None for the object itself.

        Raises:
            ConflictError: without `force`, fields belong to other managers.
        """
        write = requests.apply(resource, body, force=force, subresource=subresource, query=self._owner(field_manager))
        return await self._send(resource, requests.key_of(resource, body), write)

    async def delete(
        self,
        resource: Resource,
        key: Key,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: Propagation | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """Delete an object, or ask for its deletion while finalizers hold it.

        Args:
            resource: the kind.
            key: the object.
            uid: only this very object, not a new one of the same name.
            resource_version: only in this very version.
            propagation: what becomes of the objects that it owns; None for the server's default.
            grace_seconds: of pods.

        Raises:
            NotFoundError: there is none (any more).
            ConflictError: a precondition does not hold.
        """
        query = {"dryRun": "All"} if self._dry_run else {}
        write = requests.delete(
            resource,
            key,
            uid=uid,
            resource_version=resource_version,
            propagation=propagation,
            grace_seconds=grace_seconds,
            query=query,
        )
        try:
            body = await self._answer(resource, key, write)
        except NotFoundError:
            self._forget(resource, key, uid)
            raise
        remaining = _remaining(resource, body)
        if remaining is None:
            self._forget(resource, key, uid)
        else:
            self._remember(remaining)

    async def _send(self, resource: Resource, key: Key | None, write: WriteRequest) -> Record:
        record = decode_record(resource, await self._answer(resource, key, write))
        self._remember(record)
        return record

    async def _answer(self, resource: Resource, key: Key | None, write: WriteRequest) -> bytes:
        try:
            answer = await self._transport.request(
                write.method, write.path, query=write.query, body=write.body, content_type=write.content_type
            )
        except ApiError as error:
            raise withheld(error, resource) from None
        for warning in answer.warnings:
            self._warn(resource, key, warning)
        return answer.body

    def _owner(self, field_manager: str | None) -> Mapping[str, str]:
        return self._query if field_manager is None else {**self._query, "fieldManager": field_manager}

    def _remember(self, record: Record) -> None:
        informer = self._cache.declared(record.resource) if self._cache is not None else None
        if informer is not None and not self._dry_run:
            informer.written(record)

    def _forget(self, resource: Resource, key: Key, uid: str | None) -> None:
        informer = self._cache.declared(resource) if self._cache is not None else None
        if informer is not None and not self._dry_run:
            informer.deleted(key, uid)

    def _warn(self, resource: Resource, key: Key | None, text: str) -> None:
        """Log a warning of the server once per kind."""
        seen = f"{resource} {text}"
        if seen in self._warned:
            return
        if len(self._warned) >= _MAX_WARNINGS:
            self._warned.clear()
        self._warned.add(seen)
        log.warning("warning from the API server", resource=str(resource), object=str(key or ""), warning=text)


def _remaining(resource: Resource, body: bytes) -> Record | None:
    """Return what a DELETE has left: the object while finalizers or a grace period hold it, None when it is gone.

    The server answers with a Status, or for some kinds with the object, gone or not.
    """
    if is_status(body):
        return None
    record = decode_record(resource, body)
    if not record.meta.deleting:
        return None
    held = record.meta.finalizers or record.path("metadata.deletionGracePeriodSeconds")
    return record if held else None
