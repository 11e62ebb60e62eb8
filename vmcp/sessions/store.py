"""Where records of sessions are kept: a question that may need IO, and may have no answer.

Nothing here is asked for a request of a session whose life is in this process. The store is asked when a session
begins, when its record changes, when it ends, and for a session that this process does not know.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from vmcp.sessions.record import Change, SessionRecord
from vmcp.sessions.unavailable import CONNECTING, StoreUnavailable

if TYPE_CHECKING:
    from vmcp.sessions.link import RedisLink

__all__ = ["CONNECTING", "Note", "NoteKind", "ProcessStore", "SessionStore", "StoreListener", "StoreUnavailable"]


class NoteKind(enum.StrEnum):
    """What one replica tells the others of a session."""

    CHANGED = "changed"
    """The record that is kept is a newer one."""
    ENDED = "ended"
    """There is no record any more."""
    ANSWER = "answer"
    """The client answered a question that none of its requests here is waiting for; the body is its message."""
    CANCELLED = "cancelled"
    """The client cancelled a request that is not served here; the body is the request's id, raw JSON."""
    NEWS = "news"
    """Something for the session's own stream, which is not open here; the body is the message."""


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From one replica to the others.

    Attributes:
        kind: What happened.
        session: Its id.
        body: See `NoteKind`.
        revision: Of the record that is kept now, with `CHANGED`.
    """

    kind: NoteKind
    session: str
    body: bytes = b""
    revision: int = 0


class StoreListener(Protocol):
    """Hears of the sessions that other replicas serve, too. Must not block."""

    def heard(self, note: Note) -> None:
        """Take a note of another replica."""
        ...

    def missed(self) -> None:
        """Notes may have been lost: look at every session again."""
        ...


class SessionStore(Protocol):
    """Keeps records by the id and the owner of their session. A session of another owner is one that does not exist.

    Every coroutine may raise StoreUnavailable, within a few seconds.

    Attributes:
        shared: Other processes may go on with a session: its life can be given up here without ending it.
        listener: Hears what other replicas tell; None = nobody.
    """

    @property
    def shared(self) -> bool: ...  # noqa: D102  see the class

    listener: StoreListener | None

    @property
    def link(self) -> RedisLink | None:
        """The server that it is at, for what else replicas share; None = there is none."""
        ...

    @property
    def trouble(self) -> str:
        """Why the store does not answer at the moment, in one word; "" = it does, as far as is known."""
        ...

    def start(self) -> None:
        """Begin to listen."""
        ...

    async def open(self, record: SessionRecord) -> None:
        """Keep a record where there is none of its session yet; one that is kept already stays as it is.

        A session that was ended here stays ended.

        The client is told of a session only once this returned.
        """
        ...

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        """Return the record of a session that has not ended; None says nothing about why there is none."""
        ...

    async def save(self, record: SessionRecord, changes: Sequence[Change]) -> SessionRecord | None:
        """Keep changes of a record.

        Args:
            record: With the changes, and with the revision that it had before them.
            changes: Made again to what is kept, where that is of another revision.

        Returns:
            What is kept now; None = the session has ended.
        """
        ...

    async def touch(self, records: Sequence[SessionRecord]) -> list[int | None]:
        """Say that these sessions are in use; return the revision of each that is kept, None = it has ended."""
        ...

    async def retire(self, record: SessionRecord, since: float) -> bool:
        """End a session that was idle here for too long, unless it is in use elsewhere; return whether it has ended.

        Args:
            record: Of the session.
            since: Seconds since this process told the store that it is in use.
        """
        ...

    async def end(self, session_id: str, owner: str, until: float) -> None:
        """Forget a session: from now on nobody finds it, and whoever serves it ends its life.

        Args:
            session_id: Of the session; a store that never had it takes this as well.
            owner: As in its record.
            until: Unix seconds until which `open` does nothing for it: the end of its longest life.
        """
        ...

    async def tell(self, note: Note) -> None:
        """Tell the other replicas something."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class ProcessStore:
    """The store of a gateway with one replica: a session exists as long as its life, which this process has."""

    shared = False

    def __init__(self) -> None:
        self.listener: StoreListener | None = None

    @property
    def link(self) -> RedisLink | None:
        """See `SessionStore`."""
        return None

    @property
    def trouble(self) -> str:
        """See `SessionStore`."""
        return ""

    def start(self) -> None:
        """See `SessionStore`."""

    async def open(self, record: SessionRecord) -> None:
        """See `SessionStore`."""

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:  # noqa: ARG002
        """See `SessionStore`. Whoever asks has looked among the lives already."""
        return None

    async def save(self, record: SessionRecord, changes: Sequence[Change]) -> SessionRecord | None:  # noqa: ARG002
        """See `SessionStore`."""
        return record

    async def touch(self, records: Sequence[SessionRecord]) -> list[int | None]:
        """See `SessionStore`."""
        return [record.revision for record in records]

    async def retire(self, record: SessionRecord, since: float) -> bool:  # noqa: ARG002
        """See `SessionStore`."""
        return True

    async def end(self, session_id: str, owner: str, until: float) -> None:
        """See `SessionStore`."""

    async def tell(self, note: Note) -> None:
        """See `SessionStore`."""

    async def close(self) -> None:
        """See `SessionStore`."""
