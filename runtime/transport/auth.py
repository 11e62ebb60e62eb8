"""Credentials that change while the process runs.

A projected service account token is replaced about every hour, an exec plugin's token when its issuer likes. Whoever
reads them once at start works until then.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Protocol

import structlog

log = structlog.get_logger("runtime.transport")


CREDENTIALS_LIMIT = 75.0
"""Seconds for whatever gives credentials: more than a plugin gets, so that its own words are heard first."""


class Credentials(Protocol):
    """Gives the Authorization header of the next request."""

    async def header(self) -> str | None:
        """Return the header's value, None for no header."""

    async def rejected(self, value: str | None) -> bool:
        """React to a 401.

        Args:
            value: what the refused request carried.

        Returns:
            Whether `header` now gives something else, so that another try makes sense.
        """


class NoCredentials:
    """No header: client certificates, or an open server."""

    async def header(self) -> str | None:
        """Return None."""
        return None

    async def rejected(self, value: str | None) -> bool:  # noqa: ARG002  the protocol's
        """Return False."""
        return False


class TokenFile:
    """A token in a file, read again when the file changed.

    The check is one `stat` per request (about 2 us), so a rotated token is used by the very next request. A projected
    volume swaps a symlink; following it, the inode changes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature: tuple[int, int, int] | None = None
        self._value: str | None = None

    async def header(self) -> str | None:
        """Return the file's token; the last good one while the file is missing or empty."""
        self._refresh()
        return self._value

    async def rejected(self, value: str | None) -> bool:
        """Read the file again, whatever its time stamp says."""
        self._signature = None
        self._refresh()
        return self._value != value

    def _refresh(self) -> None:
        try:
            stat = os.stat(self._path)  # noqa: PTH116  Path.stat costs twice as much, and this runs per request
            signature = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if signature == self._signature:
                return
            token = self._path.read_text().strip()
        except OSError as error:
            log.warning("token file cannot be read", path=str(self._path), error=type(error).__name__)
            return
        if token:
            self._value = f"Bearer {token}"
            self._signature = signature


class LoaderCredentials:
    """What a kubeconfig's exec plugin, OIDC or cloud provider gives, through kubernetes_asyncio's loader.

    The loader knows when its token expires, and does nothing before; it is asked once a minute and after a 401.
    One request runs it, the others wait.
    """

    CHECK_EVERY = 60.0
    """Seconds between two looks at the expiry."""
    MIN_PAUSE = 1.0
    """Seconds between two forced runs: a server that refuses everything must not make us fork for each request."""

    def __init__(self, loader: Any, value: str | None, *, refreshable: bool) -> None:
        self._loader = loader
        self._value = value
        self._refreshable = refreshable
        self._lock = asyncio.Lock()
        self._checked: float | None = None

    async def header(self) -> str | None:
        """Return the current header, refreshed when it is due."""
        if self._refreshable:
            now = asyncio.get_running_loop().time()
            if self._checked is None:
                self._checked = now
            elif now - self._checked > self.CHECK_EVERY and not self._lock.locked():
                await self._load(force=False)
        return self._value

    async def rejected(self, value: str | None) -> bool:
        """Run the plugin again, unless another request already got a new token."""
        if not self._refreshable:
            return False
        async with self._lock:
            now = asyncio.get_running_loop().time()
            due = self._checked is None or now - self._checked > self.MIN_PAUSE
        if self._value == value and due:
            await self._load(force=True)
        return self._value != value

    async def _load(self, *, force: bool) -> None:
        async with self._lock:
            self._checked = asyncio.get_running_loop().time()
            if force and hasattr(self._loader, "exec_plugin_expiry"):
                del self._loader.exec_plugin_expiry
            try:
                async with asyncio.timeout(CREDENTIALS_LIMIT):
                    await self._loader._load_authentication()  # noqa: SLF001  the library's own refresher does the same
            except Exception as error:  # noqa: BLE001  anything a plugin does; its text may hold the token
                log.warning("credentials could not be refreshed", error=type(error).__name__)
                return
            self._value = getattr(self._loader, "token", None)
