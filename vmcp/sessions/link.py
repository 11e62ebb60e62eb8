"""The connection to a Redis or Valkey server that replicas share: commands with time-outs, a circuit, two ears.

Every command has a time-out. When one fails for want of an answer, the circuit opens: nothing is asked any more until
the listener, which tries again with growing waits, has found the server well. Meanwhile whoever asks is told at once.

This module is imported only where a configuration asks for it: the client library costs memory and start-up time.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from vmcp.backend.backoff import RetryBackoff
from vmcp.observe.seldom import SeldomLog
from vmcp.sessions.reaching import connection_options
from vmcp.sessions.settings import RedisSettings
from vmcp.sessions.unavailable import CONNECTING, StoreUnavailable
from vmcp.tasks import Background

log = structlog.get_logger(__name__)

COMMAND_TIMEOUT: Final = 1.5
"""Seconds for a command, a new connection included: the first packet of one is sent again after a second where it was
lost (RFC 6298, 2.1), and one lost packet is no reason to give a server up."""
CONNECTIONS: Final = 16
"""Commands at the same time. Those that wait for a place are not the server's fault: their time begins with it."""
LATE: Final = 0.1
"""Seconds by which a timer may be late before this process counts as having stood still."""
QUIET: Final = 1.0
"""Seconds without a message after which the server is asked for a sign of life."""
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 2.0
"""Seconds between two attempts to find the server well again."""

T = TypeVar("T")


class RedisLink:
    """One server, as one process sees it.

    Attributes:
        prefix: Put before every key and channel.
        replica: Names this process among those that share the server.
        trouble: Why the server does not answer at the moment, in one word; "" = it does, as far as is known.
        ears: Channel -> what takes its messages, which must not block. Filled before `start`.
        connected: Called each time that the channels are heard again: messages may have been lost. Must not block.
    """

    def __init__(self, settings: RedisSettings) -> None:
        """Connect to nothing yet; `settings` say where the server is."""
        self.prefix = settings.prefix
        self.replica = secrets.token_urlsafe(9)
        self.trouble = CONNECTING
        self.ears: dict[str, Callable[[bytes], None]] = {}
        self.connected: Callable[[], None] = lambda: None
        self.seldom = SeldomLog(log)
        self._address = f"{settings.host}:{settings.port}"
        self.redis = Redis(
            connection_pool=BlockingConnectionPool(
                max_connections=CONNECTIONS + 2,  # one listens, one asks whether the server is well
                timeout=COMMAND_TIMEOUT,
                **connection_options(settings),
                protocol=2,
                driver_info=None,  # a command less for each connection, and one less that a user must be allowed
                socket_timeout=3 * COMMAND_TIMEOUT,  # the time-outs that count are ours
                socket_connect_timeout=3 * COMMAND_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
            )
        )
        self._scripts: list[AsyncScript] = []
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._background = Background("link to the shared server")
        self._broken = asyncio.Event()

    def start(self) -> None:
        """Begin to listen, and to look whether the server is well."""
        self._background.spawn(self._keep_listening(), "listener")

    async def close(self) -> None:
        """Close connections."""
        await self._background.close()
        with contextlib.suppress(RedisError, OSError):  # a peer that does not say goodbye
            await self.redis.aclose()

    def script(self, text: str) -> AsyncScript:
        """Return a script that runs at the server."""
        script = self.redis.register_script(text)
        self._scripts.append(script)
        return script

    async def run(self, script: AsyncScript, keys: list[Any], arguments: list[Any]) -> Any:
        """Run a script; see `ask`."""
        return await self.ask(lambda: script(keys=keys, args=arguments))

    async def ask(self, command: Callable[[], Awaitable[T]]) -> T:
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
                async with _in_time():
                    return await command()
            except ReadOnlyError as err:  # it was the primary once
                await self.redis.connection_pool.disconnect(inuse_connections=False)
                if last:
                    raise StoreUnavailable("the server only reads") from err
            except (RedisConnectionError, OSError) as err:
                if last or isinstance(err, (AuthenticationError, RedisTimeoutError, TimeoutError)):
                    raise self._fell_away(err) from err
            except ResponseError as err:
                self.seldom.warning("the session store refuses a command", reason=_kind(err))
                raise StoreUnavailable("the server refuses") from err
            except RedisError as err:
                raise self._fell_away(err) from err
        raise AssertionError

    def _fell_away(self, err: Exception) -> StoreUnavailable:
        trouble = "unauthorized" if isinstance(err, AuthenticationError) else "unavailable"
        if _distrusted(err) is not None:
            trouble = "untrusted"
        if trouble != self.trouble:
            log.warning("the session store does not answer", address=self._address, reason=_kind(err))
        self.trouble = trouble
        self._broken.set()
        return StoreUnavailable(trouble)

    # --- what other processes say ---

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
        async with self.redis.pubsub() as channels:
            async with _in_time():
                await channels.subscribe(*self.ears)
            async with _in_time():
                await self.redis.ping()
            async with _in_time(), self.redis.pipeline(transaction=False) as commands:
                for script in self._scripts:
                    commands.script_load(script.script)
                await commands.execute()
            if self._broken.is_set():
                return
            if self.trouble:
                log.info("the session store is available", address=self._address)
            self.trouble = ""
            backoff.reset()
            self.connected()
            await self._read(channels)

    async def _read(self, channels: PubSub) -> None:
        """Read messages until something broke; a connection that is silent when it is asked is broken."""
        asked = False
        while not self._broken.is_set():
            message = await channels.get_message(timeout=QUIET)
            if message is None:
                if asked:
                    raise RedisTimeoutError("no sign of life")
                async with _in_time():
                    await channels.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                self._take(message["channel"].decode(), message["data"])

    def _take(self, channel: str, data: bytes) -> None:
        try:
            self.ears[channel](data)
        except Exception:
            log.exception("a message from another replica could not be processed")


@contextlib.asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Limit the time of a command, but not where this process has just been standing still itself.

    A container that is throttled, or suspended, finds its time-outs over when it goes on, while the answers have been
    waiting for it to read them. The server is not to blame for that, so the command gets its time once more.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + COMMAND_TIMEOUT
    async with asyncio.timeout_at(due) as deadline:

        def look() -> None:
            if loop.time() - due > LATE:
                deadline.reschedule(loop.time() + COMMAND_TIMEOUT)

        watch = loop.call_at(due - LATE / 10, look)  # before the deadline, if both are overdue
        try:
            yield
        finally:
            watch.cancel()


def _distrusted(err: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return what is wrong with the server's certificate, if that is it."""
    for _ in range(5):
        if err is None or isinstance(err, ssl.SSLCertVerificationError):
            return err
        err = err.__cause__ or err.__context__
    return None


def _kind(err: BaseException) -> str:
    """Say what went wrong in words that hold nothing of a command: its name, and the server's own code."""
    distrusted = _distrusted(err)
    if distrusted is not None:
        return f"its certificate is not trusted: {distrusted.verify_message}"
    said = str(err).split(" ", 1)[0]
    return f"{type(err).__name__} {said}" if said.isupper() and said.isalpha() else type(err).__name__
