"""What a gateway makes of its members: whole ones, each under the name that it owns, without the largest if need be."""

from __future__ import annotations

from typing import Any

import pytest

from api.contract import Dialect
from api.contract.config import VmcpConfig
from controllers.shared.content import Facts
from controllers.shared.resources import ENDPOINT, ENTRY, PROXY, SERVER
from controllers.virtualmcpserver.decide import GatewayDecision, decide
from controllers.virtualmcpserver.members import Member, MemberType, SecretHeader, is_settled, read_member
from runtime import Resource
from runtime.wire.decode import record_from_body
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import (
    auth_config,
    config_of,
    entry,
    env_of,
    make,
    said,
)
from tests.unit.controllers.virtualmcpserver.test_gateway_loads_what_is_published import document

OLD, NEW = "https://old.example.com/mcp", "https://new.example.com/mcp"


def read(kind: Resource, *, generation: int = 2, deleting: bool = False, **status: Any) -> Member:
    meta: dict[str, Any] = {"name": "m", "namespace": "ns", "uid": "u", "generation": generation}
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    headers = {"addPlaintextHeaders": {"X-For": NEW}}
    spec = {"type": "direct", "remoteUrl": NEW, "transport": "sse", "headerForward": headers}
    return read_member(record_from_body(kind, {"metadata": meta, "spec": spec, "status": status}))


@pytest.mark.parametrize("kind", [ENTRY, ENDPOINT])
def test_the_url_of_a_remote_member_and_its_headers_are_of_one_generation(kind):
    member = read(kind, url=OLD, phase="Ready", observedGeneration=1)
    assert (member.url, dict(member.plain_headers)) == (NEW, {"X-For": NEW})


@pytest.mark.parametrize(
    ("kind", "status", "settled"),
    [
        (ENDPOINT, {"url": OLD, "phase": "Ready", "observedGeneration": 1}, False),
        (ENDPOINT, {"url": NEW, "phase": "Ready", "observedGeneration": 2}, True),
        (ENDPOINT, {"url": "", "phase": "Pending", "observedGeneration": 2}, False),
        (ENDPOINT, {"url": "", "phase": "Failed", "observedGeneration": 2}, True),
        (ENDPOINT, {"url": "", "phase": "Failed", "observedGeneration": 1}, False),
        (ENTRY, {"phase": "Valid", "observedGeneration": 1}, False),
        (ENTRY, {"phase": "Valid", "observedGeneration": 2}, True),
        (ENTRY, {"phase": "Failed", "observedGeneration": 2}, True),
        (ENTRY, {"phase": "Pending", "observedGeneration": 2}, False),
        (SERVER, {"url": "", "phase": "Failed"}, False),
        (SERVER, {"url": "http://m/", "phase": "Pending"}, True),
        (PROXY, {"url": "", "phase": "Pending"}, False),
    ],
)
def test_a_member_is_taken_as_it_stood_until_its_newest_spec_is_judged_and_its_url_is_there(kind, status, settled):
    assert is_settled(read(kind, **status)) == settled
    assert is_settled(read(kind, deleting=True, **status))


def test_a_name_belongs_to_the_oldest_also_while_that_one_cannot_be_used():
    owner = Member(MemberType.CONTAINER, "e", ("2026-01-01T00:00:00Z", "a"), transport="sse", available=False)
    young = entry(order=("2026-02-02T00:00:00Z", "b"))
    for members in ((owner, young), (young, owner)):
        decision = decide(make({}, *members))
        assert config_of(decision).backends == ()
        assert sorted(str(item) for item in decision.skipped) == ["e (NameCollision)", "e (NoURL)"]


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "xaa": {
        "type": "xaa",
        "xaa": {"idpTokenUrl": "https://i.example/t", "targetTokenUrl": "https://t.example/t", "targetAudience": "a"},
    },
    "upstreamInject": {"type": "upstreamInject", "upstreamInject": {"providerName": "gh"}},
    "awsSts": {"type": "awsSts", "awsSts": {"region": "eu-west-1", "fallbackRoleArn": "arn:aws:iam::1:role/x"}},
    "subjectProviderName": {
        "type": "tokenExchange",
        "tokenExchange": {"tokenUrl": "https://t.example/t", "audience": "a", "subjectProviderName": "gh"},
    },
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_a_strategy_that_only_the_stock_gateway_has_costs_its_member_here(case):
    configs = {"a": auth_config("a", UNSUPPORTED[case])}
    members = entry("e", auth_config="a"), entry("good")
    own = decide(make({}, *members, auth_configs=configs))
    assert [backend.name for backend in config_of(own).backends] == ["good"]
    assert said(own)["DiscoveredAuthConfig-e"] == "False/ConversionFailed"
    assert "not supported" in next(c.message for c in own.conditions if c.type == "DiscoveredAuthConfig-e")
    stock = decide(make({}, *members, auth_configs=configs, dialect=Dialect.TOOLHIVE))
    assert [backend.name for backend in config_of(stock).backends] == ["e", "good"]


