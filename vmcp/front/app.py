"""The ASGI application: from a path and a method to who answers, and every refusal as a clean JSON-RPC error."""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec
import structlog

from vmcp.audit.interface import AuditResult
from vmcp.auth.interface import ANONYMOUS, Principal, Unauthenticated
from vmcp.backend.interface import Era
from vmcp.core.types import RequestOutcome
from vmcp.front.base import Front, decode_params
from vmcp.front.cors import allowed_origin, preflight, readable
from vmcp.front.envelope import is_modern, names_modern, read_envelope
from vmcp.front.forms import Form, as_events
from vmcp.front.guard import check_addressee, check_depth, check_post
from vmcp.front.legacy import LegacyFront
from vmcp.front.members import check_members
from vmcp.front.modern import ModernFront
from vmcp.front.reading import Bounds, parsed
from vmcp.front.request import Arrival, McpRequest, Params, Told, read_params
from vmcp.front.service import Service
from vmcp.http.server.asgi import (
    Disconnected,
    Receive,
    Refusal,
    Scope,
    Send,
    answer,
    answer_error,
    read_body,
    read_headers,
)
from vmcp.http.server.cycle import AnswerError
from vmcp.turns import LARGE, turn
from vmcp.wire.jsonrpc import Message, known_id
from vmcp.wire.protocol import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST

_BOM: Final = b"\xef\xbb\xbf"
"""In front of a text: RFC 8259 (8.1) lets a reader ignore it, and clients whose language writes it cannot help it."""
_PATHS: Final = frozenset({"/mcp", "/"})
log = structlog.get_logger(__name__)


