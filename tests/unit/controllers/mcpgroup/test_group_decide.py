"""A group's status, and when it is worth a write."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.mcpgroup.decide import (
    LATEST,
    MAX_NAMES,
    QUIET,
    Snapshot,
    changed,
    coalesce,
    cut,
    decide,
    due_in,
    look_in,
    may_fill,
)
from runtime import parse_conditions

NOW = datetime(2026, 1, 2, tzinfo=UTC)
EMPTY = Snapshot(generation=1, now=NOW)


def test_an_empty_group_is_ready_with_counts_of_zero_and_no_lists() -> None:
    status = decide(EMPTY)
    assert status["phase"] == "Ready"
    assert {k: v for k, v in status.items() if k.endswith("Count")} == {
        "serverCount": 0,
        "remoteProxyCount": 0,
        "entryCount": 0,
        "remoteEndpointCount": 0,
        "memberCount": 0,
        "servedCount": 0,
    }
    assert [status[k] for k in ("servers", "remoteProxies", "entries", "remoteEndpoints")] == [None] * 4


def test_members_are_listed_and_counted_by_kind() -> None:
    status = decide(replace(EMPTY, servers=("a",), proxies=("b", "c"), entries=("d",), endpoints=("e", "f")))
    assert (status["servers"], status["serverCount"]) == (["a"], 1)
    assert (status["remoteProxies"], status["remoteProxyCount"]) == (["b", "c"], 2)
    assert (status["entries"], status["entryCount"]) == (["d"], 1)
    assert (status["remoteEndpoints"], status["remoteEndpointCount"]) == (["e", "f"], 2)
    assert status["memberCount"] == 6
    (checked,) = [c for c in status["conditions"] if c["type"] == "MCPServersChecked"]
    assert checked["message"] == (
        "Successfully listed 1 MCPServers, 2 MCPRemoteProxies, 1 MCPServerEntries, "
        "and 2 MCPRemoteEndpoints in namespace"
    )


def test_lists_that_do_not_fit_are_cut_and_counts_stay_exact() -> None:
    names = tuple(f"e{number:05}".ljust(100, "x") for number in range(4000))
    crowded = replace(EMPTY, entries=names, servers=("s",) * 10)
    status = decide(crowded)
    assert status["entryCount"] == 4000
    assert (
        MAX_NAMES - 400
        < len(json.dumps([status["entries"], status["servers"]], separators=(",", ":")))
        <= MAX_NAMES + 8
    )
    conditions = parse_conditions(status["conditions"])
    assert ("StatusTruncated", "True", "TooManyMembers") in {(c.type, c.status, c.reason) for c in conditions}
    mended = decide(replace(EMPTY, entries=names[:100], previous=conditions))
    assert "StatusTruncated" not in {c["type"] for c in mended["conditions"]}


@given(
    st.lists(st.lists(st.text("ab", min_size=1, max_size=9), max_size=9).map(tuple), min_size=4, max_size=4).map(tuple),
    st.integers(0, 200),
)
def test_cutting_keeps_the_first_names_within_the_limit(lists: tuple, limit: int) -> None:
    kept = cut(lists, limit)
    assert all(short == full[: len(short)] for short, full in zip(kept, lists, strict=True))
    assert sum(len(name) + 3 for names in kept for name in names) <= limit
    if sum(len(name) + 3 for names in lists for name in names) <= limit:
        assert kept == lists


def test_deciding_again_later_changes_nothing() -> None:
    status = decide(EMPTY)
    later = replace(EMPTY, now=NOW + timedelta(days=1), previous=parse_conditions(status["conditions"]))
    assert decide(later) == status


def writes(changes: list[float], until: float) -> list[float]:
    """Play a group whose members change at these times; return when its status is written."""
    written: list[float] = []
    pending, known, time, wake = None, 0, 0.0, sorted(changes)
    while wake and wake[0] <= until:
        time = wake.pop(0)
        if (wait := look_in(pending, time)) > 1e-9:
            wake = sorted({*wake, time + wait})
            continue
        wanted = {"entryCount": sum(change <= time for change in changes)}
        if wanted["entryCount"] == known:
            pending = None
            continue
        pending = coalesce(pending, wanted, time)
        if (wait := due_in(pending, time)) > 1e-9:
            wake = sorted({*wake, time + wait})
        else:
            written.append(time)
            known, pending = wanted["entryCount"], None
    assert known == len(changes), "the last change is written"
    return written


def test_a_single_change_is_written_a_moment_later() -> None:
    assert writes([5.0], 100) == [pytest.approx(5.0 + QUIET)]


def test_a_burst_is_written_when_it_is_over() -> None:
    assert writes([5 + n / 100 for n in range(50)], 100) == [pytest.approx(5.75, abs=0.3)]


def test_lasting_unrest_is_written_every_few_seconds() -> None:
    times = writes([n / 20 for n in range(1, 201)], 100)
    assert len(times) <= 10 / LATEST + 1
    assert all(later - earlier <= LATEST + 2 * QUIET for earlier, later in pairwise([0.0, *times]))


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=60, unique=True))
def test_whenever_members_change_the_last_state_is_written_and_writes_stay_rare(changes: list[float]) -> None:
    times = writes(changes, 1000)
    assert len(times) <= len(changes)
    assert all(later - earlier >= QUIET - 1e-6 for earlier, later in pairwise(times))
    assert times[-1] <= max(changes) + LATEST


def test_a_group_that_fills_up_is_not_written_before_its_members_are_judged_but_not_for_ever() -> None:
    pending = coalesce(None, {"entryCount": 1}, 5.0)
    assert may_fill(pending, 5.0)
    later = changed(pending, 9.0)
    assert look_in(later, 9.0) == pytest.approx(QUIET)
    assert due_in(later, 9.0) <= 0, "once all are judged, it is written as after any other unrest"
    assert may_fill(later, 10.9)
    assert not may_fill(changed(later, 11.1), 11.1)
