"""Where a reflector gets its bytes from: one collection of one API server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from runtime.transport.session import Transport
from runtime.wire.gvk import Resource
from runtime.wire.selectors import FieldSelector, LabelSelector

_AS_PARTIAL = "application/json;as={};g=meta.k8s.io;v=v1"


class ListerWatcher(Protocol):
    """A collection that can be listed and watched."""

    async def fetch(self, query: Mapping[str, str], timeout: float) -> bytes:
        """Return one page, undecoded. Raises ApiError, TransportError."""

    def watch(
        self, query: Mapping[str, str], silence: Callable[[], float]
    ) -> AbstractAsyncContextManager[AsyncGenerator[list[bytes], None]]:
        """Open a watch that gives batches of lines. Raises ApiError, TransportError, StalledError."""


class ApiSource:
    """A collection behind a Transport.

    Args:
        transport: the connections.
        resource: the kind.
        namespace: empty for all.
        labels: label selector.
        fields: field selector.
        metadata_only: ask for PartialObjectMetadata.
    """

    def __init__(
        self,
        transport: Transport,
        resource: Resource,
        *,
        namespace: str,
        labels: LabelSelector,
        fields: FieldSelector,
        metadata_only: bool,
    ) -> None:
        self._transport = transport
        self._path = resource.collection_path(namespace)
        self._selectors = {
            name: str(selector)
            for name, selector in (("labelSelector", labels), ("fieldSelector", fields))
            if selector.terms
        }
        # The plain type at the end: a server that cannot project sends whole objects, and we project.
        plain = "application/json"
        self._accept_list = f"{_AS_PARTIAL.format('PartialObjectMetadataList')},{plain}" if metadata_only else plain
        self._accept_watch = f"{_AS_PARTIAL.format('PartialObjectMetadata')},{plain}" if metadata_only else plain

    async def fetch(self, query: Mapping[str, str], timeout: float) -> bytes:
        """Return one page, undecoded."""
        answer = await self._transport.request(
            "GET",
            self._path,
            query={**self._selectors, **query},
            accept=self._accept_list,
            timeout=timeout,
            retry=False,  # the reflector paces itself
        )
        return answer.body

    def watch(
        self, query: Mapping[str, str], silence: Callable[[], float]
    ) -> AbstractAsyncContextManager[AsyncGenerator[list[bytes], None]]:
        """Open a watch."""
        return self._transport.stream(
            self._path, query={**self._selectors, **query}, accept=self._accept_watch, silence=silence
        )
