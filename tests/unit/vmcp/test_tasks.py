"""Background tasks and single flights: kept, ended, and never lost without a word. In virtual time."""

from __future__ import annotations

import asyncio
import gc

import pytest
import structlog

from tests.support.virtual_time import now, settle, virtual_time
from vmcp.tasks import PATIENCE, Background, SingleFlight, loop_time


class RefusedError(Exception):
    pass


async def fail(error: BaseException) -> None:
    await asyncio.sleep(1)
    raise error


@virtual_time
async def test_a_task_that_nobody_holds_runs_to_its_end() -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(60)
        done.append(now())

    background = Background("b")
    background.spawn(work(), "work")
    gc.collect()
    await background.join()
    assert done == [60]
    assert len(background) == 0


@virtual_time
async def test_a_background_task_that_fails_is_logged_by_name_and_costs_no_other() -> None:
    background = Background("backend gh")
    with structlog.testing.capture_logs() as lines:
        background.spawn(fail(ValueError("no")), "stream")
        background.spawn(asyncio.sleep(2), "other")
        await background.join()
    assert [(line["event"], line["task"], line["error"]) for line in lines] == [
        ("a task failed", "backend gh: stream", "ValueError")
    ]
    assert now() == 2


@virtual_time
async def test_closing_lets_each_task_say_goodbye() -> None:
    said = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(2)
            said.append(now())

    background = Background("b")
    background.spawn(work(), "work")
    await settle()
    await background.close()
    assert said == [2]


@virtual_time
async def test_a_stubborn_task_is_named_and_left_behind_in_bounded_time() -> None:
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    background = Background("b")
    task = background.spawn(stubborn(), "stubborn")
    await settle()
    with structlog.testing.capture_logs() as lines:
        await background.close()
    assert now() == PATIENCE
    assert [line["task"] for line in lines] == ["b: stubborn"]
    let_go.set()
    await task


@virtual_time
async def test_nothing_begins_after_the_end() -> None:
    begun = []

    async def work() -> None:
        begun.append(1)

    background = Background("b")
    await background.close()
    background.spawn(work(), "late")
    await settle()
    assert begun == []
    assert len(background) == 0


@virtual_time
async def test_a_task_that_closes_its_own_owner_is_not_waited_for() -> None:
    background = Background("b")
    task = background.spawn(background.close(), "the last one")
    await task
    assert now() == 0


@virtual_time
async def test_whoever_asks_for_a_key_meanwhile_gets_the_answer_of_the_one_that_is_under_way() -> None:
    asked = []

    async def ask(key: str) -> str:
        asked.append(key)
        await asyncio.sleep(1)
        return f"{key} at {now()}"

    flight = SingleFlight[str, str]("keys")
    found = await asyncio.gather(*(flight.wait(key, lambda key=key: ask(key)) for key in "aabab"))
    assert found == ["a at 1.0", "a at 1.0", "b at 1.0", "a at 1.0", "b at 1.0"]
    assert asked == ["a", "b"]
    assert await flight.wait("a", lambda: ask("a")) == "a at 2.0", "an old answer is no answer"


@virtual_time
async def test_a_caller_that_gives_up_does_not_end_what_others_wait_for() -> None:
    flight = SingleFlight[None, str]("f")

    async def work() -> str:
        await asyncio.sleep(10)
        return "there"

    patient = asyncio.create_task(flight.wait(None, work))
    hurried = asyncio.create_task(flight.wait(None, work, deadline=loop_time() + 1))
    cancelled = asyncio.create_task(flight.wait(None, work))
    await settle()
    cancelled.cancel()
    with pytest.raises(TimeoutError):
        await hurried
    assert now() == 1
    assert await patient == "there"
    assert flight.get(None) is None


@virtual_time
async def test_everybody_who_waits_gets_the_failure_and_it_is_not_lost_as_well() -> None:
    flight = SingleFlight[None, None]("f")
    with structlog.testing.capture_logs() as lines:
        found = await asyncio.gather(
            *(flight.wait(None, lambda: fail(RefusedError())) for _ in range(3)), return_exceptions=True
        )
    assert [type(error) for error in found] == [RefusedError] * 3
    assert lines == []


@pytest.mark.parametrize(("expected", "logged"), [((), 1), ((RefusedError,), 0)])
def test_a_failure_that_nobody_waits_for_is_logged_unless_it_is_an_answer(expected, logged: int) -> None:
    @virtual_time
    async def main() -> None:
        flight = SingleFlight[None, None]("refresh", expected=expected)
        with structlog.testing.capture_logs() as lines:
            task = flight.start(None, lambda: fail(RefusedError()))
            gone = asyncio.create_task(flight.wait(None, lambda: fail(RefusedError())))
            await settle()
            gone.cancel()
            await asyncio.wait([task])
            await settle()
        assert [line["task"] for line in lines] == ["refresh"] * logged

    main()


@virtual_time
async def test_a_flight_that_ended_is_followed_by_a_new_one_even_before_its_end_was_noticed() -> None:
    flight = SingleFlight[None, int]("f")
    numbers = iter(range(10))

    async def work() -> int:
        return next(numbers)

    first = flight.start(None, work)
    again: list[asyncio.Task[int]] = []
    first.add_done_callback(lambda _: again.append(flight.start(None, work)))
    await first
    await settle()
    assert await again[0] == 1
    assert flight.get(None) is None


@virtual_time
async def test_closing_a_flight_cancels_what_is_under_way() -> None:
    flight = SingleFlight[str, None]("f")
    task = flight.start("a", lambda: asyncio.sleep(3600))
    await flight.close()
    assert task.cancelled()
    assert now() == 0
