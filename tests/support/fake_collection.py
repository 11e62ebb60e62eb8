"""A collection of an API server in memory, as a reflector sees it: lists, watches with history, and faults on demand.
A collection of an API server in memory, as a reflector sees it: lists, watches with history, and faults on demand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from runtime.transport.stream import StalledError
from runtime.wire import Resource, TransportError
from runtime.wire.errors import error_from_answer

WIDGET = Resource("test.example.com", "v1", "Widget", "widgets")
END = {"k8s.io/initial-events-end": "true"}


def refusal(code: int, reason: str = "", *, retry_after: int = 0, cause: str = "") -> Exception:
    """The error that an answer with this Status raises."""
    details = {"retryAfterSeconds": retry_after, "causes": [{"reason": cause}] if cause else []}
    return error_from_answer(code, orjson.dumps({"kind": "Status", "code": code, "reason": reason, "details": details}))


def line(kind: str, body: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"type": kind, "object": body})


def bookmark(version: int, annotations: Mapping[str, str] | None = None) -> bytes:
    return line(
        "BOOKMARK", {"kind": "Widget", "metadata": {"resourceVersion": str(version), "annotations": annotations or {}}}
    )


class FakeCollection:
    """Implements `Source`. Every request and its loop time is in `requests`."""

    def __init__(self) -> None:
        self.version = 1
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, bytes]] = []
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        self.list_faults: deque[Exception | None] = deque()
        self.watch_faults: deque[Exception | None] = deque()
        self.streams = True
        self.end_bookmark = True
        self.empty_watches = False
        self.watch_hangs = False
        self._streams: list[asyncio.Queue[bytes | Exception | None]] = []
        self._frozen = False

    # -- the world changes ------------------------------------------------------------------------------------------

    def put(self, name: str, **spec: Any) -> None:
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.version += 1
        meta = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": str(self.version)}
        self.objects[name] = {"apiVersion": WIDGET.api_version, "kind": "Widget", "metadata": meta, "spec": spec}
        self._tell(kind, self.objects[name])

    def remove(self, name: str) -> None:
        self.version += 1
        gone = self.objects.pop(name)
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        self._tell("DELETED", gone)

    def _tell(self, kind: str, body: Mapping[str, Any]) -> None:
        data = line(kind, body)
        self.history.append((self.version, data))
        self.send(data)

    # -- faults -----------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Put a line on the open watches."""
        if not self._frozen:
            for stream in self._streams:
                stream.put_nowait(data)

    def end(self) -> None:
        """Close the open watches in good order."""
        for stream in self._streams:
            stream.put_nowait(None)

    def drop(self) -> None:
        """Break the open watches."""
        for stream in self._streams:
            stream.put_nowait(TransportError("reset"))

    def freeze(self) -> None:
        """Let the open watches and new ones go silent, without closing them."""
        self._frozen = True

    def thaw(self) -> None:
        self._frozen = False

    @property
    def open_watches(self) -> int:
        return len(self._streams)

    def count(self, kind: str) -> int:
        return sum(1 for _, seen, _ in self.requests if seen == kind)

    def times(self, kind: str) -> list[float]:
        return [round(when, 3) for when, seen, _ in self.requests if seen == kind]

    # -- Source -----------------------------------------------------------------------------------------------------

    async def fetch(self, query: Mapping[str, str], timeout: float) -> bytes:
        self._note("list", query)
        fault = self.list_faults.popleft() if self.list_faults else None
        if fault is not None:
            raise fault
        names = sorted(self.objects)
        start = int(query.get("continue", "0"))
        limit = int(query.get("limit", "0")) if query.get("resourceVersion") != "0" else 0
        page = names[start : start + limit] if limit else names[start:]
        more = str(start + len(page)) if start + len(page) < len(names) else ""
        meta = {"resourceVersion": str(self.version), "continue": more}
        return orjson.dumps({"kind": "WidgetList", "metadata": meta, "items": [self.objects[name] for name in page]})

    @asynccontextmanager
    async def watch(
        self, query: Mapping[str, str], silence: Callable[[], float]
    ) -> AsyncIterator[AsyncGenerator[list[bytes], None]]:
        initial = "sendInitialEvents" in query
        self._note("stream" if initial else "watch", query)
        fault = self.watch_faults.popleft() if self.watch_faults else None
        if fault is not None:
            raise fault
        if self.watch_hangs:
            await asyncio.sleep(silence())
            raise StalledError("silence, while connecting")
        if initial and not self.streams:
            raise refusal(422, "Invalid")
        queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        for data in self._backlog(query, initial=initial):
            queue.put_nowait(data)
        if self.empty_watches and not initial:
            queue.put_nowait(None)
        self._streams.append(queue)
        try:
            yield self._lines(queue, silence)
        finally:
            self._streams.remove(queue)

    def _backlog(self, query: Mapping[str, str], *, initial: bool) -> list[bytes]:
        if initial:
            told = [line("ADDED", self.objects[name]) for name in sorted(self.objects)]
            return [*told, bookmark(self.version, END)] if self.end_bookmark else told
        since = int(query["resourceVersion"])
        return [data for version, data in self.history if version > since] if not self._frozen else []

    @staticmethod
    async def _lines(
        queue: asyncio.Queue[bytes | Exception | None], silence: Callable[[], float]
    ) -> AsyncGenerator[list[bytes], None]:
        while True:
            try:
                async with asyncio.timeout(silence()):
                    item = await queue.get()
            except TimeoutError:
                raise StalledError("silence") from None
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield [item]

    def _note(self, kind: str, query: Mapping[str, str]) -> None:
        self.requests.append((asyncio.get_running_loop().time(), kind, dict(query)))
