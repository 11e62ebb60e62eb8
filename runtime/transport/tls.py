"""TLS contexts that follow their files: certificates are rotated under a running process."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import structlog

from runtime.util.x509 import verify_flags

log = structlog.get_logger("runtime.transport")


@dataclass(frozen=True)
class TlsFiles:
    """What a TLS context is made of."""

    ca_file: str | None = None
    """PEM bundle; None for the system's trust store."""
    cert_file: str | None = None
    """PEM client certificate."""
    key_file: str | None = None
    """PEM key of it."""
    server_name: str | None = None
    """Name to verify instead of the URL's host."""
    verify: bool = True
    """False accepts any certificate: `insecure-skip-tls-verify`."""


class ReloadingContext:
    """Hands out the current SSL context, a new one after a file changed.

    Connections that are open keep the certificates they started with; new ones get the new. While a rotation is half
    done (a certificate without its key) the last good context stays.
    """

    CHECK_EVERY = 5.0
    """Seconds between two looks at the files."""

    def __init__(self, files: TlsFiles, check_every: float = CHECK_EVERY) -> None:
        self._files = files
        self._check_every = check_every
        self._checked = float("-inf")
        self._signature: tuple[object, ...] = ()
        self._context: ssl.SSLContext | None = None

    def current(self, now: float) -> ssl.SSLContext:
        """Return the context to use for a request that starts at loop time `now`.

        Raises:
            OSError, ssl.SSLError: the files cannot be used, and no earlier context exists.
        """
        if self._context is None or now - self._checked >= self._check_every:
            self._checked = now
            self._reload()
        assert self._context is not None
        return self._context

    def invalidate(self) -> None:
        """Look at the files before the next connection: a handshake has failed."""
        self._checked = float("-inf")

    def _reload(self) -> None:
        try:
            signature = tuple(
                _stat(path) for path in (self._files.ca_file, self._files.cert_file, self._files.key_file)
            )
            if self._context is not None and signature == self._signature:
                return
            self._context = _build(self._files)
            self._signature = signature
        except (OSError, ssl.SSLError) as error:
            if self._context is None:
                raise
            log.warning("new TLS files cannot be used, keeping the old ones", error=str(error))


def _stat(path: str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    stat = os.stat(path)  # noqa: PTH116  three of these per check, next to a hot path
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _build(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags = verify_flags(context.verify_flags)
    if files.cert_file:
        context.load_cert_chain(files.cert_file, files.key_file)
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
