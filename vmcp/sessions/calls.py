"""Parked calls at other replicas: a client's answers are taken to the replica that holds its call, and what comes back.

A parked call (`vmcp.core.parking`) is an open exchange with a backend and cannot leave its process. The sealed request
state names that process. A retry that arrives elsewhere is sent to it over a channel of its own, and the replica where
it arrived (the asker) waits there for notifications and the result, on behalf of its client.

`PUBLISH` returns how many listen, so a replica that has ended is known to have. The asker repeats that it waits: the
holder thus knows that there is still somebody to answer, and sends a result again that was lost on the way.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from vmcp.backend.interface import BackendError, Era, InputRequired, NotificationSink, Reply
from vmcp.core.parking import CallLost, ParkedCall, ParkedCalls, ParkedElsewhere, ReplicaUnreachable
from vmcp.core.seal import Purpose, Sealer, SealError
from vmcp.sessions.store import StoreUnavailable
from vmcp.tasks import Background
from vmcp.wire.jsonrpc import RpcError
from vmcp.wire.protocol import INTERNAL_ERROR

if TYPE_CHECKING:
    from vmcp.sessions.link import RedisLink

log = structlog.get_logger(__name__)

REPEAT: Final = 2.0
"""Seconds after which an asker says again that it waits."""
GRACE: Final = 3.0
"""Seconds that a replica may be without its channel: it listens again by then after its connection broke."""
SILENCE: Final = 15.0
"""Seconds without a sign of the other side after which it is given up."""
KEPT: Final = 30.0
"""Seconds that a result waits for an asker that could not be reached."""
MAX_KEPT: Final = 16 * 1024 * 1024
"""Bytes of the results that wait, all together; the oldest go first."""
MAX_UNDER_WAY: Final = 4096
"""Retries that are served for other replicas at the same time."""
MAX_MESSAGE: Final = 16 * 1024 * 1024
"""Characters of a message; a longer one is not read, so a larger result is not sent."""
MAX_RESULT: Final = 8 * 1024 * 1024
"""Bytes of a result that another replica gets."""
MAX_WAITING: Final = 256
"""Notifications of one call that wait to be sent; more are lost."""
MAX_SEEN: Final = 4096
"""Retries that are remembered, so that a message that somebody repeats is not carried out again."""


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Go on with a parked call: `responses` are the client's answers, raw JSON; `asker` waits for what comes of it."""

    token: str
    asker: str
    call: str
    owner: str
    responses: bytes | None


class Waiting(msgspec.Struct, frozen=True, tag="waiting"):
    """The asker still waits."""

    token: str
    asker: str


class Abandoned(msgspec.Struct, frozen=True, tag="abandoned"):
    """The client has gone away."""

    token: str


class CallNotification(msgspec.Struct, frozen=True, tag="told"):
    """A notification of the call."""

    token: str
    method: str
    params: bytes


class CallFailure(msgspec.Struct, frozen=True):
    """A `BackendError`."""

    backend: str
    reason: str
    category: str
    status: int


class CallResult(msgspec.Struct, frozen=True, tag="result"):
    """How the wait ended: one of the members but `era` and `status`, or none: there is no such call.

    Attributes:
        token: Of the retry.
        questions: The call waits for its client again, for answers to these (raw `inputRequests`).
        result: As in `Reply`.
        error: As in `Reply`, as JSON.
        state: As in `InputRequired`, whose `result` is `asked`.
        asked: Raw result of a backend that asks by itself.
        requests: As in `InputRequired`.
        failure: The backend gave no answer.
        era: As in `Reply`.
        status: As in `Reply`.
    """

    token: str
    questions: bytes | None = None
    result: bytes | None = None
    error: bytes | None = None
    asked: bytes | None = None
    state: str | None = None
    requests: bytes | None = None
    failure: CallFailure | None = None
    era: Era = Era.LEGACY
    status: int = 200


Message = Resume | Waiting | Abandoned | CallNotification | CallResult
_decoder = msgspec.msgpack.Decoder(Message)


@dataclass(slots=True, eq=False)
class _Asked:
    """A retry that arrived here and is served elsewhere."""

    sink: NotificationSink | None
    result: asyncio.Future[CallResult]


@dataclass(slots=True, eq=False)
class _Served:
    """A retry that arrived elsewhere and is served here."""

    task: asyncio.Task[None] | None
    heard_at: float


