"""The core: what a request of a known caller leads to. Authorize, limit, route, call, say what came of it.

Era-free: callers differ in what they can be asked (`Caller.bridge`), not in how they are served. Which bytes go out on
which wire is the fronts' business, which bytes go to which kind of backend the adapters' behind `Provider`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog
from msgspec import UNSET, Raw

from vmcp.audit.interface import AuditResult
from vmcp.auth.interface import Principal
from vmcp.authz.interface import DENIED_MESSAGE, Action
from vmcp.backend.interface import BackendError, Call, Catalogue, Era, Kind, Provider
from vmcp.core.bridging import Bridging
from vmcp.core.carried import asks_for_tasks, without_task
from vmcp.core.links import MARK
from vmcp.core.offers import Offers
from vmcp.core.outcomes import broken, conclude, unknown, unread
from vmcp.core.parking import CallsElsewhere, ParkedCalls
from vmcp.core.plan import Plan
from vmcp.core.requests import (
    ParamsError,
    Target,
    argument_in_another_case,
    read_reference,
    read_target,
    renamed_contents,
    with_name,
    with_reference,
    with_uri,
    without_answers,
)
from vmcp.core.seal import Sealer
from vmcp.core.sessions import BackendSessions, SharedSessions
from vmcp.core.snapshot import Route, RoutingSnapshot
from vmcp.core.state import Continuations, RequestState, StateError, open_state, request_digest
from vmcp.core.types import DENIED_CODE, Caller, Introduction, RequestOutcome, failed
from vmcp.core.views import CursorError, Page, Pager
from vmcp.limits.interface import RATE_LIMITED_CODE, RateLimiter
from vmcp.turns import LARGE, turn
from vmcp.wire.jsonrpc import RpcError, dumps
from vmcp.wire.protocol import (
    COMPLETE,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    PROMPTS_GET,
    RESOURCES_READ,
    RESOURCES_SUBSCRIBE,
    ROOTS_CHANGED,
    TOOLS_CALL,
)

log = structlog.get_logger(__name__)

Render = Callable[[Kind, Page], bytes]
"""Makes a list result out of a page, as the caller's era wants it."""

_ACTIONS = {
    TOOLS_CALL: Action.CALL_TOOL,
    PROMPTS_GET: Action.GET_PROMPT,
    RESOURCES_READ: Action.READ_RESOURCE,
}
_NAMED = frozenset({TOOLS_CALL, PROMPTS_GET})
_NO_COMPLETION = b'{"completion":{"values":[],"total":0,"hasMore":false}}'


class _ListParams(msgspec.Struct):
    cursor: str | None = None


_list_params = msgspec.json.Decoder(_ListParams)