def test_a_key_with_two_dots_is_mounted_for_this_gateway_and_costs_its_member_for_the_stock_one():
    members = entry("e", ca_config_map="c", ca_key="a..b"), entry("good")
    maps = {"c": Facts(frozenset({"a..b"}), frozenset({"a..b"}))}
    own = decide(make({}, *members, config_maps=maps))
    assert [backend.name for backend in config_of(own).backends] == ["e", "good"]
    stock = decide(make({}, *members, config_maps=maps, dialect=Dialect.TOOLHIVE))
    assert [str(item) for item in stock.skipped] == ["e (CABundleNotFound)"]
    assert [backend.name for backend in config_of(stock).backends] == ["good"]


REFUSED: dict[str, dict[str, Any]] = {
    "code mode": {"config": {"codeMode": {"enabled": True}}},
    "composite tools": {
        "config": {"compositeTools": [{"name": "t", "description": "d", "steps": [{"id": "s", "tool": "e.a"}]}]}
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_gateway_of_the_dialect_cannot_do_is_said_and_no_pod_starts_in_vain(what):
    own = decide(make(REFUSED[what], entry()))
    assert said(own)["Valid"] == "False/ValidationFailed"
    message = next(c.message for c in own.conditions if c.type == "Valid")
    assert f"{what} is not supported by this version" in message or f"{what} are not supported" in message
    assert own.intents.empty
    stock = decide(make(REFUSED[what], entry(), dialect=Dialect.TOOLHIVE))
    assert said(stock)["Valid"] == "True/ValidationSucceeded"
    assert not stock.intents.empty


@pytest.mark.parametrize("dialect", Dialect)
def test_annotations_of_a_member_never_grow_the_configuration(dialect):
    notes = {"huge": "n" * 240_000, "small": "s", "kubectl.kubernetes.io/last-applied-configuration": "x"}
    decision = decide(make({}, entry(annotations=notes), entry("good"), dialect=dialect))
    assert [backend.name for backend in config_of(decision).backends] == ["e", "good"]
    metadata = config_of(decision).backends[0].metadata
    assert "huge" not in metadata
    assert ("small" in metadata) == (dialect is Dialect.TOOLHIVE)
    assert len(document(decision)) < 8 * 1024


def test_the_largest_member_is_left_out_before_the_whole_group_is_frozen():
    members = [entry(f"m{number}") for number in range(20)]
    large = entry("large", plain_headers={f"X-{number}": "v" * 8000 for number in range(130)})
    decision = decide(make({}, large, *members, dialect=Dialect.TOOLHIVE))
    assert not decision.skipped, "headers of a stock gateway are no part of its configuration"
    large = entry("large", url=f"https://large.example.com/{'x' * 1_000_000}")
    decision = decide(make({}, large, *members, dialect=Dialect.TOOLHIVE))
    assert [str(item) for item in decision.skipped] == ["large (ConfigTooLarge)"]
    assert said(decision)["ConfigPublished"] == "True/ConfigWritten"
    assert said(decision)["BackendsIncluded"] == "False/MembersSkipped"
    assert len(config_of(decision).backends) == 20
    assert not any("LARGE" in name for name in env_of(decision)), "no trace of it"


def test_of_members_of_one_size_the_youngest_are_left_out():
    def made(number: int) -> Member:
        order = (f"2026-01-01T00:{number % 60:02}:{number // 60:02}Z", "")
        return entry(f"m{number:03}", order=order, url=f"https://m{number:03}.example/{'x' * 5000}")

    members = [made(number) for number in range(120)]
    decision = decide(make({}, *members, dialect=Dialect.TOOLHIVE))
    skipped = {item.name for item in decision.skipped}
    assert 0 < len(skipped) < 75
    served = {backend.name for backend in load(decision).backends}
    orders = {member.name: member.order for member in members}
    assert max(orders[name] for name in served) < min(orders[name] for name in skipped)
    fewer = [member for member in members if member.name not in skipped]
    again = decide(make({}, *fewer, dialect=Dialect.TOOLHIVE))
    assert {backend.name for backend in load(again).backends} == served


def load(decision: GatewayDecision) -> VmcpConfig:
    return config_of(decision)


@pytest.mark.parametrize("dialect", Dialect)
def test_a_pod_starts_without_what_a_single_member_needs(dialect):
    """A Secret or bundle can go between the decision and the start of a pod: it costs that member, not the pod."""
    injection = {"headerName": "X-B", "valueSecretRef": {"name": "s", "key": "k"}}
    configs = {"a": auth_config("a", {"type": "headerInjection", "headerInjection": injection})}
    headers = (SecretHeader("X-A", "s", "k"),)
    member = entry("e", auth_config="a", secret_headers=headers, ca_config_map="c", ca_key="ca.crt")
    facts = Facts(frozenset({"k", "ca.crt"}), frozenset({"ca.crt"}))
    material = {"secrets": {"s": facts}, "config_maps": {"c": facts}, "auth_configs": configs}
    decision = decide(make({}, member, dialect=dialect, **material))
    assert decision.intents.deployment is not None
    pod = decision.intents.deployment["spec"]["template"]["spec"]
    own = [v["valueFrom"]["secretKeyRef"] for v in pod["containers"][0]["env"] if "valueFrom" in v]
    found = [reference.get("optional", False) for reference in own if reference["name"] == "s"]
    found += [v["configMap"].get("optional", False) for v in pod["volumes"] if v["name"].startswith("ca-bundle")]
    assert found == [dialect is Dialect.NATIVE] * 3


TOKENS = {"tokenUrl": "https://idp.example/token", "clientId": "c", "audience": "a"}
MOVES: dict[str, dict[str, Any]] = {
    "another Secret": {"secret": "t"},
    "another key of it": {"key": "other"},
    "a rotated value": {"value": "2"},
    "another CA bundle": {"bundle": "new"},
}


def _gateway_of(*, secret: str = "s", key: str = "k", value: str = "1", bundle: str = "old") -> GatewayDecision:
    """Return what comes of a member with a secret header, a strategy with a secret, and a CA bundle."""
    reference = {"name": secret, "key": key}
    member = entry(
        secret_headers=(SecretHeader("X-Key", secret, key),), auth_config="a", ca_config_map=bundle, ca_key="ca.crt"
    )
    spec = {"type": "tokenExchange", "tokenExchange": TOKENS | {"clientSecretRef": reference}}
    keys = frozenset({"k", "other"})
    facts = Facts(keys, digests={name: f"{name}{value}" for name in keys})
    bundles = dict.fromkeys(("old", "new"), Facts(frozenset({"ca.crt"}), frozenset({"ca.crt"})))
    material = {"secrets": {"s": facts, "t": facts}, "config_maps": bundles, "hashed": True}
    return decide(make({}, member, auth_configs={"a": auth_config("a", spec)}, **material))


def _needed(decision: GatewayDecision) -> dict[str, str]:
    """Return what of its pod the configuration of `e` names: secret variables, and the path of its bundle."""
    config = config_of(decision)
    backend = config.backends[0]
    assert backend.header_forward is not None
    assert config.outgoing_auth is not None
    exchange = config.outgoing_auth.backends["e"].token_exchange
    assert exchange is not None
    header = f"TOOLHIVE_SECRET_{backend.header_forward.add_headers_from_secret['X-Key']}"
    return {"header": header, "strategy": exchange.client_secret_env, "bundle": backend.ca_bundle_path}


@pytest.mark.parametrize("move", MOVES)
def test_a_pod_that_runs_has_nothing_that_a_later_configuration_could_take_for_its_own(move):
    """Pods read the new configuration before they are replaced: no old key may go to the new URL."""
    before, after = _gateway_of(), _gateway_of(**MOVES[move])
    old, new = _needed(before), _needed(after)
    changed = {"bundle"} if "bundle" in MOVES[move] else {"header", "strategy"}
    assert {what for what in old if old[what] != new[what]} == changed
    assert not changed & {"header", "strategy"} or not {old["header"], old["strategy"]} & set(env_of(after))
    for decision, needed in ((before, old), (after, new)):
        env = env_of(decision)
        assert {needed["header"], needed["strategy"]} <= set(env), "its own pods have it"
        assert decision.intents.deployment is not None
        container = decision.intents.deployment["spec"]["template"]["spec"]["containers"][0]
        assert needed["bundle"].rsplit("/", 1)[0] in [mount["mountPath"] for mount in container["volumeMounts"]]


OWN_REFERENCES: dict[str, dict[str, Any]] = {
    "DefaultAuthConfig": {"default": {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "gone"}}},
    "BackendAuthConfig-e": {
        "backends": {"e": {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "gone"}}}
    },
}


@pytest.mark.parametrize("condition", OWN_REFERENCES)
def test_a_stock_gateway_that_finds_its_members_never_loses_credentials_by_a_failed_reference(condition):
    """Its configuration cannot leave out a member: without the default it would call all of them bare."""
    outgoing = {"source": "discovered"} | OWN_REFERENCES[condition]
    stock = decide(make({"outgoingAuth": outgoing}, entry("e"), entry("good"), dialect=Dialect.TOOLHIVE))
    assert stock.intents.empty
    assert said(stock)[condition] == "False/ConversionFailed"
    listed = decide(make({"outgoingAuth": outgoing | {"source": "inline"}}, entry("e", auth_config="gone")))
    assert not listed.intents.empty, "where members are listed, it costs members"
    assert config_of(listed).backends == ()
    own = decide(make({"outgoingAuth": outgoing}, entry("e"), entry("good")))
    assert not own.intents.empty, "this project's gateway leaves them out itself"
