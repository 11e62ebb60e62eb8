"""What a legacy backend sends besides answers: notifications, and requests of its own.

A message that came on a call's own stream belongs to that call. What came on the session's stream is assigned where
that is certain (progress by its token, a question while exactly one call is under way) and otherwise belongs to the
session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from msgspec import UNSET

from vmcp.backend.errors import BackendError, BackendTimeout
from vmcp.backend.interface import Call, RpcFault, SessionEvents
from vmcp.backend.meta import replace_token
from vmcp.backend.model import Era
from vmcp.tasks import Background, loop_time
from vmcp.wire import jsonrpc
from vmcp.wire.jsonrpc import Message, RequestId, RpcError, fields, loads_str
from vmcp.wire.levels import reaches
from vmcp.wire.protocol import (
    CANCELLED,
    INTERNAL_ERROR,
    MESSAGE,
    METHOD_NOT_FOUND,
    PING,
    PROGRESS,
    SERVER_REQUESTS,
)

log = structlog.get_logger(__name__)

MAX_QUESTIONS = 64
"""Questions of one backend that clients may be thinking about at a time, in one session."""
MAX_ANSWERS = 16
"""Answers of one session that may be on their way to the backend; while there are so many, nothing is read from it."""


class HasDeadline(Protocol):
    """Something that stops waiting at a time that may be moved."""

    deadline: float | None


@dataclass(slots=True, eq=False)
class ActiveCall:
    """A call that waits for its answer.

    Attributes:
        call: What was asked.
        token: The client's own progress token, raw; None = it wants no progress.
        deadline: Loop time; stands still while a bridge is at work.
        waits: What enforces the deadline just now.
        tasks: Questions of the backend that belong to it and are open.
    """

    call: Call
    token: bytes | None
    deadline: float
    waits: HasDeadline | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _questions: int = 0
    _since: float = 0.0

    def attach(self, waits: HasDeadline) -> None:
        """Let `waits` enforce the deadline from now on."""
        self.waits = waits
        waits.deadline = None if self._questions else self.deadline

    @property
    def paused(self) -> bool:
        """The clock stands still."""
        return self._questions > 0

    def pause(self) -> None:
        """Stop the clock: the client is being asked."""
        if self._questions == 0:
            self._since = loop_time()
            if self.waits is not None:
                self.waits.deadline = None
        self._questions += 1

    def resume(self) -> None:
        """Let the clock go on."""
        self._questions -= 1
        if self._questions == 0:
            self.deadline += loop_time() - self._since
            if self.waits is not None:
                self.waits.deadline = self.deadline


class Inbox:
    """Sorts the messages of one backend session.

    Attributes:
        active: Calls under way, by request id.
    """

    def __init__(
        self,
        backend: str,
        events: SessionEvents | None,
        post: Callable[[bytes], Awaitable[None]],
        on_notification: Callable[[str, bytes], None] | None = None,
    ) -> None:
        """Take where things go.

        Args:
            backend: Its name.
            events: Of the client session.
            post: Sends our answer to a question.
            on_notification: Sees every notification that belongs to no call, before `events`.
        """
        self.active: dict[RequestId, ActiveCall] = {}
        self._backend = backend
        self._events = events
        self._post = post
        self._listener = on_notification
        self._background = Background(backend)
        self._tasks: dict[RequestId, asyncio.Task[None]] = {}
        self._thinking: set[RequestId] = set()
        self._moved = asyncio.Event()

    def end(self, id_: RequestId) -> None:
        """A call is over: nobody needs the answers to its questions any more."""
        for task in tuple(self.active.pop(id_).tasks):
            task.cancel()

    async def take(self, message: Message, owner: ActiveCall | None) -> None:
        """Take a message that is no response; `owner` is the call on whose stream it came.

        Returns when there is room for the next one: a backend that asks faster than it accepts answers is read slowly.

        Raises:
            BackendTimeout: The owner's deadline passed meanwhile.
        """
        if message.is_request:
            self._question(message, owner)
            await self._room(owner)
        elif message.is_notification:
            self._notification(message, owner)

    def _notification(self, message: Message, owner: ActiveCall | None) -> None:
        assert isinstance(message.method, str)
        method = message.method
        params = jsonrpc.EMPTY if message.params is UNSET else bytes(message.params)
        if method == PROGRESS:
            self._progress(params, owner)
            return
        if method == CANCELLED:
            self._withdrawn(params)
            return
        if owner is not None and owner.call.sink is not None and owner.call.verbatim is Era.LEGACY:
            if self._listener is not None:
                self._listener(method, params)
            owner.call.sink(method, params)
            return
        if owner is not None and method == MESSAGE:
            if owner.call.sink is not None and reaches(loads_str(fields(params).get("level")), owner.call.log_level):
                owner.call.sink(method, params)
            return
        if self._listener is not None:
            self._listener(method, params)
        if self._events is not None:
            self._events.notification(self._backend, method, params)

    def _progress(self, params: bytes, owner: ActiveCall | None) -> None:
        """Deliver progress to the call whose token it carries: we gave each call its request id as token."""
        raw = fields(params).get("progressToken")
        if owner is None and raw is not None:
            token = bytes(raw)
            owner = next((active for id_, active in self.active.items() if jsonrpc.dumps(id_) == token), None)
        if owner is None or owner.token is None or owner.call.sink is None:
            log.debug("dropped progress for an unknown call", backend=self._backend)
            return
        owner.call.sink(PROGRESS, replace_token(params, owner.token))

    def _question(self, message: Message, owner: ActiveCall | None) -> None:
        if owner is None and len(self.active) == 1:
            owner = next(iter(self.active.values()))
        id_ = jsonrpc.known_id(message)
        if id_ is None or id_ in self._tasks:
            log.info("dropped a request from the backend that reuses the id of a pending one", backend=self._backend)
            return
        task = self._tasks[id_] = self._background.spawn(self._reply(id_, message, owner), "a question")
        task.add_done_callback(lambda _: self._over(id_))
        if owner is not None:
            owner.tasks.add(task)
            task.add_done_callback(owner.tasks.discard)

    def _over(self, id_: RequestId) -> None:
        self._tasks.pop(id_, None)
        self._moved.set()

    async def _room(self, owner: ActiveCall | None) -> None:
        """Wait until few enough answers are on their way; questions that people think about do not count."""
        while len(self._tasks) - len(self._thinking) > MAX_ANSWERS:
            self._moved.clear()
            try:
                async with asyncio.timeout_at(None if owner is None or owner.paused else owner.deadline):
                    await self._moved.wait()
            except TimeoutError:
                if owner is not None and not owner.paused and loop_time() >= owner.deadline:
                    raise BackendTimeout(self._backend, "sends requests faster than it accepts answers") from None

    def _withdrawn(self, params: bytes) -> None:
        """The backend no longer wants an answer."""
        raw = fields(params).get("requestId")
        for id_, task in list(self._tasks.items()):
            if raw is not None and jsonrpc.dumps(id_) == bytes(raw):
                task.cancel()

    async def _reply(self, id_: RequestId, message: Message, owner: ActiveCall | None) -> None:
        assert isinstance(message.method, str)
        params = jsonrpc.EMPTY if message.params is UNSET else bytes(message.params)
        try:
            body = jsonrpc.response(id_, await self._ask(id_, message.method, params, owner))
        except RpcFault as fault:
            body = jsonrpc.error_response(id_, fault.error)
        except Exception:
            log.exception("a request from the backend could not be answered", backend=self._backend)
            body = jsonrpc.error_response(id_, RpcError(INTERNAL_ERROR, "the client could not be asked"))
        if owner is not None:
            # From here on it is the backend that waits, and to give up half of a request costs a connection.
            owner.tasks.discard(self._tasks[id_])
        try:
            await self._post(body)
        except BackendError as err:
            log.info("an answer did not reach the backend", backend=self._backend, category=err.category)

    async def _ask(self, id_: RequestId, method: str, params: bytes, owner: ActiveCall | None) -> bytes:
        if method == PING:
            return jsonrpc.EMPTY
        if method not in SERVER_REQUESTS:
            raise RpcFault(RpcError(METHOD_NOT_FOUND, f"no such method: {method[:64]}"))
        if len(self._thinking) >= MAX_QUESTIONS:
            raise RpcFault(RpcError(INTERNAL_ERROR, "too many requests at a time"))
        self._thinking.add(id_)
        self._moved.set()
        try:
            return await self._put(method, params, owner)
        finally:
            self._thinking.discard(id_)

    async def _put(self, method: str, params: bytes, owner: ActiveCall | None) -> bytes:
        """Put a question to the client that it is meant for."""
        if owner is not None and owner.call.bridge is not None:
            owner.pause()
            try:
                return await owner.call.bridge(method, params)
            finally:
                owner.resume()
        if owner is None and self._events is not None:
            return await self._events.request(self._backend, method, params)
        raise RpcFault(RpcError(METHOD_NOT_FOUND, f"the client does not support {method}"))

    async def close(self) -> None:
        """Give up open questions."""
        await self._background.close()
