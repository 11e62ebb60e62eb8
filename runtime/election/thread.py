"""The elector in its own thread, with its own event loop and its own connection.

Whatever blocks the main loop (a reconcile that computes, a garbage collection, a full pipe behind a log line) must
neither delay a renewal nor keep a lease alive that nobody serves. So the main loop sends beats; without them the lease
is not renewed, and when leadership ends while the main loop is silent, this thread ends the process: `os._exit`,
because nothing else can be relied on then.

One case is out of reach for any thread: native code that keeps the interpreter lock. Then nothing renews, the lease
goes to another, and the first thing that the main loop may do when it comes back is refused by the fence.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import threading
import traceback
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from runtime.election.elector import Elector, LeaseLostError
from runtime.election.fence import Fence, boottime
from runtime.election.lease import HttpLeaseClient, LeaseLock
from runtime.election.options import ElectionOptions
from runtime.observe.metrics import LEADER_SLOWPATH, LEADER_STATUS
from runtime.transport.config import Endpoint
from runtime.transport.session import Transport, TransportSettings
from runtime.wire.errors import ApiError, TransportError
from runtime.wire.gvk import Key

log = structlog.get_logger("election")

Exit = Callable[[int], object]


class ElectorThread:
    """The main loop's handle on the election.

    Args:
        options: Name, times, identity.
        connect: Makes the endpoint; called in the thread, because credentials belong to a loop.
        user_agent: Sent with the lease requests.
        exit_process: Ends the process without running anything else; replaced in tests.
    """

    def __init__(
        self,
        options: ElectionOptions,
        connect: Callable[[], Awaitable[Endpoint]],
        *,
        user_agent: str = "runtime",
        exit_process: Exit = os._exit,
    ) -> None:
        self.options = options
        self.identity = options.identity or f"{socket.gethostname()}_{uuid.uuid4()}"
        self.fence = Fence()
        self.elected = asyncio.Event()
        self._connect = connect
        self._user_agent = f"{user_agent}/leader-election"
        self._exit = exit_process
        self._status = LEADER_STATUS.labels(options.name)
        self._slow = LEADER_SLOWPATH.labels(options.name)
        self._status.set(0)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._release = False
        self._last_beat = 0.0
        self._ended: asyncio.Future[None] | None = None

    # --- the main loop's side --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start the thread, beat for it, and return when it has ended.

        Raises:
            LeaseLostError: We were the leader and are not any more: stop at once.
            Exception: The election could not be run at all.
        """
        main = asyncio.get_running_loop()
        self._ended = main.create_future()
        self._last_beat = boottime()
        self._thread = threading.Thread(
            target=self._main, args=(main, threading.get_ident()), daemon=True, name="elector"
        )
        self._thread.start()
        beating = asyncio.create_task(self._beat(), name="election-beat")
        try:
            await asyncio.shield(self._ended)
        finally:
            beating.cancel()

    async def stop(self, *, release: bool) -> None:
        """End the election. No write is allowed from here on; `release` gives the lease back.

        Call it when nothing that writes is running any more: the next leader starts within a second.
        """
        self.fence.close()
        self._status.set(0)
        self._release = release and self.elected.is_set()
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(stop.set)
        if self._ended is not None:
            with suppress(LeaseLostError, TimeoutError):
                async with asyncio.timeout(self.options.renew_deadline):
                    await asyncio.shield(self._ended)

    def check(self) -> str | None:
        """A health check: red when we lead and the lease was not renewed in time (client-go's health adaptor)."""
        if self.elected.is_set() and not self.fence.allows():
            return "this leader's lease is not renewed"
        return None

    async def _beat(self) -> None:
        # Often enough that a beat is never taken for late because of its own interval.
        interval = min(1.0, self.options.longest_silence / 5)
        while True:
            self._last_beat = boottime()
            await asyncio.sleep(interval)

    # --- the thread's side -----------------------------------------------------------------------------------------

    def _main(self, main: asyncio.AbstractEventLoop, main_thread: int) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._elect(main))
        except BaseException as caught:  # noqa: BLE001  handed to the main loop, whatever it is
            error = caught
        self._status.set(0)
        with suppress(RuntimeError):  # the main loop is closed: nobody left to tell
            main.call_soon_threadsafe(self._tell, error)
        if isinstance(error, LeaseLostError):
            self._end_process_in_time(error, main_thread)

    def _tell(self, error: BaseException | None) -> None:
        assert self._ended is not None
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    async def _elect(self, main: asyncio.AbstractEventLoop) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        limit = max(1.0, self.options.renew_deadline / 2)
        settings = TransportSettings(call_timeout=limit, connect_timeout=limit, pool_size=1, attempts=1)
        transport = Transport(await self._connect(), user_agent=self._user_agent, settings=settings)
        key = Key(self.options.namespace, self.options.name)
        lock = LeaseLock(
            HttpLeaseClient(transport, key), key, self.identity, self.options.lease_duration, boottime, self._slow.inc
        )

        def elected() -> None:
            log.info("became leader", lease=str(key), identity=self.identity)
            self._status.set(1)
            main.call_soon_threadsafe(self.elected.set)

        elector = Elector(
            lock,
            self.options,
            self.fence,
            boottime,
            lambda: boottime() - self._last_beat,
            elected,
            random.Random(),  # noqa: S311  jitter
        )
        try:
            await elector.run(self._stop)
            self.fence.close()
            if self._release:
                await self._give_back(lock)
        finally:
            await transport.close()

    async def _give_back(self, lock: LeaseLock) -> None:
        try:
            async with asyncio.timeout(self.options.renew_deadline):
                await lock.release()
            log.info("lease released")
        except (ApiError, TransportError, TimeoutError) as error:
            # Not a failure of the shutdown: the next leader waits until the lease expires.
            log.warning("lease not released", error=str(error) or type(error).__name__)

    def _end_process_in_time(self, error: LeaseLostError, main_thread: int) -> None:
        """The main loop was told. It has half of the time until others may take over; a silent one has none."""
        silent = boottime() - self._last_beat > self.options.longest_silence
        spare = 0.0 if silent else (self.options.lease_duration - self.options.renew_deadline) / 2
        threading.Event().wait(spare)
        # Logging may block on the very pipe that the main loop hangs on; leaving may not.
        writer = threading.Thread(target=_log_exit, args=(error, main_thread, silent), daemon=True)
        writer.start()
        writer.join(0.5)
        self._exit(1)


def _log_exit(error: LeaseLostError, main_thread: int, silent: bool) -> None:
    frame = sys._current_frames().get(main_thread) if silent else None  # noqa: SLF001  the only way to see it
    stack = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_stack(frame)[-15:]] if frame else None
    log.critical("leader election lost: ending the process", error=str(error), main_loop_silent=silent, stack=stack)