class SharedCalls:
    """Implements `vmcp.core.parking.CallsElsewhere`, and is the other side of it, too.

    Attributes:
        name: Of this process, in request states.
    """

    def __init__(self, parked: ParkedCalls, sealer: Sealer, link: Callable[[], RedisLink | None]) -> None:
        """Ask nothing yet.

        Args:
            parked: The calls that are parked here.
            sealer: Of a secret that all replicas have.
            link: Returns the way to the server that they share; None = there is none now.
        """
        self.name = secrets.token_urlsafe(9)
        self._parked = parked
        self._sealer = sealer
        self._link = link
        self._asked: dict[str, _Asked] = {}
        self._served: dict[str, _Served] = {}
        self._results: OrderedDict[str, CallResult] = OrderedDict()
        self._kept = 0
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._background = Background("calls of other replicas")

    @property
    def replica(self) -> str:
        """See `CallsElsewhere`."""
        return self.name if self._link() is not None else ""

    def listen(self, link: RedisLink) -> None:
        """Hear by a connection that has not been started yet."""
        link.ears[self._channel(link, self.name)] = self._hear

    async def close(self) -> None:
        """End what is served for others."""
        await self._background.close()

    # --- the asker ---

    async def resume(
        self, replica: str, call_id: str, owner: str, responses: bytes | None, sink: NotificationSink | None
    ) -> Reply | ParkedElsewhere | None:
        """See `CallsElsewhere`."""
        token = secrets.token_urlsafe(9)
        asked = self._asked[token] = _Asked(sink, asyncio.get_running_loop().create_future())
        try:
            await self._reach(replica, Resume(token, self.name, call_id, owner, responses))
            result = await self._await(replica, token, asked)
        except asyncio.CancelledError:
            self._background.spawn(self._give_up(replica, token), "cancellation")
            raise
        finally:
            del self._asked[token]
        return _from_result(result, replica, call_id)

    async def _await(self, replica: str, token: str, asked: _Asked) -> CallResult:
        reached_at = time.monotonic()
        while True:
            done, _ = await asyncio.wait({asked.result}, timeout=REPEAT)
            if done:
                return asked.result.result()
            try:
                await self._reach(replica, Waiting(token, self.name))
                reached_at = time.monotonic()
            except CallLost:
                if asked.result.done():  # the last that it said
                    return asked.result.result()
                raise
            except ReplicaUnreachable:
                if time.monotonic() - reached_at > SILENCE:
                    raise CallLost from None

    async def _give_up(self, replica: str, token: str) -> None:
        await self._try(replica, Abandoned(token))

    async def _reach(self, replica: str, message: Message) -> None:
        """Send a message to a replica that listens, or is about to listen again.

        Raises:
            CallLost: It does not.
            ReplicaUnreachable: The server does not answer.
        """
        until = time.monotonic() + GRACE
        try:
            while not await self._send(replica, message):
                if time.monotonic() > until:
                    raise CallLost
                await asyncio.sleep(GRACE / 10)
        except StoreUnavailable as err:
            raise ReplicaUnreachable(err.retry_after) from err

    # --- the holder ---

    def _hear(self, data: bytes) -> None:
        try:
            content = self._sealer.open(Purpose.NOTE, data.decode("latin-1"), limit=MAX_MESSAGE)
            message = _decoder.decode(content)
        except (SealError, msgspec.DecodeError, RecursionError):
            log.debug("ignored a message from an unknown replica")
            return
        match message:
            case Resume():
                self._begin(message)
            case Waiting():
                self._still_waited_for(message)
            case Abandoned():
                served = self._served.get(message.token)
                if served is not None and served.task is not None:
                    served.task.cancel()
            case CallNotification():
                asked = self._asked.get(message.token)
                if asked is not None and asked.sink is not None:
                    asked.sink(message.method, message.params)
            case CallResult():
                asked = self._asked.get(message.token)
                if asked is not None and not asked.result.done():
                    asked.result.set_result(message)

    def _begin(self, message: Resume) -> None:
        if message.token in self._seen or len(self._served) >= MAX_UNDER_WAY:
            return
        self._seen[message.token] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        served = self._served[message.token] = _Served(None, time.monotonic())
        served.task = self._background.spawn(self._serve(message, served), "retry")
        served.task.add_done_callback(lambda _: self._served.pop(message.token, None))

    def _still_waited_for(self, message: Waiting) -> None:
        served = self._served.get(message.token)
        if served is not None:
            served.heard_at = time.monotonic()
            return
        result = self._forget(message.token) or CallResult(message.token)
        self._background.spawn(self._deliver(message.asker, result), "result")

    async def _serve(self, message: Resume, served: _Served) -> None:
        """Go on with a call for another replica, as long as that waits."""
        queue: asyncio.Queue[CallNotification] = asyncio.Queue(MAX_WAITING)

        def sink(method: str, params: bytes) -> None:
            if not queue.full():
                queue.put_nowait(CallNotification(message.token, method, params))

        async def pass_on() -> None:
            while True:
                await self._try(message.asker, await queue.get())
                queue.task_done()

        passing = asyncio.create_task(pass_on(), name="notifications for another replica")
        work = asyncio.create_task(
            self._parked.resume(message.call, message.owner, message.responses, sink), name="parked call"
        )
        try:
            while not work.done() and time.monotonic() - served.heard_at < SILENCE:
                await asyncio.wait({work}, timeout=REPEAT)
            if not work.done():
                return  # nobody is there whom it could be told
            try:
                result = _to_result(message.token, await work)
            except BackendError as err:
                failure = CallFailure(err.backend, err.reason, err.category, err.status)
                result = CallResult(message.token, failure=failure)
            await queue.join()
            await self._deliver(message.asker, result)
        finally:
            passing.cancel()
            work.cancel()

    async def _deliver(self, asker: str, result: CallResult) -> None:
        """Send a result; where that fails, it is kept until the asker says that it still waits."""
        if await self._try(asker, result):
            return
        self._results[result.token] = result
        self._kept += _size(result)
        while self._kept > MAX_KEPT:
            self._forget(next(iter(self._results)))
        asyncio.get_running_loop().call_later(KEPT, self._forget, result.token)

    def _forget(self, token: str) -> CallResult | None:
        result = self._results.pop(token, None)
        if result is not None:
            self._kept -= _size(result)
        return result

    # --- messages ---

    async def _try(self, replica: str, message: Message) -> bool:
        try:
            return await self._send(replica, message)
        except StoreUnavailable:
            return False

    async def _send(self, replica: str, message: Message) -> bool:
        """Send a message; return whether the replica listens."""
        link = self._link()
        if link is None:
            raise StoreUnavailable("there is no store")
        sealed = self._sealer.seal(Purpose.NOTE, msgspec.msgpack.encode(message)).encode()
        channel = self._channel(link, replica)
        return bool(await link.ask(lambda: link.redis.publish(channel, sealed)))

    @staticmethod
    def _channel(link: RedisLink, replica: str) -> str:
        return f"{link.prefix}calls:{replica}"


