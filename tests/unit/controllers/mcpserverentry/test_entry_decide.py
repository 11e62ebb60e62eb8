"""What an entry's status says, for every combination of what can be wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.conditions import MCPSERVERENTRY
from api.v1beta1 import MCPServerEntrySpec
from controllers.mcpserverentry.decide import PASSING, Snapshot, decide
from controllers.shared.content import Facts, Unknown
from controllers.shared.groups import GRACE, GroupState
from controllers.shared.verdicts import Conditions, Unreadable
from runtime import parse_conditions

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HEADER = {"headerName": "X-A", "valueSecretRef": {"name": "s", "key": "k"}}
BUNDLE = {"configMapRef": {"name": "c", "key": "ca.crt"}}
GOOD_BUNDLE = Facts(frozenset({"ca.crt"}), frozenset({"ca.crt"}))


def spec(**fields: object) -> MCPServerEntrySpec:
    base = {"remoteUrl": "https://mcp.example.com", "transport": "sse", "groupRef": {"name": "g"}}
    return MCPServerEntrySpec.model_validate(base | fields)


FULL = spec(
    externalAuthConfigRef={"name": "a"},
    caBundleRef=BUNDLE,
    headerForward={"addPlaintextHeaders": {"X-P": "1"}, "addHeadersFromSecret": [HEADER]},
)
GOOD = Snapshot(
    spec=FULL,
    generation=3,
    now=NOW,
    group=GroupState.READY,
    auth_config_exists=True,
    bundle=GOOD_BUNDLE,
    secrets={"s": Facts(frozenset({"k"}))},
)


def said(snapshot: Snapshot) -> dict[str, str]:
    status = decide(snapshot).status
    assert status is not None
    return {c.type: f"{c.status}/{c.reason}" for c in parse_conditions(status["conditions"])}


def conditions(snapshot: Snapshot) -> Conditions:
    status = decide(snapshot).status
    assert status is not None
    return parse_conditions(status["conditions"])


def test_everything_in_order_is_valid() -> None:
    status = decide(GOOD).status
    assert status is not None
    assert (status["phase"], status["observedGeneration"]) == ("Valid", 3)
    assert said(GOOD) == {
        "RemoteURLValidated": "True/RemoteURLValid",
        "GroupRefValidated": "True/GroupRefIsValid",
        "ExternalAuthConfigValidated": "True/AuthConfigValid",
        "CABundleRefValidated": "True/CABundleRefValid",
        "HeadersValidated": "True/HeadersValid",
        "HeaderSecretRefsValidated": "True/HeaderSecretsValid",
        "Valid": "True/ConfigValid",
        "Ready": "True/EntryReady",
    }


@pytest.mark.parametrize(
    ("change", "type_", "verdict"),
    [
        ({"group": GroupState.NOT_READY, "waited": 9}, "GroupRefValidated", "False/GroupRefNotReady"),
        ({"group": GroupState.MISSING, "waited": 9}, "GroupRefValidated", "False/GroupRefNotFound"),
        ({"group": GroupState.DELETING}, "GroupRefValidated", "False/GroupRefNotFound"),
        ({"auth_config_exists": False}, "ExternalAuthConfigValidated", "False/AuthConfigNotFound"),
        ({"bundle": Unknown.MISSING}, "CABundleRefValidated", "False/CABundleRefNotFound"),
        ({"bundle": Facts(frozenset({"other"}))}, "CABundleRefValidated", "False/CABundleRefNotFound"),
        ({"bundle": Facts(frozenset({"ca.crt"}))}, "CABundleRefValidated", "False/CABundleRefInvalid"),
        ({"secrets": {"s": Unknown.MISSING}}, "HeaderSecretRefsValidated", "False/HeaderSecretNotFound"),
        ({"secrets": {"s": Facts()}}, "HeaderSecretRefsValidated", "False/HeaderSecretNotFound"),
        ({"older_namesake": "MCPServer"}, "Valid", "False/NameCollision"),
    ],
)
def test_one_thing_wrong_fails_that_check_and_the_whole(change: dict, type_: str, verdict: str) -> None:
    broken = replace(GOOD, **change)
    reason = verdict.partition("/")[2]
    expected = said(GOOD) | {"Valid": "False/ConfigInvalid", "Ready": f"False/{reason}"} | {type_: verdict}
    if reason != "GroupRefNotReady":
        expected["Stalled"] = f"True/{reason}"
    assert said(broken) == expected
    status = decide(broken).status
    assert status is not None
    assert status["phase"] == "Failed"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"addPlaintextHeaders": {"transfer-encoding": "x"}}, "RestrictedHeader"),
        ({"addHeadersFromSecret": [HEADER | {"headerName": "Host"}]}, "RestrictedHeader"),
        ({"addPlaintextHeaders": {"a b": "x"}}, "HeaderInvalid"),
        ({"addPlaintextHeaders": {"X-A": "a\r\nHost: b"}}, "HeaderInvalid"),
        ({"addPlaintextHeaders": {"x-a": "1"}, "addHeadersFromSecret": [HEADER]}, "HeaderInvalid"),
    ],
)
def test_headers_that_must_not_be_forwarded_fail_the_entry(headers: dict, reason: str) -> None:
    snapshot = replace(GOOD, spec=spec(headerForward=headers))
    assert said(snapshot)["HeadersValidated"] == f"False/{reason}"


def test_no_value_of_a_plaintext_header_reaches_a_message() -> None:
    snapshot = replace(GOOD, spec=spec(headerForward={"addPlaintextHeaders": {"X-A": "sentinel\n"}}))
    assert "sentinel" not in repr(decide(snapshot).status)


def test_a_newcomer_waits_for_its_group_and_is_then_judged() -> None:
    waiting = replace(GOOD, group=GroupState.MISSING, waited=0.1)
    assert decide(waiting).status is None
    assert decide(waiting).wait == pytest.approx(GRACE - 0.1)
    assert said(replace(waiting, waited=GRACE))["Valid"] == "False/ConfigInvalid"


def test_an_entry_that_was_judged_before_does_not_wait() -> None:
    lost = replace(GOOD, group=GroupState.MISSING, previous=conditions(GOOD))
    assert said(lost)["GroupRefValidated"] == "False/GroupRefNotFound"


WHY = "the API server answered 403 Forbidden"
UNREAD = {"bundle": Unknown.UNREAD, "secrets": {"s": Unknown.UNREAD}, "unread": WHY}


def test_what_cannot_be_read_for_a_passing_reason_keeps_its_verdict() -> None:
    bad = replace(GOOD, secrets={"s": Unknown.MISSING})
    for before in (GOOD, bad):
        assert said(replace(before, **UNREAD, previous=conditions(before))) == said(before)


def test_a_kept_verdict_does_not_hide_another_failure() -> None:
    lost = replace(GOOD, **UNREAD, previous=conditions(GOOD), group=GroupState.DELETING)
    assert said(lost)["Valid"] == "False/ConfigInvalid"


def test_a_verdict_about_an_older_spec_is_neither_kept_nor_taken_away() -> None:
    assert decide(replace(GOOD, **UNREAD, previous=conditions(GOOD), generation=4)).status is None


def test_what_was_never_read_is_unknown_and_says_why() -> None:
    status = decide(replace(GOOD, **UNREAD)).status
    assert status is not None
    assert status["phase"] == "Pending"
    found = {c.type: c for c in parse_conditions(status["conditions"])}
    unread = {type_ for type_, c in found.items() if (c.status, c.reason) == ("Unknown", "ReadFailed")}
    assert unread == {"CABundleRefValidated", "HeaderSecretRefsValidated", "Valid", "Ready"}
    assert found["HeaderSecretRefsValidated"].message == f'Secret "s" could not be read: {WHY}; trying again'
    assert found["Valid"].message == found["CABundleRefValidated"].message
    assert said(replace(GOOD, **UNREAD, group=GroupState.DELETING))["Valid"] == "False/ConfigInvalid"


def test_a_bundle_that_is_new_in_the_spec_and_cannot_be_read_is_unknown() -> None:
    before = conditions(replace(GOOD, spec=spec()))
    asked = replace(GOOD, spec=spec(caBundleRef=BUNDLE), bundle=Unknown.UNREAD, previous=before, generation=4)
    assert said(asked)["CABundleRefValidated"] == "Unknown/ReadFailed"


def test_what_can_be_read_at_last_is_judged() -> None:
    assert said(replace(GOOD, previous=conditions(replace(GOOD, **UNREAD)))) == said(GOOD)


def test_conditions_that_no_longer_apply_are_removed() -> None:
    plain = replace(GOOD, spec=spec(), previous=conditions(GOOD))
    assert {"HeadersValidated", "HeaderSecretRefsValidated"}.isdisjoint(said(plain))
    assert said(plain)["CABundleRefValidated"] == "True/CABundleRefNotConfigured"
    assert said(plain)["ExternalAuthConfigValidated"] == "True/AuthConfigNotConfigured"


def test_an_object_that_cannot_be_read_fails_with_the_reason() -> None:
    snapshot = replace(GOOD, spec=Unreadable("spec: field required"), previous=conditions(GOOD))
    assert set(said(snapshot).values()) == {
        "False/RemoteURLInvalid",
        "False/GroupRefNotFound",
        "False/AuthConfigNotFound",
        "False/CABundleRefNotFound",
        "False/ConfigInvalid",
        "True/RemoteURLInvalid",
    }


def test_what_will_pass_hides_nothing_that_will_not() -> None:
    lost = replace(GOOD, group=GroupState.NOT_READY, waited=9, bundle=Unknown.MISSING)
    assert said(lost)["Ready"] == "False/GroupRefNotReady"
    assert said(lost)["Stalled"] == "True/CABundleRefNotFound"


def test_nothing_is_stalled_any_more_once_it_is_mended() -> None:
    broken = replace(GOOD, bundle=Unknown.MISSING)
    assert "Stalled" not in said(replace(GOOD, previous=conditions(broken)))


contents = st.sampled_from([Unknown.MISSING, Unknown.UNREAD, Facts(), Facts(frozenset({"k", "ca.crt"})), GOOD_BUNDLE])
urls = st.sampled_from(["https://a.example", "http://10.0.0.1", "http://localhost", "nonsense"]) | st.text(max_size=30)
headers = st.none() | st.fixed_dictionaries(
    {"addPlaintextHeaders": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)},
    optional={"addHeadersFromSecret": st.just([HEADER])},
)
specs = st.builds(
    lambda url, private, bundle, auth, forward: spec(
        remoteUrl=url,
        allowPrivateEndpoint=private,
        caBundleRef=bundle,
        externalAuthConfigRef=auth,
        headerForward=forward,
    ),
    urls,
    st.booleans(),
    st.sampled_from([None, {}, BUNDLE, {"configMapRef": {"key": "k"}}]),
    st.sampled_from([None, {"name": "a"}, {"name": ""}]),
    headers,
)
snapshots = st.builds(
    Snapshot,
    spec=specs | st.just(Unreadable("why")),
    generation=st.integers(1, 3),
    now=st.just(NOW),
    group=st.sampled_from(GroupState),
    auth_config_exists=st.booleans(),
    bundle=contents,
    secrets=contents.map(lambda content: {"s": content}),
    older_namesake=st.sampled_from([None, "MCPServer", "MCPRemoteEndpoint"]),
    waited=st.sampled_from([0.0, 0.3, 10.0]),
)


@given(snapshots, snapshots)
def test_whatever_is_seen_the_words_are_those_of_the_vocabulary_and_the_phase_agrees(
    first: Snapshot, second: Snapshot
) -> None:
    before = decide(first).status
    previous = parse_conditions(before["conditions"]) if before is not None else ()
    status = decide(replace(second, previous=previous)).status
    if status is None:
        return
    found = parse_conditions(status["conditions"])
    failures = {(c.status, c.reason) for c in found if c.status != "True"}
    for condition in found:
        rule = MCPSERVERENTRY.rule(condition.type)
        copied = condition.status == rule.mirrors and ("False", condition.reason) in failures
        assert copied or condition.reason in dict(rule.by_status)[condition.status]
        assert condition.message
    verdicts = {c.type: c.status for c in found}
    assert verdicts["Ready"] == verdicts["Valid"]
    lasting = {reason for status, reason in failures if status == "False"} - PASSING - {"ConfigInvalid"}
    assert ("Stalled" in verdicts) == bool(lasting)
    others = [status for type_, status in verdicts.items() if type_ not in ("Valid", "Ready", "Stalled")]
    sound = set(others) == {"True"} and not second.older_namesake
    assert (verdicts["Valid"] == "True") == (status["phase"] == "Valid") == sound
    assert (verdicts["Valid"] == "Unknown") == (status["phase"] == "Pending")
    assert verdicts["Valid"] != "Unknown" or set(others) == {"True", "Unknown"}
    assert len(verdicts) == len(found)


@given(snapshots)
def test_deciding_again_later_changes_nothing(snapshot: Snapshot) -> None:
    status = decide(snapshot).status
    if status is None:
        return
    later = replace(snapshot, now=NOW + timedelta(days=1), previous=parse_conditions(status["conditions"]), waited=0.0)
    assert decide(later).status == status
