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
