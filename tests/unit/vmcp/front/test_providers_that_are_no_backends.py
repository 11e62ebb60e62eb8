"""The seam for what the gateway offers by itself: a provider is merged, listed, judged and called as a backend is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.vmcp.front.conftest import FakeBackend, World
from vmcp.audit.interface import AuditEvent
from vmcp.auth.interface import Principal
from vmcp.authz.cedar import CedarAuthorizer, CedarSettings
from vmcp.backend.interface import (
    BackendSession,
    BackendState,
    Call,
    Catalogue,
    CatalogueChange,
    Era,
    HeaderList,
    Health,
    Item,
    Kind,
    Provider,
    Reply,
    SessionSpec,
)
from vmcp.core.gateway import Gateway
from vmcp.core.sessions import BackendSessions
from vmcp.core.types import Caller

STEPS = ("read", "write")
COPY = {"name": "copy", "inputSchema": {"type": "object"}}


class Copy:
    """A composite tool: `read` and then `write`, each as if the caller had called it."""

    name = "composite"
    personal = False

    def __init__(self) -> None:
        self.state = BackendState(era=Era.LEGACY, health=Health.HEALTHY)
        self.catalogue = Catalogue(era=Era.LEGACY, fetched_at=1.0, tools=(Item("copy", json.dumps(COPY).encode()),))
        self.gateway: Gateway
        self.listeners: list[Callable[[CatalogueChange], None]] = []

    async def catalogue_for(self, principal: Principal, *, headers: HeaderList = (), timeout: float) -> Catalogue:
        return self.catalogue

    def subscribe(self, listener: Callable[[CatalogueChange], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def open(self, spec: SessionSpec) -> BackendSession:
        return CopySession(self.gateway, spec)


class CopySession:
    def __init__(self, gateway: Gateway, spec: SessionSpec) -> None:
        self.gateway = gateway
        self.sessions = BackendSessions(spec)

    async def call(self, call: Call) -> Reply:
        caller = Caller(principal=call.principal, era=Era.LEGACY, sessions=self.sessions)
        for step in STEPS:
            outcome = await self.gateway.use(caller, "tools/call", json.dumps({"name": step}).encode())
            if outcome.error is not None:
                return Reply(error=outcome.error)
        return Reply(result=outcome.result)

    async def notify(self, method: str, params: bytes) -> None:
        """No step has to know."""

    async def close(self, *, leave: bool = False) -> None:
        await self.sessions.close(leave=leave)


class Lines:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.enabled = True
        self.wants_data = False

    def write(self, event: AuditEvent) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing runs."""


@pytest.fixture
def composed(world) -> Callable[..., tuple[World, FakeBackend]]:
    def build(**plan: Any) -> tuple[World, FakeBackend]:
        copy: Provider = Copy()
        files = FakeBackend("files", tools=[{"name": step, "inputSchema": {"type": "object"}} for step in STEPS])
        made = world(files, others={"composite": copy}, **plan)
        copy.gateway = made.gateway  # type: ignore[attr-defined]
        return made, files

    return build


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_its_tools_stand_among_those_of_backends_and_reach_them_through_the_gateway(composed, era: str) -> None:
    made, files = composed()
    if era == "legacy":
        await made.initialize()
    ask = getattr(made, era)
    listed = (await ask("tools/list").answer()).last["result"]["tools"]
    assert [tool["name"] for tool in listed] == ["copy", "read", "write"]
    answer = (await ask("tools/call", {"name": "copy"}).answer()).last
    assert json.loads(answer["result"]["content"][0]["text"])["params"]["name"] == "write"
    assert [call.name for call in files.calls] == list(STEPS)


async def test_a_step_that_policy_refuses_is_not_taken(composed) -> None:
    permit = 'permit(principal, action == Action::"call_tool", resource == Tool::"{}");'
    policies = tuple(permit.format(name) for name in ("copy", "read"))
    made, files = composed(authorizer=CedarAuthorizer(CedarSettings(server="gateway", policies=policies)))
    answer = (await made.modern("tools/call", {"name": "copy"}).answer()).last
    assert answer["error"]["code"] == 403
    assert [call.name for call in files.calls] == ["read"]


async def test_it_has_no_address_to_record_and_no_place_among_the_backends_of_status(composed) -> None:
    lines = Lines()
    made, _ = composed(audit=lines)
    await made.modern("tools/call", {"name": "copy"}).answer()
    assert lines.events[-1].backend == "composite"
    assert not lines.events[-1].remote_url
    status = (await made.send("GET", "/status", {"host": "localhost"})).json
    assert [backend["name"] for backend in status["backends"]] == ["files"]


async def test_its_changes_reach_clients_as_those_of_backends_do(composed) -> None:
    made, _ = composed()
    copy = made.gateway.plan.providers["composite"]
    copy.catalogue = Catalogue(era=Era.LEGACY, fetched_at=2.0)
    for listener in copy.listeners:
        listener(CatalogueChange("composite", frozenset({Kind.TOOLS}), copy.catalogue))
    made.gateway.offers.rebuild()
    listed = (await made.modern("tools/list").answer()).last["result"]["tools"]
    assert [tool["name"] for tool in listed] == ["read", "write"]
    made.gateway.replace(made.gateway.plan.__class__(**{**_fields(made.gateway.plan), "others": {}}))
    assert copy.listeners == [], "who is gone from the plan is no longer listened to"


def _fields(plan: Any) -> dict[str, Any]:
    names = ("name", "group", "backends", "rules", "authenticator", "authorizer", "limiter", "audit")
    return {name: getattr(plan, name) for name in names}
