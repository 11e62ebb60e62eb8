"""Tasks that outlive the statement that starts them: kept, named, ended, and not lost when they fail.

asyncio keeps no reference to a task that nobody awaits, says of one that failed only that its exception was never
retrieved, and leaves it to everybody to find out what to do with one that does not end when it is cancelled. What each
of these means is decided here, once:

- **Lost**: a task failed, and nobody waited for it. That is logged with its name. Failures that are answers (a backend
  that refused) are not: whoever starts such a task says so.
- **Stubborn**: a task that does not end within `PATIENCE` seconds of being cancelled. That is logged with its name, and
  the task is left behind: closing is bounded, whatever a task does.

Time is the event loop's, so a test that runs in virtual time covers waits, deadlines and back-offs alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any, Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

PATIENCE = 10.0
"""Seconds that a cancelled task may take to end: more than any of them needs to say goodbye to a peer."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def loop_time() -> float:
    """Return the event loop's time, seconds: what deadlines are compared with."""
    return asyncio.get_running_loop().time()


class Background:
    """Tasks of one owner that nobody awaits."""

    __slots__ = ("_closed", "_owner", "_tasks")

    def __init__(self, owner: str) -> None:
        """Start empty; `owner` precedes the names of tasks in logs."""
        self._owner = owner
        self._tasks: dict[asyncio.Task[Any], None] = {}  # smaller than a set: each session has one
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start `work` and keep it until it ends; after `close` it is cancelled before it begins."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}")
        self.adopt(task)
        if self._closed:
            task.cancel()
        return task

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Keep a task that somebody else started."""
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _lost(task, error)

    async def join(self) -> None:
        """Wait until every task has ended by itself."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Cancel every task and wait for its end, `PATIENCE` seconds at most. The calling task is spared."""
        self._closed = True
        await end_tasks(self._tasks)


class SingleFlight(Generic[K, V]):
    """At most one task per key: whoever needs what it brings while it is under way waits for that one."""

    __slots__ = ("_expected", "_name", "_tasks", "_waiters")

    def __init__(self, name: str, *, expected: tuple[type[BaseException], ...] = ()) -> None:
        """Start with nothing under way.

        Args:
            name: Of the tasks, for logs.
            expected: Failures that are answers: not logged when nobody waits for them.
        """
        self._name = name
        self._expected = expected
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._waiters: dict[asyncio.Task[V], int] = {}

    def get(self, key: K) -> asyncio.Task[V] | None:
        """Return the task of this key that is under way."""
        task = self._tasks.get(key)
        return None if task is None or task.done() else task

    def start(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> asyncio.Task[V]:
        """Return the task of this key; starts `work` when there is none."""
        task = self.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.get_running_loop().create_task(work(), name=self._name)
            task.add_done_callback(lambda done: self._ended(key, done))
        return task

    async def wait(self, key: K, work: Callable[[], Coroutine[Any, Any, V]], *, deadline: float | None = None) -> V:
        """Return what the task of this key brings; starts `work` when there is none.

        A caller that gives up, at its deadline or because it is cancelled, does not end what others wait for.

        Args:
            key: What is wanted.
            work: Makes the coroutine that gets it.
            deadline: Loop time; None = none.

        Raises:
            TimeoutError: The deadline passed.
            BaseException: Whatever `work` raises.
        """
        task = self.start(key, work)
        self._waiters[task] = self._waiters.get(task, 0) + 1
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(task)
        finally:
            if task in self._waiters:
                self._waiters[task] -= 1

    def _ended(self, key: K, task: asyncio.Task[V]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        waiters = self._waiters.pop(task, 0)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not waiters and not isinstance(error, self._expected):
            _lost(task, error)

    async def close(self) -> None:
        """Cancel what is under way and wait for its end, `PATIENCE` seconds at most."""
        await end_tasks(self._tasks.values())


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end, `PATIENCE` seconds at most; the calling task is spared."""
    current = asyncio.current_task()
    live = {task for task in tasks if task is not current and not task.done()}
    for task in live:
        task.cancel()
    if not live:
        return
    _, stubborn = await asyncio.wait(live, timeout=PATIENCE)
    for task in stubborn:
        log.warning("a cancelled task has not ended", task=task.get_name(), seconds=PATIENCE)


def _lost(task: asyncio.Task[Any], error: BaseException) -> None:
    log.error("a task failed", task=task.get_name(), error=type(error).__name__, exc_info=error)
