"""The measurements, each run in a process of its own; prints one JSON object.

`dict` is the peer: what one writes without this runtime, orjson and plain dictionaries, managedFields dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hack.bench.runtime_micro.server import GROUP, KIND, PLURAL, VERSION, bookmark, line, thing


def rss() -> float:
    """Resident memory, KiB, after everything that can be given back was given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4.0


def peak_rss() -> float:
    """Largest resident memory so far, KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(row.split()[1] for row in status.splitlines() if row.startswith("VmHWM")))


def reset_peak() -> None:
    """Start a new peak."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


class DictCache:
    """The peer: dictionaries by key, one index."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.index: dict[str, set[tuple[str, str]]] = {}

    def take(self, body: dict[str, Any]) -> None:
        """Keep an object."""
        body["metadata"].pop("managedFields", None)
        key = body["metadata"]["namespace"], body["metadata"]["name"]
        old = self.objects.get(key)
        if old is not None:
            self.index[old["spec"]["groupRef"]["name"]].discard(key)
        self.objects[key] = body
        self.index.setdefault(body["spec"]["groupRef"]["name"], set()).add(key)


def make_store(handler: Callable[[Any], None]) -> tuple[Any, Any, Any]:
    """Return kind, store and shard with the same index as the peer's."""
    from runtime.cache.index import path_index
    from runtime.cache.store import Shard, Store
    from runtime.wire import Resource

    store = Store(handler)
    store.add_index("spec.groupRef.name", path_index("spec.groupRef.name"))
    return Resource(GROUP, VERSION, KIND, PLURAL), store, Shard(store, lambda _: True)


def memory(kind: str, objects: int) -> dict[str, float]:
    """KiB per cached object, and the length of a full garbage collection."""
    import orjson

    sizes = 0
    if kind == "runtime":
        from runtime.wire.decode import decode_record
    gc.collect()
    gc.freeze()  # count the objects, not the imported modules
    if kind == "dict":
        cache: Any = DictCache()
        before = rss()
        for number in range(objects):
            cache.take(orjson.loads(orjson.dumps(thing(number, number + 1))))
    else:
        resource, cache, shard = make_store(lambda _: None)
        before = rss()
        for number in range(objects):
            record = decode_record(resource, orjson.dumps(thing(number, number + 1)))
            sizes += len(record.raw)
            shard.apply(record, gone=False)
    after = rss()
    start = time.perf_counter()
    gc.collect()
    return {
        "kib_per_object": (after - before) / objects,
        "gc_ms": (time.perf_counter() - start) * 1e3,
        "raw_kib": sizes / objects / 1024,
    }


def events(kind: str, objects: int) -> dict[str, float]:
    """CPU microseconds per watch event: from the line to the handler that computed a key."""
    import orjson

    count = 20_000
    lines = [line("MODIFIED", thing(at % objects, objects + at + 2, f"/{at}")) for at in range(count)]
    keys: list[Any] = []
    if kind == "dict":
        cache = DictCache()
        for number in range(objects):
            cache.take(thing(number, number + 1))
        gc.collect()
        start = time.process_time()
        for data in lines:
            body = orjson.loads(data)["object"]
            cache.take(body)
            keys.append((body["metadata"]["namespace"], body["metadata"]["name"]))
        return {"us_per_event": (time.process_time() - start) / count * 1e6}
    return {"us_per_event": asyncio.run(_events(objects, lines, keys)) / count * 1e6}


async def _events(objects: int, lines: list[bytes], keys: list[Any]) -> float:
    """The real reflector over a source that has the lines in memory."""
    from contextlib import asynccontextmanager

    from runtime.cache import Cache
    from runtime.wire import Resource

    took = 0.0
    done = asyncio.Event()

    class Source:
        async def fetch(self, query: Any, timeout: float) -> bytes:  # noqa: ARG002  the protocol's
            raise AssertionError

        @asynccontextmanager
        async def watch(self, query: Any, silence: Any) -> Any:  # noqa: ARG002  the protocol's
            yield self._lines()

        async def _lines(self) -> Any:
            nonlocal took
            yield [*(line("ADDED", thing(at, at + 1))[:-1] for at in range(objects)), bookmark(objects + 1)[:-1]]
            gc.collect()
            start = time.process_time()
            for at in range(0, len(lines), 20):
                yield [data[:-1] for data in lines[at : at + 20]]
            took = time.process_time() - start
            done.set()
            await asyncio.Event().wait()

    cache = Cache(None, make_source=lambda *_: Source())
    informer = cache.declare(Resource(GROUP, VERSION, KIND, PLURAL), indexes={"spec.groupRef.name": None})
    informer.add_handler(lambda change: keys.append(change.new.key if change.new else None))
    running = asyncio.create_task(cache.run())
    await done.wait()
    assert len(keys) == objects + len(lines)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return took


