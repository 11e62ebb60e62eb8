"""The collector rests while a program is imported, and never longer."""

from __future__ import annotations

import gc

import pytest

from runtime.manager.heap import growing_heap


def test_the_collector_rests_inside_and_works_again_afterwards() -> None:
    with growing_heap():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_works_again_when_an_import_fails() -> None:
    with pytest.raises(ImportError), growing_heap():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_somebody_switched_off_stays_off() -> None:
    gc.disable()
    try:
        with growing_heap():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_came_meanwhile_is_old_without_having_been_looked_at():
    collections = gc.get_stats()[2]["collections"]
    with growing_heap():
        made = [[] for _ in range(1000)]
    old = {id(each) for each in gc.get_objects(generation=2)}
    assert all(id(each) in old for each in made)
    assert gc.get_stats()[2]["collections"] == collections
    assert gc.isenabled()
