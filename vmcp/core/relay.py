"""A gateway with one backend that shows through: the core of a proxy.

What a gateway decides about callers (policy, limits, audit, outgoing auth, bridging between eras) is the same code.
What differs is what it does with names: nothing is merged, so nothing is sorted, prefixed or cut into other pages.

| | gateway | proxy |
|---|---|---|
| lists | merged from catalogues | asked for in the client's session with the remote; filtered item by item |
| names, URIs | looked up in the merged lists | go to the remote as they are, after overrides; hidden tools do not |
| server info, instructions, capabilities | its own | the remote's |
| unknown methods and notifications | refused, dropped | pass; refused and dropped where policies would judge them |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from vmcp.audit.interface import AuditResult
from vmcp.authz.interface import PolicyItem
from vmcp.backend.interface import LIST_KINDS, Backend, BackendError, Call, Kind
from vmcp.core.carried import carried_capabilities
from vmcp.core.gateway import Gateway, Render
from vmcp.core.outcomes import broken, conclude
from vmcp.core.rules import Override
from vmcp.core.sessions import BackendSessions
from vmcp.core.snapshot import Route, RoutingSnapshot, advertised_tool
from vmcp.core.types import DENIED_CODE, Caller, Introduction, RequestOutcome, failed
from vmcp.core.views import ACTION
from vmcp.wire.jsonrpc import RpcError, dumps, fields, join, loads_str
from vmcp.wire.protocol import (
    CANCELLED,
    COMPLETE,
    DISCOVER,
    ELICIT,
    ELICITATION_COMPLETE,
    INITIALIZE,
    INITIALIZED,
    INTERNAL_ERROR,
    LISTEN,
    MESSAGE,
    PING,
    PROGRESS,
    PROMPTS_CHANGED,
    PROMPTS_GET,
    PROMPTS_LIST,
    RESOURCE_UPDATED,
    RESOURCES_CHANGED,
    RESOURCES_LIST,
    RESOURCES_READ,
    RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE,
    ROOTS_CHANGED,
    ROOTS_LIST,
    SAMPLE,
    SET_LEVEL,
    TEMPLATES_LIST,
    TOOLS_CALL,
    TOOLS_CHANGED,
    TOOLS_LIST,
)

_DEFINED: Final = frozenset(
    {
        *(INITIALIZE, DISCOVER, LISTEN, PING, SET_LEVEL, COMPLETE, ELICIT, SAMPLE, ROOTS_LIST),
        *(TOOLS_LIST, TOOLS_CALL, PROMPTS_LIST, PROMPTS_GET, RESOURCES_LIST, TEMPLATES_LIST, RESOURCES_READ),
        *(RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE),
    }
)
"""Methods of either era: one that an era's front has no place for is not the remote's business either."""
_OWN_NOTIFICATIONS: Final = frozenset({INITIALIZED, CANCELLED})
"""What a client says about its own connection to the proxy; the proxy says the same on the other side by itself."""
_SERVERS_NOTIFICATIONS: Final = frozenset(
    {MESSAGE, TOOLS_CHANGED, RESOURCES_CHANGED, PROMPTS_CHANGED, RESOURCE_UPDATED, ELICITATION_COMPLETE}
)
_NO_OVERRIDE: Final = Override()
_items = msgspec.json.Decoder(list[Raw])


class Relay(Gateway):
    """Serves requests under a plan with exactly one backend."""

    transparent = True

    @property
    def remote(self) -> Backend:
        """The one backend."""
        (remote,) = self.plan.backends.values()
        return remote

    # --- what the remote says of itself ---

    async def introduction(self, sessions: BackendSessions) -> Introduction:
        """Return what the remote says of itself to this client, opening its session where the client has one.

        Raises:
            BackendError: It cannot be asked.
        """
        remote = self.remote
        said = await sessions.get(remote).announced(self.plan.timeout_for(remote.name))
        return Introduction(carried_capabilities(said.raw_capabilities), said.server_info, said.instructions)

    # --- lists ---

    async def list(self, caller: Caller, kind: Kind, params: bytes, render: Render) -> RequestOutcome:  # noqa: ARG002
        """Ask the remote for a page of a list, and leave out what this caller must not see."""
        outcome = await self._ask(caller, LIST_KINDS[kind].method, params)
        if outcome.result is not None and outcome.error is None and self._filters(kind):
            self._filter(caller, kind, outcome)
        return outcome

    def _filters(self, kind: Kind) -> bool:
        return self.plan.policed or (kind is Kind.TOOLS and self.plan.rules.changes(self.remote.name))

    def _filter(self, caller: Caller, kind: Kind, outcome: RequestOutcome) -> None:
        """Put the list into a result that this caller may see: every other member of it stays as it came."""
        members, spec = fields(outcome.result), LIST_KINDS[kind]
        try:
            items = _items.decode(members.get(spec.member, b"[]"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            outcome.result, outcome.verdict = None, AuditResult.ERROR
            outcome.error = RpcError(INTERNAL_ERROR, f"the remote's answer contains no list {spec.member!r}")
            return
        shown = list(self._shown(kind, items))
        policies = [PolicyItem(name, annotations) for name, _, annotations in shown]
        verdicts = self.plan.authorizer.visible(caller.principal, ACTION[kind], policies)
        kept = [Raw(raw) for (_, raw, _), yes in zip(shown, verdicts, strict=True) if yes]
        members[spec.member] = Raw(dumps(kept))
        outcome.result = join(members)

    def _shown(self, kind: Kind, items: Sequence[Raw]) -> Iterator[tuple[str, bytes, dict[str, object] | None]]:
        """Yield name, entry and annotations of what clients see after filter and overrides."""
        for item in items:
            raw = bytes(item)
            key = loads_str(fields(raw).get(LIST_KINDS[kind].key))
            if key is None:
                continue  # nobody can judge it, and nobody can use it
            if kind is not Kind.TOOLS:
                yield key, raw, None
                continue
            override = self.plan.rules.override(self.remote.name, key) or _NO_OVERRIDE
            name = override.name or key
            if self._original(name) == key:
                changed, annotations = advertised_tool(raw, key, name, override)
                yield name, changed, annotations

    # --- where things go ---

    def _original(self, name: str) -> str | None:
        """Return the remote's name of the tool that clients know as `name`; None = they know none of that name."""
        rules, remote = self.plan.rules, self.remote.name
        if not rules.visible(remote, name):
            return None
        renamed = rules.renamed(remote)
        original = renamed.get(name)
        if original is not None:
            return original
        override = rules.override(remote, name)
        return None if override is not None and override.name not in (None, name) else name

    def _route(self, caller: Caller, snapshot: RoutingSnapshot, method: str, name: str) -> Route | None:  # noqa: ARG002
        """Return where a use of an item goes: to the remote, known or not. The catalogue only adds what it knows."""
        if method != TOOLS_CALL:
            return self._to(name)
        original = self._original(name)
        if original is None:
            return None
        known = snapshot.tools.get(name)
        return known if known is not None and known.original == original else self._to(name, original)

    def _resource(self, caller: Caller, snapshot: RoutingSnapshot, uri: str) -> Route | None:  # noqa: ARG002
        return self._to(uri)

    def _prompt(self, snapshot: RoutingSnapshot, name: str) -> Route | None:  # noqa: ARG002
        return self._to(name)

    def _template(self, snapshot: RoutingSnapshot, uri: str) -> Route | None:  # noqa: ARG002
        return self._to(uri)

    async def _look_up(self, caller: Caller, method: str, name: str) -> Route | None:
        if method == TOOLS_CALL and self._original(name) is None:
            return None
        views = self.offers.views_now() or await self.offers.views_for(caller.principal, caller.headers)
        return self._route(caller, views.snapshot, method, name)

    def _to(self, name: str, original: str | None = None) -> Route:
        return Route(name, self.remote.name, name if original is None else original, b"{}")

    async def _call(self, caller: Caller, route: Route, method: str, params: bytes) -> Call:
        call = await super()._call(caller, route, method, params)
        call.verbatim = None if self.plan.policed else caller.era
        return call

    # --- what is only passed on ---

    async def other(self, caller: Caller, method: str, params: bytes) -> RequestOutcome:
        """Pass a method that nobody here knows, unless policies would have to judge it."""
        if method in _DEFINED:
            return await super().other(caller, method, params)
        if self.plan.policed:
            message = "this method is not covered by the authorization policies"
            return failed(DENIED_CODE, message, verdict=AuditResult.DENIED)
        return await self._ask(caller, method, params)

    async def set_level(self, caller: Caller, params: bytes) -> RequestOutcome | None:
        """Tell the remote which log messages a legacy client wants."""
        return await self._ask(caller, SET_LEVEL, params)

    def passes(self, method: str) -> bool:
        """Say whether a client's notification goes on to the remote."""
        if method in _OWN_NOTIFICATIONS:
            return False
        return method in (ROOTS_CHANGED, PROGRESS) or not (self.plan.policed or method in _SERVERS_NOTIFICATIONS)

    def tells(self, method: str) -> bool:  # noqa: ARG002
        """Say whether the remote's notification that nobody here knows goes on to its client."""
        return not self.plan.policed

    def announces(self) -> bool:
        """Clients are told by the remote itself, where it has sessions with them."""
        return not self.remote.state.has_sessions

    async def _ask(self, caller: Caller, method: str, params: bytes) -> RequestOutcome:
        """Send a request that names no item."""
        route = self._to("")
        try:
            reply = await caller.sessions.get(self.remote).call(await self._call(caller, route, method, params))
        except BackendError as err:
            outcome = broken(err, route)
        else:
            outcome = conclude(reply, route)
        outcome.name = None
        return outcome
