"""Calls that wait for their client between two of its requests.

A legacy backend asks in the middle of a call and keeps it open; a modern client can only be asked by ending its request
with `input_required`, and answers with a new request. In between the backend's call is *parked*: it goes on waiting in
a task of its own, and the sealed request state that the client returns names it. It lives in this process; what takes
the answers of a retry that reached another replica there is a `CallsElsewhere`.

Parked calls are bounded in number and in bytes, per principal and in all, and in time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from vmcp.backend.interface import Era, NotificationSink, Reply, RpcFault, ServerRequestBridge
from vmcp.budget import FairBudget
from vmcp.wire.jsonrpc import RpcError, dumps, fields, join
from vmcp.wire.protocol import INTERNAL_ERROR

GATHER = 0.02
"""Seconds that the first question waits for others of the same call."""

PER_OWNER = 256
"""Parked calls of one principal."""

HELD: Final = 16 * 1024 * 1024
"""Bytes of the params of all parked calls: these are kept until the call is over, long after its request."""
HELD_EACH: Final = HELD // 2
"""Of these, of one principal."""

_TOO_MANY: Final = RpcError(INTERNAL_ERROR, "too many calls are waiting for their clients")

Start = Callable[[ServerRequestBridge, NotificationSink], Awaitable[Reply]]
"""Starts the backend's call with a bridge and a sink."""


@dataclass(slots=True)
class Question:
    """Something that the backend wants to know from the client."""

    method: str
    params: bytes
    answer: asyncio.Future[bytes]


@dataclass(slots=True, eq=False)
class ParkedCall:
    """One open call of a backend.

    Attributes:
        id: Random; known to the client only inside a sealed state.
        owner: `Principal.key`.
        questions: Not answered yet, by key.
        sink: Where notifications go now: the request that the client is waiting on, or nowhere.
        size: Bytes of its params.
        surplus: It asks although too many calls wait already.
    """

    id: str
    owner: str
    questions: dict[str, Question] = field(default_factory=dict)
    sink: NotificationSink | None = None
    task: asyncio.Task[Reply] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    expiry: asyncio.TimerHandle | None = None
    asked: int = 0
    size: int = 0
    surplus: bool = False

    def notify(self, method: str, params: bytes) -> None:
        """Pass a notification to whoever waits now."""
        if self.sink is not None:
            self.sink(method, params)

    async def ask(self, method: str, params: bytes) -> bytes:
        """Be the bridge: keep the question until the client answered it."""
        self.asked += 1
        question = Question(method, params, asyncio.get_running_loop().create_future())
        key = f"{method.partition('/')[0]}-{self.asked}"
        self.questions[key] = question
        self.wake.set()
        try:
            return await question.answer
        finally:
            self.questions.pop(key, None)

    def requests(self) -> bytes:
        """Return the open questions as the raw `inputRequests` object."""
        return join(
            {
                key: join({"method": dumps(question.method), "params": question.params})
                for key, question in self.questions.items()
            }
        )


class CallLost(Exception):  # noqa: N818  what has happened, not what went wrong
    """The replica that held a parked call has ended, and the call with it."""


