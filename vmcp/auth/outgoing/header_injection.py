"""The strategy `header_injection`: the same header for everybody, probes included."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

from api.contract.auth import Strategy
from vmcp.auth.interface import BackendAuth, HeaderList, Principal
from vmcp.auth.outgoing.strategy import OutgoingSettings, ReadSecret, TokenEndpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderInjectionSettings(OutgoingSettings):
    """One fixed header.

    Attributes:
        name: Of the header.
        value: Of the header; a secret.
    """

    name: str
    value: str = field(repr=False)

    method: ClassVar[str] = "header_injection"

    @classmethod
    def read(cls, strategy: Strategy, secret: ReadSecret) -> Self | None:
        """See `OutgoingSettings.read`."""
        given = strategy.header_injection
        if given is None:
            return None
        return cls(name=given.header_name, value=secret(given.header_value_env, given.header_value))

    def build(self, endpoints: TokenEndpoints) -> BackendAuth:  # noqa: ARG002  the interface's signature
        """See `OutgoingSettings.build`."""
        return HeaderInjectionAuth(self.name, self.value)


class HeaderInjectionAuth:
    """`BackendAuth` that sends one fixed header."""

    method = HeaderInjectionSettings.method

    def __init__(self, name: str, value: str) -> None:
        """Send `name: value`; both were checked when the configuration was read."""
        self._headers: HeaderList = ((name, value),)

    async def headers(self, principal: Principal, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface
        """See `BackendAuth.headers`."""
        return self._headers

    async def probe_headers(self, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface's signature
        """See `BackendAuth.probe_headers`."""
        return self._headers

    def rejected(self, principal: Principal | None) -> bool:  # noqa: ARG002  the interface's signature
        """See `BackendAuth.rejected`."""
        return False

    async def close(self) -> None:
        """Nothing to close."""

    def __repr__(self) -> str:
        return f"HeaderInjectionAuth({self._headers[0][0]!r})"
