"""Records in a Redis or Valkey server that replicas share, and what they tell each other over it.

A key is a digest of the session's owner and id, so it opens nothing. A value is sealed (AES-GCM, under a key derived
from the session secret), and names the session that it belongs to: whoever can write to the server can destroy
records, but can neither make one, nor read one, nor put one in the place of another.

Every command has a time-out. When one fails for want of an answer, the circuit opens: nothing is asked any more until
the listener, which tries again with growing waits, has found the server well. Meanwhile whoever asks is told at once.

This module is imported only where a configuration asks for it: the client library costs memory and start-up time.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast

import msgspec
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from vmcp.backend.backoff import RetryBackoff
from vmcp.core.seal import Purpose, Sealer, SealError
from vmcp.observe.seldom import SeldomLog
from vmcp.sessions.record import Change, RecordError, SessionRecord, decode_record, encode_record
from vmcp.sessions.settings import RedisSettings
from vmcp.sessions.store import CONNECTING, Note, NoteKind, StoreListener, StoreUnavailable
from vmcp.tasks import Background

log = structlog.get_logger(__name__)

COMMAND_TIMEOUT: Final = 1.0
"""Seconds for a command, a new connection included."""
CONNECTIONS: Final = 16
"""Commands at the same time. Those that wait for a place are not the server's fault: their time begins with it."""
QUIET: Final = 1.0
"""Seconds without a note after which the server is asked for a sign of life."""
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 2.0
"""Seconds between two attempts to find the server well again."""
ATTEMPTS: Final = 8
"""Times that a change is made to a record that others change at the same time."""
AT_ONCE: Final = 500
"""Sessions that are touched in one go."""
MAX_NOTE: Final = 16 * 1024 * 1024
"""Characters of a note; longer ones are not read. An answer of a client has at most 4 MiB."""
CLOCK: Final = 1.0
"""Seconds by which the server's idea of how long a key lives may differ from ours: commands take time."""
SLACK: Final = 60.0
"""Seconds that a record outlives the idle time of its session: uses are told in groups, not one by one."""

