"""Outgoing strategies that need nobody's help: nothing at all, or one fixed header."""

from __future__ import annotations

from vmcp.auth.interface import HeaderList, Principal


class NoAuth:
    """`OutgoingAuth` for backends that ask for nothing."""

    method = "unauthenticated"

    async def headers(self, principal: Principal, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface
        """See `OutgoingAuth.headers`."""
        return ()

    async def probe_headers(self, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface
        """See `OutgoingAuth.probe_headers`."""
        return ()

    def rejected(self, principal: Principal | None) -> None:
        """Nothing is cached."""

    async def close(self) -> None:
        """Nothing to close."""


class HeaderInjection(NoAuth):
    """`OutgoingAuth` that sends the same header for everybody, probes included."""

    method = "header_injection"

    def __init__(self, name: str, value: str) -> None:
        """Send `name: value`; both were checked when the configuration was read."""
        self._headers: HeaderList = ((name, value),)

    async def headers(self, principal: Principal, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface
        """See `OutgoingAuth.headers`."""
        return self._headers

    async def probe_headers(self, *, deadline: float) -> HeaderList:  # noqa: ARG002  the interface
        """See `OutgoingAuth.probe_headers`."""
        return self._headers

    def __repr__(self) -> str:
        return f"HeaderInjection({self._headers[0][0]!r})"
