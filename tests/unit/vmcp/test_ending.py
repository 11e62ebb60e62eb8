"""The time between SIGTERM and SIGKILL belongs to the calls that are under way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.ending import Ending, divide


def test_a_call_of_25_seconds_fits_into_the_grace_period_of_a_pod() -> None:
    ending = divide("30", balanced=True)
    assert ending == Ending(drain=5.0, grace=22.0, close=2.0)
    assert ending.drain + ending.grace >= 25


@given(st.integers(0, 10_000), st.booleans())
def test_no_grace_period_is_exceeded_and_a_longer_one_gives_calls_more(seconds: int, balanced: bool) -> None:
    ending, longer = divide(str(seconds), balanced=balanced), divide(str(seconds + 1), balanced=balanced)
    assert ending.drain + ending.grace + ending.close <= seconds
    assert min(ending.drain, ending.grace, ending.close) >= 0
    assert longer.grace >= ending.grace


@pytest.mark.parametrize("value", ["-1", "30s", "3.5", "\u0663\u0660", " "])
def test_what_is_no_number_of_seconds_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not a number of seconds"):
        divide(value, balanced=True)


def test_outside_of_a_pod_only_somebody_who_balances_is_given_time_to_notice() -> None:
    assert divide("", balanced=False) == Ending()
    assert divide("", balanced=True) == Ending(drain=5.0)
