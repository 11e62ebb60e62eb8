"""One informer: reflectors, store and handlers of one kind."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from runtime._kit.slices import TimeSlice
from runtime.cache.handlers import Change, Handler, Handlers, Registration
from runtime.cache.index import IndexFunction, SpecIndex, path_index
from runtime.cache.options import InformerOptions, Scope, scopes
from runtime.cache.reflector import Reflector, StreamingMemory
from runtime.cache.source import ApiSource, ListerWatcher
from runtime.cache.states import ReflectorSettings
from runtime.cache.store import Shard, Store
from runtime.wire.decode import decode_record, metadata_only
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record

SourceFactory = Callable[[Scope], ListerWatcher]


@dataclass(frozen=True)
class InformerStats:
    """Counters of one informer; totals since the start."""

    resource: Resource
    objects: int
    bytes: int
    """Raw bodies in the cache."""
    synced: bool
    pending_writes: int
    """Own writes that the watch has not confirmed yet."""
    events: Counter[str] = field(default_factory=Counter)
    """Watch events by type."""
    lists: Counter[str] = field(default_factory=Counter)
    """Full fetches by cause; `expired` are the 410s."""
    watches: Counter[str] = field(default_factory=Counter)
    """Watch requests by cause."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Events that changed nothing, by reason."""
    handler_errors: int = 0
    index_errors: int = 0
    silent_for: float | None = None
    """Seconds since the server last said anything, of the most silent reflector; None before the first time."""


