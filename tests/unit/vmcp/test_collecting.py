"""No collection of garbage takes longer because a client made the gateway keep more."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmcp.collecting import MANY, OFTEN, Collector


class _Clocks:
    """Two clocks that only a test moves."""

    def __init__(self) -> None:
        self.now = self.worked = 0.0

    def second(self, *, worked: float) -> None:
        self.now += 1.0
        self.worked += worked


class _Looks:
    """What each collection looked at: its generation, and how many objects that held."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int]] = []

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            generation = info["generation"]
            self.found.append((generation, sum(len(gc.get_objects(each)) for each in range(generation + 1))))


@pytest.fixture
def looks() -> Iterator[_Looks]:
    before = gc.get_threshold()
    found = _Looks()
    yield found
    if found in gc.callbacks:
        gc.callbacks.remove(found)
    gc.set_threshold(*before)
    gc.unfreeze()


def _begun(clocks: _Clocks, looks: _Looks) -> Collector:
    collector = Collector(clock=lambda: clocks.now, work=lambda: clocks.worked)
    collector.begin()
    gc.callbacks.append(looks)
    return collector


def test_a_wave_of_calls_is_not_looked_at_while_it_is_under_way(looks: _Looks) -> None:
    """256 clients have some thousand objects under way at once, which go by themselves when they are answered."""
    _begun(_Clocks(), looks)
    for _ in range(20):
        wave = [[[] for _ in range(30)] for _ in range(256)]
        assert len(wave) == 256
        del wave
    assert len(looks.found) <= 5


def test_no_look_takes_in_more_the_more_is_kept(looks: _Looks) -> None:
    _begun(_Clocks(), looks)
    kept = [[[]] for _ in range(100_000)]
    assert len(kept) == 100_000
    assert looks.found
    assert max(size for _, size in looks.found) < 40_000, "of 200,000 that are kept"
    assert all(generation < 2 for generation, _ in looks.found)


def test_everything_is_looked_at_in_an_idle_second_and_only_where_there_is_something_new(looks: _Looks) -> None:
    clocks = _Clocks()
    collector = _begun(clocks, looks)
    kept = [[] for _ in range(50_000)]
    for part in (0.9, 0.02):
        clocks.second(worked=part)
        assert not collector.look(), "somebody is served"
    clocks.now += 1.0  # the look came a second too late: others had the core
    clocks.second(worked=0.001)
    assert not collector.look(), "somebody may wait for the core as well"
    clocks.second(worked=0.001)
    assert collector.look()
    clocks.second(worked=0.001)
    assert not collector.look(), "nothing was added"
    assert len(kept) == 50_000


def test_who_is_never_quiet_is_looked_at_now_and_then_all_the_same(looks: _Looks) -> None:
    clocks = _Clocks()
    collector = _begun(clocks, looks)
    kept: list[list[int]] = []
    while gc.get_count()[2] < MANY:
        kept.append([])
    for _ in range(int(OFTEN) - 1):
        clocks.second(worked=1.0)
        assert not collector.look()
    clocks.second(worked=1.0)
    assert collector.look()
    assert not gc.get_count()[2]


def test_free_memory_goes_back_to_the_system_in_a_quiet_second_behind_work(looks: _Looks) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    clocks = _Clocks()
    collector = _begun(clocks, looks)
    # Too small for a mapping of their own each; the last one keeps the heap from shrinking by itself.
    parts = [b"x" * (16_000 + number) for number in range(3_000)]
    last = parts[-1]
    before = resident()
    parts.clear()
    clocks.second(worked=0.9)
    collector.look()
    assert before - resident() < 10_000_000, "somebody is served"
    clocks.second(worked=0.01)
    collector.look()
    assert before - resident() > 30_000_000
    assert last
