"""That the store of sessions cannot be asked: what its connection raises, and what every store may raise."""

from __future__ import annotations

from typing import Final

CONNECTING: Final = "connecting"
"""`SessionStore.trouble` of a store that has not been asked anything yet."""


class StoreUnavailable(Exception):  # noqa: N818  what it is, not what went wrong
    """The store did not answer in time, or not at all: what was asked may or may not have been done.

    Attributes:
        retry_after: Seconds after which asking again may help.
    """

    def __init__(self, reason: str, *, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
