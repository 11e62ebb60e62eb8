"""What is inside Secrets and ConfigMaps, learned without keeping it.

Both kinds are watched as metadata only. Where a controller must know more (is this key there, does it hold a
certificate), the object is read live by name, once per (uid, resourceVersion) and by one request however many wait for
it: a Secret that a thousand entries use is read once per change. Kept are the answers, never a value.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextvars
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from weakref import WeakKeyDictionary

from api.contract.secrets import decode_secret, secret_header_problem, secret_problem, secret_text, session_secret
from controllers.shared.hashkey import HashKey, digest
from controllers.shared.resources import CONFIG_MAP, SECRET
from runtime import ApiError, Client, Key, Manager, NotFoundError, Record, Resource, TransportError

_MARK = b"-----BEGIN CERTIFICATE-----"
_READS_IN_FLIGHT = 16


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one Secret or ConfigMap.

    Attributes:
        keys: keys of its data; of a Secret only those with a value that is not empty.
        certificates: keys whose value holds at least one PEM certificate that can be read (ConfigMaps only).
        unfit: key -> why its value is no credential, as the end of a sentence about it (Secrets only).
        unfit_headers: the same for values that have to stand in a header.
        sessions: key -> why its value is no secret to seal sessions with, likewise; "" when it is one (Secrets only).
            Does not count in comparisons: of most Secrets nobody asks it.
        digests: key -> keyed hash of its value (Secrets only, and only where there is a key for hashes).
    """

    keys: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()
    unfit: Mapping[str, str] = field(default_factory=dict, hash=False)
    unfit_headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    sessions: Mapping[str, str] = field(default_factory=dict, compare=False)
    digests: Mapping[str, str] = field(default_factory=dict, hash=False)


class Unknown(Enum):
    """Why there are no facts."""

    MISSING = "there is no such object"
    UNREAD = "it cannot be read at the moment, and never was before"


Content = Facts | Unknown


@dataclass(frozen=True, slots=True)
class Look:
    """The outcome of one question.

    Attributes:
        content: the facts; after a passing error those of the last time.
        error: the passing error, if there was one: decide with the content, then try again.
    """

    content: Content
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    uid: str
    version: int
    facts: Facts
    hashed: bool = False


class Contents:
    """The facts about the objects of one kind."""

    def __init__(self, client: Client, resource: Resource) -> None:
        self._client = client
        self._resource = resource
        self._known: dict[Key, _Known] = {}
        self._reading: dict[Key, tuple[str, int, asyncio.Task[_Known | None]]] = {}
        self._gate = asyncio.Semaphore(_READS_IN_FLIGHT)
        self.hash_key: HashKey | None = None
        """For hashes of values; None: no hashes are kept."""

    async def look(self, key: Key) -> Look:
        """Say what is known of an object. Never raises for what the server does.

        Only a definite "not found" makes an object missing; whatever else goes wrong keeps the last facts.
        """
        record = self._client.cache.get(self._resource, key) if key.name else None
        if record is None:
            self._known.pop(key, None)
            return Look(Unknown.MISSING)
        known = self._known.get(key)
        current = known is not None and known.uid == record.meta.uid and known.version >= record.version
        try:
            if current and known is not None and (known.hashed or await self._key() is None):
                return Look(known.facts)
            found = await self._read_once(key, record)
        except (ApiError, TransportError) as error:
            last = known.facts if known is not None and known.uid == record.meta.uid else Unknown.UNREAD
            return Look(last, error)
        return Look(found.facts if found is not None else Unknown.MISSING)

    async def _read_once(self, key: Key, record: Record) -> _Known | None:
        """Read the object, or wait for the read of this version that is under way."""
        running = self._reading.get(key)
        if running is None or running[:2] != (record.meta.uid, record.version):
            # Several reconciles wait for it, so that it belongs to none of them.
            context = contextvars.Context()
            task = asyncio.create_task(self._read(key), name=f"read {self._resource} {key}", context=context)
            running = (record.meta.uid, record.version, task)
            self._reading[key] = running
            task.add_done_callback(lambda done: self._finished(key, done))
        # One waiter that is cancelled must not take the answer from the others.
        return await asyncio.shield(running[2])

    async def _key(self) -> bytes | None:
        return await self.hash_key.get() if self.hash_key is not None else None

    def _finished(self, key: Key, task: asyncio.Task[_Known | None]) -> None:
        running = self._reading.get(key)
        if running is not None and running[2] is task:
            del self._reading[key]
        if not task.cancelled():
            task.exception()  # seen, also when every waiter was cancelled

    async def _read(self, key: Key) -> _Known | None:
        async with self._gate:
            try:
                record = await self._client.get_live(self._resource, key)
            except NotFoundError:
                self._known.pop(key, None)
                return None
        facts = facts_of(record)
        if (hash_key := await self._key()) is not None:
            values = (record.path("data") or {}).items()
            facts = replace(facts, digests={name: digest(hash_key, key, name, _decoded(text)) for name, text in values})
        known = _Known(record.meta.uid, record.version, facts, hashed=hash_key is not None)
        before = self._known.get(key)
        if before is None or before.uid != known.uid or before.version <= known.version:
            self._known[key] = known
        return known


