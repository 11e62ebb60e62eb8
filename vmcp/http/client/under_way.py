"""Large answers that are under way: bounded together, for each is allowed more than all of them may take.

Bytes count from their arrival until nobody has a use for the answer any more: it is taken apart, passed on and written
first. What holds them is an object that whoever holds the answer keeps beside it, and that gives them back when the
last of these lets go of it, however that ends.

One answer at a time may go on where there is no room left, up to its own limit: the largest that is allowed gets
through, and what is over the bound is one answer.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

import structlog

from vmcp.http.client.errors import NoRoom

log = structlog.get_logger(__name__)

ANSWERS: Final = 32 * 1024 * 1024
"""Bytes of the answers beyond `vmcp.turns.LARGE` that are under way: each is held twice for a moment."""
ANSWERS_EACH: Final = ANSWERS // 2
"""Of these, of one backend."""
_TELL_EVERY: Final = 60.0
"""Seconds between two lines of the log about refused answers of one backend."""


class AnswerBudget:
    """What the answers of all backends may take together."""

    __slots__ = ("each", "left", "lent")

    def __init__(self, total: int = ANSWERS, each: int = ANSWERS_EACH) -> None:
        """Take the most bytes, of all backends and of one."""
        self.left = total
        self.each = each
        self.lent = False  # to one answer that goes on without counting

    def share(self, name: str = "", *, on_refused: Callable[[], None] | None = None) -> AnswerShare:
        """Return the share of a backend.

        Args:
            name: The backend's, for the log.
            on_refused: Called for each of its answers that there was no room for.
        """
        return AnswerShare(self, name, on_refused)


UNDER_WAY: Final = AnswerBudget()
"""The process's."""


class AnswerShare:
    """What the answers of one backend may take.

    Attributes:
        used: Bytes that they take now.
        refused: Answers that there was no room for.
    """

    __slots__ = ("_budget", "_name", "_on_refused", "_told_at", "refused", "used")

    def __init__(self, budget: AnswerBudget, name: str, on_refused: Callable[[], None] | None) -> None:
        self._budget = budget
        self._name = name
        self._on_refused = on_refused
        self._told_at: float | None = None
        self.used = 0
        self.refused = 0

    def hold(self, size: int) -> Held:
        """Return what holds so many bytes of a new answer.

        Raises:
            NoRoom: There is no room for it.
        """
        held = Held(self)
        held.reach(size)
        return held

    def take(self, size: int) -> bool:
        """Take bytes that are to be given back; False = there is no room."""
        budget = self._budget
        if size > budget.left or self.used + size > budget.each:
            return False
        budget.left -= size
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """Give back bytes that were taken."""
        self._budget.left += size
        self.used -= size

    def borrow(self) -> bool:
        """Let one answer go on without counting; False = another one does."""
        if self._budget.lent:
            return False
        self._budget.lent = True
        return True

    def return_(self) -> None:
        """The answer that went on without counting is over."""
        self._budget.lent = False

    def refuse(self) -> NoRoom:
        """Count an answer that there is no room for, and return what to say of it."""
        self.refused += 1
        if self._on_refused is not None:
            self._on_refused()
        now = monotonic()
        if self._told_at is None or now - self._told_at >= _TELL_EVERY:
            self._told_at = now
            log.warning(
                "large answers are refused: too many are under way", backend=self._name, refused_so_far=self.refused
            )
        return NoRoom("there is no room for the answer: too many large answers are under way")


class Held:
    """Bytes of one answer; given back when nobody keeps this any more."""

    __slots__ = ("_borrowed", "_share", "size")

    def __init__(self, share: AnswerShare) -> None:
        self._share = share
        self._borrowed = False
        self.size = 0

    def reach(self, size: int) -> None:
        """Hold so many bytes in all.

        Raises:
            NoRoom: There is no room for them.
        """
        more = size - self.size
        if more <= 0:
            return
        share = self._share
        if not self._borrowed and not share.take(more):
            if not share.borrow():
                raise share.refuse()
            self._borrowed = True
            share.give_back(self.size)
        self.size = size

    def __del__(self) -> None:
        """Give all of it back."""
        if self._borrowed:
            self._share.return_()
        else:
            self._share.give_back(self.size)
