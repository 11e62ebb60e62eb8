"""The parts of a run, and how long they take: printed before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from hack.bench.operator.contenders import Contender
from hack.bench.operator.world import Size

PARTS = ("start", "bursts", "steady", "reads", "writes")
FULL_BURSTS = "1x200,1x1000,1x4000,50x40,1x10000"
FULL_STEADY = "100x100"

_REST = 3.5
"""Seconds of quiet that are waited for before and after a burst."""


@dataclass(frozen=True)
class Rate:
    """What a contender is expected to do: `base + count / speed` seconds, growing with the group for some."""

    speed: float
    group: float = 0.0
    """Entries in one group above which time per entry grows in proportion; 0: it does not."""

    def seconds(self, size: Size) -> float:
        """Expected seconds of a burst."""
        growth = max(1.0, size.entries / self.group) if self.group else 1.0
        return size.total / self.speed * growth


_OURS = Rate(330.0)
_KOPF = Rate(40.0)
_OTHER = Rate(60.0, 1000.0)
_FLOOR = Rate(500.0)
_REMOVAL = 900.0


def size_of(text: str) -> Size:
    """Read GROUPSxENTRIES.

    Raises:
        ValueError: it is not two numbers.
    """
    groups, _, count = text.strip().lower().partition("x")
    if not (groups.isdigit() and count.isdigit() and int(groups) and int(count)):
        raise ValueError(f"{text!r} is not GROUPSxENTRIES, such as 50x40")
    return Size(int(groups), int(count))


def expected_burst(size: Size, contenders: list[Contender], timeout: float) -> float:
    """Seconds of one burst, floor included."""
    return _floor(size) + sum(_one_burst(size, contender, timeout) for contender in contenders)


def expected_steady(size: Size, contenders: list[Contender], timeout: float, seconds: float) -> float:
    """Seconds of the steady part: those that do not settle in time end there."""
    total = _floor(size)
    for contender in contenders:
        total += _one_burst(size, contender, timeout)
        if _rate(contender).seconds(size) < timeout:
            total += 2 * seconds + 10 + size.total / 2000
    return total


def expected_costs() -> dict[str, float]:
    """Seconds of the parts that have no sizes."""
    return {"start": 25.0, "reads": 15.0, "writes": 25.0}


def _floor(size: Size) -> float:
    return _FLOOR.seconds(size) + size.total / _REMOVAL + 1


def _one_burst(size: Size, contender: Contender, timeout: float) -> float:
    settle = min(_rate(contender).seconds(size), timeout)
    return 3 + 2 * _REST + settle + size.total / _REMOVAL


def _rate(contender: Contender) -> Rate:
    if contender.name.startswith("ours"):
        return _OURS
    return _KOPF if contender.name == "kopf" else _OTHER
