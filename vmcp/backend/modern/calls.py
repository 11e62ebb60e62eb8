"""Calls to a modern backend: stateless, each request describes its client; questions come back as `input_required`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from msgspec import UNSET, Raw, UnsetType

from vmcp.auth.interface import Principal
from vmcp.backend.answers import is_answer, message_of, refusal_of, reply_of
from vmcp.backend.endpoint import POST_HEADERS, McpEndpoint
from vmcp.backend.errors import BackendAuthFailed, BackendError, BackendProtocolError, BackendUnavailable
from vmcp.backend.handshake import WrongEra, supported_versions
from vmcp.backend.interface import Call, InputRequired, NotificationSink, Reply, RpcFault
from vmcp.backend.meta import modern_params, progress_token
from vmcp.backend.model import Era
from vmcp.backend.modern.mirrored import Mirror, mirrored_headers
from vmcp.backend.settings import HeaderList
from vmcp.backend.streams import MessageStream
from vmcp.http.client import Response
from vmcp.tasks import loop_time
from vmcp.turns import turn
from vmcp.wire import jsonrpc, protocol
from vmcp.wire.jsonrpc import Message, RpcError, fields, loads_str
from vmcp.wire.mending import read_message
from vmcp.wire.protocol import (
    H_METHOD,
    H_NAME,
    H_VERSION,
    INPUT_METHODS,
    MESSAGE,
    MODERN,
    NAME_OF,
    PROGRESS,
    TOOLS_CALL,
    encode_value,
)

log = structlog.get_logger(__name__)

_BASE: Final[HeaderList] = (*POST_HEADERS, (H_VERSION, MODERN))
_IDEMPOTENT = frozenset(
    {
        protocol.TOOLS_LIST,
        protocol.RESOURCES_LIST,
        protocol.TEMPLATES_LIST,
        protocol.PROMPTS_LIST,
        protocol.DISCOVER,
        protocol.LISTEN,
    }
)
_ERA_STATUS = frozenset({400, 404, 405, 406, 415})
MAX_ROUNDS: Final = 16
"""Questions in a row that one call may lead to."""


class _Result(msgspec.Struct):
    resultType: str | UnsetType = UNSET  # noqa: N815  the protocol's names
    inputRequests: Raw | UnsetType = UNSET  # noqa: N815
    requestState: str | UnsetType = UNSET  # noqa: N815


_result = msgspec.json.Decoder(_Result)


class ModernCaller:
    """Sends requests to one modern backend. Shared by all its sessions: there is nothing to keep.

    Attributes:
        mirrors: What each tool wants mirrored in headers; replaced with the catalogue.
    """

    def __init__(self, endpoint: McpEndpoint, *, max_event: int, on_suspicion: Callable[[], None]) -> None:
        """Take the endpoint, the largest event, and whom to tell when the backend does not behave like a modern one."""
        self._endpoint = endpoint
        self._max_event = max_event
        self._on_suspicion = on_suspicion
        self._ids = itertools.count(1)
        self.mirrors: dict[str, Mirror] = {}

    async def call(self, call: Call, deadline: float, *, final: bool, probe: bool = False) -> Reply:
        """Send a request; answer its questions through the call's bridge where the call wants that.

        Args:
            call: The request.
            deadline: Loop time; questions to people stop the clock.
            final: The backend's era is certain: take every answer as it is.
            probe: Use the gateway's own credentials.

        Raises:
            WrongEra: The answer looks like a legacy server's.
            BackendError: No answer.
        """
        for _ in range(MAX_ROUNDS):
            reply = await self._once(call, deadline, final=final, probe=probe)
            asked = reply.input_required
            if asked is None or call.bridge is None or call.relay_input:
                return reply
            began = loop_time()
            try:
                call.input_responses = await _answers(self._endpoint.name, call, asked)
            except RpcFault as fault:
                return Reply(error=fault.error, era=Era.MODERN, status=reply.status)
            call.request_state = asked.state
            deadline += loop_time() - began
        raise BackendProtocolError(self._endpoint.name, f"asked more than {MAX_ROUNDS} times for one call")

    async def _once(self, call: Call, deadline: float, *, final: bool, probe: bool) -> Reply:
        id_ = next(self._ids)
        params = modern_params(call)
        try:
            response = await self._endpoint.send(
                "POST",
                jsonrpc.request(id_, call.method, params),
                self._headers(call),
                deadline=deadline,
                principal=None if probe else call.principal,
                passthrough=call.headers,
                trace=call.trace,
                idempotent=call.method in _IDEMPOTENT,
            )
        except BackendAuthFailed as err:
            if call.method in _IDEMPOTENT or (message := refusal_of(err, id_)) is None:
                raise
            return reply_of(self._endpoint.name, message, id_, status=err.status, era=Era.MODERN)
        if response.stream is not None:
            message = await self._follow(response, id_, call, deadline)
            return self._sort(call, reply_of(self._endpoint.name, message, id_, status=response.status, era=Era.MODERN))
        looks_legacy = not final and response.status in _ERA_STATUS and _is_legacy_refusal(response)
        if response.held is not None:
            call.held = response.held
            await turn()
        try:
            message = message_of(self._endpoint.name, response)
            reply = reply_of(self._endpoint.name, message, id_, status=response.status, era=Era.MODERN)
        except BackendError as err:
            if looks_legacy:
                raise WrongEra(err) from None
            raise
        if looks_legacy:
            raise WrongEra(reply)
        return self._sort(call, reply)

    def _sort(self, call: Call, reply: Reply) -> Reply:
        """Tell a finished result from one that asks; only three methods may ask."""
        if reply.result is None or call.method not in INPUT_METHODS:
            return reply
        try:
            head = _result.decode(reply.result)
        except msgspec.DecodeError as err:
            raise BackendProtocolError(self._endpoint.name, "the result is malformed", status=reply.status) from err
        if head.resultType is UNSET:
            self._on_suspicion()
            return reply
        if head.resultType != protocol.RESULT_INPUT_REQUIRED:
            return reply
        asked = InputRequired(
            None if head.inputRequests is UNSET else bytes(head.inputRequests),
            None if head.requestState is UNSET else head.requestState,
            reply.result,
        )
        return Reply(input_required=asked, era=Era.MODERN, status=reply.status)

    def _headers(self, call: Call) -> HeaderList:
        method = call.method
        key = NAME_OF.get(method)
        if key is None:
            return (*_BASE, (H_METHOD, method))
        name = call.name
        if name is None:
            name = loads_str(fields(call.params).get(key)) or ""
        headers = (*_BASE, (H_METHOD, method), (H_NAME, encode_value(name)))
        mirror = self.mirrors.get(name) if self.mirrors and method == TOOLS_CALL else None
        return headers if not mirror else headers + mirrored_headers(mirror, call.params)

    async def send(
        self,
        body: bytes,
        headers: HeaderList,
        *,
        call: Call,
        deadline: float,
        principal: Principal | None,
        long_lived: bool = False,
    ) -> Response:
        """Send one message.

        Raises:
            BackendError: No answer.
        """
        return await self._endpoint.send(
            "POST",
            body,
            headers,
            deadline=deadline,
            principal=principal,
            passthrough=call.headers,
            trace=call.trace,
            idempotent=call.method in _IDEMPOTENT,
            long_lived=long_lived,
        )

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._endpoint.name

    async def first_response(self, response: Response, id_: int, deadline: float) -> Message:
        """Read a stream until the response to `id_`.

        Raises:
            BackendError: It ended before, or is no stream of messages.
        """
        return await self._follow(response, id_, Call(method=protocol.DISCOVER), deadline)

    async def _follow(self, response: Response, id_: int, call: Call, deadline: float) -> Message:
        """Read a request's own stream. Leaving early closes it, which tells the backend to stop."""
        assert response.stream is not None
        stream = MessageStream(self._endpoint, response.stream, max_event=self._max_event)
        stream.deadline = deadline
        try:
            while (message := await stream.message()) is not None:
                if message.is_response:
                    if is_answer(message, id_):
                        stream.finish()
                        call.held = stream.held
                        return message
                elif message.is_notification and call.sink is not None:
                    _pass_on(message, call, call.sink)
        except asyncio.CancelledError:
            stream.close()
            raise
        raise BackendUnavailable(self._endpoint.name, f"the stream ended without the answer{stream.noise}")


