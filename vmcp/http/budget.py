"""Memory that many connections, streams or requests share: bounded together, not each by itself."""

from __future__ import annotations


class MemoryBudget:
    """Bytes that several may use together. Whoever takes some gives them back.

    Attributes:
        left: Bytes that are not used yet; below 0 somebody has to use less.
    """

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size
