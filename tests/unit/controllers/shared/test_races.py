"""Lost races are tried again soon, a deletion ends a reconcile, and whatever else went wrong is an error."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.shared.races import FIRST, LONGEST, ROW, Composed
from controllers.shared.resources import ENTRY
from runtime import AlreadyExistsError, ConflictError, ForbiddenError, Key, NotFoundError, Result

E, F = Key("ns", "e"), Key("ns", "f")
CONFLICT = ConflictError(409, "Conflict", "the object has been modified")
MISSING = NotFoundError(404, "NotFound", "not found")


class Scripted:
    """A reconciler that does what it is told, and the manager of a server where an object may be gone."""

    def __init__(self, *outcomes: Exception | Result | None, gone: bool = False, deleting: bool = False) -> None:
        self.outcomes = list(outcomes)
        self.client = self
        self.gone, self.meta = gone, type("Meta", (), {"deleting": deleting})
        self.asked = 0

    async def reconcile(self, request: Key) -> Result | None:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def get_live(self, *_: Any) -> Any:
        self.asked += 1
        if self.gone:
            raise MISSING
        return self


def composed(script: Scripted) -> Composed:
    return Composed(script, script, ENTRY)  # type: ignore[arg-type]


async def delays(reconciler: Composed, times: int, key: Key = E) -> list[float]:
    found = []
    for _ in range(times):
        result = await reconciler.reconcile(key)
        assert result is not None
        assert result.requeue_after is not None
        found.append(result.requeue_after)
    return found


async def test_a_fight_of_any_length_is_tried_again_within_a_second() -> None:
    waited = await delays(composed(Scripted(*[CONFLICT] * 200)), 200)
    assert waited[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert waited == sorted(waited)
    assert waited[-1] == LONGEST


async def test_a_won_race_makes_the_next_one_fast_again_and_objects_do_not_share_their_luck() -> None:
    reconciler = composed(Scripted(CONFLICT, CONFLICT, None, CONFLICT, CONFLICT))
    await delays(reconciler, 2)
    assert await reconciler.reconcile(E) is None
    assert await delays(reconciler, 1) == [FIRST]
    assert await delays(reconciler, 1, F) == [FIRST]


async def test_a_reconcile_that_only_waits_has_not_won() -> None:
    reconciler = composed(Scripted(CONFLICT, Result(requeue_after=1.0), CONFLICT))
    assert await delays(reconciler, 3) == [FIRST, 1.0, 2 * FIRST]


async def test_conflicts_that_lie_far_apart_are_no_fight() -> None:
    now = 0.0
    script = Scripted(CONFLICT, Result(requeue_after=60.0), CONFLICT)
    reconciler = Composed(script, script, ENTRY, clock=lambda: now)  # type: ignore[arg-type]
    await delays(reconciler, 2)
    now += ROW
    assert await delays(reconciler, 1) == [FIRST]


async def test_the_wish_of_a_reconcile_that_went_well_stays() -> None:
    assert await composed(Scripted(Result(requeue_after=7.0))).reconcile(E) == Result(requeue_after=7.0)


@pytest.mark.parametrize("how", [{"gone": True}, {"deleting": True}])
async def test_an_object_that_went_in_between_ends_the_reconcile(how: dict[str, bool]) -> None:
    script = Scripted(MISSING, **how)
    assert await composed(script).reconcile(E) is None
    assert script.asked == 1


async def test_something_else_that_is_missing_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        await composed(Scripted(MISSING)).reconcile(E)


@pytest.mark.parametrize("error", [ForbiddenError(403, "", ""), AlreadyExistsError(409, "", ""), ValueError()])
async def test_other_errors_are_left_to_the_runtime(error: Exception) -> None:
    with pytest.raises(type(error)):
        await composed(Scripted(error)).reconcile(E)
