"""Groups of runnables: started together, stopped within a deadline, and no failure goes unnoticed."""

from __future__ import annotations

import asyncio
import gc

import pytest

from runtime.control.controller import SourceNotSyncedError
from runtime.election.elector import LeaseLostError
from runtime.manager.faults import explain
from runtime.manager.groups import Group, GroupStoppedError, RunnableError, RunnableGroup
from runtime.manager.heap import FrozenHeap
from runtime.wire.errors import ForbiddenError
from tests.support.virtual_time import now, settle, virtual_time


class Member:
    def __init__(
        self, name: str, *, ready: float = 0, drain: float = 0, fails: float | None = None, ends=False
    ) -> None:
        self.name, self.ready_after, self.drain, self.fails, self.ends = name, ready, drain, fails, ends
        self.events: list[tuple[str, float]] = []

    async def run(self, started, stop) -> None:
        self.events.append(("run", now()))
        try:
            await asyncio.sleep(self.ready_after)
            if self.fails is not None:
                await asyncio.sleep(self.fails)
                raise OSError("disk full")
            started()
            if self.ends:
                return
            await stop.wait()
            await asyncio.sleep(self.drain)
        except asyncio.CancelledError:
            self.events.append(("cancelled", now()))
            raise
        self.events.append(("ended", now()))


def group_of(*members: Member) -> tuple[RunnableGroup, list[RunnableError]]:
    errors: list[RunnableError] = []
    group = RunnableGroup(Group.OTHERS, errors.append)
    for member in members:
        group.add(member)
    return group, errors


@virtual_time
async def test_start_returns_when_the_slowest_member_is_ready():
    group, errors = group_of(Member("a", ready=1), Member("b", ready=5), Member("c", ends=True))
    await group.start()
    assert now() == 5
    assert await group.stop(None) == []
    assert errors == []


@virtual_time
async def test_a_member_that_fails_before_it_is_ready_does_not_block_the_start():
    group, errors = group_of(Member("bad", fails=2), Member("good"))
    await group.start()
    assert now() == 2
    assert [str(error) for error in errors] == ["bad: disk full"]
    await group.stop(None)


@virtual_time
async def test_members_added_later_start_at_once_and_none_after_the_stop():
    group, _ = group_of()
    await group.start()
    late = Member("late")
    group.add(late)
    await settle()
    assert late.events == [("run", 0)]
    await group.stop(None)
    with pytest.raises(GroupStoppedError, match="too-late: the others group has stopped"):
        group.add(Member("too-late"))


@virtual_time
async def test_stop_waits_for_the_drain_up_to_the_deadline_and_names_who_was_cut():
    quick, slow = Member("quick", drain=2), Member("slow", drain=60)
    group, errors = group_of(quick, slow)
    await group.start()
    assert await group.stop(10) == ["slow"]
    assert now() == 10
    assert quick.events[-1] == ("ended", 2)
    assert slow.events[-1] == ("cancelled", 10)
    assert errors == []


@virtual_time
async def test_stop_does_not_wait_for_ever_for_a_member_that_ignores_cancellation():
    class Stubborn(Member):
        async def run(self, started, stop) -> None:
            started()
            while now() < 100:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    continue

    group, _ = group_of(Stubborn("stubborn"))
    await group.start()
    assert await group.stop(5) == ["stubborn"]
    assert now() == 6


@virtual_time
async def test_an_error_while_stopping_is_reported():
    class Messy(Member):
        async def run(self, started, stop) -> None:
            started()
            await stop.wait()
            raise OSError("cannot flush")

    group, errors = group_of(Messy("messy"))
    await group.start()
    await group.stop(None)
    assert [str(error) for error in errors] == ["messy: cannot flush"]


@virtual_time
async def test_a_group_that_never_started_stops_without_running_anything():
    member = Member("a")
    group, _ = group_of(member)
    assert await group.stop(None) == []
    await group.start()
    assert member.events == []


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (LeaseLostError("the lease was not renewed for 10 s"), "the lease was not renewed for 10 s"),
        (
            RunnableError("mcpgroup", SourceNotSyncedError("no initial list\n of x")),
            "mcpgroup: no initial list of x",
        ),
        (ForbiddenError(403, "Forbidden", "may not list"), "403 Forbidden: may not list"),
        (
            ExceptionGroup("both", [RunnableError("a", LeaseLostError("x")), LeaseLostError("y")]),
            "a: x; y",
        ),
        (KeyError("bug"), None),
        (RunnableError("a", KeyError("bug")), None),
        (ExceptionGroup("mixed", [LeaseLostError("x"), KeyError("bug")]), None),
    ],
)
def test_failures_that_users_can_mend_are_one_line_and_bugs_are_not_hidden(error, sentence):
    assert explain(error) == sentence


@virtual_time
async def test_a_frozen_heap_is_out_of_the_collectors_sight_until_the_stop():
    group = RunnableGroup(Group.OTHERS, lambda error: None)
    group.add(FrozenHeap())
    before, collections = gc.get_freeze_count(), gc.get_stats()[2]["collections"]
    await group.start()
    assert gc.get_freeze_count() > before + 10_000
    assert gc.get_stats()[2]["collections"] == collections, "a start does not look through the whole program"
    await group.stop(None)
    assert gc.get_freeze_count() == 0
