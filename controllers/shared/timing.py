"""How soon controllers follow what others do: one place for pauses that a caller may shorten or stretch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How soon the controllers follow what others do. All in seconds.

    Attributes:
        secret_spacing: After a rollout in which a rotated Secret waits as other changes do; later it rolls the pods at
            once.
        first_pause: Before the next repair of an object that somebody else keeps changing; doubled each time.
        peace: Without a repair, and at least twice the last pause, after which such a contest is over.
    """

    secret_spacing: float = 2.0
    first_pause: float = 1.0
    peace: float = 30.0
