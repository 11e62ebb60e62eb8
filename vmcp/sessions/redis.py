"""Records in a Redis or Valkey server that replicas share, and what they tell each other over it.

A key is a digest of the session's owner and id, so it opens nothing. A value is sealed (AES-GCM, under a key derived
from the session secret), and names the session that it belongs to: whoever can write to the server can destroy
records, but can neither make one, nor read one, nor put one in the place of another.

This module is imported only where a configuration asks for it: the client library costs memory and start-up time.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final, cast

import msgspec
import structlog

from vmcp.core.seal import Purpose, Sealer, SealError
from vmcp.sessions.link import RedisLink
from vmcp.sessions.record import Change, RecordError, SessionRecord, decode_record, encode_record
from vmcp.sessions.settings import RedisSettings
from vmcp.sessions.store import Note, NoteKind, StoreListener, StoreUnavailable

log = structlog.get_logger(__name__)

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
        link = self._link = RedisLink(settings)
        self._prefix = settings.prefix
        self._sealer = sealer
        self._idle = idle
        self._channel = f"{settings.prefix}notes"
        self._open = link.script(_OPEN)
        self._save = link.script(_SAVE)
        self._end = link.script(_END)
        self._retire = link.script(_RETIRE)
        link.ears[self._channel] = self._hear
        link.connected = self._connected
        self.listener: StoreListener | None = None

    @property
    def link(self) -> RedisLink:
        """See `SessionStore`."""
        return self._link

    @property
    def trouble(self) -> str:
        """See `SessionStore`."""
        return self._link.trouble

    def start(self) -> None:
        """See `SessionStore`."""
        self._link.start()

    async def close(self) -> None:
        """See `SessionStore`."""
        await self._link.close()

    # --- records ---

    async def open(self, record: SessionRecord) -> None:
        """See `SessionStore`."""
        key = self._key(record.id, record.owner)

        async def write() -> Any:
            arguments: list[Any] = [record.revision, self._seal(record), self._life(record)]
            return await self._open(keys=[key], args=arguments)

        await self._link.ask(write)

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        """See `SessionStore`."""
        key = self._key(session_id, owner)
        kept = await self._link.ask(lambda: cast("Awaitable[bytes | None]", self._link.redis.hget(key, "record")))
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

            found = await self._link.ask(write)
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
                async with self._link.redis.pipeline(transaction=False) as commands:
                    for record in some:
                        key = self._key(record.id, record.owner)
                        commands.pexpire(key, self._life(record), gt=True)  # one that has ended is known for longer
                        commands.hget(key, "revision")
                    return await commands.execute()

            found = (await self._link.ask(write))[1::2]
            kept.extend(int(revision) if revision and revision.isdigit() else None for revision in found)
        return kept

    async def retire(self, record: SessionRecord, since: float) -> bool:
        """See `SessionStore`. Whoever used it after us made its key live longer."""
        left = self._idle + SLACK - since + CLOCK
        key = self._key(record.id, record.owner)

        async def write() -> Any:
            return await self._retire(keys=[key], args=[int(left * 1000)])

        return bool(await self._link.ask(write))

    async def end(self, session_id: str, owner: str, until: float) -> None:
        """See `SessionStore`."""
        key = self._key(session_id, owner)
        kept = max(1, int((until - time.time()) * 1000))
        arguments: list[Any] = [kept, *self._addressed(Note(kind=NoteKind.ENDED, session=session_id))]

        async def write() -> None:
            await self._end(keys=[key], args=arguments)

        await self._link.ask(write)

    async def tell(self, note: Note) -> None:
        """See `SessionStore`."""
        await self._link.ask(lambda: self._link.redis.publish(*self._addressed(note)))

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
            self._link.seldom.warning("a stored session cannot be used", reason=str(err))
            return None
        if record.id != session_id or record.owner != owner:
            self._link.seldom.warning("a stored session does not match its key")
            return None
        return record if record.expires_at > time.time() else None

    def _addressed(self, note: Note) -> tuple[str, bytes]:
        content = msgspec.msgpack.encode((self._link.replica, note))
        return self._channel, self._sealer.seal(Purpose.NOTE, content).encode()

    # --- what other replicas say ---

    def _connected(self) -> None:
        if self.listener is not None:
            self.listener.missed()

    def _hear(self, data: bytes) -> None:
        try:
            replica, note = _decode_note.decode(self._sealer.open(Purpose.NOTE, data.decode("latin-1"), limit=MAX_NOTE))
        except (SealError, msgspec.DecodeError, RecursionError):
            log.debug("ignored a message from an unknown replica")
            return
        if replica != self._link.replica and self.listener is not None:
            self.listener.heard(note)