class ReplicaUnreachable(Exception):  # noqa: N818  what it is, not what went wrong
    """The replica that holds a parked call cannot be reached now.

    Attributes:
        retry_after: Seconds after which the client may bring its answers again.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class ParkedElsewhere:
    """A parked call of another replica that waits for its client.

    Attributes:
        id: Of the call, at that replica.
        replica: Its name.
        questions: Raw `inputRequests` object.
    """

    id: str
    replica: str
    questions: bytes

    def requests(self) -> bytes:
        """Return the open questions, as `ParkedCall.requests`."""
        return self.questions


class CallsElsewhere(Protocol):
    """Reaches the calls that are parked at other replicas."""

    @property
    def replica(self) -> str:
        """The name by which the others reach calls of this process; "" = they cannot."""
        ...

    async def resume(
        self, replica: str, call_id: str, owner: str, responses: bytes | None, sink: NotificationSink | None
    ) -> Reply | ParkedElsewhere | None:
        """As `ParkedCalls.resume`, for a call that is parked at `replica`.

        Raises:
            BackendError: The backend gave no answer.
            CallLost: The replica has ended.
            ReplicaUnreachable: Nobody knows.
        """
        ...


class ParkedCalls:
    """The parked calls of this process."""

    def __init__(self, *, limit: int = 4096, per_owner: int = PER_OWNER, ttl: float = 600.0) -> None:
        """Take the bounds: calls in all, calls per principal, and seconds between two requests of the client."""
        self._limit = limit
        self._per_owner = per_owner
        self.ttl = ttl
        self._calls: dict[str, ParkedCall] = {}
        self._owners: Counter[str] = Counter()
        self._held = FairBudget(HELD, HELD_EACH)

    def __len__(self) -> int:
        return len(self._calls)

    async def run(
        self, owner: str, start: Start, sink: NotificationSink | None, *, size: int = 0
    ) -> Reply | ParkedCall:
        """Run a call until it ends or asks; cancelled when the awaiting task is.

        A call that asks while too many others wait is over: its backend might hold it open for as long as it likes.

        Args:
            owner: `Principal.key`.
            start: Starts it.
            sink: Where its notifications go until it asks.
            size: Bytes of its params, which it keeps until it ends.

        Returns:
            The reply, or the call, parked, with its questions.
        """
        call = ParkedCall(secrets.token_urlsafe(12), owner, sink=sink, size=size)

        async def bridge(method: str, params: bytes) -> bytes:
            if call.id not in self._calls and not self._admit(call):
                call.surplus = True
                call.wake.set()
                raise RpcFault(_TOO_MANY)
            return await call.ask(method, params)

        async def body() -> Reply:
            return await start(bridge, call.notify)

        call.task = asyncio.create_task(body(), name="parkable call")
        call.task.add_done_callback(lambda _: call.wake.set())
        return await self._wait(call)

    async def resume(
        self, call_id: str, owner: str, responses: bytes | None, sink: NotificationSink | None
    ) -> Reply | ParkedCall | None:
        """Hand the client's answers to its parked call and go on. Answers to nothing that was asked are ignored.

        Returns:
            As `run`; None when there is no such call (any more) or another request is already waiting on it.
        """
        call = self._calls.get(call_id)
        if call is None or call.owner != owner or call.expiry is None:
            return None
        call.expiry.cancel()
        call.expiry = None
        call.sink = sink
        for key, answer in fields(responses).items():
            # An answer that is no object is none: the question stays open and is asked again.
            question = call.questions.pop(key, None) if bytes(answer)[:1] == b"{" else None
            if question is not None and not question.answer.done():
                question.answer.set_result(bytes(answer))
        if not call.questions:
            call.wake.clear()
        return await self._wait(call)

    async def close(self) -> None:
        """Cancel all."""
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        for call in list(self._calls.values()):
            self._end(call)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, call: ParkedCall) -> Reply | ParkedCall:
        task = call.task
        assert task is not None
        try:
            while True:
                await call.wake.wait()
                if call.questions and not task.done():
                    # What a backend asks at once should reach the client at once.
                    await asyncio.wait({task}, timeout=GATHER)
                if task.done() or call.questions or call.surplus:
                    break
                call.wake.clear()
        except asyncio.CancelledError:
            self._end(call)
            raise
        call.sink = None
        if call.surplus:
            self._end(call)
            return Reply(error=_TOO_MANY, era=Era.LEGACY)
        if task.done():
            self._end(call)
            return task.result()
        call.expiry = asyncio.get_running_loop().call_later(self.ttl, self._end, call)
        return call

    def _admit(self, call: ParkedCall) -> bool:
        if len(self._calls) >= self._limit or self._owners[call.owner] >= self._per_owner:
            return False
        if not self._held.take(call.owner, call.size):
            return False
        self._calls[call.id] = call
        self._owners[call.owner] += 1
        return True

    def _end(self, call: ParkedCall) -> None:
        if self._calls.pop(call.id, None) is not None:
            self._owners[call.owner] -= 1
            if not self._owners[call.owner]:
                del self._owners[call.owner]
            self._held.give_back(call.owner, call.size)
        if call.expiry is not None:
            call.expiry.cancel()
            call.expiry = None
        task, call.task = call.task, None  # the two know each other: together they would wait for a collection
        if task is not None:
            task.cancel()
