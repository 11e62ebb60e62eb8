"""An issuer's signing keys: found by discovery, kept, rotated, and survived without.

The rules, in the order in which they matter:

- One request at a time (single flight); whoever needs keys meanwhile waits for that one.
- A token signed with an unknown `kid` makes us ask again, but not more often than every 30 s; until then the kid is
  known to be unknown. So a rotation is seen at once, and forged kids cannot make us hammer the issuer.
- Keys age by the answer's `Cache-Control: max-age`, between 5 minutes and 24 hours. Old keys are used while new ones
  are fetched.
- An issuer that cannot be reached is asked with exponential back-off; keys at hand stay good for 24 hours after their
  end. Without any keys nobody gets in (fail closed), with a hint when to come back.
"""

from __future__ import annotations

import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from vmcp.auth.fetch import Fetcher, FetchError
from vmcp.tasks import SingleFlight

log = structlog.get_logger(__name__)

Key = RSAKey | ECKey | OKPKey

MIN_FRESH = 300.0
MAX_FRESH = 86_400.0
DEFAULT_FRESH = 3_600.0
STALE_IF_ERROR = 86_400.0
UNKNOWN_KID_COOLDOWN = 30.0
MAX_UNKNOWN_KIDS = 1_024
BACKOFF_FIRST = 1.0
BACKOFF_LAST = 60.0
MAX_KEYS = 256
FETCH_TIMEOUT = 10.0
MIN_RSA_BITS = 2_048
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])")


