"""RFC 8693 token exchange: the caller's token goes to a token endpoint, the backend gets the one that comes back.

What this module promises:

- **Each principal only ever its own token.** The cache key holds the issuer, the subject and the digest of the very
  token that was exchanged; there is no "any valid token" anywhere.
- **The audience of the result is checked** before the token is used. A token that cannot be looked into (opaque) while
  an audience is configured is refused: it may be good anywhere.
- **One exchange at a time per principal**; whoever needs the same token meanwhile waits for that one, up to its own
  deadline.
- **Bounded in time**: a token is dropped before it ends, and never outlives the one it was exchanged for.
- **Nothing leaks**: errors carry the OAuth error code if it is one of the registered ones, never a body.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from base64 import b64encode, urlsafe_b64decode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from vmcp.auth.fetch import Answer, Fetcher, FetchError, FetchUnreachableError
from vmcp.auth.interface import AuthUnavailable, HeaderList, Principal

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a name, no secret
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105
JWT = "urn:ietf:params:oauth:token-type:jwt"
SUBJECT_TOKEN_TYPES = {"": ACCESS_TOKEN, "access_token": ACCESS_TOKEN, "id_token": ID_TOKEN, "jwt": JWT}

ATTEMPTS = 3
ATTEMPT_TIMEOUT = 5.0
EXCHANGE_TIMEOUT = 15.0
MAX_ENTRIES = 10_000
UNKNOWN_LIFETIME = 60.0
"""Seconds that a token is kept whose end nobody told."""
MAX_LIFETIME = 3_600.0
SKEW = 30.0
DENIED_FOR = 5.0
"""Seconds during which a refused exchange is not asked again."""
OUTAGE_PAUSE = 2.0
"""Seconds during which an endpoint that failed is left alone: each caller would wait for three attempts otherwise.

A failure pauses the subject that met it, for its token may be the reason. Everybody pauses when no connection can be
made, or when several subjects fail one after the other and none succeeds."""
OUTAGE_SUBJECTS = 3
"""Subjects that fail in a row until it counts as everybody's outage."""

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_OAUTH_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "access_denied",
        "interaction_required",
        "insufficient_scope",
    }
)
_METHOD = "token_exchange"
_PROBE = "probe"


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
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


class TokenExchange:
    """`OutgoingAuth` by token exchange."""

    method = _METHOD

    def __init__(self, settings: ExchangeSettings, fetcher: Fetcher, *, clock: Callable[[], float] = time.time) -> None:
        """Prepare; nothing is asked before the first call. `clock` gives Unix seconds."""
        self._settings = settings
        self._fetcher = fetcher
        self._clock = clock
        self._cache: OrderedDict[str, _Entry] = OrderedDict()
        self._running: dict[str, asyncio.Task[_Entry]] = {}
        self._paused_until = 0.0
        self._failed: dict[str, float] = {}
        self._in_a_row: set[str] = set()

    async def headers(self, principal: Principal, *, deadline: float) -> HeaderList:
        """See `OutgoingAuth.headers`."""
        token = principal.token
        if token is None:
            raise AuthUnavailable(_METHOD, "the caller has no token to exchange", denied=True)
        now = self._clock()
        if principal.expires_at is not None and now >= principal.expires_at:
            raise AuthUnavailable(_METHOD, "the caller's token is expired", denied=True)
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

    def rejected(self, principal: Principal | None) -> None:
        """See `OutgoingAuth.rejected`."""
        self._cache.pop(_PROBE if principal is None else _key(principal), None)

    async def close(self) -> None:
        """See `OutgoingAuth.close`."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cached(
        self, key: str, subject: str, form: dict[str, str], subject_ends: float | None, deadline: float
    ) -> HeaderList:
        entry = self._cache.get(key)
        if entry is None or self._clock() >= entry.until:
            entry = await self._wait(key, subject, form, subject_ends, deadline)
        else:
            self._cache.move_to_end(key)
        if entry.refusal:
            raise AuthUnavailable(_METHOD, entry.refusal, denied=True)
        return entry.headers

    async def _wait(
        self, key: str, subject: str, form: dict[str, str], subject_ends: float | None, deadline: float
    ) -> _Entry:
        task = self._running.get(key)
        if task is None:
            if self._clock() < max(self._paused_until, self._failed.get(subject, 0.0)):
                raise AuthUnavailable(_METHOD, "the token endpoint failed a moment ago")
            task = asyncio.create_task(self._exchange(key, subject, form, subject_ends), name="token-exchange")
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        try:
            async with asyncio.timeout_at(deadline):
                # Shielded: a caller that gives up must not end the exchange that others wait for.
                return await asyncio.shield(task)
        except TimeoutError:
            raise AuthUnavailable(_METHOD, "the token endpoint did not answer in time") from None

    def _finished(self, key: str, task: asyncio.Task[_Entry]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen by the waiters; nobody may be left to see it

    async def _exchange(self, key: str, subject: str, form: dict[str, str], subject_ends: float | None) -> _Entry:
        try:
            async with asyncio.timeout(EXCHANGE_TIMEOUT):
                answer = await self._ask(form)
        except (_Passing, TimeoutError) as error:
            self._pause(subject, everybody=isinstance(error, _Passing) and error.everybody)
            raise AuthUnavailable(_METHOD, str(error) or "the token endpoint did not answer in time") from None
        self._in_a_row.clear()
        now = self._clock()
        entry = self._entry(answer, subject_ends, now)
        self._cache[key] = entry
        self._cache.move_to_end(key)
        while len(self._cache) > MAX_ENTRIES:
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

    def _entry(self, answer: Answer, subject_ends: float | None, now: float) -> _Entry:
        if answer.status != 200:
            return _Entry(now + DENIED_FOR, refusal=_refusal(answer))
        try:
            token, lifetime = check_answer(answer.body, self._settings.audience, now)
        except AuthUnavailable as error:
            return _Entry(now + DENIED_FOR, refusal=error.reason)
        until = now + lifetime if subject_ends is None else min(now + lifetime, subject_ends)
        return _Entry(until, (("Authorization", f"Bearer {token}"),))

    async def _ask(self, form: dict[str, str]) -> Answer:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=1.0),
            retry=retry_if_exception_type(_Passing),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await self._post(form)
        raise AssertionError("unreachable: the last attempt raises")

    async def _post(self, form: dict[str, str]) -> Answer:
        settings = self._settings
        body = dict(form)
        if settings.audience:
            body["audience"] = settings.audience
        if settings.scopes:
            body["scope"] = " ".join(settings.scopes)
        headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")]
        if settings.client_secret:
            headers.append(("Authorization", basic(settings.client_id, settings.client_secret)))
        elif settings.client_id:
            body["client_id"] = settings.client_id
        try:
            answer = await self._fetcher.fetch(
                "POST", settings.token_url, headers=headers, body=urlencode(body).encode(), timeout=ATTEMPT_TIMEOUT
            )
        except FetchError as error:
            everybody = isinstance(error, FetchUnreachableError)
            raise _Passing(f"the token endpoint cannot be asked: {error}", everybody=everybody) from None
        if answer.status >= 500 or answer.status in (408, 425, 429):
            host = urlsplit(settings.token_url).hostname
            raise _Passing(f"the token endpoint {host} answered with status {answer.status}")
        return answer


def basic(client_id: str, client_secret: str) -> str:
    """Return the `Authorization` value of RFC 6749 section 2.3.1: both parts form-encoded first."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return "Basic " + b64encode(pair.encode()).decode()


