"""One life of a legacy session, from a handshake until the backend forgets it, and how lives follow each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from vmcp.backend.answers import SessionLost
from vmcp.backend.backoff import RetryBackoff
from vmcp.backend.errors import BackendError, BackendProtocolError, BackendTimeout, BackendUnavailable
from vmcp.backend.handshake import VersionRefused, initialize_params, read_initialize
from vmcp.backend.interface import Call, SessionSpec
from vmcp.backend.legacy.inbox import ActiveCall
from vmcp.backend.legacy.sse import SseChannel
from vmcp.backend.legacy.streamable import StreamableChannel
from vmcp.backend.model import Handshake
from vmcp.wire import jsonrpc
from vmcp.wire.protocol import INITIALIZE, INITIALIZED, LATEST_LEGACY, LEGACY_VERSIONS

log = structlog.get_logger(__name__)

INITIALIZED_TIMEOUT = 5.0
"""Seconds for `notifications/initialized`, which needs no answer."""

REFUSAL = 5.0
"""Seconds for which calls fail at once, at most."""

SOUND_LIFE = 10.0
"""Seconds after which the end of a session is no longer taken for the backend's habit."""


@dataclass(slots=True, eq=False)
class Link:
    """One life of a session.

    Attributes:
        channel: Its transport.
        handshake: What the server said.
        opened_at: Loop time.
        stream: Keeps the GET stream; None = there is none.
        level: The log level that the server was told; None = none.
        deaf: The server does not take a log level: it is not asked again.
        lost: The server does not know it any more.
        answered: The server answered something in it.
        errors: Answers in a row that were errors.
        taken_up: Another process opened it, and may still use it.
    """

    channel: StreamableChannel | SseChannel
    handshake: Handshake
    opened_at: float
    stream: asyncio.Task[None] | None = None
    level: str | None = None
    deaf: bool = False
    lost: bool = False
    answered: bool = False
    errors: int = 0
    taken_up: bool = False

    @property
    def has_id(self) -> bool:
        """Whether the server gave the session an id, which it may forget."""
        return isinstance(self.channel, StreamableChannel) and self.channel.session_id is not None


class Lives:
    """Spaces out handshakes that end the same way.

    The first loss is answered with a new handshake at once. From the second in a row on there is a wait that grows.
    """

    def __init__(self, backoff: RetryBackoff) -> None:
        self._backoff = backoff
        self._short = 0
        self._useless = 0
        self._next_at = 0.0
        self._open_at = 0.0

    def ended(self, link: Link, now: float) -> None:
        """A life is over; `now` is loop time."""
        self._useless = 0 if link.answered else self._useless + 1
        if link.answered and now - link.opened_at >= SOUND_LIFE:
            self._short = 0
            self._backoff.reset()
        else:
            self._short += 1
        wait = self._backoff.next() if self._short > 1 else 0.0
        self._next_at = now + wait
        self._open_at = now + min(wait, REFUSAL) if self._useless > 1 else 0.0

    def wait(self, now: float) -> float:
        """Return the seconds that a handshake should wait for which no call waits."""
        return max(0.0, self._next_at - now)

    def refuses(self, now: float) -> float:
        """Return the seconds for which calls fail at once, because sessions end before they answer anything."""
        return max(0.0, self._open_at - now)


async def shake_hands(
    backend: str, channel: StreamableChannel | SseChannel, spec: SessionSpec, next_id: Callable[[], int]
) -> Handshake:
    """Open a session; a version that the server refuses is negotiated. Closes the channel when it fails.

    Raises:
        WrongEra: The server is modern.
        BackendError: There is no session.
    """
    deadline = asyncio.get_running_loop().time() + spec.timeout
    version = LATEST_LEGACY
    try:
        for _ in LEGACY_VERSIONS:
            id_ = next_id()
            params = initialize_params(spec.client_capabilities, spec.client_info, version)
            active = ActiveCall(Call(method=INITIALIZE), None, deadline)
            message, status = await channel.exchange(
                jsonrpc.request(id_, INITIALIZE, params), id_, active, idempotent=True
            )
            try:
                handshake = read_initialize(backend, message, status, version)
            except VersionRefused as refusal:
                version = refusal.version
                continue
            channel.established(handshake.version)
            await _say_initialized(backend, channel)
            return handshake
        raise BackendProtocolError(backend, "refused every protocol version that it offered")
    except SessionLost:
        await channel.close()
        raise BackendUnavailable(backend, "lost the session while opening it") from None
    except BackendTimeout as err:
        await channel.close()
        reason = f"no session was opened within {spec.timeout:g} s: {err.reason}"
        raise BackendTimeout(backend, reason, sent=False) from err
    except BaseException:
        await channel.close()
        raise


async def _say_initialized(backend: str, channel: StreamableChannel | SseChannel) -> None:
    """Nothing depends on what the server says to it: whether the session works is what its first request shows."""
    try:
        async with asyncio.timeout(INITIALIZED_TIMEOUT):
            await channel.post(jsonrpc.notification(INITIALIZED))
    except (BackendError, TimeoutError) as err:
        log.info("a backend did not accept notifications/initialized", backend=backend, reason=str(err))
