"""The circuit breaker of one backend: after N failures in a row nothing is sent for a while, then one request may try.

It guards probes and calls alike, and learns from both.
"""

from __future__ import annotations

import time

from vmcp.backend.model import Circuit
from vmcp.backend.settings import BreakerSettings
from vmcp.tasks import loop_time


class Breaker:
    """Closed -> open -> half-open -> closed or open again.

    Attributes:
        state: Now; OPEN turns into HALF_OPEN only when somebody is admitted.
        failures: In a row.
        changed: Unix seconds of the last change of state; None = never.
    """

    def __init__(self, settings: BreakerSettings | None) -> None:
        """Start closed; without settings failures are counted, but the circuit never opens."""
        self._settings = settings
        self._opened_at = 0.0
        self._trying = False
        self.state = Circuit.CLOSED
        self.failures = 0
        self.changed: float | None = None

    def reconfigure(self, settings: BreakerSettings | None) -> None:
        """Go on with other numbers. None closes an open circuit."""
        self._settings = settings
        if settings is None and self.state is not Circuit.CLOSED:
            self._trying = False
            self._move(Circuit.CLOSED)

    def admit(self) -> bool:
        """Ask for leave to send. Who got it must report `success`, `failure` or `release`."""
        if self.state is Circuit.CLOSED:
            return True
        if self.state is Circuit.OPEN:
            if self.wait() > 0:
                return False
            self._move(Circuit.HALF_OPEN)
        if self._trying:
            return False
        self._trying = True
        return True

    @property
    def threshold(self) -> int:
        """Failures in a row that open it, or would if there were a circuit to open."""
        return (self._settings or BreakerSettings()).threshold

    def wait(self) -> float:
        """Return seconds until somebody will be admitted; 0 = now."""
        if self.state is not Circuit.OPEN or self._settings is None:
            return 0.0
        return max(0.0, self._opened_at + self._settings.timeout - loop_time())

    def success(self) -> None:
        """The backend answered."""
        self._trying = False
        self.failures = 0
        if self.state is not Circuit.CLOSED:
            self._move(Circuit.CLOSED)

    def failure(self, times: int = 1) -> None:
        """It did not, so often in a row."""
        self.failures += times
        half_open = self.state is Circuit.HALF_OPEN
        self._trying = False
        if self._settings is None or self.state is Circuit.OPEN:
            return  # late failures of calls that were under way do not prolong the wait
        if half_open or self.failures >= self._settings.threshold:
            self._opened_at = loop_time()
            self._move(Circuit.OPEN)

    def release(self) -> None:
        """Neither: the caller went away before there was an answer."""
        self._trying = False

    def _move(self, state: Circuit) -> None:
        self.state = state
        self.changed = time.time()
