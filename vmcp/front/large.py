"""How much may be under way in large requests: each is held several times over until it is answered."""

from __future__ import annotations

from collections import Counter
from typing import Final

ALL: Final = 32 * 1024 * 1024
"""Bytes of the bodies beyond `vmcp.turns.LARGE` whose requests are not answered yet."""
EACH: Final = ALL // 2
"""Of these, of one caller."""


class LargeRequests:
    """Counts the large requests that are under way."""

    def __init__(self, total: int = ALL, each: int = EACH) -> None:
        """Take the most bytes, of all callers together and of one."""
        self._left = total
        self._each = each
        self._by_caller: Counter[str] = Counter()

    def begin(self, caller: str, size: int) -> bool:
        """Count a request that must `end` again; False = it is too much now."""
        if size > self._left or self._by_caller[caller] + size > self._each:
            if not self._by_caller[caller]:
                del self._by_caller[caller]
            return False
        self._left -= size
        self._by_caller[caller] += size
        return True

    def end(self, caller: str, size: int) -> None:
        """A request that was counted is answered."""
        self._left += size
        self._by_caller[caller] -= size
        if self._by_caller[caller] <= 0:
            del self._by_caller[caller]
