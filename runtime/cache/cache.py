"""All informers of a process, and the reader over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog

from runtime.cache.index import IndexFunction
from runtime.cache.informer import Informer, InformerStats, api_sources
from runtime.cache.options import InformerOptions, Scope, Selection, Transform
from runtime.cache.reflector import StreamingMemory
from runtime.cache.source import ListerWatcher
from runtime.cache.states import ReflectorSettings
from runtime.transport.session import Transport
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record
from runtime.wire.selectors import FieldSelector, LabelSelector

log = structlog.get_logger("runtime.cache")

Records = list[Record]


class UndeclaredInformerError(Exception):
    """A cached read of a kind or an index that nobody declared.

    Informers are never made on demand: a forgotten cluster-wide Secret informer is the classic way for an operator to
    run out of memory, and to hold every secret of the cluster.
    """


class Reader:
    """Cached reads: dictionary look-ups that never wait.

    Records are immutable and parsed on read, so nothing that a caller does reaches the cache.
    """

    def __init__(self, find: Callable[[Resource], Informer]) -> None:
        self._find = find

    def get(self, resource: Resource, key: Key) -> Record | None:
        """Return one object, None when there is none.

        Raises:
            UndeclaredInformerError: the kind was not declared.
        """
        return self._find(resource).store.get(key)

    def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | LabelSelector | None = None,
    ) -> list[Record]:
        """Return objects sorted by key.

        Args:
            resource: the kind.
            namespace: None for all.
            labels: what they must carry. Walks all objects of the namespace; for frequent questions declare an index.

        Raises:
            UndeclaredInformerError: the kind was not declared.
        """
        records = self._find(resource).store.all(namespace)
        if not labels:
            return records
        selector = labels if isinstance(labels, LabelSelector) else LabelSelector.of(labels)
        return [record for record in records if selector.matches(record.meta.labels)]

    def by_index(self, resource: Resource, index: str, value: str, *, namespace: str | None) -> Records:
        """Return the objects found under a value of an index, sorted by key.

        Args:
            resource: the kind.
            index: name of the index.
            value: exact value.
            namespace: None for all.

        Raises:
            UndeclaredInformerError: the kind or the index was not declared.
        """
        try:
            return self._find(resource).store.by_index(index, value, namespace)
        except KeyError:
            raise _no_index(resource, index) from None

    def count(self, resource: Resource, index: str, value: str, *, namespace: str | None) -> int:
        """Return the number of objects found under a value of an index. The index keeps it: no object is read.

        Args:
            resource: the kind.
            index: name of the index.
            value: exact value.
            namespace: None for all.

        Raises:
            UndeclaredInformerError: the kind or the index was not declared.
        """
        try:
            return self._find(resource).store.count(index, value, namespace)
        except KeyError:
            raise _no_index(resource, index) from None


def _no_index(resource: Resource, index: str) -> UndeclaredInformerError:
    return UndeclaredInformerError(f"{resource} has no index {index!r}: declare it with the informer")


class Cache:
    """The informers of one API server, shared by all controllers.

    Args:
        transport: the connections; None when `make_source` is given.
        settings: limits of all reflectors.
        namespaces: watch these only, for every namespaced kind that does not say otherwise; None for all.
        make_source: gives other sources, for tests.
    """

    def __init__(
        self,
        transport: Transport | None,
        *,
        settings: ReflectorSettings | None = None,
        namespaces: Iterable[str] | None = None,
        make_source: Callable[[Resource, InformerOptions, Scope], ListerWatcher] | None = None,
    ) -> None:
        self._settings = settings or ReflectorSettings()
        self._memory = StreamingMemory(self._settings)
        self._namespaces = tuple(namespaces) if namespaces is not None else None
        if make_source is None:
            if transport is None:
                raise ValueError("a cache needs a transport or a source factory")
            make_source = api_sources(transport)
        self._make_source = make_source
        self._informers: dict[Resource, Informer] = {}
        self._left_out: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        self.reader = Reader(self.informer)

    def declare(
        self,
        resource: Resource,
        *,
        metadata_only: bool = False,
        namespaces: Iterable[str] | Mapping[str, Selection | None] | None = None,
        labels: Mapping[str, str] | LabelSelector | None = None,
        fields: str | FieldSelector | None = None,
        indexes: Mapping[str, IndexFunction | None] | None = None,
        transform: Transform | None = None,
        read_your_writes: bool = True,
        resync: float = InformerOptions.resync,
    ) -> Informer:
        """Declare that a kind is read from the cache. Again for the same kind: the same informer, the indexes merged.

        Before `run` the informer starts with the others; after it, at once.

        Args:
            resource: the kind.
            metadata_only: keep only metadata. When another declaration wants bodies, bodies are kept.
            namespaces: see `InformerOptions.namespaces`; None for the cache's default.
            labels: equality of labels, or a selector.
            fields: a field selector, also as text.
            indexes: functions by name; None stands for the value at the path that the name is.
            transform: see `InformerOptions.transform`.
            read_your_writes: see `InformerOptions.read_your_writes`.
            resync: seconds, see `InformerOptions.resync`.

        Raises:
            ValueError: impossible options, or a second declaration that wants other objects.
        """
        options = InformerOptions(
            metadata_only=metadata_only,
            namespaces=self._scope(resource, namespaces),
            labels=labels if isinstance(labels, LabelSelector) else LabelSelector.of(labels or {}),
            fields=fields if isinstance(fields, FieldSelector) else FieldSelector.parse(fields or ""),
            transform=transform,
            read_your_writes=read_your_writes,
            resync=resync,
        )
        informer = self._informers.get(resource)
        if informer is None:
            informer = Informer(
                resource,
                options,
                settings=self._settings,
                memory=self._memory,
                make_source=self._make_source,
                left_out=self._left_out,
            )
            self._informers[resource] = informer
            if self._group is not None:
                self._start(self._group, informer)
        else:
            informer.widen(options)
        informer.add_indexes(indexes or {})
        return informer

    def informer(self, resource: Resource) -> Informer:
        """Return the informer of a kind.

        Raises:
            UndeclaredInformerError: it was not declared.
        """
        informer = self._informers.get(resource)
        if informer is None:
            raise UndeclaredInformerError(f"{resource} was not declared: call declare() for it before reading")
        return informer

    def declared(self, resource: Resource) -> Informer | None:
        """Return the informer of a kind, None when it was not declared."""
        return self._informers.get(resource)

    async def run(self) -> None:
        """Run all informers until cancelled.

        Raises:
            RuntimeError: it runs already.
        """
        if self._group is not None:
            raise RuntimeError("the cache runs already")
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for informer in self._informers.values():
                    self._start(group, informer)
                await asyncio.Event().wait()
            finally:
                self._group = None

    async def wait_synced(self) -> None:
        """Wait until every informer has its first list. Without limit: bound it with `asyncio.timeout`."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    def leave_out(self, namespaces: Iterable[str]) -> None:
        """Start without these namespaces, because not everything in them may be read; they are tried all the time."""
        self._left_out.update(namespaces)

    def serves(self, namespace: str) -> bool:
        """Whether everything that is declared can be read of a namespace.

        While one kind is missing, what is absent from the cache is not known to be absent: nothing must be decided.
        """
        if namespace not in self._left_out:
            return True
        if not all(informer.has_all_of(namespace) for informer in self._informers.values()):
            return False
        self._left_out.discard(namespace)
        log.info("namespace can be read now", namespace=namespace)
        return True

    def problems(self) -> list[str]:
        """Return a sentence per watch that is not in sync or not fresh; for readyz."""
        return [problem for informer in self._informers.values() for problem in informer.problems()]

    def stats(self) -> list[InformerStats]:
        """Return the counters of each informer, for metrics."""
        return [informer.stats() for informer in self._informers.values()]

    @staticmethod
    def _start(group: asyncio.TaskGroup, informer: Informer) -> None:
        group.create_task(informer.run(), name=f"informer {informer.resource}")

    def _scope(
        self, resource: Resource, namespaces: Iterable[str] | Mapping[str, Selection | None] | None
    ) -> Mapping[str, Selection | None] | None:
        if namespaces is None:
            namespaces = self._namespaces if resource.namespaced else None
        if namespaces is None or isinstance(namespaces, Mapping):
            return namespaces
        return dict.fromkeys(namespaces)
