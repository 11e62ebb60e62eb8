"""Where records of sessions are kept: a question that may need IO, and may have no answer.

Nothing here is asked for a request of a session whose life is in this process. The store is asked when a session
begins, when its record changes, when it ends, and for a session that this process does not know.
"""

from __future__ import annotations

from typing import Protocol

from vmcp.sessions.record import SessionRecord


class StoreUnavailable(Exception):  # noqa: N818  what it is, not what went wrong
    """The store did not answer in time, or not at all: what was asked may or may not have been done.

    Attributes:
        retry_after: Seconds after which asking again may help.
    """

    def __init__(self, reason: str, *, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class SessionStore(Protocol):
    """Keeps records by the id and the owner of their session. A session of another owner is one that does not exist.

    Every method may raise StoreUnavailable, within a few seconds.
    """

    async def open(self, record: SessionRecord) -> None:
        """Keep the record of a session that begins. The client is told of a session only once this returned."""
        ...

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        """Return the record of a session that has not ended; None says nothing about why there is none."""
        ...

    async def save(self, record: SessionRecord) -> None:
        """Keep a record in the place of the one that has its id. One that was ended meanwhile stays ended."""
        ...

    async def end(self, record: SessionRecord) -> None:
        """Forget a session: from now on nobody finds it."""
        ...


class ProcessStore:
    """The store of a gateway with one replica: a session exists as long as its life, which this process has."""

    async def open(self, record: SessionRecord) -> None:
        """See `SessionStore`."""

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:  # noqa: ARG002
        """See `SessionStore`. Whoever asks has looked among the lives already."""
        return None

    async def save(self, record: SessionRecord) -> None:
        """See `SessionStore`."""

    async def end(self, record: SessionRecord) -> None:
        """See `SessionStore`."""