class KeysUnavailable(Exception):  # noqa: N818  a state of the issuer, not a bug
    """No keys at hand and none to be had now.

    Attributes:
        retry_after: Seconds until the issuer is asked again.
    """

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key and the algorithms that it may be used with."""

    kid: str | None
    key: Key = field(repr=False)
    algorithms: frozenset[str]


def algorithms_of(key: Key, declared: str | None) -> frozenset[str]:
    """Return the algorithms that fit this key; only `declared` if the key names one.

    Deciding by the key, never by the token's header alone, is what makes algorithm confusion impossible: a public RSA
    key is never an HMAC secret.
    """
    fitting: frozenset[str]
    if isinstance(key, RSAKey):
        fitting = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
        if key.public_key.key_size < MIN_RSA_BITS:
            fitting = frozenset()
    elif isinstance(key, ECKey):
        fitting = frozenset({"P-256": {"ES256"}, "P-384": {"ES384"}, "P-521": {"ES512"}}.get(key.curve_name, set()))
    else:
        fitting = frozenset({"EdDSA", "Ed25519"} if key.curve_name == "Ed25519" else ())
    return fitting & {declared} if declared is not None else fitting


def parse_key_set(document: bytes) -> tuple[VerificationKey, ...]:
    """Read a JWK set; keys that we cannot use (secret, encryption, unknown type, too short) are left out.

    Raises:
        ValueError: It is no JWK set, or holds no usable key.
    """
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise ValueError("the key set is not JSON") from None
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list):
        raise ValueError('the key set has no list "keys"')  # noqa: TRY004  a wrong document, not a wrong argument
    keys = tuple(found for item in listed[:MAX_KEYS] if (found := _parse_key(item)) is not None)
    if not keys:
        raise ValueError("the key set contains no usable signing key")
    return keys


def _parse_key(item: Any) -> VerificationKey | None:
    if not isinstance(item, dict) or item.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    operations = item.get("key_ops")
    if item.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    public = {name: item[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in item}
    kid, declared = item.get("kid"), item.get("alg")
    try:
        key = cast("Key", JWKRegistry.import_key(public))
        algorithms = algorithms_of(key, declared if isinstance(declared, str) else None)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return VerificationKey(kid if isinstance(kid, str) else None, key, algorithms) if algorithms else None


class KeyStore:
    """The keys of one issuer. For one event loop."""

    def __init__(
        self,
        issuer: str,
        fetcher: Fetcher,
        *,
        jwks_url: str | None = None,
        allow_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is fetched before the first `find`.

        Args:
            issuer: The issuer as tokens name it.
            fetcher: Makes the requests; closed with this.
            jwks_url: Skips discovery.
            allow_http: Accept an http key set URL from discovery.
            clock: Monotonic seconds; tests pass their own.
        """
        self._issuer = issuer
        self._fetcher = fetcher
        self._configured_url = jwks_url
        self._allow_http = allow_http
        self._clock = clock
        self._keys: tuple[VerificationKey, ...] = ()
        self._fresh_until = 0.0
        self._fetched_at = -UNKNOWN_KID_COOLDOWN
        self._blocked_until = 0.0
        self._failures = 0
        self._last_error = ""
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._refreshing = SingleFlight[None, None]("signing keys")

    async def find(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """Return the keys that may have signed a token with this header; empty = none, for certain.

        Raises:
            KeysUnavailable: It cannot be told now.
        """
        now = self._clock()
        if not self._keys or now > self._fresh_until + STALE_IF_ERROR:
            self._keys = ()
            await self._refresh_or_wait()
            if not self._keys:
                raise KeysUnavailable(self._last_error or "no keys", self._retry_after())
        elif now > self._fresh_until and now >= self._blocked_until:
            self._refreshing.start(None, self._refresh)
        found = self._match(kid, algorithm)
        if found or kid is None or self._is_known_unknown(kid):
            return found
        if self._may_ask_again():
            await self._refresh_or_wait()
            found = self._match(kid, algorithm)
        if not found:
            self._remember_unknown(kid)
        return found

    def _match(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        return tuple(key for key in self._keys if algorithm in key.algorithms and (kid is None or key.kid == kid))

    def _is_known_unknown(self, kid: str) -> bool:
        until = self._unknown.get(kid)
        return until is not None and self._clock() < until

    def _remember_unknown(self, kid: str) -> None:
        self._unknown[kid] = self._clock() + UNKNOWN_KID_COOLDOWN
        self._unknown.move_to_end(kid)
        while len(self._unknown) > MAX_UNKNOWN_KIDS:
            self._unknown.popitem(last=False)

    def _may_ask_again(self) -> bool:
        if self._refreshing.get(None) is not None:
            return True
        now = self._clock()
        return now >= self._blocked_until and now - self._fetched_at >= UNKNOWN_KID_COOLDOWN

    def _retry_after(self) -> int:
        return max(1, round(self._blocked_until - self._clock()))

    async def _refresh_or_wait(self) -> None:
        """Wait for the running request, or start one unless the back-off forbids it."""
        if self._refreshing.get(None) is not None or self._clock() >= self._blocked_until:
            await self._refreshing.wait(None, self._refresh)

    async def _refresh(self) -> None:
        try:
            url = self._configured_url or await self._discover()
            answer = await self._get(url)
            keys = parse_key_set(answer[0])
        except (FetchError, ValueError) as error:
            self._failed(str(error))
            return
        if self._failures:
            log.info("signing keys are available again", issuer=self._issuer, keys=len(keys))
        self._keys = keys
        self._failures = 0
        self._blocked_until = 0.0
        self._fetched_at = self._clock()
        self._fresh_until = self._fetched_at + _freshness(answer[1])
        self._unknown.clear()

    def _failed(self, reason: str) -> None:
        wait = min(BACKOFF_LAST, BACKOFF_FIRST * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._blocked_until = self._clock() + wait * random.uniform(0.8, 1.2)  # noqa: S311  jitter, no secret
        self._last_error = reason
        log.warning("signing keys cannot be fetched", issuer=self._issuer, error=reason, keys=len(self._keys))

    async def _discover(self) -> str:
        document, _ = await self._get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            parsed = orjson.loads(document)
        except orjson.JSONDecodeError:
            raise ValueError("the discovery document is not JSON") from None
        if not isinstance(parsed, dict) or parsed.get("issuer") != self._issuer:
            raise ValueError("the discovery document names another issuer")
        url = parsed.get("jwks_uri")
        if not isinstance(url, str) or urlsplit(url).scheme not in (
            ("https", "http") if self._allow_http else ("https",)
        ):
            raise ValueError("the discovery document has no usable jwks_uri")
        return url

    async def _get(self, url: str) -> tuple[bytes, str]:
        answer = await self._fetcher.fetch("GET", url, headers=(("Accept", "application/json"),), timeout=FETCH_TIMEOUT)
        if answer.status != 200:
            raise FetchError(f"{urlsplit(url).hostname} answered with status {answer.status}")
        return answer.body, answer.headers.get("cache-control", "")

    async def close(self) -> None:
        """Stop a running request, and close connections."""
        await self._refreshing.close()
        await self._fetcher.close()


def _freshness(cache_control: str) -> float:
    match = _MAX_AGE.search(cache_control.lower())
    return min(MAX_FRESH, max(MIN_FRESH, float(match.group(1)))) if match else DEFAULT_FRESH
