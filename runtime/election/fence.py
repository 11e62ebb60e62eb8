"""The write fence: a leader may write until its last renewal is `renew_deadline` old, and not a moment longer.

The clock counts while the machine is suspended (CLOCK_BOOTTIME; a stopped process notices on its first instruction, a
suspended virtual machine too). The deadline is taken from the time *before* the renewal was sent, so it always lies
before the moment at which anybody else may take over.
"""

from __future__ import annotations

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux has it; elsewhere suspension is not counted


def boottime() -> float:
    """Seconds since the machine booted, suspension included."""
    return time.clock_gettime(_BOOTTIME)


class Fence:
    """Shared by the elector's thread, which moves it, and the writers, who ask it. No lock: each field is one word."""

    __slots__ = ("_closed", "_deadline")

    def __init__(self) -> None:
        self._deadline = float("-inf")
        self._closed = False

    @property
    def deadline(self) -> float:
        """Boot time until which writes are allowed."""
        return self._deadline

    def extend(self, deadline: float) -> None:
        """Allow writes until `deadline`. Does nothing once closed: a renewal that was under way must not reopen it."""
        if not self._closed:
            self._deadline = deadline

    def close(self) -> None:
        """Refuse all further writes, for ever: a process leads at most once."""
        self._closed = True
        self._deadline = float("-inf")

    def allows(self) -> bool:
        """Whether a write may be sent now."""
        return not self._closed and boottime() < self._deadline
