"""Who hears that a list changed, and what one listener's failure costs the others: nothing."""

from __future__ import annotations

from tests.unit.vmcp.front.conftest import FakeBackend, NamedCallers
from vmcp.audit.log import NoAudit
from vmcp.auth.interface import ANONYMOUS
from vmcp.authz.cedar import AllowAll
from vmcp.backend.interface import Kind
from vmcp.core.offers import Offers, Watcher
from vmcp.core.plan import Plan
from vmcp.core.rules import AggregationRules


def plan(*backends: FakeBackend) -> Plan:
    return Plan(
        name="gw",
        group="g",
        backends={backend.name: backend for backend in backends},
        rules=AggregationRules(),
        authenticator=NamedCallers(),
        authorizer=AllowAll(),
        limiter=None,
        audit=NoAudit(),
    )


async def test_one_listeners_failure_stops_no_other() -> None:
    backend = FakeBackend("a", tools=[{"name": "one", "inputSchema": {"type": "object"}}])
    offers = Offers(plan(backend))
    heard: list[frozenset[Kind]] = []

    def fails(kinds: frozenset[Kind]) -> None:
        raise RuntimeError("this listener is broken")

    for callback in (fails, heard.append, fails, heard.append, fails):
        offers.watch(Watcher(ANONYMOUS, frozenset(Kind), callback))
    backend.change(tools=[{"name": "two", "inputSchema": {"type": "object"}}])
    offers.rebuild()
    assert heard == [frozenset({Kind.TOOLS})] * 2
    assert list(offers.snapshot.tools) == ["a_two"]
    offers.close()
