"""The reflector: keeps one shard of a store equal to one collection of the server.

The states and their transitions are in `states`; here is what is done in each of them. Nothing ends a reflector but its
cancellation.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import structlog

from runtime._kit.backoff import Backoff
from runtime._kit.slices import TimeSlice
from runtime.cache.source import ListerWatcher
from runtime.cache.states import (
    Checked,
    Checking,
    Ended,
    Failed,
    Listed,
    Listing,
    ReflectorSettings,
    RoundOutcome,
    Silent,
    State,
    Streaming,
    Transition,
    Watching,
    WentBack,
    advance,
    start,
)
from runtime.cache.store import Effect, Shard
from runtime.transport.stream import StalledError
from runtime.wire.decode import (
    DecodeError,
    UnexpectedKindError,
    WatchLine,
    decode_bookmark,
    decode_list,
    decode_watch_line,
    parse_version,
)
from runtime.wire.errors import ApiError, ForbiddenError, TransportError, UnauthorizedError, error_from_answer
from runtime.wire.gvk import Key
from runtime.wire.record import Record

log = structlog.get_logger("runtime.cache")

END_BOOKMARK = "k8s.io/initial-events-end"
FAILURES_UNTIL_PROBLEM = 3
"""Failures in a row after which an informer that once was in sync reports a problem."""


@dataclass
class ReflectorStats:
    """Counters of one reflector."""

    events: Counter[str] = field(default_factory=Counter)
    """Watch events by type."""
    lists: Counter[str] = field(default_factory=Counter)
    """Full fetches by cause."""
    watches: Counter[str] = field(default_factory=Counter)
    """Watch requests by cause."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Events that changed nothing: `duplicate`, `regressed`, `unreadable`, `unknown_type`, `wrong_kind`."""


class StreamingMemory:
    """Which kinds a server cannot stream, shared by all reflectors of a cache."""

    def __init__(self, settings: ReflectorSettings) -> None:
        self._settings = settings
        self._refused: dict[str, float] = {}

    def allowed(self, kind: str) -> bool:
        """Whether WatchList may be tried."""
        now = asyncio.get_running_loop().time()
        return self._settings.streaming and self._refused.get(kind, float("-inf")) <= now

    def refuse(self, kind: str) -> None:
        """Remember that the server does not offer it."""
        self._refused[kind] = asyncio.get_running_loop().time() + self._settings.streaming_retry


class _Follow:
    """What is known in the middle of one stream."""

    def __init__(self, version: str | None, *, collecting: bool) -> None:
        self.version = version
        """Last version told; None until the initial objects are complete."""
        self.collected: dict[Key, Record] | None = {} if collecting else None
        self.events = 0