class Gateway:
    """Serves requests under the current plan; a plan is replaced without touching what is under way.

    Attributes:
        transparent: Its one backend shows through (`vmcp.core.relay`).
    """

    transparent = False

    def __init__(self, plan: Plan, sealer: Sealer, *, page_size: int = 1000) -> None:
        """Take the first plan, the sealer of cursors and request state, and the most items of one page."""
        self.plan = plan
        self.sealer = sealer
        self.offers = Offers(plan)
        self.shared = SharedSessions()
        self.parked = ParkedCalls()
        self._continues = Continuations()
        self._pager = Pager(sealer, size=page_size)
        self._bridging = Bridging(sealer, self.parked)

    def reach(self, elsewhere: CallsElsewhere) -> None:
        """Let modern clients go on with calls that are parked at other replicas."""
        self._bridging.elsewhere = elsewhere

    def replace(self, plan: Plan) -> None:
        """Take a new plan. Calls that are under way end as they began; sessions with backends that stay, stay."""
        self.plan = plan
        self.offers.replace(plan)
        for sessions in self.shared.all():
            sessions.drop(self.has)

    def has(self, backend: Provider) -> bool:
        """Say whether the plan still holds exactly this provider."""
        return self.plan.providers.get(backend.name) is backend

    async def close(self) -> None:
        """End parked calls and shared sessions. Backends are closed by whoever made them."""
        self.offers.close()
        await self.parked.close()
        await self.shared.close()

    # --- lists ---

    async def list(self, caller: Caller, kind: Kind, params: bytes, render: Render) -> RequestOutcome:
        """Answer a list request from what is known now."""
        try:
            # An empty one is how some clients ask for the first page.
            cursor = _list_params.decode(params or b"{}").cursor or None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return failed(INVALID_PARAMS, "invalid params: member 'cursor' must be a string")
        refused = self._partial(kind)
        if refused is not None:
            return refused
        if caller.sessions.own:
            views = await caller.sessions.own.views(caller, self.offers, self.plan.mark)
        else:
            views = self.offers.views_now() or await self.offers.views_for(caller.principal, caller.headers)
        view = views.get(kind, caller.principal, self.plan.authorizer)
        if cursor is None:
            ready = view.rendered.get(caller.era)
            if ready is not None:
                return RequestOutcome(result=ready, era=caller.era)
        try:
            page = self._pager.page(view, kind, caller.principal, cursor)
        except CursorError:
            return failed(INVALID_PARAMS, "invalid cursor")
        result = render(kind, page)
        if cursor is None and page.cursor is None:
            view.rendered[caller.era] = result
        return RequestOutcome(result=result, era=caller.era)

    def _partial(self, kind: Kind) -> RequestOutcome | None:
        """With `partialFailureMode: fail` a list that cannot be whole is an error and says whose fault it is."""
        if not self.plan.fail_partial:
            return None
        missing = sorted(name for name, backend in self.plan.providers.items() if not _answers(backend, kind))
        if not missing:
            return None
        outcome = failed(INTERNAL_ERROR, f"backends do not answer: {', '.join(missing)}", verdict=AuditResult.ERROR)
        assert outcome.error is not None
        outcome.error = RpcError(outcome.error.code, outcome.error.message, Raw(dumps({"backends": missing})))
        return outcome

    # --- use of one item ---

    async def use(self, caller: Caller, method: str, params: bytes, target: Target | None = None) -> RequestOutcome:
        """Call a tool, read a resource or get a prompt; `target` saves reading the params again."""
        try:
            name, target = read_target(params, "uri" if method == RESOURCES_READ else "name", target)
        except ParamsError as err:
            return failed(INVALID_PARAMS, str(err))
        plan = self.plan
        views = self.offers.views_now()
        route = None if views is None else self._route(caller, views.snapshot, method, name)
        if route is None:
            route = await self._look_up(caller, method, name)
        arguments = _arguments(target, plan)
        refused = self._refuse(caller, method, name, arguments, route)
        if refused is not None:
            return refused
        assert route is not None
        backend = plan.providers.get(route.backend)
        if backend is None:
            return unknown(method, name)
        try:
            state = None if target.requestState is UNSET else self._state(caller, route, method, target, arguments)
        except StateError as err:
            return failed(INVALID_PARAMS, str(err), name=name)
        if method == TOOLS_CALL and plan.limiter is not None and not await self._counted(plan.limiter, state):
            limited = await _limited(plan.limiter, caller, route)
            if limited is not None:
                return limited
        if target.is_retry:
            outcome = await self._again(caller, backend, route, method, params, target, state)
        else:
            outcome = await self._send(
                caller, backend, route, await self._call(caller, route, method, params), arguments
            )
        if outcome.result is not None and len(outcome.result) > LARGE:
            await turn()
        if method == RESOURCES_READ:
            _name_what_was_read(outcome, route)
        elif outcome.result is not None and MARK in outcome.result:
            caller.sessions.links.note(route.backend, outcome.result)
        return outcome

    async def _look_up(self, caller: Caller, method: str, name: str) -> Route | None:
        """Return where a use of an item goes; what nobody knows may be known to this client's own sessions."""
        views = self.offers.views_now() or await self.offers.views_for(caller.principal, caller.headers)
        route = self._route(caller, views.snapshot, method, name)
        if route is None and caller.era is Era.LEGACY:
            views = await caller.sessions.own.views(caller, self.offers, self.plan.mark, search=True)
            route = self._route(caller, views.snapshot, method, name)
        return route

    def _route(self, caller: Caller, snapshot: RoutingSnapshot, method: str, name: str) -> Route | None:
        """Return where a use of an item goes."""
        if method == TOOLS_CALL:
            return snapshot.tool(name)
        return snapshot.prompts.get(name) if method == PROMPTS_GET else self._resource(caller, snapshot, name)

    def _resource(self, caller: Caller, snapshot: RoutingSnapshot, uri: str) -> Route | None:
        """Return who serves a URI: whose lists say so, who handed it out to this client, the only one with resources.

        What an answer hands out does not weigh more than a list that says whose URIs of that kind are: a link must not
        lead a reader of one backend's resources to another.
        """
        route = snapshot.for_uri(uri)
        if route is not None and not snapshot.vague(uri):
            return route
        backend = caller.sessions.links.backend(uri)
        if backend is None and route is None:
            able = [name for name, known in self.plan.providers.items() if _has_resources(known.catalogue)]
            backend = able[0] if len(able) == 1 else None
        return route if backend not in self.plan.providers else Route(uri, str(backend), uri, b"{}")

    def _refuse(
        self, caller: Caller, method: str, name: str, arguments: bytes | Raw | None, route: Route | None
    ) -> RequestOutcome | None:
        """Ask policy, then the table. Policy first: a denial must not tell what exists."""
        action = _ACTIONS[method]
        annotations = None if route is None else route.annotations
        if not self.plan.authorizer.allows(caller.principal, action, name, arguments, annotations):
            return failed(DENIED_CODE, DENIED_MESSAGE[action], verdict=AuditResult.DENIED, name=name)
        if route is None:
            return unknown(method, name)
        if arguments is not None and self.plan.authorizer.uses_arguments:
            wrong_case = argument_in_another_case(arguments, route.raw)
            if wrong_case is not None:
                message = f"invalid params: the argument {wrong_case[0]!r} must be written {wrong_case[1]!r}"
                return failed(INVALID_PARAMS, message, name=name)
        if route.mirror and caller.verify is not None:
            wrong = caller.verify(route)
            if wrong is not None:
                return RequestOutcome(error=wrong, verdict=AuditResult.FAILURE, name=name, route=route)
        return None

    def _state(
        self, caller: Caller, route: Route, method: str, target: Target, arguments: bytes | Raw | None
    ) -> RequestState:
        """Return what the `requestState` of a retry says.

        Raises:
            StateError: It is not one that this caller was given for this very request.
        """
        digest = request_digest(method, route.name, arguments)
        assert target.requestState is not UNSET
        state = open_state(self.sealer, target.requestState, owner=caller.principal.key, digest=digest)
        if state.backend != route.backend:
            raise StateError("requestState is not valid")
        return state

    async def _counted(self, limiter: RateLimiter, state: RequestState | None) -> bool:
        """Say whether a request is part of a call that has been counted."""
        if state is None or not self._continues.take(state):
            return False
        return bool(state.parked) or await limiter.continues(state.nonce)

    async def _call(self, caller: Caller, route: Route, method: str, params: bytes) -> Call:
        named, large = method in _NAMED, len(params) > LARGE
        if large:
            await turn()
        if route.original != route.name:
            if named:
                params = with_name(params, route.name, route.original)
            elif method == RESOURCES_READ:
                params = with_uri(params, route.original)
        if large:
            await turn()
        if method == TOOLS_CALL and b'"task"' in params:
            params = without_task(params)
        if large:
            await turn()
        return Call(
            method=method,
            params=params,
            principal=caller.principal,
            timeout=self.plan.timeout_for(route.backend),
            name=route.original if named else None,
            headers=caller.headers,
            trace=caller.trace,
            log_level=caller.log_level,
            client_capabilities=caller.capabilities,
            client_info=caller.info,
            enveloped=caller.era is Era.MODERN and not asks_for_tasks(params),
            sink=caller.sink,
            bridge=caller.bridge,
        )

    async def _send(
        self, caller: Caller, backend: Provider, route: Route, call: Call, arguments: bytes | Raw | None
    ) -> RequestOutcome:
        """Send one call; a modern caller's goes by way of `Bridging`."""
        session = caller.sessions.get(backend)
        try:
            if caller.era is Era.MODERN:
                return await self._bridging.send(caller, session, route, call, arguments, backend.state.era)
            return conclude(await session.call(call), route)
        except BackendError as err:
            return broken(err, route)

    async def _again(
        self,
        caller: Caller,
        backend: Provider,
        route: Route,
        method: str,
        params: bytes,
        target: Target,
        state: RequestState | None,
    ) -> RequestOutcome:
        """Continue a request that ended with `input_required`."""
        responses = None if target.inputResponses is UNSET else bytes(target.inputResponses)
        arguments = _arguments(target, self.plan)
        try:
            if state is not None and state.parked:
                return await self._bridging.resume(caller, route, method, state, responses, arguments)
        except BackendError as err:
            return broken(err, route)
        call = await self._call(caller, route, method, without_answers(params))
        call.input_responses = responses
        call.request_state = None if state is None else state.inner
        return await self._send(caller, backend, route, call, arguments)

    # --- what a proxy answers otherwise (`vmcp.core.relay`) ---

    async def introduction(self, sessions: BackendSessions) -> Introduction | None:  # noqa: ARG002
        """Return what clients are told of the server; None = what the front says of the gateway."""
        return None

    async def other(self, caller: Caller, method: str, params: bytes) -> RequestOutcome:  # noqa: ARG002
        """Answer a request whose method the fronts have no place for."""
        return failed(METHOD_NOT_FOUND, f"Method not found: {method[:128]}")

    async def set_level(self, caller: Caller, params: bytes) -> RequestOutcome | None:  # noqa: ARG002
        """Take a legacy client's log level; None = backends are told with the calls."""
        return None

    def passes(self, method: str) -> bool:
        """Say whether a client's notification goes on to its backends."""
        return method == ROOTS_CHANGED

    def tells(self, method: str) -> bool:  # noqa: ARG002
        """Say whether a backend's notification that nobody here knows goes on to its client."""
        return False

    def announces(self) -> bool:
        """Say whether legacy clients are told when the lists here change, besides what their sessions tell them."""
        return True

    # --- completion, subscriptions, notifications ---

    def _prompt(self, snapshot: RoutingSnapshot, name: str) -> Route | None:
        return snapshot.prompts.get(name)

    def _template(self, snapshot: RoutingSnapshot, uri: str) -> Route | None:
        return snapshot.for_uri(uri)

    async def complete(self, caller: Caller, params: bytes) -> RequestOutcome:
        """Complete an argument; a reference that leads nowhere has no completions."""
        try:
            ref = read_reference(params)
        except ParamsError as err:
            return failed(INVALID_PARAMS, str(err))
        views = self.offers.views_now() or await self.offers.views_for(caller.principal, caller.headers)
        if ref.type == "ref/prompt" and ref.name is not UNSET:
            name, action, route = ref.name, Action.GET_PROMPT, self._prompt(views.snapshot, ref.name)
        elif ref.type == "ref/resource" and ref.uri is not UNSET:
            name, action, route = ref.uri, Action.READ_RESOURCE, self._template(views.snapshot, ref.uri)
        else:
            return RequestOutcome(result=_NO_COMPLETION)
        if not self.plan.authorizer.allows(caller.principal, action, name):
            return failed(DENIED_CODE, DENIED_MESSAGE[action], verdict=AuditResult.DENIED, name=name)
        backend = None if route is None else self.plan.providers.get(route.backend)
        if route is None or backend is None:
            return RequestOutcome(result=_NO_COMPLETION, name=name)
        if route.original != route.name:
            params = with_reference(params, route.original)
        call = await self._call(caller, route, COMPLETE, params)
        try:
            return conclude(await caller.sessions.get(backend).call(call), route)
        except BackendError as err:
            return broken(err, route)

    async def subscribe(self, caller: Caller, uri: str, *, method: str = RESOURCES_SUBSCRIBE) -> RequestOutcome:
        """Subscribe to a resource at its backend, or end that; updates come through the sessions' events."""
        if not self.plan.authorizer.allows(caller.principal, Action.READ_RESOURCE, uri):
            message = DENIED_MESSAGE[Action.READ_RESOURCE]
            return failed(DENIED_CODE, message, verdict=AuditResult.DENIED, name=uri)
        views = self.offers.views_now() or await self.offers.views_for(caller.principal, caller.headers)
        route = self._resource(caller, views.snapshot, uri)
        backend = None if route is None else self.plan.providers.get(route.backend)
        if route is None or backend is None:
            return unknown(RESOURCES_READ, uri)
        call = await self._call(caller, route, method, dumps({"uri": uri}))
        try:
            return conclude(await caller.sessions.get(backend).call(call), route)
        except BackendError as err:
            return broken(err, route)

    def may_read(self, principal: Principal, uri: str) -> bool:
        """Say whether policy lets a caller read a resource now."""
        return self.plan.authorizer.allows(principal, Action.READ_RESOURCE, uri)

    async def notify(self, sessions: BackendSessions, method: str, params: bytes) -> None:
        """Tell all backends of a client something that concerns each of them."""
        for _, session in sessions.live():
            try:
                await session.notify(method, params)
            except BackendError as err:
                log.debug("a notification did not reach its backend", backend=err.backend, category=err.category)