class App:
    """The gateway as an ASGI application."""

    def __init__(self, front: Front, legacy: LegacyFront, modern: ModernFront, service: Service) -> None:
        self._front = front
        self._legacy = legacy
        self._modern = modern
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        if self._front.settings.allowed_origins:
            origin = allowed_origin(scope["headers"], self._front.settings.allowed_origins)
            if origin is not None:
                if scope["method"] == "OPTIONS" and (found := preflight(scope["headers"], origin)) is not None:
                    await answer(send, 204, b"", found)
                    return
                send = readable(send, origin)
        if scope["path"] not in _PATHS and await self._service.handle(scope, send):
            return
        arrival = Arrival(scope)
        try:
            if scope["method"] == "POST":
                await self._post(arrival, receive, send)
            else:
                await self._follow_or_end(arrival, receive, send)
        except Refusal as refusal:
            await self._refuse(arrival, refusal, send)
        except Disconnected:
            return
        except Exception:
            # A bug of ours ends this request and nothing else; the client learns no more than that.
            log.exception("a request failed unexpectedly")
            with contextlib.suppress(AnswerError):  # an answer that was begun cannot be taken back
                await answer_error(send, Refusal(500, INTERNAL_ERROR, "internal error"))
        finally:
            if arrival.large is not None:
                self._front.large.give_back(*arrival.large)

    async def _post(self, arrival: Arrival, receive: Receive, send: Send) -> None:
        """Refuse what cannot be served, in the order of the specification; then there is a request, and it is served.

        Raises:
            Refusal: See there.
        """
        front, scope = self._front, arrival.scope
        settings = front.settings
        headers = self._read_head(arrival)
        form = check_post(headers)
        if form is Form.EVENTS:
            send = as_events(send)
        plan = front.gateway.plan
        try:
            principal = arrival.principal = await plan.authenticator.authenticate(scope["headers"])
        except Unauthenticated as err:
            raise front.unauthenticated(err) from err
        body = await read_body(receive, headers, settings.max_body)
        if body[:3] == _BOM:
            body = body[3:]
        if len(body) <= LARGE:
            check_depth(body, settings.max_depth)
            message = arrival.message = parsed(body)
            target = check_members(body, message, arguments_judged=plan.authorizer.uses_arguments)
        else:
            message, target = await self._read_aside(arrival, principal, body)
        era = arrival.era = Era.MODERN if is_modern(headers, message) else Era.LEGACY
        if message is None or not message.is_request:
            await self._take(arrival, principal, body, message, send)
            return
        if era is Era.MODERN:
            target = target or _read(message)
            envelope = read_envelope(headers, message, target)
        request = McpRequest(
            arrival,
            principal,
            era,
            str(message.method),
            known_id(message),
            decode_params(message.params),
            target,
            form is Form.JSON,
        )
        if era is Era.MODERN:
            await self._modern.post(request, envelope, receive, send)
        else:
            await self._legacy.post(request, receive, send)

    async def _read_aside(
        self, arrival: Arrival, principal: Principal, body: bytes
    ) -> tuple[Message | None, Params | None]:
        """Read a large body without holding up everybody else.

        Raises:
            Refusal: See there; 503 where too much is under way.
        """
        client = arrival.scope.get("client")
        caller = client[0] if principal is ANONYMOUS and client else principal.key
        if not self._front.large.take(caller, len(body)):
            raise Refusal(503, -32000, "too many large requests are in progress", headers=[(b"retry-after", b"1")])
        arrival.large = (caller, len(body))
        settings, authorizer = self._front.settings, self._front.gateway.plan.authorizer
        bounds = Bounds(settings.max_depth, settings.max_batch, authorizer.uses_arguments)
        found = await self._front.aside.read(body, bounds)
        arrival.message = found.message
        if found.refusal is not None:
            raise found.refused()
        await turn()
        return found.message, found.target

    def _read_head(self, arrival: Arrival) -> dict[bytes, bytes]:
        headers = arrival.headers = read_headers(arrival.scope["headers"])
        if names_modern(headers):
            arrival.era = Era.MODERN
        check_addressee(headers, self._front.settings)
        if self._front.via:
            self._front.check_loop(headers)
        return headers

    async def _take(
        self, arrival: Arrival, principal: Principal, body: bytes, message: Message | None, send: Send
    ) -> None:
        """Take what has no answer of its own: notifications, answers of a client, batches.

        Raises:
            Refusal: See there.
        """
        if arrival.era is Era.LEGACY:
            if message is None:
                await self._legacy.batch(arrival, principal, body, send)
            else:
                await self._legacy.take(arrival, principal, message, send)
        elif message is None or message.is_response:
            raise Refusal(400, INVALID_REQUEST, "the body must be one JSON-RPC request or notification")
        else:
            # There is nothing a notification of this era could do; refusing it would help nobody.
            self._front.record(Told(arrival, Era.MODERN, arrival.method, principal), RequestOutcome(), 202)
            await answer(send, 202, b"", ())

    async def _follow_or_end(self, arrival: Arrival, receive: Receive, send: Send) -> None:
        """Serve GET and DELETE, which the legacy era has.

        Raises:
            Refusal: 405 for any other method, and see there.
        """
        self._read_head(arrival)
        method = arrival.scope["method"]
        if method not in {"GET", "DELETE"} or arrival.era is Era.MODERN:
            allow = b"POST" if arrival.era is Era.MODERN else b"GET, POST, DELETE"
            raise Refusal(405, INVALID_REQUEST, "method not allowed", headers=[(b"allow", allow)])
        try:
            authenticator = self._front.gateway.plan.authenticator
            principal = arrival.principal = await authenticator.authenticate(arrival.scope["headers"])
        except Unauthenticated as err:
            raise self._front.unauthenticated(err) from err
        if method == "GET":
            await self._legacy.get(arrival, principal, receive, send)
        else:
            await self._legacy.delete(arrival, principal, send)

    async def _refuse(self, arrival: Arrival, refusal: Refusal, send: Send) -> None:
        if refusal.id is None:
            refusal.id = arrival.id
        verdict = AuditResult.FAILURE if refusal.status < 500 else AuditResult.ERROR
        what = Told(arrival, arrival.era, arrival.method, arrival.principal, refusal.id)
        self._front.record(what, RequestOutcome(error=refusal.error, verdict=verdict), refusal.status)
        await answer_error(send, refusal, null_id=arrival.era is Era.LEGACY)


def _read(message: Message) -> Params:
    """Read the params of a modern request.

    Raises:
        Refusal: 400, they are not what params are.
    """
    try:
        return read_params(message.params)
    except msgspec.ValidationError as err:
        raise Refusal(400, INVALID_PARAMS, f"invalid params: {err}") from err
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as err:
        raise Refusal(400, INVALID_PARAMS, "invalid params") from err
