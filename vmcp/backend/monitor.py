"""The background work of one backend: probes, the first fetch of its lists, and the fetches that it asks for.

A legacy backend is probed with `ping` in a session of the gateway's own, whose GET stream brings `list_changed`; a
modern one with `server/discover`, beside a listen stream. Lists are fetched when they are unknown, announced to have
changed, or old; after a new handshake all of them, and then what cannot be fetched is dropped.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from vmcp.backend.backoff import Backoff
from vmcp.backend.errors import BackendAuthFailed, BackendError, BackendUnavailable
from vmcp.backend.handshake import Handshake
from vmcp.backend.interface import Kind, Reply, SessionSpec
from vmcp.backend.model import Era
from vmcp.backend.modern.discover import classify
from vmcp.backend.modern.subscription import Listener
from vmcp.backend.session import Session, ask_once
from vmcp.backend.shelf import KINDS, fetch_catalogue, fresh_for, kinds_of
from vmcp.wire.protocol import PING

if TYPE_CHECKING:
    from vmcp.backend.backend import McpBackend

log = structlog.get_logger(__name__)

MAX_LOGGED = 100
"""Characters of a method that a backend made up."""


class Monitor:
    """See the module.

    Attributes:
        no_credentials: Probes have none: lists need a caller's, and health is what traffic says.
    """

    def __init__(
        self, backend: McpBackend, *, sleep: Callable[[float], Awaitable[None]], backoff: Callable[[], Backoff]
    ) -> None:
        self._backend = backend
        self._sleep = sleep
        self._make_backoff = backoff
        self._backoff = backoff()
        self._session: Session | None = None
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self._lock = asyncio.Lock()
        self._dirty: set[Kind] = set()
        self._stale_at = 0.0
        self._handshake: Handshake | None = None
        self._drop = False
        self._closed = False
        self._random = random.Random(backend.settings.name)  # noqa: S311  spreads load
        self.no_credentials = False

    def start(self) -> None:
        """Begin, in the background."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def wait_first(self, timeout: float) -> bool:
        """Wait for the end of the first round."""
        try:
            async with asyncio.timeout(timeout):
                await self._first.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        while True:
            if self._backend.breaker.admit():
                await self._round()
            self._first.set()
            delay = self._delay()
            if delay is None:
                return
            await self._sleep(delay)

    def _delay(self) -> float | None:
        """Return seconds until the next round; None = never again."""
        backend = self._backend
        interval = backend.settings.health_interval
        open_for = backend.breaker.wait()
        if open_for > 0:
            return open_for
        settled = backend.state.failures == 0 and (backend.catalogue.known or self.no_credentials)
        if settled:
            self._backoff.reset()
            return None if interval is None else interval * self._random.uniform(0.9, 1.1)
        wait = self._backoff.next()
        return wait if interval is None else min(wait, max(interval, 0.01))

    async def _round(self) -> None:
        """Probe, and fetch what is due. Reports to health exactly once."""
        health = self._backend.health
        began = time.monotonic()
        try:
            await self._probe()
            took = time.monotonic() - began
            self.no_credentials = False
            if not self._backend.catalogue.known or time.monotonic() >= self._stale_at:
                self._dirty |= set(KINDS)
            failure = await self._refresh()
        except BackendAuthFailed as err:
            self.no_credentials = not err.sent
            health.failed(err)
            if err.sent:
                health.refused()
        except BackendError as err:
            health.failed(err)
        except asyncio.CancelledError:
            health.released()
            raise
        except Exception:
            log.exception("a probe failed in an unforeseen way", backend=self._backend.name)
            health.released()
        else:
            if failure is None:
                health.probed(took)
            else:
                health.failed(failure)

    async def _probe(self) -> None:
        """Ask the least that proves life.

        Raises:
            BackendError: No sign of it.
        """
        backend = self._backend
        loop = asyncio.get_running_loop()
        timeout = backend.settings.health_timeout
        deadline = loop.time() + timeout
        session = self._own_session()
        if backend.state.era is Era.MODERN and self._handshake is not None:
            verdict = await classify(backend.modern, deadline=deadline, principal=None)
            if verdict.era is None:
                raise BackendUnavailable(backend.name, f"answered HTTP {verdict.status}", status=verdict.status)
            backend.eras.judged(verdict)
            if verdict.era is Era.LEGACY:
                log.info("the backend no longer speaks the modern protocol", backend=backend.name)
            elif verdict.handshake is not None:
                self._handshake = verdict.handshake
                self._listen(verdict.handshake)
                return
        known = self._handshake
        handshake = await session.handshake(deadline)
        if backend.state.era is Era.LEGACY and handshake is known:
            await ask_once(session, PING, b"{}", timeout)
        if self._handshake is None or backend.state.era is Era.MODERN:
            self._handshake = handshake
        backend.state.version = handshake.version
        self._listen(handshake)

    def _own_session(self) -> Session:
        if self._session is None:
            backend = self._backend
            self._session = Session(
                backend,
                SessionSpec(timeout=backend.settings.health_timeout),
                probe=True,
                on_handshake=self._on_handshake,
                on_notification=self._on_notification,
                sleep=self._sleep,
                backoff=self._make_backoff,
            )
        return self._session

    def _on_handshake(self, handshake: Handshake) -> None:
        """A legacy session began. Not the first one: whatever the old one listed is void."""
        again = self._handshake is not None
        self._handshake = handshake
        self._dirty |= set(KINDS)
        if again:
            self._backend.eras.ask_again()
            self._drop = True
            self._kick()

    def _on_notification(self, method: str, _params: bytes) -> None:
        if self._handshake is None or not (kinds := kinds_of(method, self._handshake)):
            # Nobody asked: no client has to do with the monitor's own session.
            log.debug("a backend's notification was dropped", backend=self._backend.name, method=method[:MAX_LOGGED])
            return
        self._dirty |= set(kinds)
        self._kick()

    def _listen(self, handshake: Handshake) -> None:
        """Open the modern backend's push channel for the lists that it announces to tell about."""
        backend = self._backend
        if backend.state.era is not Era.MODERN or self._listener is not None:
            return
        wanted = {
            member: True
            for name, member in (
                ("tools", "toolsListChanged"),
                ("resources", "resourcesListChanged"),
                ("prompts", "promptsListChanged"),
            )
            if handshake.announces(name)
        }
        if not wanted:
            return
        self._listener = Listener(
            backend.wire,
            backend.modern,
            wanted,
            on_notification=self._on_notification,
            on_gap=self._on_gap,
            principal=None,
            max_event=backend.settings.max_response,
            backoff=self._make_backoff(),
            sleep=self._sleep,
        )
        self._listener.start()

    def _on_gap(self) -> None:
        self._dirty |= set(KINDS)
        self._kick()

    # --- lists ---

    def _kick(self) -> None:
        """Fetch what is dirty; one fetch at a time, and one more for what became dirty meanwhile."""
        if self._closed:
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh_quietly())

    async def _refresh_quietly(self) -> None:
        try:
            await self._refresh()
        except BackendError as err:
            log.info("lists could not be fetched", backend=self._backend.name, reason=err.reason)

    async def refresh(self, kinds: tuple[Kind, ...]) -> None:
        """Fetch some lists now."""
        self._dirty |= set(kinds)
        await self._refresh_quietly()

    async def _refresh(self) -> BackendError | None:
        """Fetch until nothing is dirty; return the failure that stopped it.

        Raises:
            BackendError: The session could not be opened.
        """
        async with self._lock:
            for _ in range(8):
                if not self._dirty:
                    return None
                kinds = tuple(kind for kind in KINDS if kind in self._dirty)
                self._dirty.clear()
                failure = await self._fetch(kinds)
                if failure is not None:
                    self._stale_at = 0.0
                    return failure
            return None

    async def _fetch(self, kinds: tuple[Kind, ...]) -> BackendError | None:
        backend = self._backend
        session = self._own_session()
        timeout = backend.settings.timeout
        handshake = await session.handshake(asyncio.get_running_loop().time() + timeout)

        async def ask(method: str, params: bytes) -> Reply:
            return await ask_once(session, method, params, timeout)

        drop, self._drop = self._drop, False
        catalogue, ttl, failure = await fetch_catalogue(
            backend.name,
            backend.state.era or Era.LEGACY,
            handshake,
            ask,
            before=backend.catalogue,
            kinds=kinds,
            keep=not drop,
        )
        if set(kinds) == set(KINDS):
            self._stale_at = time.monotonic() + fresh_for(handshake, ttl)
        backend.publish(catalogue)
        return failure

    async def close(self) -> None:
        """Stop everything; bounded by the session's own bounds."""
        self._closed = True
        tasks = [task for task in (self._task, self._refreshing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            await self._listener.close()
        if self._session is not None:
            await self._session.close()