def _arguments(target: Target, plan: Plan) -> bytes | Raw | None:
    """Return the arguments; large ones are copied only where a policy looks at them."""
    found = target.arguments
    if found is UNSET:
        return None
    return bytes(found) if len(found) <= LARGE or plan.authorizer.uses_arguments else found


def _name_what_was_read(outcome: RequestOutcome, route: Route) -> None:
    """Put the caller's URI, and the core's words for a missing resource, into what came of a read."""
    if outcome.error is not None:
        outcome.error = unread(outcome.error)
    elif outcome.result is not None and route.original != route.name:
        outcome.result = renamed_contents(outcome.result, route.original, route.name)


async def _limited(limiter: RateLimiter, caller: Caller, route: Route) -> RequestOutcome | None:
    """Take a token for a call; return the refusal when there is none."""
    wait = await limiter.take(caller.principal, route.name)
    if wait is None:
        return None
    outcome = failed(RATE_LIMITED_CODE, "rate limit exceeded", name=route.name)
    outcome.retry_after = wait
    outcome.route = route
    return outcome


def _answers(backend: Provider, kind: Kind) -> bool:
    state = backend.state
    known = backend.personal or (backend.catalogue.known and kind not in state.failing)
    return state.usable and known and not state.failures


def _has_resources(catalogue: Catalogue) -> bool:
    """Another gateway is not asked at random: it might ask this one in turn."""
    return b'"resources"' in catalogue.capabilities and not catalogue.gateway
