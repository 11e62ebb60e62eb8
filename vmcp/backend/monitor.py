"""The background work of one backend: probes, the first fetch of its lists, and the fetches that it asks for.

A legacy backend is probed with `ping` in a session of the gateway's own, whose GET stream brings `list_changed`; a
modern one with `server/discover`, beside a listen stream. Lists are fetched when they are unknown, announced to have
changed, or old; after a new handshake all of them, and then what cannot be fetched is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import structlog

from vmcp.backend.backoff import RetryBackoff
from vmcp.backend.errors import BackendAuthFailed, BackendError, BackendUnavailable
from vmcp.backend.interface import Kind, Reply, SessionSpec
from vmcp.backend.lists import FetchedList
from vmcp.backend.model import LIST_KINDS, Era, Handshake, Push
from vmcp.backend.modern.discover import classify
from vmcp.backend.modern.subscription import BackendSubscription
from vmcp.backend.remote import Remote
from vmcp.backend.session import Session, ask_once
from vmcp.backend.shelf import KINDS, Fetched, assemble, fetch_lists, fresh_for, kinds_of
from vmcp.tasks import Background, SingleFlight, loop_time
from vmcp.wire.protocol import PING

log = structlog.get_logger(__name__)

MAX_LOGGED = 100
"""Characters of a method that a backend made up."""


REST = 0.5
"""Seconds between two fetches of lists that a backend asks for, at least; four times what the last one took if that is
more."""
DOUBT_EVERY = 2.0
"""Seconds between two probes that failing calls ask for."""


class _Retries:
    """When lists that failed are worth asking for again."""

    def __init__(self) -> None:
        self._known: dict[Kind, tuple[RetryBackoff, float]] = {}

    def failed(self, kind: Kind, *, lost_session: bool) -> None:
        """Take a failure. A list whose request costs the session each time is asked for much less often."""
        made = RetryBackoff(first=15.0, limit=600.0) if lost_session else RetryBackoff(first=2.0, limit=120.0)
        backoff = self._known[kind][0] if kind in self._known else made
        self._known[kind] = (backoff, loop_time() + backoff.next())

    def forget(self, kind: Kind) -> None:
        self._known.pop(kind, None)

    def at(self, kind: Kind) -> float:
        """Return the steady time from which a list may be asked for; 0 = any."""
        return self._known[kind][1] if kind in self._known else 0.0

    def wait(self) -> float | None:
        """Return seconds until the first of them; None = no list failed."""
        return max(0.0, min(at for _, at in self._known.values()) - loop_time()) if self._known else None


class Monitor:
    """See the module."""

    def __init__(self, backend: Remote) -> None:
        self._backend = backend
        self._backoff = RetryBackoff()
        self._session: Session | None = None
        self._listener: BackendSubscription | None = None
        self._background = Background(backend.name)
        self._refreshing = SingleFlight[None, None](f"{backend.name}: lists")
        self._first = asyncio.Event()
        self._lock = asyncio.Lock()
        self._dirty: set[Kind] = set()
        self._stale_at = 0.0
        self._rest_until = 0.0
        self._retries = _Retries()
        self._wake = asyncio.Event()
        self._doubted_at = 0.0
        self._handshakes = 0
        self._handshake: Handshake | None = None
        self._push = Push.NONE
        self._drop = False
        self._closed = False
        self._random = random.Random(backend.settings.name)  # noqa: S311  spreads load
        self._unasked = False
        self._refused: set[Kind] = set()
        self._personal = False

    @property
    def no_credentials(self) -> bool:
        """Whether lists need a caller's credentials, since our own requests have none."""
        return self._unasked or bool(self._refused)

    def start(self) -> None:
        """Begin, in the background."""
        if not self._background:
            self._background.spawn(self._run(), "monitor")

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
            self._wake.clear()
            if self._backend.breaker.admit():
                await self._round()
            self._first.set()
            await self._pause(self._delay())

    async def _pause(self, seconds: float | None) -> None:
        """Wait so long, or until failing calls make somebody doubt that the backend is up; None = only that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def doubt(self) -> None:
        """Calls fail in a way that may be their own fault: look whether the backend is up."""
        now = loop_time()
        if now - self._doubted_at >= DOUBT_EVERY:
            self._doubted_at = now
            self._wake.set()

    def _delay(self) -> float | None:
        """Return seconds until the next round; None = not before somebody asks for it."""
        backend = self._backend
        interval = backend.settings.health_interval
        open_for = backend.breaker.wait()
        if open_for > 0:
            return open_for
        settled = backend.state.failures == 0 and (backend.catalogue.known or self.no_credentials)
        if settled:
            self._backoff.reset()
            waits = [] if interval is None else [interval * self._random.uniform(0.9, 1.1)]
            if (retry := self._retries.wait()) is not None:
                waits.append(max(retry, 0.01))
            return min(waits, default=None)
        wait = self._backoff.next()
        return wait if interval is None else min(wait, max(interval, 0.01))

    async def _round(self) -> None:
        """Probe, and fetch what is due. Reports to health exactly once."""
        health = self._backend.health
        began = loop_time()
        try:
            await self._probe()
            took = loop_time() - began
            self._unasked = False
            # Without the stream nobody says what changes: look with every probe.
            unheard = self._push is Push.DOWN
            if unheard or not self._backend.catalogue.known or loop_time() >= self._stale_at:
                self._dirty |= set(KINDS)
            await self._refresh()
            if self._due():  # something changed meanwhile
                self._kick()
        except BackendAuthFailed as err:
            self._unasked = err.anonymous or not err.sent
            if err.anonymous:
                health.probed(loop_time() - began)  # whoever asks for a token is alive
            else:
                health.probe_failed(err)
                if err.sent:
                    health.refused()
        except BackendError as err:
            health.probe_failed(err)
        except asyncio.CancelledError:
            health.released()
            raise
        except Exception:
            log.exception("a probe failed unexpectedly", backend=self._backend.name)
            health.released()
        else:
            health.probed(took, whole=not self._backend.state.failing and self._push is not Push.DOWN)
        self._tell_whose_lists()

    def _tell_whose_lists(self) -> None:
        """Tell listeners when callers begin or cease to have lists of their own."""
        if self._personal != self.no_credentials:
            self._personal = self.no_credentials
            said = "each caller now sees its own lists" if self._personal else "all callers now see the same lists"
            log.info(said, backend=self._backend.name)
            self._backend.tell(frozenset(KINDS))

    async def _probe(self) -> None:
        """Ask the least that proves life.

        Raises:
            BackendError: No sign of it.
        """
        backend = self._backend
        timeout = backend.settings.health_timeout
        deadline = loop_time() + timeout
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
                on_push=self._on_push,
            )
        return self._session

    def _on_handshake(self, handshake: Handshake) -> None:
        """A legacy session began. Not the first one: whatever the old one listed is void."""
        self._handshakes += 1
        self._push = Push.NONE
        again = self._handshake is not None
        self._handshake = handshake
        self._dirty |= set(KINDS)
        if again:
            self._backend.eras.ask_again()
            self._drop = True
            self._kick()

    def _on_push(self, push: Push, missed: bool) -> None:
        """The stream that tells of changed lists came, or did not: degraded, not down, for the backend answers."""
        before, self._push = self._push, push
        if push is Push.DOWN:
            if before is not Push.DOWN:
                log.info("cannot open the backend's notification stream", backend=self._backend.name)
            self._backend.health.hampered()
        elif push is Push.OPEN and (missed or before is Push.DOWN):
            self._on_gap()
            self.doubt()  # a probe says that all is well again

    def _on_notification(self, method: str, _params: bytes) -> None:
        if self._handshake is None or not (kinds := kinds_of(method, self._handshake)):
            # Nobody asked: no client has to do with the monitor's own session.
            log.debug("a backend's notification was dropped", backend=self._backend.name, method=method[:MAX_LOGGED])
            return
        self._dirty |= set(kinds)
        self._kick()

    def heard(self, method: str) -> None:
        """A client's session heard that a list changed: many servers tell only the session in which that happened."""
        if self._handshake is not None and not self.no_credentials and (kinds := kinds_of(method, self._handshake)):
            self._dirty |= set(kinds)
            self._kick()

    def _listen(self, handshake: Handshake) -> None:
        """Open the modern backend's push channel for the lists that it announces to tell about."""
        backend = self._backend
        if backend.state.era is not Era.MODERN or self._listener is not None:
            return
        wanted = {spec.filter: True for spec in LIST_KINDS.values() if handshake.announces(spec.capability)}
        if not wanted:
            return
        self._listener = BackendSubscription(
            backend.endpoint,
            backend.modern,
            wanted,
            on_notification=self._on_notification,
            on_gap=self._on_gap,
            principal=None,
            max_event=backend.settings.max_response,
        )
        self._listener.start()

    def _on_gap(self) -> None:
        self._dirty |= set(KINDS)
        self._kick()

    # --- lists ---

    def _kick(self) -> None:
        """Fetch what is dirty; one fetch at a time, and one more for what became dirty meanwhile."""
        if not self._closed:
            self._refreshing.start(None, self._refresh_quietly)

    async def _refresh_quietly(self) -> None:
        """Fetch what is dirty, after a rest: a backend that never stops changing must not keep the gateway busy."""
        try:
            while self._due():
                await asyncio.sleep(max(0.0, self._rest_until - loop_time()))
                await self._refresh()
        except BackendError as err:
            log.info("lists could not be fetched", backend=self._backend.name, reason=err.reason)

    async def refresh(self, kinds: tuple[Kind, ...]) -> None:
        """Fetch some lists now."""
        self._dirty |= set(kinds)
        await self._refresh_quietly()

    async def _refresh(self) -> None:
        """Fetch what is due.

        Raises:
            BackendError: The session could not be opened. A list that cannot be fetched is not a failure of the
                backend: it is noted in its state, and tried again with back-off.
        """
        async with self._lock:
            kinds = self._due()
            if kinds:
                self._dirty -= set(kinds)
                try:
                    await self._fetch(kinds)
                except BaseException:
                    self._dirty |= set(kinds)  # what was announced is still to be fetched
                    raise

    def _due(self) -> tuple[Kind, ...]:
        now = loop_time()
        return tuple(kind for kind in KINDS if kind in self._dirty and self._retries.at(kind) <= now)

    async def _fetch(self, kinds: tuple[Kind, ...]) -> None:
        backend = self._backend
        session = self._own_session()
        timeout = backend.settings.timeout
        began = loop_time()
        handshake = await session.handshake(loop_time() + timeout)

        async def ask(method: str, params: bytes) -> Reply:
            return await ask_once(session, method, params, timeout)

        drop, self._drop = self._drop, False
        handshakes = self._handshakes

        def take(fetched: Fetched) -> None:
            for kind, found in fetched.items():
                self._note(kind, found, lost_session=self._handshakes > handshakes)
            era = backend.state.era or Era.LEGACY
            backend.publish(assemble(backend.catalogue, fetched, era, handshake, keep=not drop))

        fetched = await fetch_lists(
            backend.name,
            handshake,
            ask,
            before=backend.catalogue,
            kinds=kinds,
            own=backend.settings.gateway,
            meanwhile=take,
        )
        if set(kinds) == set(KINDS):
            ttls = [found.ttl for found in fetched.values() if isinstance(found, FetchedList) and found.ttl is not None]
            pushed = backend.state.era is Era.MODERN or backend.transport == "sse" or self._push is Push.OPEN
            self._stale_at = loop_time() + fresh_for(handshake, min(ttls, default=None), pushed=pushed)
        take(fetched)
        self._tell_whose_lists()
        now = loop_time()
        self._rest_until = now + max(REST, 4 * (now - began))

    def _note(self, kind: Kind, found: FetchedList | BackendError, *, lost_session: bool) -> None:
        """Say what could not be taken of a list: in the state, and in the log when it is news."""
        backend = self._backend
        state = backend.state
        if isinstance(found, BackendError):
            self._dirty.add(kind)
            self._retries.failed(kind, lost_session=lost_session)
            if isinstance(found, BackendAuthFailed) and found.anonymous:
                self._refused.add(kind)
                state.failing.pop(kind, None)
                return
            if state.failing.get(kind) != found.reason:
                log.warning("a list could not be fetched", backend=backend.name, list=kind.value, reason=found.reason)
            state.failing[kind] = found.reason
            return
        self._retries.forget(kind)
        self._refused.discard(kind)
        if state.failing.pop(kind, None) is not None:
            log.info("a list can be fetched again", backend=backend.name, list=kind.value)
        if state.left_out.get(kind, ()) != found.left_out:
            for sentence in found.left_out:
                log.warning("part of a list was left out", backend=backend.name, what=sentence)
        state.left_out[kind] = found.left_out

    async def close(self) -> None:
        """Stop everything; bounded by the session's own bounds."""
        self._closed = True
        await asyncio.gather(self._background.close(), self._refreshing.close())
        if self._listener is not None:
            await self._listener.close()
        if self._session is not None:
            await self._session.close()
