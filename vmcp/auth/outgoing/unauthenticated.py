"""The strategy `unauthenticated`: nothing is sent, because the backend asks for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from api.contract.auth import Strategy
from vmcp.auth.interface import UNAUTHENTICATED, HeaderList, OutgoingAuth, Principal
from vmcp.auth.outgoing.strategy import OutgoingSettings, ReadSecret, TokenEndpoints


@dataclass(frozen=True, slots=True)
class UnauthenticatedSettings(OutgoingSettings):
    """No settings."""

    method: ClassVar[str] = UNAUTHENTICATED

    @classmethod
    def read(cls, strategy: Strategy, secret: ReadSecret) -> Self | None:  # noqa: ARG003  the interface's signature
        """See `OutgoingSettings.read`."""
        return cls()

    def build(self, endpoints: TokenEndpoints) -> OutgoingAuth:  # noqa: ARG002  the interface's signature
        """See `OutgoingSettings.build`."""
        return NoCredentials()


class NoCredentials:
    """`OutgoingAuth` for backends that ask for nothing."""

    method = UnauthenticatedSettings.method

    async def headers(self, principal: Principal, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface
        """See `OutgoingAuth.headers`."""
        return ()

    async def probe_headers(self, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface's signature
        """See `OutgoingAuth.probe_headers`."""
        return ()

    def rejected(self, principal: Principal | None) -> bool:  # noqa: ARG002  the interface's signature
        """See `OutgoingAuth.rejected`."""
        return False

    async def close(self) -> None:
        """Nothing to close."""
