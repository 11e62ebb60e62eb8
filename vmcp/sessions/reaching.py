"""How connections to the shared server begin: who we are, and whom we trust.

Files are read for every new connection: a Secret that is mounted as a volume may change while the process runs.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio import Connection
from redis.credentials import CredentialProvider

from api.contract.secrets import secret_text
from vmcp.sessions.settings import RedisSettings, RedisTls


class FileCredentials(CredentialProvider):
    """Reads the password anew each time."""

    def __init__(self, settings: RedisSettings) -> None:
        """Take the settings, which name a file."""
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the password, after the name where there is one.

        Raises:
            OSError: The file cannot be read.
        """
        settings = self._settings
        password = secret_text(Path(settings.password_file).read_text(encoding="utf-8", errors="surrogateescape"))
        return (settings.username, password) if settings.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """See `get_credentials`. The file is small, and in memory (tmpfs) where a Secret is mounted."""
        return self.get_credentials()


class TlsConnection(Connection):
    """A connection over TLS.

    The client library's own class keeps a context for as long as a connection lives, and trusts the system's
    authorities besides the given ones.
    """

    def __init__(self, *, tls: RedisTls, **options: Any) -> None:
        """Take what is trusted and shown, and the options of a plain connection."""
        self._tls = tls
        super().__init__(**options)

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": tls_context(self._tls)}


def tls_context(tls: RedisTls) -> ssl.SSLContext:
    """Return what a handshake needs, as the files are now; host names are checked.

    Raises:
        OSError: A file cannot be read, or holds something else (`ssl.SSLError` is one).
    """
    context = ssl.create_default_context(cafile=tls.ca_file or None)
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
    return context


def connection_options(settings: RedisSettings) -> dict[str, Any]:
    """Return what a pool needs to know for connections to the server."""
    options: dict[str, Any] = {"host": settings.host, "port": settings.port, "db": settings.db}
    if settings.password_file:
        options["credential_provider"] = FileCredentials(settings)
    elif settings.password:
        options |= {"username": settings.username or None, "password": settings.password}
    if settings.tls is not None:
        options |= {"connection_class": TlsConnection, "tls": settings.tls}
    return options
