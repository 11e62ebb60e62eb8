"""Limits and addresses of the listener."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSettings:
    """What the front refuses and how long it waits.

    Attributes:
        version: Of this program, for `serverInfo` and `/status`.
        max_body: Bytes of a request's body; more is 413.
        max_depth: Levels of nesting in a request's JSON; more is refused.
        max_batch: Messages in one batch (protocol 2025-03-26 only).
        session_ttl: Seconds without a request after which a legacy session ends.
        session_life: Seconds after which any legacy session ends.
        max_sessions: Legacy sessions.
        max_sessions_each: Of one caller; does not count where nobody authenticates: callers look alike there.
        max_inflight: Requests of one legacy session that are served at the same time.
        max_listens: Open listen streams of modern clients.
        max_listens_each: Of one caller, as above.
        max_subscriptions: Resources that one legacy session is subscribed to.
        max_declared: Bytes of a client's capabilities, and of its `clientInfo`: both are kept.
        spare_seconds: Idle seconds below which no session in use has to go for a new one; the new one is refused.
        keep_alive: Seconds of silence after which a waiting client gets a sign of life.
        ask_timeout: Seconds that a client has to answer a question of a backend.
        loopback_only: The listener is on a loopback address: only loopback names are accepted in Host and Origin.
        allowed_origins: Origins that are accepted although they are not the gateway's own; their pages read answers.
        separate_anonymous: Each request of an anonymous modern client has sessions with backends of its own.
        ready_wait: Seconds after the start that readiness waits for backends that were never heard, and for the store
            of sessions.
        service_apart: `/status`, `/metrics` and `/api/backends/health` are served on a port of their own only.
    """

    version: str = "0"
    max_body: int = 4 * 1024 * 1024
    max_depth: int = 100
    max_batch: int = 50
    session_ttl: float = 1800.0
    session_life: float = 86400.0
    max_sessions: int = 10_000
    max_sessions_each: int = 2_500
    max_inflight: int = 256
    max_listens: int = 4096
    max_listens_each: int = 1024
    max_subscriptions: int = 256
    max_declared: int = 16 * 1024
    spare_seconds: float = 60.0
    keep_alive: float = 15.0
    ask_timeout: float = 600.0
    loopback_only: bool = False
    allowed_origins: frozenset[str] = field(default_factory=frozenset)
    separate_anonymous: bool = False
    ready_wait: float = 5.0
    service_apart: bool = False
