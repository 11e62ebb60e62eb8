"""Who asks, and on whose behalf we ask: the types that core, front and backends share with authentication.

Two directions meet here and never mix. *Incoming*: an `Authenticator` turns request headers into a `Principal` or
refuses. *Outgoing*: an `BackendAuth` per backend turns a `Principal` into headers for that backend, or refuses; there
is no "pass the client's token on" (the MCP authorization rules forbid it), and a refusal never falls back to no auth.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

Headers = Iterable[tuple[bytes, bytes]]
"""Request headers as ASGI delivers them: lower-case names, raw values."""

HeaderList = tuple[tuple[str, str], ...]
"""Headers towards a backend."""

ANONYMOUS_SUBJECT = "anonymous"
LOCAL_ISSUER = "toolhive-local"
UNAUTHENTICATED = "unauthenticated"
"""The outgoing strategy that sends nothing."""


@dataclass(frozen=True, eq=False)
class Principal:
    """A caller whose identity was established. Compared by identity; use `key` to compare who somebody is.

    Attributes:
        subject: The `sub` claim; `anonymous` where nobody authenticates.
        issuer: The `iss` claim. Subjects are unique only together with it.
        claims: All claims, read-only.
        token: The validated token, for token exchange only. Never logged, never sent to a backend as it is.
        groups: From the configured group claim.
        roles: From the configured role claim.
        expires_at: Unix seconds after which `token` is worthless; None = no end.
    """

    subject: str
    issuer: str
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    token: str | None = field(default=None, repr=False)
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    expires_at: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))

    def seconds_left(self) -> float:
        """Return the seconds until the token of this caller is refused; infinite where it has no end."""
        return float("inf") if self.expires_at is None else self.expires_at + LEEWAY - time.time()

    @cached_property
    def key(self) -> str:
        """Who this is, over all issuers: what sessions, request state and per-user limits are bound to."""
        return f"{self.issuer}\0{self.subject}"

    @cached_property
    def fingerprint(self) -> str:
        """A digest of everything a policy may look at; equal fingerprints get equal decisions.

        Time stamps and the token id differ on every refresh, so each refresh is a cache miss. They stay in, because a
        policy may refer to them (`claim_exp`); the token cache makes one Principal per token, so a miss costs once.
        """
        seen = [self.issuer, self.subject, dict(self.claims), self.groups, self.roles]
        return hashlib.sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()


ANONYMOUS = Principal(ANONYMOUS_SUBJECT, LOCAL_ISSUER, {"sub": ANONYMOUS_SUBJECT, "iss": LOCAL_ISSUER})
"""The caller of an anonymous gateway."""


LEEWAY = 30.0
"""Seconds by which clocks may differ, for exp, nbf and iat: so much longer a token is accepted."""


class Unauthenticated(Exception):  # noqa: N818  the name says what the caller is
    """The request carries no acceptable credential.

    Attributes:
        reason: For the audit line and the debug log: what was wrong. Holds no part of a token.
        status: 401, or 503 when the keys that would decide cannot be had.
        www_authenticate: The value of that response header (RFC 6750, RFC 9728); None with 503.
        retry_after: Seconds, only with 503.
    """

    def __init__(
        self, reason: str, *, www_authenticate: str | None, status: int = 401, retry_after: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.www_authenticate = www_authenticate
        self.retry_after = retry_after


class AuthUnavailable(Exception):  # noqa: N818  it is a state, not a bug
    """Auth towards a backend cannot be resolved: the call must fail, without being sent.

    Attributes:
        method: The strategy's name, such as `token_exchange`.
        reason: What failed, safe to show: holds no token, no secret and no answer of the token endpoint.
        denied: True when the other side refused this principal (no use in trying again), False when it was unreachable.
    """

    def __init__(self, method: str, reason: str, *, denied: bool = False) -> None:
        super().__init__(f"{method}: {reason}")
        self.method = method
        self.reason = reason
        self.denied = denied


@dataclass(frozen=True, slots=True)
class ProtectedResource:
    """The RFC 9728 document and the paths that serve it."""

    paths: frozenset[str]
    body: bytes


class Authenticator(Protocol):
    """Incoming authentication. Implementations are safe for concurrent use in one event loop."""

    async def authenticate(self, headers: Headers) -> Principal:
        """Return who asks.

        Raises:
            Unauthenticated: Always when in doubt.
        """
        ...

    def protected_resource(self) -> ProtectedResource | None:
        """Return what `/.well-known/oauth-protected-resource` serves; None where nobody authenticates by OAuth."""
        ...

    async def close(self) -> None:
        """Cancel what runs in the background and close connections."""
        ...


class BackendAuth(Protocol):
    """Auth towards one backend."""

    @property
    def method(self) -> str:
        """The strategy's name, for the audit line (`vmcp.auth.outgoing.registry`)."""
        ...

    async def headers(self, principal: Principal, *, deadline: float) -> HeaderList:
        """Return the headers that authenticate `principal`; they replace headers of the same name.

        Args:
            principal: On whose behalf the backend is asked.
            deadline: Of the whole call, on the event loop's clock.

        Raises:
            AuthUnavailable: The call must not be sent.
        """
        ...

    async def probe_headers(self, *, deadline: float) -> HeaderList:
        """Return headers for health probes and list refreshes, which nobody asked for.

        Raises:
            AuthUnavailable: The probe must not be sent.
        """
        ...

    def rejected(self, principal: Principal | None) -> bool:
        """Drop what is cached for `principal` (None = probes): the backend answered 401 to it.

        Returns:
            Whether other headers may be had now, so that the request is worth a second try.
        """
        ...

    async def close(self) -> None:
        """Cancel what runs in the background and close connections."""
        ...
