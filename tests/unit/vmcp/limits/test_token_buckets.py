"""Rate limits in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.limits.bucket import Rate, RateLimits, TokenBuckets, ToolRates

ALICE, BOB = Principal("alice", "i"), Principal("bob", "i")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def limiter(**limits: object) -> tuple[TokenBuckets, Time]:
    clock = Time()
    return TokenBuckets(RateLimits(**limits), clock=clock), clock


def test_without_limits_everything_passes():
    limit, _ = limiter()
    assert [limit.take(ALICE, "t") for _ in range(1000)] == [None] * 1000


def test_a_burst_is_allowed_and_then_the_wait_is_told():
    limit, clock = limiter(shared=Rate(3, 60.0))
    assert [limit.take(ALICE, "t") for _ in range(3)] == [None] * 3
    assert limit.take(ALICE, "t") == pytest.approx(20.0)
    clock.now += 20.0
    assert limit.take(BOB, "t") is None
    assert limit.take(BOB, "t") == pytest.approx(20.0)


def test_users_have_buckets_of_their_own():
    limit, _ = limiter(per_user=Rate(1, 60.0))
    assert limit.take(ALICE, "t") is None
    assert limit.take(BOB, "t") is None
    assert limit.take(ALICE, "t")


def test_the_same_subject_of_two_issuers_is_two_users():
    limit, _ = limiter(per_user=Rate(1, 60.0))
    assert limit.take(ALICE, "t") is None
    assert limit.take(Principal("alice", "other"), "t") is None


def test_tools_have_limits_on_top():
    limit, _ = limiter(shared=Rate(100, 1.0), tools={"slow": ToolRates(shared=Rate(2, 60.0), per_user=Rate(1, 60.0))})
    assert limit.take(ALICE, "slow") is None
    assert limit.take(ALICE, "slow") == pytest.approx(60.0)
    assert limit.take(BOB, "slow") is None
    assert limit.take(ANONYMOUS, "slow") == pytest.approx(30.0)
    assert limit.take(ALICE, "fast") is None


def test_a_refused_call_takes_from_no_bucket():
    limit, _ = limiter(shared=Rate(2, 60.0), per_user=Rate(1, 60.0))
    assert limit.take(ALICE, "t") is None
    for _ in range(10):
        assert limit.take(ALICE, "t")
    assert limit.take(BOB, "t") is None


def test_the_table_of_users_is_bounded_and_forgets_who_was_not_there_for_longest():
    limit = TokenBuckets(RateLimits(per_user=Rate(1, 60.0)), clock=Time(), max_buckets=10)
    users = [Principal(str(number), "i") for number in range(50)]
    assert [limit.take(user, "t") for user in users] == [None] * 50
    assert all(limit.take(user, "t") for user in users[40:]), "those of the ten that are kept have nothing left"
    assert limit.take(users[39], "t") is None, "a full bucket again"


@given(
    tokens=st.integers(1, 20),
    period=st.floats(0.5, 120.0),
    steps=st.lists(st.floats(0.0, 30.0), min_size=1, max_size=60),
)
def test_no_more_than_the_burst_plus_the_rate_ever_passes_and_waiting_as_told_helps(tokens, period, steps):
    limit, clock = limiter(shared=Rate(tokens, period))
    started, passed = clock.now, 0
    for step in steps:
        clock.now += step
        wait = limit.take(ALICE, "t")
        if wait is None:
            passed += 1
        else:
            assert 0 < wait <= period / tokens + 1e-6
            clock.now += wait
            assert limit.take(ALICE, "t") is None
            passed += 1
        assert passed <= tokens + (clock.now - started) * tokens / period + 1e-3
