"""Whether a server still knows a session.

Some servers forget a session without a word that we know. So when answers in a session are doubtful, it is asked for a
sign of life (`ping`); when it gives none although a new handshake succeeds, the new session takes its place. Nothing is
sent twice on a doubt: the call that raised it keeps its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from vmcp.backend.answers import SessionLost, is_doubtful
from vmcp.backend.backoff import RetryBackoff
from vmcp.backend.errors import BackendError, BackendTimeout
from vmcp.backend.interface import Call, Reply
from vmcp.backend.legacy.link import Link
from vmcp.http.client import LATER
from vmcp.tasks import SingleFlight, loop_time
from vmcp.wire.protocol import METHOD_NOT_FOUND, PING

VERIFY_TIMEOUT = 3.0
"""Seconds for a sign of life."""

ERRORS_IN_A_ROW = 3
"""After as many errors and no result, a session is asked for a sign of life."""

RARELY = 60.0
"""Seconds between two signs of life of a session that gives them, at most; the first follow each other sooner."""


class Doubts:
    """What casts doubt on a session, and what becomes of it."""

    def __init__(
        self,
        backend: str,
        *,
        own: bool,
        ping: Callable[[Link, float], Awaitable[Reply]],
        forget: Callable[[Link], None],
        replace: Callable[[Link], Awaitable[bool | None]],
    ) -> None:
        """Start without a doubt.

        Args:
            backend: Its name.
            own: The session is the gateway's own, which holds no client's state.
            ping: Asks for a sign of life until a deadline (loop time).
            forget: Takes note that the server does not know the session.
            replace: Puts a new session in its place, where one can be had; returns what `is_alive` does.
        """
        self._own = own
        self._ping = ping
        self._forget = forget
        self._replace = replace
        self._verifying = SingleFlight[None, bool | None](f"{backend}: sign of life", expected=(BackendError,))
        self._trusted_until = 0.0
        self._trust = RetryBackoff(limit=RARELY)
        self._closed = False

    def failed(self, link: Link, err: BackendError) -> None:
        """A request had no answer; see whether that says something about the session."""
        if self._casts_doubt(err):
            self._doubt(link)

    def refused(self, link: Link, call: Call, reply: Reply) -> None:
        """An error came; see whether it says something about the session."""
        assert reply.error is not None
        if reply.error.code == METHOD_NOT_FOUND:
            return
        link.errors += 1
        if link.errors >= ERRORS_IN_A_ROW or call.method == PING or is_doubtful(reply.error, reply.status):
            self._doubt(link)

    def _casts_doubt(self, err: BackendError) -> bool:
        """Tell whether a failure may mean that the server does not know the session.

        Silence may, too. But a session that is busy is silent as well, and holds a client's state; the gateway's own
        holds none.
        """
        if isinstance(err, BackendTimeout):
            return self._own
        return err.sent and err.status not in LATER

    def _doubt(self, link: Link) -> None:
        """Look, in the background and not all the time, whether the server still knows the session."""
        if link.lost or not link.has_id or self._closed or self._verifying.get(None) is not None:
            return
        now = loop_time()
        if now >= self._trusted_until:
            self._trusted_until = now + self._trust.next()
            self._verifying.start(None, lambda: self._verify(link))

    async def is_alive(self, link: Link) -> bool | None:
        """Return whether the server knows the session; None when that cannot be said now."""
        if link.lost or not link.has_id:
            return not link.lost
        return await self._verifying.wait(None, lambda: self._verify(link))

    @property
    def asking(self) -> bool:
        """Whether the server is being asked."""
        return self._verifying.get(None) is not None

    async def settled(self, patience: float) -> None:
        """Wait while the server is asked, so many seconds at most."""
        verifying = self._verifying.get(None)
        if verifying is not None and verifying is not asyncio.current_task():
            await asyncio.wait((verifying,), timeout=patience)

    async def _verify(self, link: Link) -> bool | None:
        """Ask for a sign of life, and replace a session that gives none although a new one can be had."""
        try:
            reply = await self._ping(link, loop_time() + VERIFY_TIMEOUT)
        except SessionLost:
            self._forget(link)
            return False
        except BackendError as err:
            if not self._casts_doubt(err):
                return None
        else:
            if reply.error is None or reply.error.code == METHOD_NOT_FOUND:
                link.errors = 0
                return True
        return await self._replace(link)

    def reset(self) -> None:
        """Another session: the next doubt is looked into soon."""
        self._trust.reset()

    async def close(self) -> None:
        """Have no more doubts, and end looking into one."""
        self._closed = True
        await self._verifying.close()
