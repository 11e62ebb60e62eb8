"""When a changed pod template may reach the pods: a burst of changes is one rollout.

A change that somebody asked for by changing the spec goes out at once; so does the repair of a Deployment that was
edited or is gone. All others (a member came, a Secret was rotated) wait until the changes have calmed down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from controllers.shared.timing import Timing
from runtime import Key

QUIET = 2.0
"""Seconds without a further change after which changed pods are rolled; a burst of changes is one rollout."""
LONGEST_WAIT = 15.0
"""Seconds after which pods are rolled even if changes keep coming."""


@dataclass(frozen=True, slots=True)
class DeploymentChange:
    """A Deployment that is to be written.

    Attributes:
        generation: of the spec that asks for it.
        intent: hash of the whole Deployment.
        lasting: hash of it without what only says which versions of its Secrets the pods have.
    """

    generation: int
    intent: str
    lasting: str


@dataclass
class _Waiting:
    """A rollout that waits for the changes to calm down."""

    since: float
    changed: float
    intent: str


class Pacing:
    """The rollouts of all workloads of one controller.

    Args:
        clock: seconds, monotonic.
        timing: how long a Secret waits after a rollout.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, timing: Timing = Timing()) -> None:  # noqa: B008  immutable
        self._clock, self._spacing = clock, timing.secret_spacing
        self._waiting: dict[Key, _Waiting] = {}
        self._generation: dict[Key, int] = {}
        self._rolled: dict[Key, tuple[float, str]] = {}

    def wait(self, key: Key, change: DeploymentChange, *, repair: bool) -> float | None:
        """Return the seconds that a change has to wait; None when it may be written now.

        Args:
            key: of the workload.
            change: what is to be written.
            repair: the Deployment is missing, or what was applied last is wanted again.
        """
        asked = self._generation.get(key) != change.generation
        if asked or repair or self._is_rotation(key, change):
            return None
        now = self._clock()
        waiting = self._waiting.setdefault(key, _Waiting(now, now, change.intent))
        if waiting.intent != change.intent:
            waiting.intent, waiting.changed = change.intent, now
        due = min(waiting.changed + QUIET, waiting.since + LONGEST_WAIT)
        return max(0.05, due - now) if now < due else None

    def _is_rotation(self, key: Key, change: DeploymentChange) -> bool:
        """Whether a Secret alone was rotated: whoever revokes a credential must not wait. A second one soon does."""
        now = self._clock()
        rolled, before = self._rolled.get(key, (now, ""))
        return now - rolled >= self._spacing and before == change.lasting

    def starts(self, key: Key) -> None:
        """The change is about to be written."""
        self._waiting.pop(key, None)

    def rolled(self, key: Key, change: DeploymentChange) -> None:
        """The change was written."""
        self._generation[key] = change.generation
        self._rolled[key] = self._clock(), change.lasting

    def waits(self, key: Key) -> bool:
        """Whether a change of the workload waits."""
        return key in self._waiting

    def forget(self, key: Key) -> None:
        """The workload is gone."""
        self._waiting.pop(key, None)
        self._generation.pop(key, None)
        self._rolled.pop(key, None)
