"""The strategy `token_exchange` (RFC 8693): a token endpoint gets the caller's token, the backend the one it returns.

What this module promises:

- **Each principal only ever its own token.** The cache key holds the issuer, the subject and the digest of the very
  token that was exchanged; there is no "any valid token" anywhere.
- **The audience of the result is checked** before the token is used. A token that cannot be looked into (opaque) while
  an audience is configured is refused, for it may be good anywhere: unless an introspection endpoint (RFC 7662) says
  for whom it is good, or whoever started the gateway wants no check.
- **One exchange at a time per principal**; whoever needs the same token meanwhile waits for that one, up to its own
  deadline.
- **Bounded in time**: a token is dropped before it ends, and never outlives the one it was exchanged for.
- **Nothing leaks**: errors carry the OAuth error code if it is one of the registered ones, never a body.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import quote_plus, urlencode, urlsplit

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from api.contract.auth import Strategy
from vmcp.auth.fetch import FetchedAnswer, Fetcher, FetchError, FetchUnreachableError
from vmcp.auth.interface import AuthUnavailable, BackendAuth, HeaderList, Principal
from vmcp.auth.outgoing.answers import (
    ACCESS_TOKEN,
    JWT,
    METHOD,
    check_audience,
    introspected_claims,
    issued_token,
    lifetime_of,
    refusal_of,
    unverified_claims,
)
from vmcp.auth.outgoing.strategy import OutgoingSettings, ReadSecret, TokenEndpoints
from vmcp.http.client import LATER
from vmcp.tasks import SingleFlight, loop_time

ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  a name, no secret
SUBJECT_TOKEN_TYPES = {"": ACCESS_TOKEN, "access_token": ACCESS_TOKEN, "id_token": ID_TOKEN, "jwt": JWT}

ATTEMPTS = 3
ATTEMPT_TIMEOUT = 5.0
EXCHANGE_TIMEOUT = 15.0
MAX_ENTRIES = 10_000
DENIED_FOR = 5.0
"""Seconds during which a refused exchange is not asked again."""
OUTAGE_PAUSE = 2.0
"""Seconds during which an endpoint that failed is left alone: each caller would wait for three attempts otherwise.

A failure pauses the subject that met it, for its token may be the reason. Everybody pauses when no connection can be
made, or when several subjects fail one after the other and none succeeds."""
OUTAGE_SUBJECTS = 3
"""Subjects that fail in a row until it counts as everybody's outage."""

UNCHECKED = "none"
"""Instead of an introspection endpoint: opaque tokens are used although nobody checks for whom they are good."""
_TOKEN_ENDPOINT = "token endpoint"  # noqa: S105  a name, no secret
_INTROSPECTION_ENDPOINT = "introspection endpoint"
_PROBE = "probe"


