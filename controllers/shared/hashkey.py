"""Hashes of Secrets' values that tell nothing about the values.

Pods must be replaced when a value that they use has changed, and must not when somebody only touched the Secret (a
label, an annotation of External Secrets or a replicator): so a hash of the values is written on the pod template. A
plain one would let whoever may read Deployments test guesses; one with a key does not. The key is made once, stays in a
Secret of the manager's own namespace, and never leaves that Secret and the process. Managers that follow each other
share it. When it is lost a new one is made, and each gateway that uses Secrets is rolled once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets

import structlog

from controllers.shared.resources import SECRET
from runtime import AlreadyExistsError, Client, ForbiddenError, Key, NotFoundError, Record

log = structlog.get_logger("controller")

NAME = "mcp-operator-hash-key"
FIELD = "key"
SIZE = 32
"""Bytes."""


class HashKey:
    """The key of one installation.

    Args:
        client: reads and makes the Secret.
        namespace: the manager's own; "" outside of a cluster: there is no key then.
    """

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._place = Key(namespace, NAME)
        self._value: bytes | None = None
        self._known = not namespace
        self._lock = asyncio.Lock()

    @property
    def expected(self) -> bool:
        """Whether there is a key, or will be once the server answers."""
        return not self._known or self._value is not None

    async def get(self) -> bytes | None:
        """Return the key; None where this manager has none and never will: it may not read or make the Secret.

        Raises:
            ApiError, TransportError: for a passing reason.
        """
        async with self._lock:
            if not self._known:
                try:
                    self._value = key_of(await self._read_or_make())
                except (ForbiddenError, NotFoundError) as error:
                    log.warning("no key for hashes of Secrets: pods are replaced for each change", error=error.message)
                else:
                    if self._value is None:
                        log.warning("the key for hashes of Secrets is damaged; delete its Secret", secret=NAME)
                self._known = True
        return self._value

    async def _read_or_make(self) -> Record:
        try:
            return await self._client.get_live(SECRET, self._place)
        except NotFoundError:
            pass
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": NAME, "namespace": self._place.namespace},
            "type": "Opaque",
            "data": {FIELD: base64.b64encode(secrets.token_bytes(SIZE)).decode()},
        }
        try:
            return await self._client.create(SECRET, body)
        except AlreadyExistsError:  # another manager was faster
            return await self._client.get_live(SECRET, self._place)


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
