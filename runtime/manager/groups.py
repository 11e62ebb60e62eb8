"""Runnables and the groups in which they are started and stopped.

The order of the groups is the point: probes and metrics must answer before the first list is asked for, caches must be
full before a controller starts, and only the leader's controllers write. Stopping goes the other way round, and the
metrics live to the end.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

log = structlog.get_logger("manager")


class Runnable(Protocol):
    """Anything that lives as long as the manager."""

    @property
    def name(self) -> str:
        """For logs and errors."""

    async def run(self, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what cannot wait and return.

        Call `started` as soon as others may rely on this runnable. Returning early is no error: it is done. An
        exception stops the manager. When the time for a graceful stop is over, the task is cancelled.
        """


class Group(enum.Enum):
    """When a runnable is started; in this order."""

    SERVERS = "servers"
    """Health and metrics: before everything, because probes must be answered while lists are slow."""
    CACHES = "caches"
    """Informers. The next group starts when all have their first list."""
    OTHERS = "others"
    """What runs on every replica, leader or not."""
    LEADER = "leader"
    """What only the leader may do. The default, because it is the safe choice."""


class RunnableError(Exception):
    """A runnable ended with an exception; the cause is chained."""

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.__cause__ = cause


class GroupStoppedError(RuntimeError):
    """A runnable was added to a group that has stopped already."""


@dataclass
class _Member:
    runnable: Runnable
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class RunnableGroup:
    """The runnables of one phase.

    Args:
        group: Which phase.
        on_error: Called at once when a member fails, also while the group starts or stops.
    """

    def __init__(self, group: Group, on_error: Callable[[RunnableError], None]) -> None:
        self.group = group
        self._on_error = on_error
        self._members: list[_Member] = []
        self._stop = asyncio.Event()
        self._started = False
        self._stopped = False

    def add(self, runnable: Runnable) -> None:
        """Add a member; when the group runs already, it is started at once.

        Raises:
            GroupStoppedError: The group has ended and starts nothing any more.
        """
        if self._stopped:
            raise GroupStoppedError(f"{runnable.name}: the {self.group.value} group has stopped")
        member = _Member(runnable)
        self._members.append(member)
        if self._started:
            self._launch(member)

    async def start(self) -> None:
        """Start all members and return when each is ready, or has ended."""
        if self._stopped:
            return
        self._started = True
        for member in self._members:
            self._launch(member)
        for member in self._members:
            await member.ready.wait()

    async def stop(self, deadline: float | None) -> list[str]:
        """Ask all members to stop and wait for them.

        Args:
            deadline: Loop time after which they are cancelled; None waits for ever.

        Returns:
            Names of the members that had to be cancelled.
        """
        self._stopped = True
        self._stop.set()
        tasks = {member.task: member.runnable.name for member in self._members if member.task is not None}
        if not tasks:
            return []
        clock = asyncio.get_running_loop().time
        _, pending = await asyncio.wait(tasks, timeout=None if deadline is None else max(0.0, deadline - clock()))
        for task in pending:
            task.cancel()
        if pending:
            # Cancelling runs `finally` blocks; whoever ignores even that is left behind.
            await asyncio.wait(pending, timeout=1.0)
        return sorted(tasks[task] for task in pending)

    def _launch(self, member: _Member) -> None:
        member.task = asyncio.create_task(self._supervise(member), name=f"{self.group.value}:{member.runnable.name}")

    async def _supervise(self, member: _Member) -> None:
        try:
            await member.runnable.run(member.ready.set, self._stop)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  whatever ends a runnable must end the manager, visibly
            self._on_error(RunnableError(member.runnable.name, error))
        finally:
            member.ready.set()
