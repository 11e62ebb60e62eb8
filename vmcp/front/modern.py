"""The modern era (2026-07-28): every POST is whole in itself; no sessions, no GET, no questions to the client.

What a backend asks comes back as `input_required`; closing the connection cancels; what happens outside of calls is
told on `subscriptions/listen`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from vmcp.audit.interface import Outcome as Verdict
from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.backend.interface import Backend, Era, NotificationSink, SessionSpec
from vmcp.core.carried import carried_capabilities
from vmcp.core.items import LIST_METHOD
from vmcp.core.sessions import sharing_key
from vmcp.core.types import DENIED_CODE, Caller, Outcome, failed
from vmcp.front.base import MODERN_CAPABILITIES, Arrival, Front, decode_params, rejected, wants_hints
from vmcp.front.convert import UNCACHED, error_to_modern, to_modern
from vmcp.front.envelope import Meta, Params, check_mirrored, read_envelope
from vmcp.front.exchange import EventWriter, Exchange, bounded
from vmcp.front.listen import Listener, read_filter
from vmcp.http.server.asgi import Receive, Refusal, Send, answer
from vmcp.limits.interface import RATE_LIMITED_CODE
from vmcp.wire.jsonrpc import (
    Message,
    RequestId,
    RpcError,
    dumps,
    error_response,
    known_id,
    loads_str,
    notification,
    response,
)
from vmcp.wire.protocol import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LISTEN,
    LOG_LEVELS,
    MESSAGE,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    PARSE_ERROR,
    PROMPTS_GET,
    RESOURCES_READ,
    SUPPORTED_VERSIONS,
    TOOLS_CALL,
    UNSUPPORTED_VERSION,
)

_USES = frozenset({TOOLS_CALL, RESOURCES_READ, PROMPTS_GET})
_RANK = {level: rank for rank, level in enumerate(LOG_LEVELS)}
STATUS: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}
"""HTTP status by JSON-RPC code; everything else is 200."""


class ModernFront:
    """Serves modern clients."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._listeners: set[Listener] = set()
        self._listening: Counter[str] = Counter()

    @property
    def listening(self) -> int:
        """Open listen streams."""
        return len(self._listeners)

    def drop(self, keep: Callable[[Backend], bool]) -> None:
        """End the listen streams that are subscribed at backends which are no longer there: clients listen anew."""
        for listener in self._listeners:
            if not listener.kept(keep):
                listener.over.set()

    def end_streams(self) -> None:
        """End all listen streams in good order."""
        for listener in self._listeners:
            listener.over.set()

    async def post(self, arrival: Arrival, message: Message | None, receive: Receive, send: Send) -> None:
        """Answer a POST; `message` is None where the body is not a single message.

        Raises:
            Refusal: See there.
        """
        if message is None or message.is_response:
            raise Refusal(400, INVALID_REQUEST, "the body must be one JSON-RPC request or notification")
        if message.is_notification:
            # There is nothing a notification of this era could do; refusing it would help nobody.
            self._front.record(arrival, Era.MODERN, str(message.method), Outcome(), 202)
            await answer(send, 202, b"", ())
            return
        params = read_envelope(arrival.headers, message)
        if message.method == LISTEN:
            await self._listen(arrival, message, params, receive, send)
        else:
            await self._request(arrival, message, params, receive, send)

    async def _request(self, arrival: Arrival, message: Message, params: Params, receive: Receive, send: Send) -> None:
        exchange = Exchange(receive, send, self._front.watches, keep_alive=self._front.settings.keep_alive)
        exchange.json_only = arrival.json_only
        task = asyncio.current_task()
        assert task is not None
        exchange.on_gone = partial(_cancel, task)
        assert params.meta is not UNSET
        caller = self._caller(arrival, params.meta)
        caller.sink = _sink(exchange, caller.log_level)
        raw = decode_params(message.params)
        caller.verify = partial(check_mirrored, arrival.scope["headers"], raw)
        request_id = known_id(message)
        caller.sessions.busy += 1
        try:
            outcome = await self.dispatch(caller, str(message.method), raw, params)
        except asyncio.CancelledError:
            if not exchange.gone:
                raise
            # The client closed the connection: that is how it cancels. Nobody is left to answer.
            task.uncancel()
            exchange.discard()
            self._record(arrival, message, caller, failed(INVALID_REQUEST, "cancelled"), 499)
            return
        except BaseException:
            exchange.discard()
            raise
        finally:
            caller.sessions.busy -= 1
        exchange.on_gone = None
        status, body = modern_answer(request_id, outcome, hints=wants_hints(str(message.method)))
        self._record(arrival, message, caller, outcome, status)
        await exchange.finish(status, body)

    def _record(self, arrival: Arrival, message: Message, caller: Caller, outcome: Outcome, status: int) -> None:
        if self._front.recording:
            self._front.record(
                arrival,
                Era.MODERN,
                str(message.method),
                outcome,
                status,
                request_id=known_id(message),
                trace=caller.trace,
                params=decode_params(message.params),
            )

    def _caller(self, arrival: Arrival, meta: Meta) -> Caller:
        principal = arrival.principal
        assert principal is not None
        capabilities = b"{}" if meta.capabilities is UNSET else carried_capabilities(bytes(meta.capabilities))
        info = None if meta.info is UNSET or bytes(meta.info)[:1] != b"{" else bytes(meta.info)
        headers = self._front.passthrough(arrival.headers)
        key = sharing_key(principal, capabilities, headers)
        if self._front.settings.separate_anonymous and principal.key == ANONYMOUS.key:
            key = (key, object())  # nobody knows who of the anonymous ones this is, so nothing is shared with another
        shared = self._front.gateway.shared
        sessions = shared.find(key)
        if sessions is None:
            if max(len(capabilities), len(info or b"")) > self._front.settings.max_declared:
                raise Refusal(400, INVALID_PARAMS, "invalid params: clientCapabilities or clientInfo are too long")
            spec = SessionSpec(
                principal=principal,
                client_capabilities=capabilities,
                client_info=info,
                headers=headers,
                era=Era.MODERN,
            )
            sessions = shared.get(key, lambda: spec)
        return Caller(
            principal=principal,
            era=Era.MODERN,
            sessions=sessions,
            capabilities=capabilities,
            info=info,
            headers=headers,
            trace=self._front.trace(arrival.headers, _trace_fields(meta)),
            log_level=None if meta.log_level is UNSET else meta.log_level,
        )

    async def dispatch(self, caller: Caller, method: str, raw: bytes, params: Params) -> Outcome:
        """Serve one request."""
        gateway = self._front.gateway
        if method in _USES:
            return await gateway.use(caller, method, raw, params)
        kind = LIST_METHOD.get(method)
        if kind is not None:
            return await gateway.list(caller, kind, raw, self._front.rendering.modern)
        match method:
            case "completion/complete":
                return await gateway.complete(caller, raw)
            case "server/discover":
                return Outcome(result=self.discover(caller.principal), era=Era.MODERN)
        return failed(METHOD_NOT_FOUND, f"Method not found: {method[:128]}")

    def discover(self, principal: Principal) -> bytes:  # noqa: ARG002  one day it may depend on who asks
        """Return the result of `server/discover`."""
        members: dict[str, Any] = {
            "resultType": "complete",
            "supportedVersions": SUPPORTED_VERSIONS,
            "capabilities": MODERN_CAPABILITIES,
        }
        instructions = self._front.instructions()
        if instructions is not None:
            members["instructions"] = instructions
        head = dumps(members)[:-1]
        return b"%b,%b,%b}" % (head, UNCACHED, self._front.rendering.meta)

    async def _listen(self, arrival: Arrival, message: Message, params: Params, receive: Receive, send: Send) -> None:
        request_id = known_id(message)
        wanted = read_filter(decode_params(message.params))
        if wanted is None or request_id is None:
            raise Refusal(400, INVALID_PARAMS, "invalid params: 'notifications' must be an object", id=request_id)
        principal = arrival.principal
        assert principal is not None
        settings = self._front.settings
        each = settings.max_listens if principal is ANONYMOUS else settings.max_listens_each
        if len(self._listeners) >= settings.max_listens or self._listening[principal.key] >= each:
            raise Refusal(503, INTERNAL_ERROR, "too many listen streams", id=request_id)
        assert params.meta is not UNSET
        listener = Listener(self._front.gateway, self._caller(arrival, params.meta), request_id, wanted)
        self._listeners.add(listener)
        self._listening[principal.key] += 1
        self._front.record(arrival, Era.MODERN, LISTEN, Outcome(), 200, request_id=request_id)
        writer = EventWriter(send, keep_alive=self._front.settings.keep_alive)
        gone = asyncio.create_task(_gone(receive), name="client watch")
        over = asyncio.create_task(listener.over.wait())
        started = asyncio.create_task(listener.start(writer))
        try:
            seconds = bounded(principal.seconds_left())
            await asyncio.wait({gone, over}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                writer.write(listener.result())
        finally:
            self._listeners.discard(listener)
            self._listening[principal.key] -= 1
            if not self._listening[principal.key]:
                del self._listening[principal.key]
            if gone.done():
                writer.abandon()
            for task in (gone, over, started):
                task.cancel()
            await writer.finish()
            await listener.close()

    def reject(self, arrival: Arrival, err: Refusal, method: str) -> None:
        """Record a request that was refused."""
        self._front.record(arrival, Era.MODERN, method, rejected(err), err.status, request_id=err.id)


def modern_answer(request_id: RequestId | None, outcome: Outcome, *, hints: bool = False) -> tuple[int, bytes]:
    """Return HTTP status and body for an outcome; `hints` = results of this method carry cache hints."""
    error = outcome.error
    if error is None:
        assert outcome.result is not None
        result = outcome.result
        return 200, response(request_id, result if outcome.era is Era.MODERN else to_modern(result, cacheable=hints))
    if error.code == RATE_LIMITED_CODE and outcome.retry_after is not None:
        error = RpcError(error.code, error.message, Raw(dumps({"retryAfterSeconds": outcome.retry_after})))
        return 200, error_response(request_id, error)
    if error.code == DENIED_CODE and outcome.verdict is Verdict.DENIED:
        return 403, error_response(request_id, error)
    error = error_to_modern(error)
    return STATUS.get(error.code, 200), error_response(request_id, error)


def _sink(exchange: Exchange, level: str | None) -> NotificationSink:
    """Take notifications of a call: progress always, log messages at the level that the request asked for."""

    def sink(method: str, params: bytes) -> None:
        if method == MESSAGE and not _wanted(params, level):
            return
        exchange.emit(notification(method, params))

    return sink


def _wanted(params: bytes, level: str | None) -> bool:
    if level is None:
        return False
    try:
        said = msgspec.json.decode(params, type=_LogParams).level
    except msgspec.DecodeError:
        return False
    return _RANK.get(said, 0) >= _RANK[level]


class _LogParams(msgspec.Struct):
    level: str = "debug"


def _trace_fields(meta: Meta) -> dict[str, str] | None:
    if meta.traceparent is UNSET:
        return None
    found = {"traceparent": meta.traceparent, "tracestate": meta.tracestate, "baggage": meta.baggage}
    values = {name: loads_str(raw) for name, raw in found.items() if raw is not UNSET}
    return {name: value for name, value in values.items() if value is not None}


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
