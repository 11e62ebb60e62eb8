"""One configured backend: a remote server, sessions with it, and what keeps its catalogue true in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from vmcp.auth.interface import BackendAuth, Principal
from vmcp.backend.interface import BackendSession, Catalogue, SessionSpec
from vmcp.backend.monitor import Monitor
from vmcp.backend.personal import PersonalCatalogues
from vmcp.backend.remote import Remote
from vmcp.backend.session import Session
from vmcp.backend.settings import BackendSettings, HeaderList
from vmcp.http.client import Reach


class McpBackend(Remote):
    """Implements `Backend`."""

    def __init__(
        self,
        settings: BackendSettings,
        auth: BackendAuth,
        *,
        resolve: Mapping[tuple[str, int], str] | None = None,
        reach: Reach | None = None,
    ) -> None:
        """Make a backend; opens nothing.

        Args:
            settings: As configured.
            auth: Towards this backend.
            resolve: (host, port) -> address.
            reach: See `Remote`.

        Raises:
            ValueError: The URL or the CA bundle's path is unusable.
        """
        super().__init__(settings, auth, resolve=resolve, reach=reach)
        self._personal = PersonalCatalogues(self)
        self._monitor = Monitor(self)
        self.refresh = self._monitor.refresh
        self.look = self._monitor.doubt
        self.heard = self._heard

    @property
    def personal(self) -> bool:
        """See `Backend`."""
        return self._monitor.no_credentials

    async def catalogue_for(self, principal: Principal, *, headers: HeaderList = (), timeout: float) -> Catalogue:
        """See `Backend`."""
        return await self._personal.get(principal, headers, timeout)

    def _heard(self, method: str, principal: Principal) -> None:
        """A caller's session heard that a list changed: everybody's, or what this backend shows to that caller."""
        self._personal.changed(principal)
        self._monitor.heard(method)

    async def start(self) -> None:
        """See `Backend`."""
        self._monitor.start()

    async def wait_known(self, timeout: float) -> bool:
        """See `Backend`."""
        return await self._monitor.wait_first(timeout)

    def open(self, spec: SessionSpec) -> BackendSession:
        """See `Backend`."""
        return Session(self, spec)

    async def close(self) -> None:
        """See `Backend`."""
        self._listeners.clear()
        await asyncio.gather(self._monitor.close(), self._personal.close())
        await self.disconnect()
