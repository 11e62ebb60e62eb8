"""Gateways without tokens: everybody is the same caller."""

from __future__ import annotations

import getpass

from vmcp.auth.interface import ANONYMOUS, LOCAL_ISSUER, Headers, Principal, ProtectedResource


class FixedAuthenticator:
    """`Authenticator` that answers the same principal to everybody: `anonymous`, or the local user in `local` mode."""

    def __init__(self, principal: Principal = ANONYMOUS) -> None:
        """Answer `principal`."""
        self._principal = principal

    async def authenticate(self, headers: Headers) -> Principal:  # noqa: ARG002  the interface's signature
        """See `Authenticator.authenticate`."""
        return self._principal

    def protected_resource(self) -> ProtectedResource | None:
        """See `Authenticator.protected_resource`."""
        return None

    async def close(self) -> None:
        """Nothing to close."""


def local_user() -> Principal:
    """Return the principal of the operating system's user who runs the process; `local` where it has no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "local"
    return Principal(name, LOCAL_ISSUER, {"sub": name, "iss": LOCAL_ISSUER, "name": name})