class Reflector:
    """Follows one collection.

    Args:
        name: for logs, for example `secrets in ns1`.
        kind: for the memory of what the server can do.
        source: where bytes come from.
        shard: where objects go.
        decode: makes the record of one object.
        settings: limits.
        memory: which kinds the server cannot stream.
        on_synced: called whenever the shard was brought in line as a whole.
        rng: source of jitter.
    """

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        source: ListerWatcher,
        shard: Shard,
        decode: Callable[[Any], Record],
        settings: ReflectorSettings,
        memory: StreamingMemory,
        on_synced: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.stats = ReflectorStats()
        self.error: Exception | None = None
        """The last failure; None once something worked again."""
        self._kind = kind
        self._source = source
        self._shard = shard
        self._decode = decode
        self._settings = settings
        self._memory = memory
        self._on_synced = on_synced
        self._rng = rng or random.Random()  # noqa: S311  jitter
        self._backoff = Backoff(settings.backoff, self._rng)
        self._progress: float | None = None
        self._clock: Callable[[], float] = time.monotonic
        self._fetched = float("-inf")
        self._opened: float | None = None
        self._failures = 0
        self._said = ""

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        state = start(streaming=self._memory.allowed(self._kind), version="0")
        cause = "start"
        while True:
            if not isinstance(state, Checking):
                (self.stats.watches if isinstance(state, Watching) else self.stats.lists)[cause] += 1
            outcome = await self._perform(state)
            step = advance(state, outcome, self._settings, streaming=self._memory.allowed(self._kind))
            if step.unsupported:
                self._memory.refuse(self._kind)
            self._note(outcome, step)
            await self._pause(step)
            state, cause = step.state, step.cause

    def problem(self) -> str | None:
        """Say what is wrong, None when the store is in sync and fresh."""
        reason = f": {_explain(self.error)}" if self.error is not None else ""
        if not self._shard.synced.is_set():
            return f"{self.name}: not synced yet{reason}"
        if (self.refused or self._failures >= FAILURES_UNTIL_PROBLEM) and not self._stream_holds():
            return f"{self.name}: cannot follow{reason}"
        silent = self.silent_for()
        if silent is not None and silent > self._settings.fresh:
            return f"{self.name}: no sign of life for {silent:.0f} s{reason}"
        return None

    @property
    def refused(self) -> bool:
        """Whether the server says that we may not read this."""
        return isinstance(self.error, (ForbiddenError, UnauthorizedError))

    def silent_for(self) -> float | None:
        """Return the seconds since the server last said anything; None before the first time."""
        return None if self._progress is None else self._clock() - self._progress

    def _stream_holds(self) -> bool:
        """Whether a watch is open long enough to be trusted, though it has brought nothing yet."""
        if self._opened is None:
            return False
        return asyncio.get_running_loop().time() - self._opened > 2 * self._settings.short_watch

    async def _perform(self, state: State) -> RoundOutcome:
        if isinstance(state, (Streaming, Listing)):
            self._fetched = asyncio.get_running_loop().time()
        try:
            match state:
                case Listing():
                    return await self._list(state)
                case Streaming(version=version):
                    query = {
                        "resourceVersion": version,
                        "sendInitialEvents": "true",
                        "resourceVersionMatch": "NotOlderThan",
                    }
                    return await self._follow(query, _Follow(None, collecting=True))
                case Watching(version=version):
                    return await self._follow({"resourceVersion": version}, _Follow(version, collecting=False))
                case Checking(version=version):
                    return await self._check(version)
        except Exception as error:
            # A bug in here or in a transform: keep the cache alive, and say it loudly.
            log.exception("reflector failed", informer=self.name)
            return Failed(error, None)

    async def _list(self, state: Listing) -> RoundOutcome:
        records: dict[Key, Record] = {}
        token = ""
        turn = TimeSlice()
        while True:
            query = {"resourceVersion": state.version} if state.version and not token else {}
            if state.paged and state.version in ("", "0"):
                query["limit"] = str(self._settings.page_size)
            if token:
                query["continue"] = token
            try:
                page = await self._source.fetch(query, self._settings.list_timeout)
                self._alive()
                meta, items = decode_list(page)
                items.reverse()
                while items:
                    # Each item lets go of its share of the page.
                    record = self._decode(items.pop())
                    records[record.key] = record
                    await turn.over()
            except (ApiError, TransportError, DecodeError, UnexpectedKindError) as error:
                return Failed(error, None, continuing=bool(token))
            token = meta.continue_
            if not token:
                break
        await self._replace(records, meta.resource_version)
        return Listed(meta.resource_version)

    async def _check(self, version: str) -> RoundOutcome:
        """Ask for the present version with the smallest answer that has it."""
        try:
            page = await self._source.fetch({"limit": "1"}, self._settings.list_timeout)
            self._alive()
            meta, _ = decode_list(page)
        except (ApiError, TransportError, DecodeError, UnexpectedKindError) as error:
            return Failed(error, version)
        return Checked(meta.resource_version)

    async def _follow(self, query: Mapping[str, str], follow: _Follow) -> RoundOutcome:
        loop = asyncio.get_running_loop()
        started = loop.time()
        duration = self._rng.uniform(self._settings.watch_min, self._settings.watch_max)
        full = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(max(1, int(duration))), **query}
        turn = TimeSlice()
        try:
            async with self._source.watch(full, lambda: self._silence(follow)) as batches, aclosing(batches):
                self._opened = loop.time()
                self._alive()
                async for lines in batches:
                    self._alive()
                    for line in lines:
                        if await self._take(decode_watch_line(line), follow) is Effect.REGRESSED:
                            self.stats.skipped["regressed"] += 1
                            return WentBack(follow.version or "")
                        await turn.over()
        except StalledError:
            if self._opened is not None:  # it was open all that time, so what failed before is over
                self._failures = 0
            return Silent(follow.version, follow.events)
        except (ApiError, TransportError, DecodeError) as error:
            # An unreadable line is not skipped: it may be the only news of a change. The next watch brings it again.
            return Failed(error, follow.version)
        finally:
            self._opened = None
        return Ended(follow.version, follow.events, loop.time() - started)

    async def _take(self, event: WatchLine, follow: _Follow) -> Effect:
        follow.events += 1
        self.stats.events[event.type] += 1
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                try:
                    record = self._decode(event.object)
                except UnexpectedKindError as error:
                    self.stats.skipped["wrong_kind"] += 1
                    log.warning("event of another kind skipped", informer=self.name, error=str(error))
                    return Effect.APPLIED
                return self._object(event.type, record, follow)
            case "BOOKMARK":
                version, annotations = decode_bookmark(event.object)
                if follow.collected is not None:
                    if annotations.get(END_BOOKMARK) != "true":
                        return Effect.APPLIED
                    collected, follow.collected = follow.collected, None
                    await self._replace(collected, version)
                    follow.version = version
                    return Effect.APPLIED
                return self._progressed(version, self._shard.progress(parse_version(version)), follow)
            case "ERROR":
                raise error_from_answer(0, bytes(event.object))
            case _:
                self.stats.skipped["unknown_type"] += 1
                log.warning("event of unknown type skipped", informer=self.name, type=event.type[:40])
                return Effect.APPLIED

    def _object(self, kind: str, record: Record, follow: _Follow) -> Effect:
        if follow.collected is not None:
            if kind == "DELETED":
                follow.collected.pop(record.key, None)
            else:
                follow.collected[record.key] = record
            return Effect.APPLIED
        effect = self._shard.apply(record, gone=kind == "DELETED")
        if effect is Effect.DUPLICATE:
            self.stats.skipped["duplicate"] += 1
        return self._progressed(record.meta.resource_version, effect, follow)

    def _progressed(self, version: str, effect: Effect, follow: _Follow) -> Effect:
        # A replayed event must not turn the version back.
        if effect is Effect.APPLIED:
            follow.version = version
            self.error = None
            self._failures = 0
        return effect

    async def _replace(self, records: Mapping[Key, Record], version: str) -> None:
        await self._shard.replace(records, parse_version(version))
        self.error = None
        self._failures = 0
        self._on_synced()

    def _silence(self, follow: _Follow) -> float:
        return self._settings.end_bookmark if follow.collected is not None else self._settings.silence

    def _alive(self) -> None:
        # Metrics are collected outside of the loop, too, and after its end.
        self._clock = asyncio.get_running_loop().time
        self._progress = self._clock()

    def _note(self, outcome: RoundOutcome, step: Transition) -> None:
        match outcome:
            case Failed() if step.unsupported:
                # Nothing is wrong: Kubernetes 1.33, for one, offers no WatchList unless an administrator asks for it.
                log.debug("listing the initial objects instead of streaming them", informer=self.name, cause=step.cause)
                return
            case Failed(error=error):
                self.error = error
                self._failures += 1
            case Silent() | WentBack():
                self.error = None
            case _ if step.pause:
                self._failures += 1
            case _:
                log.debug("reflector resumes", informer=self.name, cause=step.cause)
                self._said = ""
                return
        said = f"{step.cause} {_explain(self.error) if self.error is not None else ''}"
        # A refusal that lasts, of a tenant's namespace for example, is news once.
        write = log.debug if said == self._said and self.refused else log.warning
        self._said = said
        write(
            "reflector interrupted",
            informer=self.name,
            cause=step.cause,
            next=type(step.state).__name__.lower(),
            error=_explain(self.error) if self.error is not None else None,
        )

    async def _pause(self, step: Transition) -> None:
        now = asyncio.get_running_loop().time()
        if step.wait is not None:
            await asyncio.sleep(step.wait * (1 + 0.1 * self._rng.random()))
        elif step.pause or (
            step.relists and not step.unsupported and now - self._fetched < self._settings.relist_pause
        ):
            await asyncio.sleep(self._backoff.next())


def _explain(error: Exception) -> str:
    return str(error) if isinstance(error, (ApiError, TransportError)) else type(error).__name__