async def _longest_block(work: Any) -> tuple[float, float]:
    """Run `work` beside a task that measures the loop's longest pause; return it and the total, seconds."""
    worst = 0.0
    stop = False

    async def tick() -> None:
        nonlocal worst
        last = time.perf_counter()
        while not stop:
            await asyncio.sleep(0)
            now = time.perf_counter()
            worst = max(worst, now - last)
            last = now

    ticking = asyncio.create_task(tick())
    start = time.perf_counter()
    await work
    total = time.perf_counter() - start
    stop = True
    await ticking
    return worst, total


def sync(kind: str, url: str) -> dict[str, float]:
    """Peak memory and longest block of the loop of a first sync."""
    return asyncio.run(_sync_dict(url) if kind == "dict" else _sync_runtime(url))


async def _sync_runtime(url: str) -> dict[str, float]:
    from runtime.cache import Cache
    from runtime.transport import Endpoint, Transport
    from runtime.wire import Resource

    transport = Transport(Endpoint(url=url))
    cache = Cache(transport)
    informer = cache.declare(Resource(GROUP, VERSION, KIND, PLURAL), indexes={"spec.groupRef.name": None})
    told: list[Any] = []
    informer.add_handler(lambda change: told.append(change.new.key if change.new else None))
    before = rss()
    reset_peak()
    running = asyncio.create_task(cache.run())
    worst, total = await _longest_block(cache.wait_synced())
    result = _result(before, worst, total, len(told))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await transport.close()
    return result


async def _sync_dict(url: str) -> dict[str, float]:
    import aiohttp
    import orjson

    cache = DictCache()
    async with aiohttp.ClientSession() as session:
        before = rss()
        reset_peak()

        async def work() -> None:
            async with session.get(f"{url}/apis/{GROUP}/{VERSION}/{PLURAL}") as answer:
                for body in orjson.loads(await answer.read())["items"]:
                    cache.take(body)

        worst, total = await _longest_block(work())
        return _result(before, worst, total, len(cache.objects))


def _result(before: float, worst: float, total: float, objects: int) -> dict[str, float]:
    peak = peak_rss()
    return {
        "peak_mib": (peak - before) / 1024,
        "settled_mib": (rss() - before) / 1024,
        "longest_block_ms": worst * 1e3,
        "total_s": total,
        "objects": objects,
    }


def start(url: str) -> dict[str, float]:
    """From an empty interpreter to the first reconcile: import and connect, all watched objects in the cache.

    CPU seconds count from the start of the process.
    """
    begun = time.perf_counter()
    for name in ("runtime.cache", "runtime.client", "runtime.control.builder", "runtime.manager.manager"):
        importlib.import_module(name)
    importlib.import_module("runtime.transport._library").library()
    imported, imported_cpu = time.perf_counter() - begun, time.process_time()
    memory_after_import = rss()
    logging_off()
    asyncio.run(_first_reconcile(url))
    return {
        "import_s": imported,
        "import_cpu_s": imported_cpu,
        "first_reconcile_s": time.perf_counter() - begun,
        "first_reconcile_cpu_s": time.process_time(),
        "rss_after_import_mib": memory_after_import / 1024,
    }


async def _first_reconcile(url: str) -> None:
    from runtime import Builder, Key, Manager, ManagerOptions, Resource, Result
    from runtime.transport import Endpoint

    manager = Manager(Endpoint(url=url), ManagerOptions())
    first = asyncio.Event()

    class Reconciler:
        async def reconcile(self, request: Key) -> Result | None:  # noqa: ARG002  the protocol's
            first.set()
            return None

    Builder(manager, "bench").for_(Resource(GROUP, VERSION, KIND, PLURAL)).complete(Reconciler())
    running = asyncio.create_task(manager.run())
    await first.wait()
    manager.stop()
    await asyncio.gather(running, return_exceptions=True)


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["memory", "events", "sync", "start"])
    parser.add_argument("kind", choices=["dict", "runtime"])
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--url", default="")
    arguments = parser.parse_args()
    if arguments.what != "start":  # where the import of the logs is measured, too
        logging_off()
    match arguments.what:
        case "memory":
            result = memory(arguments.kind, arguments.objects)
        case "events":
            result = events(arguments.kind, arguments.objects)
        case "sync":
            result = sync(arguments.kind, arguments.url)
        case _:
            result = start(arguments.url)
    json.dump(result, sys.stdout)


def logging_off() -> None:
    """Keep standard output for the result."""
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


if __name__ == "__main__":
    main()