def _size(result: CallResult) -> int:
    """Return about how many bytes a result holds."""
    parts = (result.questions, result.result, result.error, result.asked, result.requests)
    return 256 + sum(len(part) for part in parts if part is not None)


def _to_result(token: str, reply: Reply | ParkedCall | None) -> CallResult:
    if reply is None:
        return CallResult(token)
    if isinstance(reply, ParkedCall):
        return CallResult(token, questions=reply.requests())
    asked = reply.input_required
    sizes = (len(reply.result or b""), 0 if asked is None else len(asked.result) + len(asked.requests or b""))
    if sum(sizes) > MAX_RESULT:
        error = RpcError(INTERNAL_ERROR, "the result is too large to be taken from one replica to another")
        return CallResult(token, error=msgspec.json.encode(error))
    return CallResult(
        token,
        result=reply.result,
        error=None if reply.error is None else msgspec.json.encode(reply.error),
        asked=None if asked is None else asked.result,
        state=None if asked is None else asked.state,
        requests=None if asked is None else asked.requests,
        era=reply.era,
        status=reply.status,
    )


def _from_result(result: CallResult, replica: str, call_id: str) -> Reply | ParkedElsewhere | None:
    failure = result.failure
    if failure is not None:
        error = BackendError(failure.backend, failure.reason, status=failure.status)
        error.category = failure.category
        raise error
    if result.questions is not None:
        return ParkedElsewhere(call_id, replica, result.questions)
    asked = None if result.asked is None else InputRequired(result.requests, result.state, result.asked)
    if result.result is None and result.error is None and asked is None:
        return None
    fault = None if result.error is None else msgspec.json.decode(result.error, type=RpcError)
    return Reply(result=result.result, error=fault, input_required=asked, era=result.era, status=result.status)
