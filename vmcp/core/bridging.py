"""Questions of backends to modern clients: relayed, or bridged from a legacy backend's request in the middle of a call.

A modern backend's `input_required` goes to the client as it is, with its state sealed. A legacy backend's elicitation,
sampling or roots request parks the call (`parking`) and becomes an `input_required` of ours.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from msgspec import Raw

from vmcp.audit.interface import AuditResult
from vmcp.backend.interface import (
    EMPTY_OBJECT,
    BackendSession,
    Call,
    Era,
    InputRequired,
    NotificationSink,
    Reply,
    RpcFault,
    ServerRequestBridge,
)
from vmcp.core.outcomes import conclude
from vmcp.core.parking import (
    CallLost,
    CallsElsewhere,
    ParkedCall,
    ParkedCalls,
    ParkedElsewhere,
    ReplicaUnreachable,
)
from vmcp.core.seal import Sealer
from vmcp.core.snapshot import Route
from vmcp.core.state import TTL, RequestState, request_digest, seal_state
from vmcp.core.types import Caller, RequestOutcome, failed
from vmcp.core.url_elicitation import modern_params, pages_as_requests
from vmcp.wire.jsonrpc import RpcError, dumps, fields, join
from vmcp.wire.protocol import (
    ELICIT,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    RESULT_INPUT_REQUIRED,
    ROOTS_LIST,
    SAMPLE,
)

CAPABILITY = {ELICIT: "elicitation", SAMPLE: "sampling", ROOTS_LIST: "roots"}
"""What a client must have declared to be asked."""
LOST: Final = "the call was lost with the replica of the gateway that held it"
UNREACHABLE: Final = "the replica of the gateway that holds the call cannot be reached now; send the answer again later"
_ASKABLE = frozenset(CAPABILITY.values())


class Bridging:
    """Sends the calls of modern clients.

    Attributes:
        elsewhere: Reaches calls that are parked at other replicas; None = there are none.
    """

    def __init__(self, sealer: Sealer, parked: ParkedCalls) -> None:
        self._sealer = sealer
        self._parked = parked
        self.elsewhere: CallsElsewhere | None = None

    async def send(
        self,
        caller: Caller,
        session: BackendSession,
        route: Route,
        call: Call,
        arguments: bytes | Raw | None,
        era: Era | None,
    ) -> RequestOutcome:
        """Send a call; `era` is what is known of the backend.

        Raises:
            BackendError: There is no answer.
        """
        call.relay_input = True
        missing: list[str] = []
        declared = {} if era is Era.MODERN or caller.capabilities == EMPTY_OBJECT else fields(caller.capabilities)
        if not declared or _ASKABLE.isdisjoint(declared):
            call.bridge = _refusing(missing)
            reply: Reply | ParkedCall = await session.call(call)
        else:
            reply = await self._parked.run(
                caller.principal.key,
                _starter(caller, session, call, _checking(declared, missing)),
                caller.sink,
                size=len(call.params),
            )
        return self._outcome(caller, route, call.method, arguments, reply, missing)

    async def resume(
        self,
        caller: Caller,
        route: Route,
        method: str,
        state: RequestState,
        responses: bytes | None,
        arguments: bytes | Raw | None,
    ) -> RequestOutcome:
        """Go on with a parked call.

        Raises:
            BackendError: There is no answer.
        """
        owner, elsewhere = caller.principal.key, self.elsewhere
        reply: Reply | ParkedCall | ParkedElsewhere | None
        if elsewhere is None or state.replica in ("", elsewhere.replica):
            reply = await self._parked.resume(state.parked, owner, responses, caller.sink)
        else:
            try:
                reply = await elsewhere.resume(state.replica, state.parked, owner, responses, caller.sink)
            except CallLost:
                return failed(INTERNAL_ERROR, LOST, verdict=AuditResult.ERROR, name=route.name)
            except ReplicaUnreachable as err:
                return _unreachable(err, route)
        if reply is None:
            return failed(INVALID_PARAMS, "requestState is not valid", name=route.name)
        return self._outcome(caller, route, method, arguments, reply, [])

    def _outcome(
        self,
        caller: Caller,
        route: Route,
        method: str,
        arguments: bytes | Raw | None,
        reply: Reply | ParkedCall | ParkedElsewhere,
        missing: list[str],
    ) -> RequestOutcome:
        if not isinstance(reply, Reply):
            here = "" if self.elsewhere is None else self.elsewhere.replica
            replica = here if isinstance(reply, ParkedCall) else reply.replica
            state = self._state(caller, route, method, arguments, parked=reply.id, replica=replica)
            return _asked(_input_required(reply.requests(), state), route, None)
        if reply.input_required is not None:
            asked = reply.input_required
            result = asked.result
            if asked.state is not None:
                state = self._state(caller, route, method, arguments, inner=asked.state)
                result = _with_state(asked, state)
            return _asked(result, route, reply.status)
        outcome = conclude(reply, route)
        pages = None if reply.error is None else pages_as_requests(reply.error, caller.capabilities)
        if pages is not None:
            return _asked(_input_required(pages, self._state(caller, route, method, arguments)), route, reply.status)
        if missing and outcome.verdict is not AuditResult.SUCCESS:
            # The backend could not go on without asking: that is what the client must hear.
            return RequestOutcome(
                error=_missing_capability(missing),
                verdict=AuditResult.FAILURE,
                name=route.name,
                route=route,
                backend_status=reply.status,
            )
        return outcome

    def _state(
        self,
        caller: Caller,
        route: Route,
        method: str,
        arguments: bytes | Raw | None,
        *,
        parked: str = "",
        inner: str | None = None,
        replica: str = "",
    ) -> str:
        return seal_state(
            self._sealer,
            RequestState(
                owner=caller.principal.key,
                digest=request_digest(method, route.name, arguments),
                backend=route.backend,
                expires=time.time() + TTL,
                parked=parked,
                inner=inner,
                nonce=secrets.token_urlsafe(9),
                replica=replica,
            ),
        )


def _unreachable(err: ReplicaUnreachable, route: Route) -> RequestOutcome:
    """The client may bring its answers once more: the call goes on waiting for them, as far as is known."""
    error = RpcError(INTERNAL_ERROR, UNREACHABLE, Raw(dumps({"retryAfterSeconds": err.retry_after})))
    return RequestOutcome(error=error, verdict=AuditResult.ERROR, name=route.name, route=route)


def _refusing(missing: list[str]) -> ServerRequestBridge:
    """A bridge for clients that can be asked nothing; notes what was wanted."""

    async def bridge(method: str, params: bytes) -> bytes:  # noqa: ARG001  the Protocol names it
        missing.append(method)
        raise RpcFault(RpcError(METHOD_NOT_FOUND, f"the client does not support {method}"))

    return bridge


def _checking(declared: dict[str, Raw], missing: list[str]) -> Callable[[ServerRequestBridge], ServerRequestBridge]:
    """Wrap a bridge so that only declared capabilities pass."""

    def wrap(ask: ServerRequestBridge) -> ServerRequestBridge:
        async def bridge(method: str, params: bytes) -> bytes:
            if CAPABILITY.get(method) not in declared:
                missing.append(method)
                raise RpcFault(RpcError(METHOD_NOT_FOUND, f"the client does not support {method}"))
            return await ask(method, modern_params(method, params))

        return bridge

    return wrap


def _starter(
    caller: Caller, session: BackendSession, call: Call, wrap: Callable[[ServerRequestBridge], ServerRequestBridge]
) -> Callable[[ServerRequestBridge, NotificationSink], Awaitable[Reply]]:
    async def start(ask: ServerRequestBridge, sink: NotificationSink) -> Reply:
        # The request that began the call ends when it parks; the sessions stay in use until the call itself ends.
        caller.sessions.busy += 1
        try:
            return await session.call(replace(call, bridge=wrap(ask), sink=sink))
        finally:
            caller.sessions.busy -= 1

    return start


def _asked(result: bytes, route: Route, status: int | None) -> RequestOutcome:
    return RequestOutcome(result=result, era=Era.MODERN, name=route.name, route=route, backend_status=status)


def _input_required(requests: bytes, state: str) -> bytes:
    return join({"resultType": dumps(RESULT_INPUT_REQUIRED), "inputRequests": requests, "requestState": dumps(state)})


def _with_state(asked: InputRequired, state: str) -> bytes:
    members = fields(asked.result)
    members["requestState"] = Raw(dumps(state))
    return join(members)


def _missing_capability(methods: list[str]) -> RpcError:
    names = sorted({CAPABILITY.get(method, method) for method in methods})
    data: dict[str, dict[str, dict[str, str]]] = {"requiredCapabilities": {name: {} for name in names}}
    return RpcError(MISSING_CAPABILITY, f"the client must declare: {', '.join(names)}", Raw(dumps(data)))
