"""A deletion under the hands of a reconcile ends it; whatever else went wrong is left to the runtime."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.shared.races import TolerantReconciler
from controllers.shared.resources import ENTRY
from controllers.shared.skew import InstalledSchema
from runtime import AlreadyExistsError, ConflictError, ForbiddenError, Key, NotFoundError, Result

E = Key("ns", "e")
MISSING = NotFoundError(404, "NotFound", "not found")


class Scripted:
    """A reconciler that does what it is told, and the manager of a server where an object may be gone."""

    def __init__(self, outcome: Exception | Result | None, *, gone: bool = False, deleting: bool = False) -> None:
        self.outcome = outcome
        self.client = self
        self.gone, self.meta = gone, type("Meta", (), {"deleting": deleting})
        self.asked = 0

    async def reconcile(self, request: Key) -> Result | None:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def get_live(self, *_: Any) -> Any:
        self.asked += 1
        if self.gone:
            raise MISSING
        return self


class Repairs:
    """Of statuses: one waits for so many seconds, if any."""

    def __init__(self, wait: float | None) -> None:
        self.wait = wait

    def due_in(self, key: Key) -> float | None:
        assert key == E
        return self.wait


def composed(script: Scripted, *, wait: float | None = None) -> TolerantReconciler:
    return TolerantReconciler(script, script, ENTRY, InstalledSchema(ENTRY), Repairs(wait))  # type: ignore[arg-type]


@pytest.mark.parametrize("result", [None, Result(requeue_after=7.0), Result(7.0, hold=True), Result(7.0, 2, hold=True)])
async def test_the_wish_of_a_reconcile_that_went_well_stays(result: Result | None) -> None:
    script = Scripted(result, gone=True)
    assert await composed(script).reconcile(E) == result
    assert script.asked == 0


@pytest.mark.parametrize(
    ("result", "wait", "then"),
    [
        (None, 3.0, Result(3.0)),
        (Result(7.0, 2), 3.0, Result(3.0, 2)),
        (Result(1.0), 3.0, Result(1.0)),
        (Result(7.0, hold=True), 3.0, Result(3.0, hold=True)),
    ],
)
async def test_an_object_whose_status_waits_for_its_repair_is_looked_at_again(
    result: Result | None, wait: float, then: Result
) -> None:
    assert await composed(Scripted(result), wait=wait).reconcile(E) == then


@pytest.mark.parametrize("how", [{"gone": True}, {"deleting": True}])
async def test_an_object_that_went_in_between_ends_the_reconcile(how: dict[str, bool]) -> None:
    script = Scripted(MISSING, **how)
    assert await composed(script).reconcile(E) is None
    assert script.asked == 1


async def test_something_else_that_is_missing_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        await composed(Scripted(MISSING)).reconcile(E)


@pytest.mark.parametrize(
    "error", [ConflictError(409, "", ""), ForbiddenError(403, "", ""), AlreadyExistsError(409, "", ""), ValueError()]
)
async def test_other_errors_are_left_to_the_runtime(error: Exception) -> None:
    with pytest.raises(type(error)):
        await composed(Scripted(error, gone=True)).reconcile(E)
