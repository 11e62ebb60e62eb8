"""How the store of sessions is reached."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """A Redis or Valkey server that keeps sessions.

    Attributes:
        host: Name or address.
        port: TCP port.
        db: Number of the database.
        prefix: Put before every key and channel.
        password: "" = none.
    """

    host: str
    port: int
    db: int = 0
    prefix: str
    password: str = field(default="", repr=False)
