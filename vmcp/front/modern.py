"""The modern era (2026-07-28): every POST is whole in itself; no sessions, no GET, no questions to the client.

What a backend asks comes back as `input_required`; closing the connection cancels; what happens outside of calls is
told on `subscriptions/listen`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Raw

from vmcp.auth.interface import ANONYMOUS
from vmcp.backend.interface import BackendError, Era, Provider, SessionSpec
from vmcp.core.items import LIST_METHOD
from vmcp.core.outcomes import broken
from vmcp.core.sessions import sharing_key
from vmcp.core.types import Caller, RequestOutcome
from vmcp.front.base import Front
from vmcp.front.calls import carry_out
from vmcp.front.convert import UNCACHED, Rendering
from vmcp.front.envelope import Envelope
from vmcp.front.exchange import Exchange, SseWriter
from vmcp.front.listen import ListenStream, read_filter
from vmcp.front.modern_call import ModernCall
from vmcp.front.request import McpRequest, told
from vmcp.http.server.asgi import Receive, Refusal, Send
from vmcp.wire.jsonrpc import dumps
from vmcp.wire.protocol import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    LISTEN,
    PROMPTS_GET,
    RESOURCES_READ,
    SUPPORTED_VERSIONS,
    TOOLS_CALL,
)

_USES = frozenset({TOOLS_CALL, RESOURCES_READ, PROMPTS_GET})


class ModernFront:
    """Serves modern clients."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._listeners: set[ListenStream] = set()
        self._listening: Counter[str] = Counter()

    @property
    def listening(self) -> int:
        """Open listen streams."""
        return len(self._listeners)

    def drop(self, keep: Callable[[Provider], bool]) -> None:
        """End the listen streams that are subscribed at backends which are no longer there: clients listen anew."""
        for listener in self._listeners:
            if not listener.kept(keep):
                listener.end()

    def end_streams(self) -> None:
        """End all listen streams in good order."""
        for listener in self._listeners:
            listener.end()

    def post(self, request: McpRequest, envelope: Envelope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer a request.

        Raises:
            Refusal: The client declares too much, or has too many streams open.
        """
        if request.method == LISTEN:
            return self._listen(request, envelope, receive, send)
        front = self._front
        caller = self._caller(request, envelope)
        exchange = Exchange(
            receive, send, front.watches, keep_alive=front.settings.keep_alive, json_only=request.json_only
        )
        call = ModernCall(request, exchange, caller.sessions, level=caller.log_level, trace=caller.trace)
        caller.sink = call.sink
        caller.verify = call.verify
        return carry_out(front, request, caller, call, self.dispatch)

    def _caller(self, request: McpRequest, envelope: Envelope) -> Caller:
        front, principal, arrival = self._front, request.principal, request.arrival
        capabilities, info = envelope.capabilities, envelope.info
        headers = front.passthrough(arrival.headers)
        key = sharing_key(principal, capabilities, headers)
        if front.settings.separate_anonymous and principal.key == ANONYMOUS.key:
            key = (key, object())  # nobody knows who of the anonymous ones this is, so nothing is shared with another
        shared = front.gateway.shared
        sessions = shared.find(key)
        if sessions is None:
            if max(len(capabilities), len(info or b"")) > front.settings.max_declared:
                raise Refusal(
                    400, INVALID_PARAMS, "invalid params: clientCapabilities or clientInfo are too long", id=request.id
                )
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
            trace=front.trace(arrival.headers, envelope.trace),
            log_level=envelope.log_level,
        )

    def dispatch(self, caller: Caller, request: McpRequest) -> Awaitable[RequestOutcome]:
        """Serve one request."""
        gateway, method = self._front.gateway, request.method
        if method in _USES:
            return gateway.use(caller, method, request.params, request.target)
        kind = LIST_METHOD.get(method)
        if kind is not None:
            return gateway.list(caller, kind, request.params, self._front.rendering.modern)
        match method:
            case "completion/complete":
                return gateway.complete(caller, request.params)
            case "server/discover":
                return self._discover(caller)
        return gateway.other(caller, method, request.params)

    async def _discover(self, caller: Caller) -> RequestOutcome:
        """Answer `server/discover`."""
        try:
            said = await self._front.introduction(caller.sessions)
        except BackendError as err:
            return broken(err, None)
        members: dict[str, Any] = {
            "resultType": "complete",
            "supportedVersions": SUPPORTED_VERSIONS,
            "capabilities": Raw(said.capabilities),
        }
        if said.instructions is not None:
            members["instructions"] = said.instructions
        head = dumps(members)[:-1]
        rendering = self._front.rendering if said.server_info is None else Rendering(said.server_info)
        return RequestOutcome(result=b"%b,%b,%b}" % (head, UNCACHED, rendering.meta), era=Era.MODERN)

    async def _listen(self, request: McpRequest, envelope: Envelope, receive: Receive, send: Send) -> None:
        wanted = read_filter(request.params)
        if wanted is None or request.id is None:
            raise Refusal(400, INVALID_PARAMS, "invalid params: 'notifications' must be an object", id=request.id)
        principal, settings = request.principal, self._front.settings
        each = settings.max_listens if principal is ANONYMOUS else settings.max_listens_each
        if len(self._listeners) >= settings.max_listens or self._listening[principal.key] >= each:
            raise Refusal(503, INTERNAL_ERROR, "too many listen streams", id=request.id)
        listener = ListenStream(self._front.gateway, self._caller(request, envelope), request.id, wanted)
        self._listeners.add(listener)
        self._listening[principal.key] += 1
        self._front.record(told(request, params=False), RequestOutcome(), 200)
        writer = SseWriter(send, keep_alive=self._front.settings.keep_alive)
        started = asyncio.create_task(listener.start(writer))
        try:
            await writer.stay_open(listener.over, receive, principal.seconds_left())
            writer.write(listener.result())
        finally:
            self._listeners.discard(listener)
            self._listening[principal.key] -= 1
            if not self._listening[principal.key]:
                del self._listening[principal.key]
            listener.end()
            started.cancel()
            await writer.finish()
            await listener.close()
