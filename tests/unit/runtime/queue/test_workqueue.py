"""What a controller may rely on from its queue."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.queue.ready import Ageing
from runtime.queue.workqueue import LOW_PRIORITY, QueueShutDown, WorkQueue
from tests.support.virtual_time import now, run_virtual, settle, virtual_time


def new_queue(**options) -> WorkQueue[str]:
    return WorkQueue("test", **options)


@virtual_time
async def test_many_adds_before_a_worker_comes_are_one_item():
    queue = new_queue()
    for _ in range(5):
        queue.add("a")
    assert (await queue.get()).item == "a"
    assert len(queue) == 0


@virtual_time
async def test_a_key_in_work_is_not_handed_out_again_and_its_change_is_not_lost():
    queue = new_queue()
    queue.add("a")
    claim = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done(claim.item)
    assert len(queue) == 1
    assert (await queue.get()).item == "a"
    queue.done("a")
    assert len(queue) == 0


@virtual_time
async def test_a_busy_key_does_not_block_the_keys_behind_it():
    queue = new_queue()
    queue.add("a", priority=10)
    await queue.get()
    queue.add("a", priority=10)
    queue.add("b")
    assert (await queue.get()).item == "b"


@virtual_time
async def test_done_without_get_is_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="without get"):
        new_queue().done("a")


@virtual_time
async def test_higher_priority_goes_first_and_equal_priority_in_order_of_arrival():
    queue = new_queue()
    queue.add("low", priority=LOW_PRIORITY)
    queue.add("first")
    queue.add("second")
    queue.add("urgent", priority=7)
    assert [(await queue.get()) for _ in range(4)] == [("urgent", 7), ("first", 0), ("second", 0), ("low", -100)]


@virtual_time
async def test_re_adding_keeps_the_higher_priority_and_moves_to_the_end_of_that_class():
    queue = new_queue()
    queue.add("a", priority=LOW_PRIORITY)
    queue.add("b")
    queue.add("a")
    queue.add("b", priority=LOW_PRIORITY)
    assert [(await queue.get()) for _ in range(2)] == [("b", 0), ("a", 0)]


@virtual_time
async def test_priority_raised_while_in_work_holds_for_the_next_run():
    queue = new_queue()
    queue.add("a", priority=LOW_PRIORITY)
    await queue.get()
    queue.add("a", priority=LOW_PRIORITY)
    queue.add("a", priority=3)
    queue.done("a")
    assert await queue.get() == ("a", 3)


@virtual_time
async def test_delayed_items_come_when_due_and_the_earlier_time_wins():
    queue = new_queue()
    queue.add("a", after=10)
    queue.add("a", after=4)
    queue.add("a", after=7)
    await queue.get()
    assert now() == 4
    queue.done("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await queue.get()  # the later times died with the earlier one


@virtual_time
async def test_an_add_without_delay_overtakes_a_waiting_one():
    queue = new_queue()
    queue.add("a", after=10)
    queue.add("a")
    await queue.get()
    assert now() == 0


@virtual_time
async def test_a_delayed_add_does_not_delay_an_item_that_is_ready():
    queue = new_queue()
    queue.add("a")
    queue.add("a", after=10, priority=5)
    assert await queue.get() == ("a", 5)


@virtual_time
async def test_a_delay_that_ends_during_work_makes_the_item_ready_after_it():
    queue = new_queue()
    queue.add("a")
    await queue.get()
    queue.add("a", after=1)
    await asyncio.sleep(5)
    assert len(queue) == 0
    queue.done("a")
    assert len(queue) == 1


@virtual_time
async def test_backoff_doubles_per_item_up_to_its_cap_and_forget_resets_it():
    queue = new_queue()
    delays = [queue.add_rate_limited("a") for _ in range(20)]
    assert delays[:4] == [0.005, 0.01, 0.02, 0.04]
    assert max(delays) == 1000.0
    assert queue.add_rate_limited("b") == 0.005
    assert queue.failures("a") == 20
    queue.forget("a")
    assert queue.add_rate_limited("a") == 0.005


@virtual_time
async def test_backoff_of_an_item_that_fails_for_ever_does_not_overflow():
    queue = new_queue()
    for _ in range(3000):
        delay = queue.add_rate_limited("a")
    assert delay == 1000.0


@virtual_time
async def test_shutdown_refuses_new_items_forgets_waiting_ones_and_drains_the_rest():
    queue = new_queue()
    queue.add("ready")
    queue.add("waiting", after=1)
    queue.add("busy", priority=9)
    await queue.get()
    queue.add("busy")
    queue.shut_down()
    queue.add("late")
    assert (await queue.get()).item == "ready"
    queue.done("ready")
    queue.done("busy")
    assert (await queue.get()).item == "busy"
    queue.done("busy")
    with pytest.raises(QueueShutDown):
        await queue.get()


@virtual_time
async def test_shutdown_with_discard_leaves_only_the_work_in_progress():
    queue = new_queue()
    queue.add("busy")
    queue.add("ready")
    await queue.get()
    queue.add("busy")
    queue.shut_down(discard=True)
    with pytest.raises(QueueShutDown):
        await queue.get()
    drained = asyncio.create_task(queue.drained())
    await settle()
    assert not drained.done()
    queue.done("busy")
    await drained


@virtual_time
async def test_shutdown_wakes_workers_that_wait():
    queue = new_queue()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.shut_down()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert [type(r) for r in results] == [QueueShutDown] * 3


@virtual_time
async def test_a_cancelled_worker_passes_its_wake_up_on():
    queue = new_queue()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await settle()
    queue.add("a")  # wakes `first`
    first.cancel()
    assert (await second).item == "a"
    assert first.cancelled() or (await asyncio.gather(first, return_exceptions=True))


@virtual_time
async def test_low_priority_is_served_under_endless_high_load_within_its_share():
    queue = new_queue(ageing=Ageing(share=8, patience=1.0))
    low = [f"low{i}" for i in range(5)]
    for item in low:
        queue.add(item, priority=LOW_PRIORITY)
    await asyncio.sleep(1)
    served, picks = [], 0
    while len(served) < len(low):
        picks += 1
        queue.add(f"high{picks}")
        queue.add(f"high{picks}b")
        claim = await queue.get()
        queue.done(claim.item)
        if claim.priority == LOW_PRIORITY:
            served.append((claim.item, picks))
    assert served == [(item, 8 * (i + 1)) for i, item in enumerate(low)]


@virtual_time
async def test_fresh_low_priority_waits_as_long_as_there_is_something_higher():
    queue = new_queue(ageing=Ageing(share=2, patience=1.0))
    queue.add("low", priority=LOW_PRIORITY)
    for i in range(50):
        queue.add(f"high{i}")
    assert [(await queue.get()).priority for _ in range(50)] == [0] * 50


@virtual_time
async def test_a_backlog_of_old_low_items_delays_a_fresh_change_by_at_most_one_pick():
    queue = new_queue()
    for i in range(10_000):
        queue.add(f"low{i}", priority=LOW_PRIORITY)
    await asyncio.sleep(60)
    for _ in range(100):
        queue.add("change")
        picks = [await queue.get()]
        if picks[0].item != "change":
            picks.append(await queue.get())
        assert picks[-1].item == "change"
        for claim in picks:
            queue.done(claim.item)


ITEMS = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), ITEMS, st.sampled_from([-100, 0, 5]), st.sampled_from([0, 0, 0.5, 3])),
        st.tuples(st.just("get")),
        st.tuples(st.just("done"), st.integers(0, 3)),
        st.tuples(st.just("sleep"), st.sampled_from([0.3, 1, 5])),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_item_is_lost_worked_twice_at_once_or_late(steps):
    async def scenario() -> None:
        queue, in_work, owed = new_queue(), [], {}  # owed: item -> latest time at which it must be ready
        for step in steps:
            match step:
                case ("add", item, priority, after):
                    queue.add(item, priority=priority, after=after)
                    owed[item] = min(owed.get(item, now() + after), now() + after)
                case ("get",) if len(queue):
                    claim = await queue.get()
                    assert claim.item not in in_work
                    assert claim.item in owed
                    in_work.append(claim.item)
                    del owed[claim.item]
                case ("done", index) if index < len(in_work):
                    queue.done(in_work.pop(index))
                case ("sleep", seconds):
                    await asyncio.sleep(seconds)
            due = {item for item, at in owed.items() if at <= now()} - set(in_work)
            assert len(queue) == len(due), (step, due)
        for item in in_work:
            queue.done(item)
        await asyncio.sleep(10)
        assert {(await queue.get()).item for _ in range(len(queue))} == set(owed)

    run_virtual(scenario())


@virtual_time
async def test_a_scrape_shows_depth_per_priority_and_the_age_of_the_work():
    from prometheus_client import generate_latest

    from runtime.observe.metrics import REGISTRY

    queue = WorkQueue("scraped")
    queue.add("a")
    queue.add("b", priority=LOW_PRIORITY)
    queue.add("c", priority=LOW_PRIORITY)
    queue.add("d", after=5)
    await queue.get()
    await asyncio.sleep(2)
    text = generate_latest(REGISTRY).decode()
    labels = 'controller="scraped",name="scraped"'
    assert f'workqueue_depth{{{labels},priority="-100"}} 2.0' in text
    assert f"workqueue_unfinished_work_seconds{{{labels}}} 2.0" in text
    assert f"workqueue_longest_running_processor_seconds{{{labels}}} 2.0" in text
    assert f"workqueue_adds_total{{{labels}}} 3.0" in text
    assert f"workqueue_retries_total{{{labels}}} 1.0" in text


@virtual_time
async def test_a_held_item_comes_when_it_is_due_whoever_asks_for_it_before():
    queue = new_queue()
    queue.add("a", after=5, hold=True)
    for after in (0.0, 1.0):
        queue.add("a", priority=10, after=after)
    queue.add("b", after=4)
    assert (await queue.get()).item == "b"
    claim = await queue.get()
    assert (claim.item, claim.priority, now()) == ("a", 10, 5)
    queue.done("a")
    queue.add("a")
    assert len(queue) == 1  # the hold is over


@virtual_time
async def test_what_is_urgent_ends_a_hold():
    queue = new_queue()
    queue.add("a", after=5, hold=True)
    queue.add("a", urgent=True)
    assert ((await queue.get()).item, now()) == ("a", 0)


@virtual_time
async def test_a_change_during_work_is_not_held():
    queue = new_queue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a", after=5, hold=True)
    queue.done("a")
    assert ((await queue.get()).item, now()) == ("a", 0)