@dataclass(frozen=True, slots=True)
class TokenExchangeSettings(OutgoingSettings):
    """What a token_exchange strategy says.

    Attributes:
        token_url: Of the token endpoint.
        client_id: Of this gateway at the endpoint; empty = none.
        client_secret: Sent as HTTP Basic; empty = public client.
        audience: For whom the token shall be good; empty = not asked for, not checked.
        scopes: Asked for.
        subject_token_type: URN of what the caller's token is.
    """

    token_url: str
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    audience: str = ""
    scopes: tuple[str, ...] = ()
    subject_token_type: str = ACCESS_TOKEN

    method: ClassVar[str] = METHOD

    @classmethod
    def read(cls, strategy: Strategy, secret: ReadSecret) -> Self | None:
        """See `OutgoingSettings.read`."""
        given = strategy.token_exchange
        if given is None:
            return None
        kind = given.subject_token_type
        return cls(
            token_url=given.token_url,
            client_id=given.client_id,
            client_secret=secret(given.client_secret_env, given.client_secret),
            audience=given.audience,
            scopes=tuple(given.scopes),
            subject_token_type=SUBJECT_TOKEN_TYPES.get(kind, kind) or ACCESS_TOKEN,
        )

    def build(self, endpoints: TokenEndpoints) -> BackendAuth:
        """See `OutgoingSettings.build`."""
        return TokenExchangeAuth(self, endpoints.fetcher(), opaque=endpoints.opaque_of(self.token_url))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A token, or a refusal, that is good until a time (Unix seconds)."""

    until: float
    headers: HeaderList = field(default=(), repr=False)
    refusal: str = ""


class _Passing(Exception):  # noqa: N818  decides about a retry, never leaves this module
    """The endpoint failed in a way that may pass.

    Attributes:
        everybody: It is down, whoever asks.
    """

    def __init__(self, reason: str, *, everybody: bool = False) -> None:
        super().__init__(reason)
        self.everybody = everybody


class TokenExchangeAuth:
    """`BackendAuth` by token exchange."""

    method = METHOD

    def __init__(
        self,
        settings: TokenExchangeSettings,
        fetcher: Fetcher,
        *,
        opaque: str | None = None,
        timeout: float = EXCHANGE_TIMEOUT,
        max_entries: int = MAX_ENTRIES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; nothing is asked before the first call.

        Args:
            settings: Of the strategy.
            fetcher: Asks the endpoints; closed with this.
            opaque: What to do with opaque tokens where an audience is configured: URL of the introspection endpoint
                that says for whom they are good, `UNCHECKED` = use them, None = refuse them.
            timeout: Seconds for one exchange, all attempts and the introspection included.
            max_entries: Tokens and refusals that are remembered; the one that was used least recently goes first.
            clock: Gives Unix seconds.
        """
        self._settings = settings
        self._timeout = timeout
        self._max_entries = max_entries
        self._opaque = opaque
        self._fetcher = fetcher
        self._clock = clock
        self._cache: OrderedDict[str, _Entry] = OrderedDict()
        self._running = SingleFlight[str, _Entry]("token exchange", expected=(AuthUnavailable,))
        self._paused_until = 0.0
        self._failed: dict[str, float] = {}
        self._in_a_row: set[str] = set()

    async def headers(self, principal: Principal, *, deadline: float) -> HeaderList:
        """See `BackendAuth.headers`."""
        token = principal.token
        if token is None:
            raise AuthUnavailable(METHOD, "the caller has no token to exchange", denied=True)
        now = self._clock()
        if principal.expires_at is not None and now >= principal.expires_at:
            raise AuthUnavailable(METHOD, "the caller's token is expired", denied=True)
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": token,
            "subject_token_type": self._settings.subject_token_type,
            "requested_token_type": ACCESS_TOKEN,
        }
        return await self._cached(_key(principal), principal.key, form, principal.expires_at, deadline)

    async def probe_headers(self, *, deadline: float) -> HeaderList:
        """Return a token of the gateway itself (client credentials); without a secret, probes go unauthenticated."""
        if not (self._settings.client_id and self._settings.client_secret):
            return ()
        return await self._cached(_PROBE, _PROBE, {"grant_type": "client_credentials"}, None, deadline)

    def rejected(self, principal: Principal | None) -> bool:
        """See `BackendAuth.rejected`."""
        self._cache.pop(_PROBE if principal is None else _key(principal), None)
        return True

    async def close(self) -> None:
        """See `BackendAuth.close`."""
        await self._running.close()
        await self._fetcher.close()

    async def _cached(
        self, key: str, subject: str, form: dict[str, str], subject_ends: float | None, deadline: float
    ) -> HeaderList:
        entry = self._cache.get(key)
        if entry is None or self._clock() >= entry.until:
            entry = await self._wait(key, subject, form, subject_ends, deadline)
        else:
            self._cache.move_to_end(key)
        if entry.refusal:
            raise AuthUnavailable(METHOD, entry.refusal, denied=True)
        return entry.headers

    async def _wait(
        self, key: str, subject: str, form: dict[str, str], subject_ends: float | None, deadline: float
    ) -> _Entry:
        paused_until = max(self._paused_until, self._failed.get(subject, 0.0))
        if self._clock() < paused_until and self._running.get(key) is None:
            raise AuthUnavailable(METHOD, "the token endpoint failed a moment ago")
        try:
            return await self._running.wait(
                key, lambda: self._exchange(key, subject, form, subject_ends), deadline=deadline
            )
        except TimeoutError:
            raise AuthUnavailable(METHOD, "the token exchange did not end in time") from None

    async def _exchange(self, key: str, subject: str, form: dict[str, str], subject_ends: float | None) -> _Entry:
        ends = loop_time() + self._timeout
        try:
            answer = await self._ask(_TOKEN_ENDPOINT, self._settings.token_url, self._asked_for(form), ends)
            entry = await self._entry(answer, subject_ends, ends)
        except _Passing as error:
            self._pause(subject, everybody=error.everybody)
            raise AuthUnavailable(METHOD, str(error)) from None
        self._in_a_row.clear()
        self._cache[key] = entry
        self._cache.move_to_end(key)
        while len(self._cache) > self._max_entries:
            self._cache.popitem(last=False)
        return entry

    def _pause(self, subject: str, *, everybody: bool) -> None:
        now = self._clock()
        for other in [other for other, until in self._failed.items() if until <= now]:
            del self._failed[other]
        self._failed[subject] = now + OUTAGE_PAUSE
        self._in_a_row.add(subject)
        if everybody or len(self._in_a_row) >= OUTAGE_SUBJECTS:
            self._paused_until = now + OUTAGE_PAUSE
            self._in_a_row.clear()

    async def _entry(self, answer: FetchedAnswer, subject_ends: float | None, ends: float) -> _Entry:
        try:
            if answer.status != 200:
                raise AuthUnavailable(METHOD, refusal_of(answer, _TOKEN_ENDPOINT))
            token, expires_in = issued_token(answer.body)
            claims = await self._checked_claims(token, ends)
            now = self._clock()
            until = now + lifetime_of(expires_in, claims, now)
        except AuthUnavailable as error:
            return _Entry(self._clock() + DENIED_FOR, refusal=error.reason)
        if subject_ends is not None:
            until = min(until, subject_ends)
        return _Entry(until, (("Authorization", f"Bearer {token}"),))

    async def _checked_claims(self, token: str, ends: float) -> dict[str, Any] | None:
        """Return what is known of a token that is for the configured audience; None = nothing is known or asked.

        Raises:
            AuthUnavailable: It is not, or not provably, for the audience.
            _Passing: The introspection endpoint cannot be asked now.
        """
        audience = self._settings.audience
        claims = unverified_claims(token)
        if not audience:
            return claims
        if claims is None:
            if self._opaque is None:
                raise AuthUnavailable(
                    METHOD, "the token is opaque, so its audience cannot be checked (see --opaque-tokens)"
                )
            if self._opaque == UNCHECKED:
                return None
            form = {"token": token, "token_type_hint": "access_token"}
            claims = introspected_claims(await self._ask(_INTROSPECTION_ENDPOINT, self._opaque, form, ends))
        check_audience(claims, audience)
        return claims

    def _asked_for(self, form: dict[str, str]) -> dict[str, str]:
        settings = self._settings
        wanted = {"audience": settings.audience, "scope": " ".join(settings.scopes)}
        return form | {name: value for name, value in wanted.items() if value}

    async def _ask(self, endpoint: str, url: str, form: dict[str, str], ends: float) -> FetchedAnswer:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=1.0),
            retry=retry_if_exception_type(_Passing),
            reraise=True,
        )
        try:
            async with asyncio.timeout_at(ends):
                async for attempt in retrying:
                    with attempt:
                        return await self._post(endpoint, url, form)
        except TimeoutError:
            raise _Passing(f"the {endpoint} did not answer in time") from None
        raise AssertionError("unreachable: the last attempt raises")

    async def _post(self, endpoint: str, url: str, form: dict[str, str]) -> FetchedAnswer:
        """Ask an endpoint as the client that the gateway is there (RFC 6749 section 2.3.1).

        Raises:
            _Passing: It cannot be asked, or failed.
        """
        settings = self._settings
        headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")]
        if settings.client_secret:
            headers.append(("Authorization", basic(settings.client_id, settings.client_secret)))
        elif settings.client_id:
            form = form | {"client_id": settings.client_id}
        try:
            answer = await self._fetcher.fetch(
                "POST", url, headers=headers, body=urlencode(form).encode(), timeout=ATTEMPT_TIMEOUT
            )
        except FetchError as error:
            everybody = isinstance(error, FetchUnreachableError)
            raise _Passing(f"the {endpoint} cannot be asked: {error}", everybody=everybody) from None
        if answer.status >= 500 or answer.status in LATER:
            raise _Passing(f"the {endpoint} {urlsplit(url).hostname} answered with status {answer.status}")
        return answer


def basic(client_id: str, client_secret: str) -> str:
    """Return the `Authorization` value of RFC 6749 section 2.3.1: both parts form-encoded first."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return "Basic " + b64encode(pair.encode()).decode()


def _key(principal: Principal) -> str:
    digest = hashlib.sha256((principal.token or "").encode()).hexdigest()
    return f"{principal.key}\0{digest}"
