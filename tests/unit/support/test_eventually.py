"""The one wait of all tests: what it returns, what it forgives, and what its failure says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.eventually import eventually, eventually_blocking
from tests.support.virtual_time import now, virtual_time


def later(value: Any, at: float) -> Callable[[], Any]:
    """A check that gives a value from a virtual second on."""
    return lambda: value if now() >= at else None


@virtual_time
async def test_it_returns_what_the_check_gave_as_soon_as_it_is_true():
    assert await eventually(later("here", 3.0), within=5, every=0.5) == "here"
    assert now() == 3.0


@virtual_time
async def test_a_check_may_be_asynchronous_and_an_assertion_of_it_means_not_yet():
    async def check() -> str:
        assert now() >= 2, "too early"
        return "late enough"

    assert await eventually(check, every=0.5) == "late enough"


@virtual_time
async def test_the_failure_says_what_was_awaited_and_what_was_seen_last():
    with pytest.raises(AssertionError, match=r"not within 2 s: the door is open \(at last it was 0\)"):
        await eventually(lambda: 0, "the door is open", within=2)
    assert now() == 2


@virtual_time
async def test_the_last_assertion_is_the_cause_of_the_failure():
    def check() -> None:
        raise AssertionError("still shut")

    with pytest.raises(AssertionError, match=r"\(at last: still shut\)") as failure:
        await eventually(check, within=1)
    assert str(failure.value.__cause__) == "still shut"


@virtual_time
async def test_a_check_that_hangs_is_given_up_at_the_deadline():
    with pytest.raises(AssertionError, match="the first check did not end"):
        await eventually(lambda: asyncio.sleep(1000), within=3)
    assert now() == 3


@virtual_time
@pytest.mark.parametrize("fault", [KeyError("k"), TimeoutError("the check's own")])
async def test_another_exception_of_the_check_is_no_not_yet(fault):
    def check() -> None:
        raise fault

    with pytest.raises(type(fault)) as raised:
        await eventually(check, within=100)
    assert raised.value is fault
    assert now() == 0


def test_without_a_loop_it_does_the_same():
    counter = itertools.count()
    assert eventually_blocking(lambda: next(counter) > 3 and "here", every=0.001) == "here"
    with pytest.raises(AssertionError, match=r"not within 0.01 s: the condition \(at last it was False\)"):
        eventually_blocking(lambda: False, within=0.01, every=0.001)
