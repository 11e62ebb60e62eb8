"""What an endpoint's status says, for every combination of what can be wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.conditions import MCPREMOTEENDPOINT
from api.v1beta1 import MCPRemoteEndpointSpec
from controllers.mcpremoteendpoint.decide import PENDING_REASONS, AuthConfig, Snapshot, decide
from controllers.shared.content import Facts, Unknown
from controllers.shared.groups import GRACE, GroupState
from controllers.shared.verdicts import Conditions, Unreadable
from runtime import parse_conditions

NOW = datetime(2026, 1, 2, tzinfo=UTC)
URL = "https://mcp.example.com"
HEADER = {"headerName": "X-A", "valueSecretRef": {"name": "s", "key": "k"}}
GOOD_BUNDLE = Facts(frozenset({"ca.crt"}), frozenset({"ca.crt"}))


def spec(**fields: object) -> MCPRemoteEndpointSpec:
    base = {"type": "direct", "remoteUrl": URL, "transport": "sse", "groupRef": {"name": "g"}}
    return MCPRemoteEndpointSpec.model_validate(base | fields)


FIELDS = {
    "externalAuthConfigRef": {"name": "a"},
    "caBundleRef": {"configMapRef": {"name": "c"}},
    "toolConfigRef": {"name": "t"},
    "headerForward": {"addHeadersFromSecret": [HEADER]},
}
GOOD = Snapshot(
    spec=spec(**FIELDS),
    generation=3,
    now=NOW,
    group=GroupState.READY,
    auth_config=AuthConfig("tokenExchange"),
    tool_config_exists=True,
    bundle=GOOD_BUNDLE,
    secrets={"s": Facts(frozenset({"k"}))},
)


def status_of(snapshot: Snapshot) -> dict:
    status = decide(snapshot).status
    assert status is not None
    return dict(status)


def conditions(snapshot: Snapshot) -> Conditions:
    return parse_conditions(status_of(snapshot)["conditions"])


def said(snapshot: Snapshot) -> dict[str, str]:
    return {c.type: f"{c.status}/{c.reason}" for c in conditions(snapshot)}


def test_everything_in_order_is_ready_with_its_url() -> None:
    status = status_of(GOOD)
    assert (status["phase"], status["url"], status["observedGeneration"]) == ("Ready", URL, 3)
    assert said(GOOD) == {
        "ConfigurationValid": "True/ConfigurationValid",
        "GroupRefValid": "True/GroupRefIsValid",
        "AuthConfigValid": "True/AuthConfigValid",
        "CABundleValid": "True/CABundleValid",
        "HeaderSecretsValid": "True/HeaderSecretsValid",
        "ToolConfigValid": "True/ToolConfigValid",
        "Ready": "True/EndpointReady",
    }


@pytest.mark.parametrize(
    ("change", "type_", "reason"),
    [
        ({"spec": spec(**FIELDS, remoteUrl="http://[::1]")}, "ConfigurationValid", "RemoteURLInvalid"),
        ({"auth_config": AuthConfig("awsSts")}, "ConfigurationValid", "UnsupportedAuthTypeForDirectMode"),
        ({"auth_config": AuthConfig("embeddedAuthServer")}, "ConfigurationValid", "UnsupportedAuthTypeForDirectMode"),
        ({"auth_config": AuthConfig("bearerToken")}, "ConfigurationValid", "UnsupportedAuthTypeForDirectMode"),
        ({"older_namesake": "MCPServer"}, "ConfigurationValid", "NameCollision"),
        ({"group": GroupState.MISSING, "waited": 9}, "GroupRefValid", "GroupRefNotFound"),
        ({"group": GroupState.DELETING}, "GroupRefValid", "GroupRefNotFound"),
        ({"auth_config": None}, "AuthConfigValid", "AuthConfigNotFound"),
        ({"auth_config": AuthConfig("tokenExchange", "why")}, "AuthConfigValid", "AuthConfigInvalid"),
        ({"bundle": Unknown.MISSING}, "CABundleValid", "CABundleRefNotFound"),
        ({"bundle": Facts(frozenset({"x"}))}, "CABundleValid", "CABundleKeyNotFound"),
        ({"bundle": Facts(frozenset({"ca.crt"}))}, "CABundleValid", "CABundleInvalid"),
        ({"secrets": {"s": Unknown.MISSING}}, "HeaderSecretsValid", "HeaderSecretNotFound"),
        ({"tool_config_exists": False}, "ToolConfigValid", "ToolConfigNotFound"),
    ],
)
def test_one_thing_that_the_user_must_mend_fails_the_endpoint(change: dict, type_: str, reason: str) -> None:
    broken = replace(GOOD, **change)
    changed = {type_: f"False/{reason}", "Ready": f"False/{reason}", "Stalled": f"True/{reason}"}
    assert said(broken) == said(GOOD) | changed
    assert (status_of(broken)["phase"], status_of(broken)["url"]) == ("Failed", None)


def test_a_group_that_is_not_ready_yet_only_makes_it_wait() -> None:
    waiting = replace(GOOD, group=GroupState.NOT_READY, waited=GRACE)
    assert status_of(waiting)["phase"] == "Pending"
    assert said(waiting)["Ready"] == "False/GroupRefNotReady"
    assert "Stalled" not in said(waiting)
    assert status_of(replace(waiting, tool_config_exists=False))["phase"] == "Failed"


def test_ready_tells_the_first_failure_and_configuration_tells_all() -> None:
    broken = replace(
        GOOD, spec=spec(remoteUrl="http://localhost", headerForward={"addPlaintextHeaders": {"Host": "x"}})
    )
    found = {c.type: c for c in conditions(replace(broken, group=GroupState.DELETING))}
    assert found["Ready"].reason == "RemoteURLInvalid"
    assert "localhost" in found["ConfigurationValid"].message
    assert '"Host"' in found["ConfigurationValid"].message


def test_open_circuits_fail_it_but_keep_its_url_and_ask_nothing_of_the_user() -> None:
    down = replace(GOOD, open_circuits=("v",))
    assert said(down)["Ready"] == "False/BackendUnavailable"
    assert "Stalled" not in said(down)
    assert (status_of(down)["phase"], status_of(down)["url"]) == ("Failed", URL)


def test_an_endpoint_that_is_being_deleted_says_so_and_gives_no_url() -> None:
    going = replace(GOOD, deleting=True, previous=conditions(GOOD))
    assert (status_of(going)["phase"], status_of(going)["url"]) == ("Terminating", None)
    assert said(going) == said(GOOD)


def test_a_newcomer_waits_for_its_group() -> None:
    assert decide(replace(GOOD, group=GroupState.NOT_READY)).wait == GRACE
    assert decide(replace(GOOD, group=GroupState.NOT_READY, previous=conditions(GOOD))).wait is None


WHY = "the API server answered 403 Forbidden"
UNREAD = {"bundle": Unknown.UNREAD, "secrets": {"s": Unknown.UNREAD}, "unread": WHY}


def test_what_cannot_be_read_for_a_passing_reason_keeps_its_verdict() -> None:
    for before in (GOOD, replace(GOOD, secrets={"s": Unknown.MISSING}), replace(GOOD, bundle=Facts())):
        later = replace(before, **UNREAD, previous=conditions(before), now=NOW + timedelta(hours=1))
        assert status_of(later) == status_of(before)


def test_what_was_never_read_is_unknown_and_says_why() -> None:
    status = decide(replace(GOOD, **UNREAD)).status
    assert status is not None
    assert (status["phase"], status["url"]) == ("Pending", None)
    found = {c.type: c for c in parse_conditions(status["conditions"])}
    unread = {type_ for type_, c in found.items() if (c.status, c.reason) == ("Unknown", "ReadFailed")}
    assert unread == {"CABundleValid", "HeaderSecretsValid", "Ready"}
    assert WHY in found["Ready"].message
    assert said(replace(GOOD, **UNREAD, group=GroupState.DELETING))["Ready"] == "False/GroupRefNotFound"
    assert said(replace(GOOD, previous=conditions(replace(GOOD, **UNREAD)))) == said(GOOD)


def test_a_verdict_about_an_older_spec_is_neither_kept_nor_taken_away() -> None:
    assert decide(replace(GOOD, **UNREAD, previous=conditions(GOOD), generation=4)).status is None


def test_conditions_that_no_longer_apply_are_removed() -> None:
    assert set(said(replace(GOOD, spec=spec(), previous=conditions(GOOD)))) == {
        "ConfigurationValid",
        "GroupRefValid",
        "Ready",
    }


contents = st.sampled_from([Unknown.MISSING, Unknown.UNREAD, Facts(), Facts(frozenset({"k", "ca.crt"})), GOOD_BUNDLE])
specs = st.builds(
    lambda url, fields: spec(remoteUrl=url, **{name: FIELDS[name] for name in fields}),
    st.sampled_from([URL, "http://10.0.0.1", "http://localhost", "nonsense"]) | st.text(max_size=20),
    st.sets(st.sampled_from(sorted(FIELDS))),
)
auth_types = ["tokenExchange", "headerInjection", "bearerToken", "obo", "awsSts", ""]
snapshots = st.builds(
    Snapshot,
    spec=specs | st.just(Unreadable("why")),
    generation=st.integers(1, 3),
    now=st.just(NOW),
    group=st.sampled_from(GroupState),
    auth_config=st.none() | st.builds(AuthConfig, st.sampled_from(auth_types), st.none() | st.just("why")),
    tool_config_exists=st.booleans(),
    bundle=contents,
    secrets=contents.map(lambda content: {"s": content}),
    older_namesake=st.none() | st.just("MCPServer"),
    open_circuits=st.sampled_from([(), ("v",)]),
    waited=st.sampled_from([0.0, 0.3, 10.0]),
)


@given(snapshots, snapshots)
def test_whatever_is_seen_words_phase_url_and_ready_agree(first: Snapshot, second: Snapshot) -> None:
    before = decide(first).status
    previous = parse_conditions(before["conditions"]) if before is not None else ()
    status = decide(replace(second, previous=previous)).status
    if status is None:
        return
    found = {c.type: c for c in parse_conditions(status["conditions"])}
    assert len(found) == len(status["conditions"])
    ready, stalled = found.pop("Ready"), found.pop("Stalled", None)
    for condition in found.values():
        rule = MCPREMOTEENDPOINT.rule(condition.type)
        assert condition.reason in dict(rule.by_status)[condition.status]
    failures = [c for c in found.values() if c.status != "True"]
    lasting = [c for c in failures if c.reason not in PENDING_REASONS]
    down = not failures and ready.status == "False"
    assert (status["url"] is not None) == (status["phase"] == "Ready" or down) == (not failures)
    assert (status["phase"] == "Failed") == (bool(lasting) or down)
    assert (stalled.status, stalled.reason) == ("True", lasting[0].reason) if stalled else not lasting
    if failures:
        assert (ready.status, ready.reason) in {(c.status, c.reason) for c in failures}
        assert (ready.status == "Unknown") == all(c.status == "Unknown" for c in failures)
    elif isinstance(second.spec, MCPRemoteEndpointSpec):
        assert (ready.status == "True") == (not second.open_circuits)


@given(snapshots)
def test_deciding_again_later_changes_nothing(snapshot: Snapshot) -> None:
    status = decide(snapshot).status
    if status is not None:
        later = replace(
            snapshot, now=NOW + timedelta(days=1), previous=parse_conditions(status["conditions"]), waited=0
        )
        assert decide(later).status == status
