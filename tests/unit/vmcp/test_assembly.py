"""A reload costs what changed: each part is kept where its own settings are equal, and made anew where they are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from vmcp.assembly import Assembly, RunningParts, kept
from vmcp.audit.line import LineSettings
from vmcp.audit.log import AuditSettings
from vmcp.auth.incoming import IncomingSettings
from vmcp.auth.outgoing.header_injection import HeaderInjectionSettings
from vmcp.auth.outgoing.strategy import TokenEndpoints
from vmcp.auth.outgoing.unauthenticated import UnauthenticatedSettings
from vmcp.authz.cedar import CedarSettings
from vmcp.backend.backend import McpBackend
from vmcp.backend.settings import BackendSettings
from vmcp.config.settings import LeftOut, Settings
from vmcp.core.rules import AggregationRules, WorkloadRules
from vmcp.limits.bucket import MemoryRateLimiter, Rate, RateLimits

NAMES = ("github", "jira")
SETTINGS = Settings(
    name="gw",
    group="g",
    backends=tuple(BackendSettings(name=name, url=f"http://{name}.example/mcp") for name in NAMES),
    outgoing={name: UnauthenticatedSettings() for name in NAMES},
)
PERMIT = "permit(principal, action, resource);"
CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "who gets in": ({"incoming": IncomingSettings(mode="local")}, {"authenticator"}),
    "a policy": (
        {"authz": CedarSettings(server="gw", policies=("permit(principal, action, resource);",))},
        {"authorizer"},
    ),
    "a limit": ({"limits": RateLimits(Rate(1, 1.0))}, {"limiter"}),
    "the audit log": ({"audit": AuditSettings(LineSettings())}, {"audit"}),
    "a secret of one backend": (
        {"outgoing": {**SETTINGS.outgoing, "jira": HeaderInjectionSettings(name="X-Key", value="v")}},
        {"jira"},
    ),
    "the timeout": ({"timeout": 5.0}, set()),
}


@pytest.fixture
async def assembly() -> AsyncIterator[Assembly]:
    made: list[McpBackend] = []

    def make(settings: BackendSettings, auth: Any, resolve: Any) -> McpBackend:
        if settings.url == "never":
            raise ValueError
        made.append(McpBackend(settings, auth, resolve=resolve))
        return made[-1]

    yield Assembly(
        make_backend=make,
        resolve={},
        overrides=None,
        token_endpoints=TokenEndpoints(),
        audit_dropped=lambda: None,
        share_limits=MemoryRateLimiter,
    )
    for backend in made:
        await backend.close()


def new_in(old: RunningParts, new: RunningParts) -> set[str]:
    parts = {
        name
        for name in ("authenticator", "authorizer", "limiter", "audit")
        if getattr(old, name) is not getattr(new, name)
    }
    return parts | {running.settings.name for running in new.missing_in(old)}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_makes_only_what_it_is_about(assembly: Assembly, change: str) -> None:
    changes, costs = CHANGES[change]
    old = assembly.build(SETTINGS)
    new = assembly.build(replace(SETTINGS, **changes), old)
    assert new_in(old, new) == costs
    await new.close()


async def test_a_backend_with_other_numbers_is_the_same_backend_and_one_with_another_address_is_not(
    assembly: Assembly,
) -> None:
    old = assembly.build(SETTINGS)
    slower, moved = (
        replace(SETTINGS.backends[0], timeout=99.0),
        replace(SETTINGS.backends[1], url="http://new.example/mcp"),
    )
    new = assembly.build(replace(SETTINGS, backends=(slower, moved)), old)
    assert new.backends["github"].backend is old.backends["github"].backend
    assert new.backends["github"].settings.timeout == 99.0
    assert old.backends["github"].settings.timeout != 99.0, "the old parts are as they were"
    assert [running.settings.name for running in new.missing_in(old)] == ["jira"]
    assert [running.settings.url for running in old.missing_in(new)] == ["http://jira.example/mcp"]


async def test_a_backend_that_cannot_be_made_costs_itself(assembly: Assembly) -> None:
    broken = replace(SETTINGS.backends[0], url="never")
    assert list(assembly.build(replace(SETTINGS, backends=(broken, SETTINGS.backends[1]))).backends) == ["jira"]


async def test_a_backend_that_only_lacks_a_variable_goes_on_as_it_stood(assembly: Assembly) -> None:
    old = assembly.build(SETTINGS)
    without = replace(SETTINGS, backends=SETTINGS.backends[:1], left_out=(LeftOut("jira", ()), LeftOut("unknown", ())))
    new = assembly.build(without, old)
    assert new.missing_in(old) == []
    assert set(new.backends) == set(NAMES)


async def test_the_rules_of_a_backend_that_goes_on_as_it_stood_are_those_that_it_stood_under(
    assembly: Assembly,
) -> None:
    def ruled(**rules: WorkloadRules) -> Settings:
        return replace(SETTINGS, aggregation=AggregationRules(workloads=rules), timeouts=dict.fromkeys(rules, 9.0))

    filtered, other = WorkloadRules(frozenset({"read"})), WorkloadRules(exclude_all=True)
    old = assembly.build(ruled(jira=filtered))
    moved = replace(ruled(github=other), backends=SETTINGS.backends[:1], left_out=(LeftOut("jira", ()),))
    plan = assembly.build(moved, old).plan()
    assert plan.rules.workloads == {"github": other, "jira": filtered}
    assert set(plan.timeouts) == {"github", "jira"}
    opened = assembly.build(
        replace(moved, aggregation=AggregationRules(workloads={"jira": other})), assembly.build(SETTINGS)
    )
    assert opened.plan().rules.workloads == {}


def test_a_part_is_made_once_for_equal_settings() -> None:
    made: list[str] = []

    def make(settings: str) -> int:
        made.append(settings)
        return len(made)

    first = kept(None, "a", make)
    assert kept(first, "a", make) is first
    assert kept(first, "b", make).part == 2
    assert made == ["a", "b"]
