"""The legacy era (2025-11-25 and older): sessions, answers as JSON or event stream, the session's own stream.

POST carries one message (in 2025-03-26 also a batch): requests are answered, notifications and answers of the client
get 202. GET opens the session's stream or takes up a broken one. DELETE ends the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.audit.interface import EventType
from vmcp.auth.interface import Principal
from vmcp.backend.interface import BackendError, Era, HeaderList
from vmcp.core.carried import carried_capabilities
from vmcp.core.items import LIST_METHOD
from vmcp.core.types import Caller, RequestOutcome, failed
from vmcp.front.base import Front, decode_params, no_remote
from vmcp.front.calls import at_once, carry_out
from vmcp.front.exchange import Exchange, SseWriter
from vmcp.front.legacy_call import PRIMED, LegacyCall
from vmcp.front.request import Arrival, McpRequest, Told, told
from vmcp.front.session import ClientSession
from vmcp.front.sessions import Sessions, TooManySessions
from vmcp.front.streams import EventStream
from vmcp.http.server.asgi import Receive, Refusal, Send, answer, text
from vmcp.sessions.store import NoteKind, StoreUnavailable
from vmcp.trace import TraceContext
from vmcp.wire.jsonrpc import (
    JsonRpcError,
    Message,
    RequestId,
    dumps,
    fields,
    known_id,
    loads_id,
    loads_str,
    parse,
    response,
)
from vmcp.wire.protocol import (
    CANCELLED,
    INITIALIZE,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LATEST_LEGACY,
    LEGACY_VERSIONS,
    LOG_LEVELS,
    PROMPTS_GET,
    RESOURCES_READ,
    RESOURCES_SUBSCRIBE,
    TOOLS_CALL,
)

SESSION_NOT_FOUND: Final = -32001
"""What the SDKs answer, with HTTP 404: the client shall initialize again."""
BATCHING: Final = "2025-03-26"
"""The one version in which a body may be an array."""
_USES = frozenset({TOOLS_CALL, RESOURCES_READ, PROMPTS_GET})
_VERSIONS = frozenset({None, *(version.encode() for version in LEGACY_VERSIONS)})
_EMPTY = b"{}"


class LegacyFront:
    """Serves legacy clients."""

    def __init__(self, front: Front, sessions: Sessions) -> None:
        self._front = front
        self._sessions = sessions
        # A proxy tells its remote a level only when the client did.
        self._unsaid_level = None if front.gateway.transparent else "info"

    # --- POST ---

    def post(self, request: McpRequest, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a request.

        Raises:
            Refusal: See there.
        """
        arrival = request.arrival
        self._check_version(arrival)
        if request.method == INITIALIZE:
            return self._initialize(request, send)
        session = self._sessions.here(_session_id(arrival, request.id), request.principal)
        if session is None:
            return self._serve_from_elsewhere(request, receive, send)
        return self._serve(session, request, receive, send)

    async def _serve_from_elsewhere(self, request: McpRequest, receive: Receive, send: Send) -> None:
        """Answer a request of a session whose life is not here."""
        session = await self._session(request.arrival, request.principal, request.id)
        await self._serve(session, request, receive, send)

    def _serve(self, session: ClientSession, request: McpRequest, receive: Receive, send: Send) -> Awaitable[None]:
        front = self._front
        if session.active >= front.settings.max_inflight:
            raise Refusal(429, INVALID_REQUEST, "too many requests of this session are in progress", id=request.id)
        exchange = Exchange(
            receive, send, front.watches, keep_alive=front.settings.keep_alive, json_only=request.json_only
        )
        trace = front.trace(request.arrival.headers)
        call = LegacyCall(request, session, exchange, self._sessions, trace=trace)
        caller = self._caller(session, request.principal, front.passthrough(request.arrival.headers), call, trace)
        return carry_out(front, request, caller, call, partial(self.dispatch, session))

    async def take(self, arrival: Arrival, principal: Principal, message: Message, send: Send) -> None:
        """Take a notification or an answer of the client.

        Raises:
            Refusal: See there.
        """
        self._check_version(arrival)
        session = await self._session(arrival, principal)
        await self._take(session, message)
        if message.is_notification:
            what = Told(arrival, Era.LEGACY, str(message.method), principal, session_id=session.id)
            self._front.record(what, RequestOutcome(), 202)
        await answer(send, 202, b"", ())

    def _check_version(self, arrival: Arrival) -> None:
        if arrival.headers.get(b"mcp-protocol-version") in _VERSIONS:
            return
        version = text(arrival.headers, b"mcp-protocol-version")
        if version is not None and version not in LEGACY_VERSIONS:
            supported = ", ".join(LEGACY_VERSIONS)
            raise Refusal(400, INVALID_REQUEST, f"unsupported protocol version; supported: {supported}")

    async def _session(
        self, arrival: Arrival, principal: Principal, request_id: RequestId | None = None
    ) -> ClientSession:
        """Return the session that a request names.

        Raises:
            Refusal: 400 without an id, 404 for an id that is not (or no longer) this caller's, and see `_found`.
        """
        session = await self._found(_session_id(arrival, request_id), arrival, principal, request_id)
        if session is None:
            raise Refusal(404, SESSION_NOT_FOUND, "session not found", id=request_id)
        return session

    async def _found(
        self, session_id: str, arrival: Arrival, principal: Principal, request_id: RequestId | None
    ) -> ClientSession | None:
        """Return the session of this id, if it is this caller's.

        Raises:
            Refusal: 503 while that cannot be known, 429 where there is no room for it.
        """
        try:
            session = await self._sessions.find(session_id, principal, self._front.passthrough(arrival.headers))
        except StoreUnavailable as err:
            raise store_unavailable(err, request_id) from err
        except TooManySessions:
            raise Refusal(429, INVALID_REQUEST, "too many sessions are in use", id=request_id) from None
        if session is not None and session.renewing:
            session.renewing = False
            self._sessions.spawn(session, self._renew(session), "subscriptions")
        return session

    async def _renew(self, session: ClientSession) -> None:
        """Subscribe here to what another process subscribed to: it may be gone, and its streams with it."""
        caller = self._caller(session, session.principal, session.headers)
        for uri in session.record.subscriptions:
            await self._front.gateway.subscribe(caller, uri, method=RESOURCES_SUBSCRIBE)

    async def _check_unnamed(self, request: McpRequest) -> None:
        """Refuse an `initialize` that names a live session.

        Clients keep the id of a session that ended (a reloaded editor, a restarted gateway) and start anew with it;
        they get a new session, since a refusal would leave them stuck with the old id.

        Raises:
            Refusal: 400, and see `_found`.
        """
        session_id = text(request.arrival.headers, b"mcp-session-id")
        if session_id and await self._found(session_id, request.arrival, request.principal, request.id) is not None:
            raise Refusal(400, INVALID_REQUEST, "the session is already initialized", id=request.id)

    async def _initialize(self, request: McpRequest, send: Send) -> None:
        await self._check_unnamed(request)
        session = await self._open(request)
        try:
            said = await self._front.introduction(session.backends)
        except BackendError as err:
            with contextlib.suppress(StoreUnavailable):  # nobody knows its id, and it expires
                await self._sessions.end(session)
            raise no_remote(err, request.id) from err
        result: dict[str, Any] = {
            "protocolVersion": session.record.version,
            "capabilities": Raw(said.capabilities),
            "serverInfo": Raw(said.server_info or self._front.server_info),
        }
        if said.instructions is not None:
            result["instructions"] = said.instructions
        body = response(request.id, dumps(result))
        headers = (
            (b"content-type", b"application/json"),
            (b"mcp-session-id", session.id.encode()),
        )
        what = told(request, session_id=session.id, params=False)
        self._front.record(what, RequestOutcome(result=body), 200)
        await answer(send, 200, body, headers)

    async def _open(self, request: McpRequest) -> ClientSession:
        """Open the session that an `initialize` asks for.

        Raises:
            Refusal: 400 for what the client says of itself, 429 where there is no room, 503 without the store.
        """
        params = fields(request.params)
        asked = loads_str(params.get("protocolVersion"))
        if asked is None:
            raise Refusal(400, INVALID_PARAMS, "member 'protocolVersion' is missing", id=request.id)
        capabilities = bytes(params.get("capabilities", Raw(_EMPTY)))
        info = params.get("clientInfo")
        if max(len(capabilities), len(info or b"")) > self._front.settings.max_declared:
            raise Refusal(400, INVALID_PARAMS, "capabilities or clientInfo are too long", id=request.id)
        try:
            return await self._sessions.open(
                request.principal,
                asked if asked in LEGACY_VERSIONS else LATEST_LEGACY,
                carried_capabilities(capabilities) if capabilities[:1] == b"{" else _EMPTY,
                None if info is None or bytes(info)[:1] != b"{" else bytes(info),
                self._front.passthrough(request.arrival.headers),
            )
        except TooManySessions:
            raise Refusal(429, INVALID_REQUEST, "too many sessions are in use", id=request.id) from None
        except StoreUnavailable as err:
            raise store_unavailable(err, request.id) from err

    def _caller(
        self,
        session: ClientSession,
        principal: Principal,
        headers: HeaderList,
        call: LegacyCall | None = None,
        trace: TraceContext | None = None,
    ) -> Caller:
        """Return on whose behalf backends are asked; `call` hears and answers them meanwhile, None = nobody does."""
        record = session.record
        return Caller(
            principal=principal,
            era=Era.LEGACY,
            sessions=session.backends,
            capabilities=record.capabilities,
            info=record.info,
            headers=headers,
            trace=trace,
            log_level=record.level or self._unsaid_level,
            sink=None if call is None else call.sink,
            bridge=None if call is None else call.bridge,
        )

    def dispatch(self, session: ClientSession, caller: Caller, request: McpRequest) -> Awaitable[RequestOutcome]:
        """Serve one request of a session."""
        gateway, method, params = self._front.gateway, request.method, request.params
        if method in _USES:
            return gateway.use(caller, method, params, request.target)
        kind = LIST_METHOD.get(method)
        if kind is not None:
            return gateway.list(caller, kind, params, self._front.rendering.legacy)
        match method:
            case "ping":
                return at_once(RequestOutcome(result=_EMPTY))
            case "completion/complete":
                return gateway.complete(caller, params)
            case "logging/setLevel":
                return self._set_level(session, caller, params)
            case "resources/subscribe" | "resources/unsubscribe":
                return self._subscribe(session, caller, method, params)
        return gateway.other(caller, method, params)

    async def _subscribe(self, session: ClientSession, caller: Caller, method: str, params: bytes) -> RequestOutcome:
        uri = loads_str(fields(params).get("uri"))
        if uri is None:
            return failed(INVALID_PARAMS, "invalid params: member 'uri' is missing")
        asks = method == RESOURCES_SUBSCRIBE
        more = session.record.with_subscription(uri)
        if asks and (len(more.subscriptions) > self._front.settings.max_subscriptions or not more.fits):
            return failed(INVALID_REQUEST, "too many subscriptions of this session")
        outcome = await self._front.gateway.subscribe(caller, uri, method=method)
        if not asks:
            session.change(lambda record: record.without_subscription(uri))
        elif outcome.error is None:
            session.change(lambda record: record.with_subscription(uri))
        return outcome if outcome.error is not None else RequestOutcome(result=_EMPTY, route=outcome.route, name=uri)

    async def _set_level(self, session: ClientSession, caller: Caller, params: bytes) -> RequestOutcome:
        level = loads_str(fields(params).get("level"))
        if level not in LOG_LEVELS:
            return failed(INVALID_PARAMS, f"invalid params: level must be one of {', '.join(LOG_LEVELS)}")
        outcome = await self._front.gateway.set_level(caller, params) or RequestOutcome(result=_EMPTY)
        if outcome.error is None:
            session.change(lambda record: record.with_level(level))
        return outcome

    async def _take(self, session: ClientSession, message: Message) -> None:
        """Take a notification or an answer of the client."""
        if message.is_response:
            if not session.answered(message):
                self._sessions.pass_on(session, NoteKind.ANSWER, msgspec.json.encode(message))
        elif message.method == CANCELLED:
            request_id = loads_id(fields(decode_params(message.params)).get("requestId"))
            task = None if request_id is None else session.inflight.get(request_id)
            if task is not None:
                task.cancel()
            elif request_id is not None:
                self._sessions.pass_on(session, NoteKind.CANCELLED, dumps(request_id))
        elif self._front.gateway.passes(method := str(message.method)):
            await self._front.gateway.notify(session.backends, method, decode_params(message.params))

    async def batch(self, arrival: Arrival, principal: Principal, body: bytes, send: Send) -> None:
        """Answer an array of messages, each as if it had come alone; what belongs to no answer takes the own stream.

        Raises:
            Refusal: 400 where the session's version has no batches.
        """
        self._check_version(arrival)
        session = await self._session(arrival, principal)
        if session.record.version != BATCHING:
            raise Refusal(400, INVALID_REQUEST, "JSON-RPC batches are not supported in this protocol version")
        try:
            raws = msgspec.json.decode(body, type=list[Raw])
            messages = [parse(raw) for raw in raws]
        except (msgspec.DecodeError, JsonRpcError) as err:
            raise Refusal(400, INVALID_REQUEST, "the batch contains something that is not a message") from err
        if not messages or len(messages) > self._front.settings.max_batch:
            raise Refusal(400, INVALID_REQUEST, "the batch is empty or too long")
        if any(message.method == INITIALIZE for message in messages):
            raise Refusal(400, INVALID_REQUEST, "initialize must not be part of a batch")
        asking = sum(message.is_request for message in messages)
        if session.active + asking > self._front.settings.max_inflight:
            raise Refusal(429, INVALID_REQUEST, "too many requests of this session are in progress")
        found = await asyncio.gather(*(self._of_batch(arrival, principal, session, message) for message in messages))
        answers = [answer for answer in found if answer is not None]
        if not answers:
            await answer(send, 202, b"", ())
            return
        await answer(send, 200, b"[" + b",".join(answers) + b"]")

    async def _of_batch(
        self, arrival: Arrival, principal: Principal, session: ClientSession, message: Message
    ) -> bytes | None:
        if not message.is_request:
            await self._take(session, message)
            return None
        params = decode_params(message.params)
        request = McpRequest(arrival, principal, Era.LEGACY, str(message.method), known_id(message), params)
        trace = self._front.trace(arrival.headers)
        call = LegacyCall(request, session, None, self._sessions, trace=trace)
        session.active += 1
        try:
            caller = self._caller(session, principal, self._front.passthrough(arrival.headers), call, trace)
            outcome = await self.dispatch(session, caller, request)
        finally:
            session.active -= 1
        if session.unsaved:
            await self._sessions.save(session)
        status, body = call.answer(outcome)
        if self._front.recording:
            self._front.record(call.told(), outcome, status)
        return body

    # --- GET and DELETE ---

    async def get(self, arrival: Arrival, principal: Principal, receive: Receive, send: Send) -> None:
        """Open the session's own stream, or take up the stream that `Last-Event-ID` names.

        Raises:
            Refusal: See there.
        """
        if b"text/event-stream" not in arrival.headers.get(b"accept", b"").lower():
            raise Refusal(406, INVALID_REQUEST, "accept must list text/event-stream")
        self._check_version(arrival)
        session = await self._session(arrival, principal)
        stream, after = session.streams.own, None
        last = text(arrival.headers, b"last-event-id")
        if last is not None:
            found = session.streams.find(last)
            if found is not None:
                stream, after = found
            elif session.streams.lost(last):
                raise Refusal(400, INVALID_REQUEST, "the stream named by Last-Event-ID cannot be resumed here")
        kind = EventType.SSE_CONNECTION
        self._front.record(
            Told(arrival, Era.LEGACY, "GET", principal, session_id=session.id, kind=kind), RequestOutcome(), 200
        )
        seconds = min(principal.seconds_left(), session.seconds_left())
        await self._follow(session, stream, after, seconds, receive, send)

    async def _follow(
        self,
        session: ClientSession,
        stream: EventStream,
        after: int | None,
        seconds: float,
        receive: Receive,
        send: Send,
    ) -> None:
        """Pass a stream on until it ends, its reader goes, or `seconds` later: nothing outlives what allowed it."""
        writer = SseWriter(send, keep_alive=self._front.settings.keep_alive)
        if session.record.version >= PRIMED:
            writer.write(stream.prime())
        over = stream.attach(writer, after)
        session.active += 1
        try:
            await writer.stay_open(over, receive, seconds)
        finally:
            session.active -= 1
            stream.detach(writer)
            await writer.finish()

    async def delete(self, arrival: Arrival, principal: Principal, send: Send) -> None:
        """End a session.

        Raises:
            Refusal: See there.
        """
        self._check_version(arrival)
        session = await self._session(arrival, principal)
        try:
            await self._sessions.end(session)
        except StoreUnavailable as err:
            raise store_unavailable(err, None) from err
        what = Told(arrival, Era.LEGACY, "DELETE", principal, session_id=session.id, kind=EventType.HTTP_REQUEST)
        self._front.record(what, RequestOutcome(), 200)
        await answer(send, 200, b"", ())


def _session_id(arrival: Arrival, request_id: RequestId | None = None) -> str:
    """Return the id of the session that a request names.

    Raises:
        Refusal: 400, it names none.
    """
    session_id = text(arrival.headers, b"mcp-session-id")
    if not session_id:
        raise Refusal(400, INVALID_REQUEST, "header mcp-session-id is missing", id=request_id)
    return session_id


def store_unavailable(err: StoreUnavailable, request_id: RequestId | None) -> Refusal:
    """Return the refusal of a request that needs the store of sessions, which does not answer: 503, try again."""
    seconds = str(max(1, math.ceil(err.retry_after))).encode()
    message = "sessions are temporarily unavailable; try again"
    return Refusal(503, INTERNAL_ERROR, message, headers=((b"retry-after", seconds),), id=request_id)