def facts_of(record: Record) -> Facts:
    """Return what is worth knowing of a Secret or ConfigMap with its data."""
    body = record.as_dict()
    if record.resource == SECRET:
        return _facts_of_secret(body.get("data") or {})
    values = dict(_config_map_values(body))
    return Facts(frozenset(values), frozenset(key for key, value in values.items() if has_certificate(value)))


def _facts_of_secret(data: Mapping[str, str]) -> Facts:
    """Judge the values as the gateway will (`api.contract.secrets`), and keep what it would say about them."""
    texts = {key: secret_text(decode_secret(_decoded(value))) for key, value in data.items()}
    unfit = {key: problem for key, text in texts.items() if text and (problem := secret_problem(text))}
    headers = {key: problem for key, text in texts.items() if text and (problem := secret_header_problem(text))}
    sessions = {key: session_secret(decode_secret(_decoded(value)))[1] for key, value in data.items()}
    return Facts(frozenset(key for key, text in texts.items() if text), frozenset(), unfit, headers, sessions)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _config_map_values(body: dict[str, dict[str, str] | None]) -> Iterator[tuple[str, bytes]]:
    for key, text in (body.get("data") or {}).items():
        yield key, text.encode(errors="replace")
    for key, text in (body.get("binaryData") or {}).items():
        yield key, _decoded(text)


def has_certificate(value: bytes) -> bool:
    """Whether the value holds PEM certificates, every one of which can be read."""
    if _MARK not in value:
        return False
    from cryptography import x509  # costs 30 ms to import; most installations have no private CA

    try:
        return bool(x509.load_pem_x509_certificates(value))
    except ValueError:
        return False


_shared: WeakKeyDictionary[Manager, dict[Resource, Contents]] = WeakKeyDictionary()


def contents(manager: Manager, resource: Resource) -> Contents:
    """Declare the metadata-only informer of Secrets or ConfigMaps and return the manager's one set of facts."""
    if resource not in (SECRET, CONFIG_MAP):
        raise ValueError(f"{resource} is no kind whose content is read by name")
    manager.informer(resource, metadata_only=True)
    mine = _shared.setdefault(manager, {})
    return mine.setdefault(resource, Contents(manager.client, resource))


def hash_values(manager: Manager, namespace: str) -> None:
    """Have the values of Secrets hashed, for whoever rolls pods by them; the manager has one key for it.

    Args:
        manager: of the controller that asks.
        namespace: the manager's own; "" outside of a cluster.
    """
    secrets = contents(manager, SECRET)
    if secrets.hash_key is None:
        secrets.hash_key = HashKey(manager.client, namespace)