_OPEN = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'record', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
_SAVE = """
local kept = redis.call('HGET', KEYS[1], 'revision')
if not kept then return 0 end
if kept ~= ARGV[1] then return redis.call('HGET', KEYS[1], 'record') end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'record', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
"""
_END = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'revision', 'ended')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
"""
"""What ended leaves its key behind: nobody who still has an older copy can open it again. `DEL` comes first because a
server that is full takes a script's later writes only once it has begun to write."""
_RETIRE = """
local left = redis.call('PTTL', KEYS[1])
if left > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""

_decode_note = msgspec.msgpack.Decoder(tuple[str, Note])
T = TypeVar("T")


class RedisStore:
    """Implements `SessionStore`."""

    shared = True

    def __init__(self, settings: RedisSettings, sealer: Sealer, *, idle: float) -> None:
        """Connect to nothing yet.

        Args:
            settings: Where the server is.
            sealer: Of a secret that all replicas have.
            idle: Seconds without a request after which a session ends.
        """
        self._prefix = settings.prefix
        self._address = f"{settings.host}:{settings.port}"
        self._sealer = sealer
        self._idle = idle
        self._replica = secrets.token_urlsafe(9)
        self._channel = f"{settings.prefix}notes"
        self._redis = Redis(
            connection_pool=BlockingConnectionPool(
                max_connections=CONNECTIONS + 2,  # one listens, one asks whether the server is well
                timeout=COMMAND_TIMEOUT,
                host=settings.host,
                port=settings.port,
                db=settings.db,
                password=settings.password or None,
                protocol=2,
                socket_timeout=COMMAND_TIMEOUT,
                socket_connect_timeout=COMMAND_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
            )
        )
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._open = self._redis.register_script(_OPEN)
        self._save = self._redis.register_script(_SAVE)
        self._end = self._redis.register_script(_END)
        self._retire = self._redis.register_script(_RETIRE)
        self._seldom = SeldomLog(log)
        self._background = Background("store of sessions")
        self._broken = asyncio.Event()
        self.listener: StoreListener | None = None
        self.trouble = CONNECTING

    def start(self) -> None:
        """See `SessionStore`."""
        self._background.spawn(self._keep_listening(), "listener")

    async def close(self) -> None:
        """See `SessionStore`."""
        await self._background.close()
        with contextlib.suppress(RedisError, OSError):  # a peer that does not say goodbye
            await self._redis.aclose()

    # --- records ---

    async def open(self, record: SessionRecord) -> None:
        """See `SessionStore`."""
        key = self._key(record.id, record.owner)

        async def write() -> Any:
            arguments: list[Any] = [record.revision, self._seal(record), self._life(record)]
            return await self._open(keys=[key], args=arguments)

        await self._ask(write)

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        """See `SessionStore`."""
        key = self._key(session_id, owner)
        kept = await self._ask(lambda: cast("Awaitable[bytes | None]", self._redis.hget(key, "record")))
        return None if kept is None else self._read(kept, session_id, owner)

    async def save(self, record: SessionRecord, changes: Sequence[Change]) -> SessionRecord | None:
        """See `SessionStore`."""
        key = self._key(record.id, record.owner)
        for _ in range(ATTEMPTS):
            new = msgspec.structs.replace(record, revision=record.revision + 1)

            async def write(new: SessionRecord = new, old: int = record.revision) -> Any:
                note = Note(kind=NoteKind.CHANGED, session=new.id, revision=new.revision)
                arguments: list[Any] = [old, new.revision, self._seal(new), self._life(new), *self._addressed(note)]
                return await self._save(keys=[key], args=arguments)

            found = await self._ask(write)
            if found == 1:
                return new
            kept = self._read(found, record.id, record.owner) if isinstance(found, bytes) else None
            if kept is None:
                return None
            if msgspec.structs.replace(kept, revision=0) == msgspec.structs.replace(record, revision=0):
                return kept  # an earlier attempt was carried out although its answer was lost
            record = kept
            for change in changes:
                record = change(record)
            if record == kept:
                return kept
        raise StoreUnavailable("a session changes too fast")

    async def touch(self, records: Sequence[SessionRecord]) -> list[int | None]:
        """See `SessionStore`."""
        kept: list[int | None] = []
        for start in range(0, len(records), AT_ONCE):
            some = records[start : start + AT_ONCE]

            async def write(some: Sequence[SessionRecord] = some) -> list[Any]:
                async with self._redis.pipeline(transaction=False) as commands:
                    for record in some:
                        key = self._key(record.id, record.owner)
                        commands.pexpire(key, self._life(record), gt=True)  # one that has ended is known for longer
                        commands.hget(key, "revision")
                    return await commands.execute()

            found = (await self._ask(write))[1::2]
            kept.extend(int(revision) if revision and revision.isdigit() else None for revision in found)
        return kept

    async def retire(self, record: SessionRecord, since: float) -> bool:
        """See `SessionStore`. Whoever used it after us made its key live longer."""
        left = self._idle + SLACK - since + CLOCK
        key = self._key(record.id, record.owner)

        async def write() -> Any:
            return await self._retire(keys=[key], args=[int(left * 1000)])

        return bool(await self._ask(write))

    async def end(self, session_id: str, owner: str, until: float) -> None:
        """See `SessionStore`."""
        key = self._key(session_id, owner)
        kept = max(1, int((until - time.time()) * 1000))
        arguments: list[Any] = [kept, *self._addressed(Note(kind=NoteKind.ENDED, session=session_id))]

        async def write() -> None:
            await self._end(keys=[key], args=arguments)

        await self._ask(write)

    async def tell(self, note: Note) -> None:
        """See `SessionStore`."""
        await self._ask(lambda: self._redis.publish(*self._addressed(note)))

    # --- forms ---

    def _key(self, session_id: str, owner: str) -> str:
        digest = hashlib.sha256(f"{owner}\0{session_id}".encode()).digest()
        return f"{self._prefix}session:{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    def _life(self, record: SessionRecord) -> int:
        """Return the milliseconds that a record is kept from now on."""
        return max(1, int(min(self._idle + SLACK, record.expires_at - time.time()) * 1000))

    def _seal(self, record: SessionRecord) -> bytes:
        return self._sealer.seal(Purpose.RECORD, encode_record(record)).encode()

    def _read(self, kept: bytes, session_id: str, owner: str) -> SessionRecord | None:
        """Return the record of a session; None for what none of us put there."""
        try:
            record = decode_record(self._sealer.open(Purpose.RECORD, kept.decode("latin-1")))
        except (SealError, RecordError) as err:
            self._seldom.warning("a stored session cannot be used", reason=str(err))
            return None
        if record.id != session_id or record.owner != owner:
            self._seldom.warning("a stored session does not match its key")
            return None
        return record if record.expires_at > time.time() else None

    def _addressed(self, note: Note) -> tuple[str, bytes]:
        content = msgspec.msgpack.encode((self._replica, note))
        return self._channel, self._sealer.seal(Purpose.NOTE, content).encode()

    # --- the server ---

    async def _ask(self, command: Callable[[], Awaitable[T]]) -> T:
        """Carry out a command, once more where the connection turned out to be dead.

        Raises:
            StoreUnavailable: It was not carried out, or nobody knows.
        """
        if self.trouble:
            raise StoreUnavailable(self.trouble)
        async with self._places:
            if self.trouble:
                raise StoreUnavailable(self.trouble)
            return await self._carry_out(command)

    async def _carry_out(self, command: Callable[[], Awaitable[T]]) -> T:
        for last in (False, True):
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    return await command()
            except ReadOnlyError as err:  # it was the primary once
                await self._redis.connection_pool.disconnect(inuse_connections=False)
                if last:
                    raise StoreUnavailable("the server only reads") from err
            except (RedisConnectionError, OSError) as err:
                if last or isinstance(err, (AuthenticationError, RedisTimeoutError, TimeoutError)):
                    raise self._fell_away(err) from err
            except ResponseError as err:
                self._seldom.warning("the session store refuses a command", reason=_kind(err))
                raise StoreUnavailable("the server refuses") from err
            except RedisError as err:
                raise self._fell_away(err) from err
        raise AssertionError

    def _fell_away(self, err: Exception) -> StoreUnavailable:
        trouble = "unauthorized" if isinstance(err, AuthenticationError) else "unavailable"
        if trouble != self.trouble:
            log.warning("the session store does not answer", address=self._address, reason=_kind(err))
        self.trouble = trouble
        self._broken.set()
        return StoreUnavailable(trouble)

    async def _keep_listening(self) -> None:
        backoff = RetryBackoff(first=FIRST_WAIT, limit=LONGEST_WAIT)
        while True:
            try:
                await self._listen(backoff)
            except (RedisError, OSError) as err:
                self._fell_away(err)
            except Exception as err:
                log.exception("listening for other replicas failed")
                self._fell_away(err)
            await asyncio.sleep(backoff.next())

    async def _listen(self, backoff: RetryBackoff) -> None:
        """Hear what other replicas say, until the connection breaks or a command says that the server is away."""
        self._broken.clear()
        async with self._redis.pubsub() as ear:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                await ear.subscribe(self._channel)
                await self._redis.ping()
            if self._broken.is_set():
                return
            if self.trouble:
                log.info("the session store is available", address=self._address)
            self.trouble = ""
            backoff.reset()
            if self.listener is not None:
                self.listener.missed()
            await self._read_notes(ear)

    async def _read_notes(self, ear: PubSub) -> None:
        """Read notes until something broke; a connection that is silent when it is asked is broken."""
        asked = False
        while not self._broken.is_set():
            message = await ear.get_message(timeout=QUIET)
            if message is None:
                if asked:
                    raise RedisTimeoutError("no sign of life")
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    await ear.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                self._hear(message["data"])

    def _hear(self, data: bytes) -> None:
        try:
            replica, note = _decode_note.decode(self._sealer.open(Purpose.NOTE, data.decode("latin-1"), limit=MAX_NOTE))
        except (SealError, msgspec.DecodeError, RecursionError):
            log.debug("ignored a message from an unknown replica")
            return
        if replica == self._replica or self.listener is None:
            return
        try:
            self.listener.heard(note)
        except Exception:
            log.exception("a message from another replica could not be processed")


def _kind(err: BaseException) -> str:
    """Say what went wrong in words that hold nothing of a command: its name, and the server's own code."""
    said = str(err).split(" ", 1)[0]
    return f"{type(err).__name__} {said}" if said.isupper() and said.isalpha() else type(err).__name__
