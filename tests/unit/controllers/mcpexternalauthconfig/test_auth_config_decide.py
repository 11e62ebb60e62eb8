"""Which auth configs are valid, and which may go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.conditions import MCPEXTERNALAUTHCONFIG
from api.v1beta1 import MCPExternalAuthConfigSpec
from controllers.mcpexternalauthconfig.auth_server import RESERVED_PARAMS
from controllers.mcpexternalauthconfig.controller import KIND
from controllers.shared import configkind
from controllers.shared.configkind import Snapshot
from controllers.shared.verdicts import Unreadable
from runtime import parse_conditions
from tests.envtest.api.samples import KINDS, Builder

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OIDC = {"name": "o", "type": "oidc", "oidcConfig": {"issuerUrl": "https://i.example", "clientId": "c"}}
OAUTH2 = {"authorizationEndpoint": "https://a.example/a", "tokenEndpoint": "https://a.example/t", "clientId": "c"}
DELEGATE = {"clientId": "c", "clientSecretRef": {"name": "s", "key": "k"}, "scopes": ["s"], "audiences": ["a"]}
ISSUER = {"issuerUrl": "https://i.example", "expectedAudience": "a", "allowedDelegateClients": ["c"]}
ADMITTED = {
    name: Builder("MCPExternalAuthConfig").with_value("spec.type", name)["spec"]
    for name in KINDS["MCPExternalAuthConfig"]["fields"]["spec.type"]["enum"]
}


def spec_of(body: dict) -> MCPExternalAuthConfigSpec:
    return MCPExternalAuthConfigSpec.model_validate(body)


def server(**config: object) -> dict:
    base = {"issuer": "https://as.example.com", "upstreamProviders": [OIDC]}
    return {"type": "embeddedAuthServer", "embeddedAuthServer": base | config}


GOOD = Snapshot(name="a", spec=spec_of({"type": "unauthenticated"}), spec_hash="new", generation=2, now=NOW)


def decide(snapshot: Snapshot) -> configkind.ConfigDecision:
    return configkind.decide(snapshot, KIND.judge(snapshot.name, snapshot.spec), KIND.types)


def valid(snapshot: Snapshot) -> tuple[str, str, str]:
    status = decide(snapshot).status
    assert status is not None
    (found,) = [c for c in parse_conditions(status["conditions"]) if c.type == "Valid"]
    return found.status, found.reason, found.message


@pytest.mark.parametrize(
    "body",
    [
        {"type": "unauthenticated"},
        {"type": "bearerToken", "bearerToken": {"tokenSecretRef": {"name": "s", "key": "k"}}},
        {
            "type": "headerInjection",
            "headerInjection": {"headerName": "X-A", "valueSecretRef": {"name": "s", "key": "k"}},
        },
        {"type": "tokenExchange", "tokenExchange": {"tokenUrl": "https://a.example/t", "audience": "x"}},
        {"type": "upstreamInject", "upstreamInject": {"providerName": "p"}},
        {"type": "awsSts", "awsSts": {"region": "eu-west-1", "fallbackRoleArn": "arn:aws:iam::123456789012:role/R"}},
        {
            "type": "xaa",
            "xaa": {
                "idpTokenUrl": "https://i.example/t",
                "targetTokenUrl": "https://t.example/t",
                "targetAudience": "https://t.example",
            },
        },
        server(),
        server(issuer="http://localhost:8080"),
        server(issuer="http://as.example.com", insecureAllowHTTP=True),
        server(
            issuer="http://127.0.0.1",
            allowConfidentialClientRegistration=True,
            insecureAllowConfidentialOverLoopbackHTTP=True,
        ),
        server(delegateClients=[DELEGATE], trustedIssuers=[ISSUER], primaryUpstreamProvider="o"),
        server(storage={"type": "memory"}),
    ],
)
def test_configs_that_can_be_used_are_valid(body: dict) -> None:
    assert valid(replace(GOOD, spec=spec_of(body))) == ("True", "ValidationSucceeded", "Spec validation passed")


@pytest.mark.parametrize(
    ("body", "reason", "sentence"),
    [
        ({"type": "obo", "obo": {}}, "EnterpriseRequired", "not part of this build"),
        ({"type": "obo"}, "ValidationFailed", "obo configuration must be set if and only if type is 'obo'"),
        ({"type": "unauthenticated", "obo": {}}, "ValidationFailed", "obo configuration must be set"),
        ({"type": "tokenExchange", "tokenExchange": {"tokenUrl": "x", "audience": "x"}}, "InvalidConfig", "tokenUrl"),
        ({"type": "awsSts", "awsSts": {"region": "eu-west-1"}}, "InvalidConfig", "roleMappings is required"),
        (server(upstreamProviders=[OIDC, OIDC]), "ValidationFailed", 'name "o" is used more than once'),
        (server(upstreamProviders=[]), "ValidationFailed", "at least one upstream"),
        (server(primaryUpstreamProvider="x"), "ValidationFailed", 'primaryUpstreamProvider "x"'),
        (server(issuer="http://as.example.com"), "ValidationFailed", "issuer must use https://"),
        (
            server(issuer="http://localhost", allowConfidentialClientRegistration=True),
            "ValidationFailed",
            "confidential",
        ),
        (
            server(
                issuer="http://as.example.com",
                insecureAllowHTTP=True,
                allowConfidentialClientRegistration=True,
                insecureAllowConfidentialOverLoopbackHTTP=True,
            ),
            "ValidationFailed",
            "confidential clients need",
        ),
        (server(delegateClients=[DELEGATE, DELEGATE]), "ValidationFailed", 'clientId "c" is used more than once'),
        (server(trustedIssuers=[ISSUER, ISSUER]), "ValidationFailed", "issuerUrl"),
        (server(trustedIssuers=[ISSUER | {"issuerUrl": "http://i.example"}]), "ValidationFailed", "must use https://"),
        (server(trustedIssuers=[ISSUER | {"jwksUrl": "nonsense"}]), "ValidationFailed", "jwksUrl must be"),
        (server(storage={"type": "redis"}), "ValidationFailed", "storage.redis is required"),
        (
            server(
                storage={
                    "type": "redis",
                    "redis": {
                        "sentinelConfig": {"masterName": "m"},
                        "aclUserConfig": {"passwordSecretRef": {"name": "s", "key": "k"}},
                    },
                }
            ),
            "ValidationFailed",
            "exactly one of sentinelAddrs or sentinelService",
        ),
    ],
)
def test_configs_that_cannot_be_used_say_why(body: dict, reason: str, sentence: str) -> None:
    status, said, message = valid(replace(GOOD, spec=spec_of(body)))
    assert (status, said) == ("False", reason)
    assert sentence in message


@pytest.mark.parametrize("name", sorted(RESERVED_PARAMS))
def test_parameters_of_the_protocol_cannot_be_set(name: str) -> None:
    upstream = {"name": "o", "type": "oauth2", "oauth2Config": OAUTH2 | {"additionalAuthorizationParams": {name: "x"}}}
    _, reason, message = valid(replace(GOOD, spec=spec_of(server(upstreamProviders=[upstream]))))
    assert reason == "ValidationFailed"
    assert name in message


@pytest.mark.parametrize("name", ADMITTED)
def test_what_the_server_admits_of_each_type_gets_a_verdict(name: str) -> None:
    assert valid(replace(GOOD, spec=spec_of(ADMITTED[name])))[0] in ("True", "False")


def test_an_object_that_cannot_be_read_is_invalid() -> None:
    assert valid(replace(GOOD, spec=Unreadable("why"))) == ("False", "ValidationFailed", "why")


def test_a_broken_spec_does_not_move_the_hash() -> None:
    good = decide(GOOD).status
    bad = decide(replace(GOOD, spec=spec_of({"type": "obo", "obo": {}}), known_hash="old")).status
    assert good is not None
    assert bad is not None
    assert (good["configHash"], bad["configHash"]) == ("new", "old")


def test_a_deletion_waits_for_referrers_and_names_the_first_ten() -> None:
    names = tuple(f"MCPServerEntry/e{n:02}" for n in range(12))
    decision = decide(replace(GOOD, deleting=True, referrers=names))
    assert not decision.release
    assert decision.status is not None
    (blocked,) = [c for c in decision.status["conditions"] if c["type"] == "DeletionBlocked"]
    assert (blocked["status"], blocked["reason"]) == ("True", "ReferencedByWorkloads")
    assert blocked["message"].endswith("MCPServerEntry/e09 and 2 more")
    assert decide(replace(GOOD, deleting=True)).release


def test_events_tell_of_transitions_only() -> None:
    broken = replace(GOOD, spec=spec_of({"type": "obo", "obo": {}}))
    first = decide(broken)
    assert [(a.type, a.reason) for a in first.announcements] == [("Warning", "ConfigInvalid")]
    assert first.status is not None
    known = parse_conditions(first.status["conditions"])
    assert decide(replace(broken, previous=known)).announcements == ()
    assert [a.reason for a in decide(replace(GOOD, previous=known)).announcements] == ["ConfigValid"]
    assert decide(GOOD).announcements == ()
    held = replace(GOOD, deleting=True, referrers=("MCPServer/s",))
    assert [(a.type, a.reason) for a in decide(held).announcements] == [("Warning", "DeletionBlocked")]


@given(st.sampled_from(sorted(ADMITTED)), st.booleans(), st.lists(st.just("MCPServer/s"), max_size=2).map(tuple))
def test_words_are_those_of_the_vocabulary(name: str, deleting: bool, referrers: tuple[str, ...]) -> None:
    status = decide(replace(GOOD, spec=spec_of(ADMITTED[name]), deleting=deleting, referrers=referrers)).status
    if status is None:
        return
    found = parse_conditions(status["conditions"])
    (valid,) = [condition for condition in found if condition.type == "Valid"]
    for condition in found:
        rule = MCPEXTERNALAUTHCONFIG.rule(condition.type)
        copied = valid.reason if condition.status == rule.mirrors else ""
        assert condition.reason in (copied, *(rule.true if condition.status == "True" else rule.false))
    said = {condition.type: condition.status for condition in found}
    assert (said["Ready"], said.get("Stalled")) == (("True", None) if said["Valid"] == "True" else ("False", "True"))
