"""How the store of sessions is reached."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTls:
    """TLS towards the server. Files are read for every new connection, so that others may take their place.

    Attributes:
        ca_file: PEM of the authorities that are trusted, and no others; "" = those of the system.
        cert_file: PEM of our certificate, and of its key unless `key_file` names that; "" = none is shown.
        key_file: See `cert_file`.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """A Redis or Valkey server that keeps sessions.

    Attributes:
        host: Name or address.
        port: TCP port.
        db: Number of the database.
        prefix: Put before every key and channel.
        username: Of an ACL user; "" = the default one.
        password: "" = none.
        password_file: Holds the password instead, and is read for every new connection; "" = none.
        tls: None = without.
    """

    host: str
    port: int
    db: int = 0
    prefix: str
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    tls: RedisTls | None = None
