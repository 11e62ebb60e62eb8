"""How often a gateway is decided about while its group changes."""

from __future__ import annotations

import pytest

from controllers.virtualmcpserver.pace import LONGEST_REST, LOOK, MANY, MOMENT, PATIENCE, SHARE, DecisionPace
from runtime import Key
from tests.support.clock import Clock

GATEWAY = Key("default", "gateway")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> DecisionPace:
    return DecisionPace(clock)


def looks(pace: DecisionPace, clock: Clock, *, written: bool, awaiting: int) -> tuple[int, float]:
    """Look whenever it is due until it is decided; return how often, and after which time."""
    start, count = clock.now, 1
    while (result := pace.wait(GATEWAY, written=written, awaiting=awaiting)) is not None:
        assert result.requeue_after is not None
        clock.now += result.requeue_after
        count += 1
    return count, clock.now - start


def test_a_gateway_whose_members_are_judged_is_decided_about_at_once(pace: DecisionPace):
    assert pace.rest(GATEWAY) is None
    assert pace.wait(GATEWAY, written=True, awaiting=0) is None


def test_it_rests_in_proportion_to_what_a_decision_cost(pace: DecisionPace, clock: Clock):
    pace.decided(GATEWAY, 0.05)
    rest = pace.rest(GATEWAY)
    assert rest is not None
    assert rest.requeue_after == pytest.approx(0.05 * SHARE)
    assert rest.hold
    clock.now += 0.05 * SHARE + 0.001
    assert pace.rest(GATEWAY) is None
    pace.decided(GATEWAY, 60.0)
    rest = pace.rest(GATEWAY)
    assert rest is not None
    assert rest.requeue_after == pytest.approx(LONGEST_REST)


def test_the_verdict_of_a_single_new_member_is_waited_for_and_ends_the_wait(pace: DecisionPace, clock: Clock):
    wait = pace.wait(GATEWAY, written=True, awaiting=1)
    assert wait is not None
    assert not wait.hold
    clock.now += MOMENT / 10
    assert pace.wait(GATEWAY, written=True, awaiting=0) is None


def test_a_verdict_that_does_not_come_costs_the_others_a_moment_only(pace: DecisionPace, clock: Clock):
    assert looks(pace, clock, written=True, awaiting=1) == (2, pytest.approx(MOMENT))


def test_a_group_that_fills_up_is_looked_at_now_and_then_and_published_after_a_while(pace: DecisionPace, clock: Clock):
    wait = pace.wait(GATEWAY, written=True, awaiting=MANY)
    assert wait is not None
    assert wait.hold
    count, took = looks(pace, clock, written=True, awaiting=MANY)
    assert took == pytest.approx(PATIENCE)
    assert count <= PATIENCE / LOOK + 2
    pace.decided(GATEWAY, 0.0)
    assert looks(pace, clock, written=True, awaiting=500)[1] == pytest.approx(PATIENCE)


@pytest.mark.parametrize("awaiting", [1, 1000])
def test_what_was_never_written_waits_longer(pace: DecisionPace, clock: Clock, awaiting: int):
    assert looks(pace, clock, written=False, awaiting=awaiting)[1] == pytest.approx(PATIENCE)


def test_a_gateway_that_is_gone_leaves_nothing(pace: DecisionPace):
    pace.decided(GATEWAY, 1.0)
    pace.forget(GATEWAY)
    assert pace.rest(GATEWAY) is None
