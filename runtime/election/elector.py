"""The election loop: candidate, leader, lost. Runs in the elector's thread; knows neither threads nor HTTP.

A leader that cannot renew stops being one `renew_deadline` after its last renewal, which is before its lease expires
for others. A leader whose main loop is silent does not renew, so the same rule ends it: nobody keeps a lease that it no
longer serves.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from runtime.election.fence import Fence
from runtime.election.lease import LeaseLock
from runtime.wire.errors import ApiError, ForbiddenError, TransportError

log = structlog.get_logger("election")

JITTER = 1.2
"""An acquire pause is stretched by up to this share, as in client-go, so that candidates spread."""


class LeaseLostError(Exception):
    """We were the leader and are not any more. The process must end: others may be writing already."""


class Timings(Protocol):
    """The times of `ElectionOptions`, in seconds."""

    @property
    def renew_deadline(self) -> float: ...  # noqa: D102
    @property
    def retry_period(self) -> float: ...  # noqa: D102
    @property
    def longest_silence(self) -> float: ...  # noqa: D102


@dataclass(slots=True)
class Elector:
    """Runs for one lease until it is lost or `stop` is set.

    Attributes:
        lock: The lease.
        timings: How often and how long.
        fence: Moved forward with each renewal, closed when leadership ends.
        clock: Seconds, counting suspension.
        silence: Seconds since the main loop's last sign of life.
        on_elected: Called once, when the lease is ours and the fence is open.
    """

    lock: LeaseLock
    timings: Timings
    fence: Fence
    clock: Callable[[], float]
    silence: Callable[[], float]
    on_elected: Callable[[], None]
    rng: random.Random

    async def run(self, stop: asyncio.Event) -> None:
        """Acquire, tell, renew.

        Raises:
            LeaseLostError: Leadership ended other than by `stop`.
        """
        if not await self._acquire(stop):
            return
        self.on_elected()
        try:
            await self._renew(stop)
        except BaseException:
            self.fence.close()
            raise

    async def _acquire(self, stop: asyncio.Event) -> bool:
        told = ""
        while not stop.is_set():
            # A process whose main loop hangs must not become the leader.
            if self.silence() <= self.timings.longest_silence and await self._try(float("inf")):
                return True
            if self.lock.holder and self.lock.holder != told:
                told = self.lock.holder
                log.info("waiting for the lease", holder=told)
            pause = self.timings.retry_period * (1 + JITTER * self.rng.random())
            await _sleep(pause, stop)
        return False

    async def _renew(self, stop: asyncio.Event) -> None:
        pause = self.timings.retry_period
        while True:
            await _sleep(min(pause, self._left()), stop)
            if stop.is_set():
                return
            if self._left() <= 0:
                raise LeaseLostError(f"the lease was not renewed for {self.timings.renew_deadline:g} s")
            silent = self.silence()
            if silent > self.timings.longest_silence:
                log.error("the main loop is blocked: not renewing the lease", seconds=round(silent, 1))
                pause = min(self.timings.retry_period, 0.25)
                continue
            pause = self.timings.retry_period
            if not await self._try(self._left()):
                # A lost race or a missing answer; while there is time, ask again soon.
                if self.lock.holder_changed:
                    raise LeaseLostError(f"the lease is held by {self.lock.holder or 'nobody'} now")
                pause = min(self.timings.retry_period, max(0.1, self.timings.renew_deadline / 20))

    def _left(self) -> float:
        return self.fence.deadline - self.clock()

    async def _try(self, limit: float) -> bool:
        """One round, within the request timeout and `limit` seconds."""
        asked = self.clock()  # before the request: others count from when the server had it, which is later
        try:
            async with asyncio.timeout(min(limit, max(1.0, self.timings.renew_deadline / 2))):
                held = await self.lock.try_acquire_or_renew()
        except ForbiddenError as error:
            log.warning("not allowed to use the lease: check the leader election role", error=str(error))
            return False
        except (ApiError, TransportError, TimeoutError) as error:
            log.warning("lease request failed", error=str(error) or type(error).__name__)
            return False
        if held:
            self.fence.extend(asked + self.timings.renew_deadline)
        return held


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    """Sleep, or wake at once when `stop` is set."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
    except TimeoutError:
        return
