"""When a changed pod template may go out: a burst is one rollout, and what somebody asked for never waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controllers.shared.timing import Timing
from controllers.shared.workload.pacing import LONGEST_WAIT, QUIET, DeploymentChange, Pacing
from runtime import Key
from tests.support.clock import Clock

V = Key("ns", "v")
FIRST = DeploymentChange(generation=1, intent="a", lasting="A")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pacing(clock: Clock) -> Pacing:
    """One workload whose first template went out just now."""
    made = Pacing(clock)
    assert made.wait(V, FIRST, repair=False) is None
    made.rolled(V, FIRST)
    return made


def test_what_a_new_spec_asks_for_goes_out_at_once(pacing: Pacing) -> None:
    assert pacing.wait(V, DeploymentChange(2, "b", "B"), repair=False) is None


def test_a_change_that_nobody_asked_for_waits_until_the_changes_are_over(pacing: Pacing, clock: Clock) -> None:
    assert pacing.wait(V, DeploymentChange(1, "b", "B"), repair=False) == QUIET
    clock.now += QUIET / 2
    assert pacing.wait(V, DeploymentChange(1, "c", "C"), repair=False) == QUIET, (
        "each further change begins the wait anew"
    )
    assert pacing.waits(V)
    clock.now += QUIET
    assert pacing.wait(V, DeploymentChange(1, "c", "C"), repair=False) is None
    pacing.starts(V)
    assert not pacing.waits(V)


def test_changes_that_never_end_do_not_hold_pods_back_for_ever(pacing: Pacing, clock: Clock) -> None:
    began, number = clock.now, 0
    while pacing.wait(V, DeploymentChange(1, f"{number}", f"{number}"), repair=False) is not None:
        clock.now, number = clock.now + QUIET / 2, number + 1
    assert clock.now - began == pytest.approx(LONGEST_WAIT)


def test_a_repair_waits_for_nothing(pacing: Pacing) -> None:
    assert pacing.wait(V, DeploymentChange(1, "b", "B"), repair=True) is None


def test_a_rotated_secret_rolls_the_pods_at_once_and_a_second_one_soon_after_waits(
    pacing: Pacing, clock: Clock
) -> None:
    clock.now += Timing().secret_spacing
    rotated = replace(FIRST, intent="a2")
    assert pacing.wait(V, rotated, repair=False) is None
    pacing.rolled(V, rotated)
    clock.now += Timing().secret_spacing / 2
    assert pacing.wait(V, replace(FIRST, intent="a3"), repair=False) is not None


def test_a_workload_that_is_gone_leaves_nothing_behind(pacing: Pacing) -> None:
    pacing.wait(V, DeploymentChange(1, "b", "B"), repair=False)
    pacing.forget(V)
    assert not pacing.waits(V)
    assert pacing.wait(V, DeploymentChange(1, "c", "C"), repair=False) is None, "as for one that was never seen"