def _pass_on(message: Message, call: Call, sink: NotificationSink) -> None:
    """Pass on what may come on a request's own stream: log messages, and progress under the request's own token."""
    params = jsonrpc.EMPTY if message.params is UNSET else bytes(message.params)
    if message.method == PROGRESS:
        wanted, said = progress_token(call.params), fields(params).get("progressToken")
        if wanted is None or said is None or not _equal(wanted, bytes(said)):
            return
    elif message.method != MESSAGE and call.verbatim is not Era.MODERN:
        return
    sink(str(message.method), params)


def _equal(one: bytes, other: bytes) -> bool:
    """Whether two raw JSON values are the same, however they are spelled."""
    return one == other or bool(msgspec.json.decode(one) == msgspec.json.decode(other))


async def _answers(backend: str, call: Call, asked: InputRequired) -> bytes:
    """Put a backend's questions to the client; return the answers as one raw object.

    Raises:
        RpcFault: The client refused one.
        BackendProtocolError: A question is malformed.
    """
    assert call.bridge is not None
    members = fields(asked.requests)
    questions: list[tuple[str, str, bytes]] = []
    for key, raw in members.items():
        parts = fields(bytes(raw))
        method = loads_str(parts.get("method"))
        if method is None:
            raise BackendProtocolError(backend, "an input request has no method")
        questions.append((key, method, bytes(parts.get("params") or b"{}")))
    out: dict[str, bytes] = {}
    for key, method, params in questions:
        out[key] = await call.bridge(method, params)
    return jsonrpc.join(out)


def _is_legacy_refusal(response: Response) -> bool:
    """Tell whether a refusal is one that no modern server gives."""
    try:
        error = read_message(response.body).error
    except jsonrpc.JsonRpcError:
        return True
    if not isinstance(error, RpcError):
        return False
    if error.code == protocol.UNSUPPORTED_VERSION:
        return MODERN not in supported_versions(error)
    return error.code in {-32000, -32001, protocol.INVALID_REQUEST}
