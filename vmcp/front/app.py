"""The ASGI application: from a path and a method to who answers, and every refusal as a clean JSON-RPC error."""

from __future__ import annotations

import contextlib

import structlog

from vmcp.front.base import Arrival, Front
from vmcp.front.cors import allowed_origin, preflight, readable
from vmcp.front.envelope import is_modern, names_modern
from vmcp.front.forms import Form, as_events
from vmcp.front.guard import check_addressee, check_depth, check_post
from vmcp.front.legacy import LegacyFront
from vmcp.front.members import check_members
from vmcp.front.modern import ModernFront
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
from vmcp.wire.jsonrpc import JsonRpcError, Message, parse
from vmcp.wire.protocol import INTERNAL_ERROR, INVALID_REQUEST

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
        origin = allowed_origin(scope["headers"], self._front.settings.allowed_origins)
        if origin is not None:
            if scope["method"] == "OPTIONS" and (found := preflight(scope["headers"], origin)) is not None:
                await answer(send, 204, b"", found)
                return
            send = readable(send, origin)
        if scope["path"] not in {"/mcp", "/"} and await self._service.handle(scope, send):
            return
        try:
            await self._mcp(scope, receive, send)
        except Disconnected:
            return
        except Exception:
            # A bug of ours ends this request and nothing else; the client learns no more than that.
            log.exception("a request failed unexpectedly")
            with contextlib.suppress(AnswerError):  # an answer that was begun cannot be taken back
                await answer_error(send, Refusal(500, INTERNAL_ERROR, "internal error"))

    async def _mcp(self, scope: Scope, receive: Receive, send: Send) -> None:
        modern = False
        arrival = Arrival(scope=scope, headers={})
        message: Message | None = None
        try:
            headers = arrival.headers = read_headers(scope["headers"])
            modern = names_modern(headers)
            check_addressee(headers, self._front.settings)
            method: str = scope["method"]
            if method == "POST":
                form = check_post(headers)
                if form is Form.EVENTS:
                    send = as_events(send)
                arrival.json_only = form is Form.JSON
                arrival.principal = await self._front.authenticate(scope["headers"])
                body = await read_body(receive, headers, self._front.settings.max_body)
                check_depth(body, self._front.settings.max_depth)
                message = _parsed(body)
                judged = self._front.gateway.plan.authorizer.uses_arguments
                check_members(body, message, arguments_judged=judged)
                modern = is_modern(headers, message)
                if modern:
                    await self._modern.post(arrival, message, receive, send)
                else:
                    await self._legacy.post(arrival, body, message, receive, send)
            elif method in {"GET", "DELETE"} and not modern:
                arrival.principal = await self._front.authenticate(scope["headers"])
                if method == "GET":
                    await self._legacy.get(arrival, receive, send)
                else:
                    await self._legacy.delete(arrival, send)
            else:
                allow = b"POST" if modern else b"GET, POST, DELETE"
                raise Refusal(405, INVALID_REQUEST, "method not allowed", headers=[(b"allow", allow)])
        except Refusal as err:
            if err.id is None and message is not None and isinstance(message.id, str | int | float):
                err.id = message.id
            name = str(message.method) if message is not None and isinstance(message.method, str) else scope["method"]
            (self._modern if modern else self._legacy).reject(arrival, err, name)
            await answer_error(send, err, null_id=not modern)


def _parsed(body: bytes) -> Message | None:
    """Return the message; None for an array, which one old version allows.

    Raises:
        Refusal: 400, neither.
    """
    try:
        return parse(body)
    except JsonRpcError as err:
        if err.code == INVALID_REQUEST and body.lstrip()[:1] == b"[":
            return None
        raise Refusal(400, err.code, str(err), id=err.id) from err
