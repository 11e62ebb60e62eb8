"""The strategy `unauthenticated`: nothing is sent, because the backend asks for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from api.contract.auth import Strategy
from vmcp.auth.interface import UNAUTHENTICATED, BackendAuth, HeaderList, Principal
from vmcp.auth.outgoing.strategy import OutgoingSettings, ReadSecret, TokenEndpoints


@dataclass(frozen=True, slots=True)
class UnauthenticatedSettings(OutgoingSettings):
    """No settings."""

    method: ClassVar[str] = UNAUTHENTICATED

    @classmethod
    def read(cls, strategy: Strategy, secret: ReadSecret) -> Self | None:  # noqa: ARG003  the interface's signature
        """See `OutgoingSettings.read`."""
        return cls()

    def build(self, endpoints: TokenEndpoints) -> BackendAuth:  # noqa: ARG002  the interface's signature
        """See `OutgoingSettings.build`."""
        return NoBackendAuth()


class NoBackendAuth:
    """`BackendAuth` for backends that ask for nothing."""

    method = UnauthenticatedSettings.method

    async def headers(self, principal: Principal, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface
        """See `BackendAuth.headers`."""
        return ()

    async def probe_headers(self, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface's signature
        """See `BackendAuth.probe_headers`."""
        return ()

    def rejected(self, principal: Principal | None) -> bool:  # noqa: ARG002  the interface's signature
        """See `BackendAuth.rejected`."""
        return False

    async def close(self) -> None:
        """Nothing to close."""