def _key(principal: Principal) -> str:
    digest = hashlib.sha256((principal.token or "").encode()).hexdigest()
    return f"{principal.key}\0{digest}"


def _refusal(answer: Answer) -> str:
    code = ""
    try:
        parsed: Any = orjson.loads(answer.body)
        if isinstance(parsed, dict) and parsed.get("error") in _OAUTH_ERRORS:
            code = f" ({parsed['error']})"
    except orjson.JSONDecodeError:
        pass
    return f"the token endpoint refused with status {answer.status}{code}"


def check_answer(body: bytes, audience: str, now: float) -> tuple[str, float]:
    """Return the token and the seconds during which it may be used.

    Args:
        body: The endpoint's 200 answer.
        audience: That the token must be good for; empty = any.
        now: Unix seconds.

    Raises:
        AuthUnavailable: The answer is unusable, or the token is for somebody else.
    """
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise AuthUnavailable(_METHOD, "the token endpoint's answer is not JSON") from None
    token = parsed.get("access_token") if isinstance(parsed, dict) else None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise AuthUnavailable(_METHOD, "the token endpoint's answer holds no usable access_token")
    kind = parsed.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise AuthUnavailable(_METHOD, "the token endpoint gave a token that is not a bearer token")
    issued = parsed.get("issued_token_type", ACCESS_TOKEN)
    if issued not in (ACCESS_TOKEN, JWT):
        raise AuthUnavailable(_METHOD, "the token endpoint gave a token that is not an access token")
    claims = unverified_claims(token)
    if audience:
        check_audience(claims, audience)
    ends = claims.get("exp") if claims else None
    told = (parsed.get("expires_in"), ends - now if isinstance(ends, int | float) else None)
    lifetimes = [float(value) for value in told if isinstance(value, int | float) and not isinstance(value, bool)]
    if not lifetimes:
        return token, UNKNOWN_LIFETIME
    lifetime = min(*lifetimes, MAX_LIFETIME)
    if lifetime <= 0:
        raise AuthUnavailable(_METHOD, "the token endpoint gave a token that is expired already")
    return token, lifetime - min(SKEW, lifetime / 10)


def check_audience(claims: dict[str, Any] | None, audience: str) -> None:
    """Refuse a token that is not, or not provably, for `audience`."""
    if claims is None:
        raise AuthUnavailable(_METHOD, "the token is opaque, so its audience cannot be checked")
    found = claims.get("aud")
    if found != audience and not (isinstance(found, list) and audience in found):
        raise AuthUnavailable(_METHOD, "the token is for another audience than the configured one")


def unverified_claims(token: str) -> dict[str, Any] | None:
    """Return a JWT's claims without checking its signature (it comes from the endpoint, by TLS); None = no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (Base64Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None
