"""Memory that many connections, streams or requests share: bounded together, not each by itself."""

from __future__ import annotations

from collections import Counter


class MemoryBudget:
    """Bytes that several may use together. Whoever takes some gives them back.

    Attributes:
        left: Bytes that are not used yet; below 0 somebody has to use less.
    """

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size


class FairBudget:
    """Bytes that several callers may use together, and each of them not more than its part."""

    __slots__ = ("_each", "_left", "_used")

    def __init__(self, total: int, each: int) -> None:
        """Take the most bytes, of all callers together and of one."""
        self._left = total
        self._each = each
        self._used: Counter[str] = Counter()

    def take(self, caller: str, size: int) -> bool:
        """Take bytes that the caller must `give_back`; False = none were taken, it is too much now."""
        if size > self._left or self._used[caller] + size > self._each:
            return False
        self._left -= size
        self._used[caller] += size
        return True

    def give_back(self, caller: str, size: int) -> None:
        """Give back bytes that were taken."""
        self._left += size
        self._used[caller] -= size
        if self._used[caller] <= 0:
            del self._used[caller]