class Informer:
    """A local copy of one kind. Made by `Cache.declare`.

    Args:
        resource: the kind.
        options: what is watched.
        settings: limits of the reflectors.
        memory: which kinds the server cannot stream.
        make_source: gives the source of one scope.
        left_out: namespaces that may not be read at the moment, shared by all informers of a cache; they are tried all
            the time, and neither waited for nor a problem.
    """

    def __init__(
        self,
        resource: Resource,
        options: InformerOptions,
        *,
        settings: ReflectorSettings,
        memory: StreamingMemory,
        make_source: Callable[[Resource, InformerOptions, Scope], ListerWatcher],
        left_out: AbstractSet[str] = frozenset(),
    ) -> None:
        scopes(resource, options)  # refuse impossible options where they are given
        self.resource = resource
        self.options = options
        self._settings = settings
        self._memory = memory
        self._make_source = make_source
        self._left_out = left_out
        self._handlers = Handlers()
        self.store = Store(self._handlers.emit)
        self._shards: list[tuple[Scope, Shard]] = []
        self._reflectors: list[Reflector] = []
        self._synced = asyncio.Event()
        self._started = False

    def add_handler(self, handler: Handler, *, name: str = "") -> Registration:
        """Register a handler; it gets every known object as `added` first, then each change in order.

        Args:
            handler: synchronous and short. What it raises is logged and counted.
            name: for logs.
        """
        return self._handlers.add(handler, name, list(self.store.bases()), synced=self.has_synced)

    def add_indexes(self, indexes: Mapping[str, IndexFunction | None]) -> None:
        """Add indexes: a function, or None to index the value at the path that is the name. Known names stay."""
        for name, function in indexes.items():
            of_spec = isinstance(function, SpecIndex) or (function is None and name.startswith("spec."))
            self.store.add_index(name, function or path_index(name), of_spec=of_spec)

    def widen(self, options: InformerOptions) -> None:
        """Serve a second declaration too.

        Raises:
            ValueError: it wants other objects, or the informer runs and would need to keep more.
        """
        merged = self.options.merged(options)
        if self._started and merged.metadata_only != self.options.metadata_only:
            raise ValueError(f"{self.resource}: runs with metadata only, and bodies are asked for now")
        self.options = merged

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in the store and was told to the handlers."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Wait until the first list is in the store."""
        await self._synced.wait()

    def problems(self) -> list[str]:
        """Return a sentence per reflector that is not in sync or not fresh."""
        if not self._started:
            return [f"{self.resource}: not started"]
        found = [
            (reflector, problem)
            for (scope, _), reflector in zip(self._shards, self._reflectors, strict=True)
            if scope.namespace not in self._left_out and (problem := reflector.problem())
        ]
        # One tenant's namespace that may not be read any more is that tenant's problem, as long as there are others.
        refused = [reflector for reflector, _ in found if reflector.refused]
        apart = len(refused) < len(self._reflectors)
        return [problem for reflector, problem in found if not (apart and reflector.refused)]

    @property
    def error(self) -> Exception | None:
        """The last failure of a reflector; None once something worked again."""
        return next((reflector.error for reflector in self._reflectors if reflector.error is not None), None)

    def has_all_of(self, namespace: str) -> bool:
        """Whether the first list of a namespace is in the store."""
        return all(shard.synced.is_set() for scope, shard in self._shards if scope.namespace == namespace)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        self._started = True
        for scope in scopes(self.resource, self.options):
            shard = Shard(self.store, scope.owns)
            self._shards.append((scope, shard))
            self._reflectors.append(self._reflector(scope, shard))
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run(), name=f"reflector {reflector.name}")
            if self.options.resync:
                group.create_task(self._resync(), name=f"resync {self.resource}")

    def written(self, record: Record) -> None:
        """Show the answer to an own write until the watch has caught up (read your writes)."""
        if not self.options.read_your_writes or not record.version:
            return
        record = self._shaped(record)
        for scope, shard in self._shards:
            if scope.owns(record.key):
                if scope.shows(record):
                    self.store.put_written(record, shard.version)
                return

    def deleted(self, key: Key, uid: str | None) -> None:
        """Hide an object whose deletion the server has confirmed as done."""
        if self.options.read_your_writes:
            self.store.put_deleted(key, uid)

    def stats(self) -> InformerStats:
        """Return the counters."""
        parts = [reflector.stats for reflector in self._reflectors]
        silences = [silence for reflector in self._reflectors if (silence := reflector.silent_for()) is not None]
        return InformerStats(
            resource=self.resource,
            objects=len(self.store),
            bytes=self.store.bytes,
            synced=self.has_synced,
            pending_writes=self.store.pending,
            events=sum((part.events for part in parts), Counter()),
            lists=sum((part.lists for part in parts), Counter()),
            watches=sum((part.watches for part in parts), Counter()),
            skipped=sum((part.skipped for part in parts), Counter()),
            handler_errors=self._handlers.errors,
            index_errors=sum(index.errors for index in self.store.indexes.values()),
            silent_for=max(silences, default=None),
        )

    def _reflector(self, scope: Scope, shard: Shard) -> Reflector:
        where = f" in {scope.namespace}" if scope.namespace else ""
        return Reflector(
            name=f"{self.resource}{where}",
            kind=f"{self.resource}/{self.resource.version}",
            source=self._make_source(self.resource, self.options, scope),
            shard=shard,
            decode=self._decode,
            settings=self._settings,
            memory=self._memory,
            on_synced=self._on_synced,
        )

    def _decode(self, data: Any) -> Record:
        record = decode_record(self.resource, data, metadata_only=self.options.metadata_only)
        return self.options.transform(record) if self.options.transform is not None else record

    def _shaped(self, record: Record) -> Record:
        """Bring an answer into the shape in which the watch will show it."""
        if self.options.metadata_only:
            record = metadata_only(record)
        return self.options.transform(record) if self.options.transform is not None else record

    def _on_synced(self) -> None:
        waited_for = [shard for scope, shard in self._shards if scope.namespace not in self._left_out]
        if not self._synced.is_set() and all(shard.synced.is_set() for shard in waited_for):
            self._synced.set()
            self._handlers.mark_synced()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self.options.resync * random.uniform(0.9, 1.1))  # noqa: S311  jitter
            turn = TimeSlice()
            for record in list(self.store.bases()):
                if self.store.base(record.key) is record:
                    self._handlers.emit(Change("updated", record, record))
                await turn.over()


def api_sources(transport: Any) -> Callable[[Resource, InformerOptions, Scope], ListerWatcher]:
    """Return the factory of sources behind a Transport."""

    def make(resource: Resource, options: InformerOptions, scope: Scope) -> ListerWatcher:
        return ApiSource(
            transport,
            resource,
            namespace=scope.namespace,
            labels=scope.selection.labels,
            fields=scope.fields,
            metadata_only=options.metadata_only,
        )

    return make
