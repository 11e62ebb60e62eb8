"""Hashes of Secrets' values that tell nothing about the values.

Pods must be replaced when a value that they use has changed, and must not when somebody only touched the Secret (a
label, an annotation of External Secrets or a replicator): so a hash of the values is written on the pod template. A
plain one would let whoever may read Deployments test guesses; one with a key does not. The key is made once, stays in a
Secret of the manager's own namespace, and never leaves that Secret and the process. Managers that follow each other
share it. When it is lost a new one is made, and each gateway that uses Secrets is rolled once.

A manager that cannot have the key (it may not read or make the Secret, or what is there is damaged) goes without, and
looks again when the Secret changes or, when it is asked for a hash, after `RECHECK`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

import structlog

from controllers.shared.resources import SECRET
from runtime import AlreadyExistsError, ApiError, Client, ForbiddenError, Key, NotFoundError, Record, TransportError

log = structlog.get_logger("controller")

NAME = "mcp-operator-hash-key"
FIELD = "key"
SIZE = 32
"""Bytes."""
RECHECK = 60.0
"""Seconds until a key that could not be had is looked for again; nothing tells of a permission that was granted."""


class HashKey:
    """The key of one installation.

    Args:
        client: reads and makes the Secret; its cache knows Secrets by their metadata.
        namespace: the manager's own; "" outside of a cluster: there is no key then.
        clock: seconds, monotonic.

    Attributes:
        place: where the Secret is.
    """

    def __init__(self, client: Client, namespace: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.place = Key(namespace, NAME)
        self._client, self._clock = client, clock
        self._value: bytes | None = None
        self._asked = not namespace
        self._asked_at = 0.0
        self._seen: tuple[str, str] | None = None
        self._problem = ""
        self._lock = asyncio.Lock()

    @property
    def expected(self) -> bool:
        """Whether there is a key, or will be once the server answers."""
        return not self._asked or self._value is not None

    async def get(self) -> bytes | None:
        """Return the key; None where this manager has none for now.

        Raises:
            ApiError, TransportError: for a passing reason, and nothing is known from before.
        """
        async with self._lock:
            if self._value is None and self.place.namespace and self._due():
                await self._look()
        return self._value

    def _due(self) -> bool:
        return not self._asked or self._cached() != self._seen or self._clock() - self._asked_at >= RECHECK

    def _cached(self) -> tuple[str, str] | None:
        record = self._client.cache.get(SECRET, self.place)
        return (record.meta.uid, record.meta.resource_version) if record is not None else None

    async def _look(self) -> None:
        seen, problem = self._cached(), ""
        try:
            self._value = key_of(await self._read_or_make())
            if self._value is None:
                problem = "the key for hashing Secrets is damaged; delete its Secret to have a new one created"
        except (ForbiddenError, NotFoundError) as error:
            problem = f"no key for hashing Secrets: {error.message}"
        except (ApiError, TransportError):
            if not self._asked:
                raise
            problem = self._problem
        self._asked, self._asked_at, self._seen = True, self._clock(), seen
        if problem != self._problem:
            self._problem = problem
            if problem:
                log.warning(problem, secret=str(self.place), until_then="pods are replaced whenever a Secret changes")
            else:
                log.info("the key for hashing Secrets is available", secret=str(self.place))

    async def _read_or_make(self) -> Record:
        try:
            return await self._client.get_live(SECRET, self.place)
        except NotFoundError:
            pass
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": NAME, "namespace": self.place.namespace},
            "type": "Opaque",
            "data": {FIELD: base64.b64encode(secrets.token_bytes(SIZE)).decode()},
        }
        try:
            return await self._client.create(SECRET, body)
        except AlreadyExistsError:  # another manager was faster
            return await self._client.get_live(SECRET, self.place)


def key_of(secret: Record) -> bytes | None:
    """Return the key in its Secret; None when it is damaged."""
    data = secret.path("data")
    try:
        value = base64.b64decode((data or {}).get(FIELD, ""), validate=True)
    except binascii.Error:
        return None
    return value if len(value) == SIZE else None


def digest(key: bytes, place: Key, field: str, value: bytes) -> str:
    """Return the hash of one value of one Secret; equal values of two Secrets have different hashes."""
    message = f"{place.namespace}/{place.name}/{field}\0".encode() + value
    return hmac.new(key, message, hashlib.sha256).hexdigest()
