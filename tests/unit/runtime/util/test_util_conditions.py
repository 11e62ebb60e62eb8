"""Conditions follow the API conventions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.util.conditions import (
    MAX_MESSAGE,
    Condition,
    condition_items,
    get_condition,
    parse_conditions,
    remove_condition,
    set_condition,
)
from runtime.util.times import format_time

THEN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
READY = Condition("Ready", "True", "Fine", "all good", 3, format_time(THEN))
OTHER = Condition("Valid", "True", "Fine", "", 3, format_time(THEN))


@pytest.mark.parametrize(
    ("change", "transition"),
    [
        ({"reason": "StillFine"}, THEN),
        ({"message": "still good"}, THEN),
        ({"observed_generation": 4}, THEN),
        ({"status": "False"}, NOW),
        ({"status": "Unknown", "reason": "Asking"}, NOW),
    ],
    ids=str,
)
def test_the_transition_time_moves_only_with_the_status(change, transition):
    new = replace(READY, last_transition_time="", **change)
    after = set_condition((READY, OTHER), new, now=NOW)
    assert after == (replace(new, last_transition_time=format_time(transition)), OTHER)


def test_an_equal_verdict_gives_the_same_tuple_back():
    conditions = (READY, OTHER)
    assert set_condition(conditions, replace(READY, last_transition_time=""), now=NOW) is conditions
    assert remove_condition(conditions, "Absent") is conditions


def test_a_time_of_the_caller_counts_when_the_status_changes_and_not_otherwise():
    earlier = format_time(THEN - timedelta(days=1))
    flipped = set_condition((READY,), replace(READY, status="False", last_transition_time=earlier), now=NOW)
    assert flipped[0].last_transition_time == earlier
    same = set_condition((READY,), replace(READY, message="x", last_transition_time=earlier), now=NOW)
    assert same[0].last_transition_time == READY.last_transition_time


def test_new_types_go_to_the_end_and_removing_keeps_the_order():
    third = Condition("Third", "False", "No")
    conditions = set_condition((READY, OTHER), third, now=NOW)
    assert [c.type for c in conditions] == ["Ready", "Valid", "Third"]
    assert [c.type for c in remove_condition(conditions, "Valid")] == ["Ready", "Third"]
    assert get_condition(conditions, "Third") == replace(third, last_transition_time="2026-01-02T03:04:05Z")


def test_what_the_api_server_would_refuse_is_caught_here():
    with pytest.raises(ValueError, match="Ready needs a reason"):
        set_condition((), Condition("Ready", "True", ""), now=NOW)
    with pytest.raises(ValueError, match="zone"):
        format_time(NOW.replace(tzinfo=None))
    long = set_condition((), Condition("Ready", "True", "Fine", "x" * 40_000), now=NOW)[0].message
    assert len(long) == MAX_MESSAGE
    assert long.endswith("…")


def test_times_of_other_zones_are_written_in_utc():
    assert format_time(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-01-02T03:04:05Z"


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["True", "False", "Unknown"])), max_size=12))
def test_any_sequence_keeps_one_condition_per_type_and_survives_a_round_trip(steps):
    conditions = ()
    for minute, (type_, status) in enumerate(steps):
        conditions = set_condition(conditions, Condition(type_, status, "R"), now=THEN + timedelta(minutes=minute))
    assert sorted({t for t, _ in steps}) == sorted(c.type for c in conditions)
    assert parse_conditions([c.as_dict() for c in conditions]) == conditions
    for condition in conditions:
        history = [(m, s) for m, (t, s) in enumerate(steps) if t == condition.type]
        last_flip = next(m for i, (m, s) in enumerate(history) if all(later == s for _, later in history[i:]))
        assert condition.last_transition_time == format_time(THEN + timedelta(minutes=last_flip))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["type", "status", "reason", "message", "observedGeneration", "lastTransitionTime"]


@given(JSON | st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6) | JSON, max_size=3))
def test_whatever_a_status_holds_becomes_conditions_that_can_be_compared_and_written(raw):
    found = parse_conditions(raw)
    assert {condition.type for condition in found} == {item["type"] for item in condition_items(raw)}
    for condition in found:
        assert parse_conditions([condition.as_dict()]) == (condition,)


@pytest.mark.parametrize(
    "raw", [True, 5, "Ready", {"Ready": "True"}, [None, [], "x", {"type": {}}, {"status": "True"}]]
)
def test_what_is_no_condition_is_none(raw):
    assert parse_conditions(raw) == ()
