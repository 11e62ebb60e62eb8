"""What probes and traffic say about a backend, put together: failures in a row, health, circuit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import structlog

from vmcp.backend.breaker import Breaker
from vmcp.backend.errors import (
    BackendAuthFailed,
    BackendError,
    BackendOverflow,
    BackendProtocolError,
    BackendUnavailable,
    CircuitOpen,
)
from vmcp.backend.model import BackendState, Circuit, Health

log = structlog.get_logger(__name__)

TELL_EVERY = 10.0
"""Seconds between two log lines about single failures of one backend; changes of its health are always logged."""
_BACKEND_GONE = frozenset({502, 503, 504})
"""What something in front of a backend answers when it cannot be reached."""


class HealthKeeper:
    """Keeps `BackendState` true. Every call and every probe ends in exactly one of its methods."""

    def __init__(
        self,
        name: str,
        state: BackendState,
        breaker: Breaker,
        *,
        threshold: int,
        slow_after: float,
        on_change: Callable[[], None],
        on_doubt: Callable[[], None],
    ) -> None:
        """Take what to keep.

        Args:
            name: The backend's, for the log.
            state: Changed in place.
            breaker: Told of everything.
            threshold: Failures in a row until UNHEALTHY.
            slow_after: Seconds after which a probe means DEGRADED.
            on_change: Called when health or circuit changed.
            on_doubt: Called when calls fail that may be at fault themselves; a probe should decide.
        """
        self._name = name
        self._state = state
        self._breaker = breaker
        self._told_at: float | None = None
        self._threshold = threshold
        self._slow_after = slow_after
        self._on_change = on_change
        self._on_doubt = on_doubt
        self._doubts = 0

    def reconfigure(self, *, threshold: int, slow_after: float) -> None:
        """Go on with other numbers."""
        self._threshold = threshold
        self._slow_after = slow_after

    def answered(self) -> None:
        """A call had an answer."""
        self._doubts = 0
        state = self._state
        if state.failures == 0 and state.circuit is Circuit.CLOSED and state.health is not Health.UNKNOWN:
            return  # nothing to say: the usual case, once per call
        health = Health.DEGRADED if state.failures else Health.HEALTHY
        self._succeeded(health if state.health is not Health.DEGRADED else Health.DEGRADED)

    def probed(self, seconds: float, *, whole: bool = True) -> None:
        """A probe succeeded after that time. The first success after failures is not trusted yet.

        Args:
            seconds: That it took.
            whole: All lists could be fetched, and the GET stream is there or not offered; else DEGRADED at best.
        """
        self._doubts = 0
        slow = seconds > self._slow_after or self._state.failures > 0 or not whole
        self._state.last_check = time.time()
        self._succeeded(Health.DEGRADED if slow else Health.HEALTHY)

    def hampered(self) -> None:
        """It answers, and something beside its answers does not work: degraded, until a probe finds all well."""
        if self._state.health is Health.HEALTHY:
            before = (self._state.health, self._state.circuit)
            self._state.health = Health.DEGRADED
            self._sync(before)

    def _succeeded(self, health: Health) -> None:
        state = self._state
        before = (state.health, state.circuit)
        self._breaker.success()
        state.health = health
        state.last_error = state.last_error_category = ""
        state.last_check = time.time()
        self._sync(before)

    def failed(self, err: BackendError) -> None:
        """A call had no answer, or was refused.

        Callers choose what they send, so what one call meets says little: an answer of any status comes from a backend
        that is up, and a time-out or a dropped connection may be one tool's or one request's. Only a connection that
        cannot be made counts by itself. Of the doubtful ones so many in a row as open the circuit make the monitor
        look, and they count when its probe fails too.
        """
        if isinstance(err, CircuitOpen):
            return
        if isinstance(err, BackendOverflow):
            self.released()  # other answers took the room
            return
        if not err.sent and (isinstance(err, BackendAuthFailed) or err.category == "protocol"):
            self.released()  # our side's problem: nothing was learned about the backend
            return
        self._note(err)
        if isinstance(err, BackendAuthFailed):
            self._counted(self._breaker.success)  # somebody answered
        elif isinstance(err, BackendUnavailable) and not err.sent:
            self._counted(self._breaker.failure)
        elif isinstance(err, BackendProtocolError) or (err.status and err.status not in _BACKEND_GONE):
            self.released()
        else:
            self.released()
            self._doubts += 1
            if self._doubts >= self._breaker.threshold or self._state.circuit is not Circuit.CLOSED:
                self._on_doubt()
        self._tell_failure(err)

    def probe_failed(self, err: BackendError) -> None:
        """A probe had no answer, or was refused: that is a failure of the backend, and confirms those in doubt."""
        if isinstance(err, CircuitOpen):
            return
        our_side = not err.sent and (isinstance(err, BackendAuthFailed) or err.category == "protocol")
        if our_side or isinstance(err, BackendOverflow):
            self.released()
            return
        self._note(err)
        doubts, self._doubts = self._doubts, 0
        if isinstance(err, BackendAuthFailed):
            self._counted(self._breaker.success)
        else:
            self._counted(lambda: self._breaker.failure(1 + doubts))
        self._tell_failure(err)

    def _note(self, err: BackendError) -> None:
        state = self._state
        state.last_error, state.last_error_category = err.reason, err.category
        state.last_check = time.time()

    def _counted(self, count: Callable[[], None]) -> None:
        state = self._state
        before = (state.health, state.circuit)
        count()
        if self._breaker.failures >= self._threshold or self._breaker.state is Circuit.OPEN:
            state.health = Health.UNHEALTHY
        self._sync(before)

    def _tell_failure(self, err: BackendError) -> None:
        """Log the first failure in a row, so that a backend that was never reached does not stay a riddle."""
        now = time.monotonic()
        if self._breaker.failures > 1 or (self._told_at is not None and now - self._told_at < TELL_EVERY):
            return
        self._told_at = now
        log.info("a backend failed", backend=self._name, category=err.category, reason=err.reason)

    def refused(self) -> None:
        """A probe was answered with 401 or 403: alive, and of no use to us."""
        before = (self._state.health, self._state.circuit)
        self._state.health = Health.UNAUTHENTICATED
        self._sync(before)

    def released(self) -> None:
        """Nothing was learned."""
        self._breaker.release()

    def _sync(self, before: tuple[Health, Circuit]) -> None:
        state, breaker = self._state, self._breaker
        state.failures = breaker.failures
        state.circuit = breaker.state
        state.circuit_changed = breaker.changed
        if before == (state.health, state.circuit):
            return
        if before[0] is not Health.UNKNOWN or state.health not in {Health.HEALTHY, Health.DEGRADED}:
            level = logging.WARNING if state.health in {Health.UNHEALTHY, Health.UNAUTHENTICATED} else logging.INFO
            log.log(
                level,
                "a backend's health changed",
                backend=self._name,
                was=before[0].value,
                now=state.health.value,
                circuit=state.circuit.value,
                **({"reason": state.last_error} if state.last_error else {}),
            )
        self._on_change()
