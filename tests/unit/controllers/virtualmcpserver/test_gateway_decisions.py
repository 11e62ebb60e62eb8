"""What a gateway becomes is decided by a pure function: tables and properties, no server."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.conditions.virtualmcpserver import VIRTUALMCPSERVER
from api.contract import Dialect, load_config
from api.v1beta1 import MCPExternalAuthConfig, MCPToolConfig, VirtualMCPServer, VirtualMCPServerSpec
from controllers.options import DefaultRedis, OperatorOptions
from controllers.shared.content import Facts
from controllers.shared.groups import GroupState
from controllers.shared.parts.learned import Learned
from controllers.shared.resources import VMCP
from controllers.virtualmcpserver.decide import GatewayDecision, Observed, decide
from controllers.virtualmcpserver.members import Member, MemberType, SecretHeader
from controllers.virtualmcpserver.render import role_rules
from controllers.virtualmcpserver.resolve import resolve
from controllers.virtualmcpserver.snapshot import PodCounts, Present, Snapshot
from runtime import Condition, Record
from runtime.wire.decode import record_from_body

NOW = datetime(2026, 7, 28, 12, tzinfo=UTC)
SPEC = {"groupRef": {"name": "g"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": {"source": "inline"}}


PRESENT = ("previous", "pods", "config_exists", "hmac_problem")
LEARNED = ("secrets", "config_maps", "secret_versions", "hashed")


def make(
    spec: dict[str, Any] | None = None, *members: Member, dialect: Dialect = Dialect.NATIVE, **fields: Any
) -> Observed:
    """Observe a gateway: `fields` are those of the snapshot, of what was learned, and of what is present."""
    body = {
        "apiVersion": "toolhive.stacklok.dev/v1beta1",
        "kind": "VirtualMCPServer",
        "metadata": {
            "name": fields.pop("name", "v"),
            "namespace": "ns",
            "uid": "u",
            "generation": 3,
            "annotations": fields.get("annotations", {}),
        },
        "spec": SPEC | (spec or {}),
        "status": fields.pop("status", {}),
    }
    record = record_from_body(VMCP, body)
    model = record.as_model(VirtualMCPServer).spec
    return observed(record, model, members=members, dialect=dialect, **fields)


def observed(record: Record, spec: VirtualMCPServerSpec, **fields: Any) -> Observed:
    """Give what an observer gives that sees this."""
    present = {name: fields.pop(name) for name in PRESENT if name in fields}
    learned = {name: fields.pop(name) for name in LEARNED if name in fields}
    base = {"options": OperatorOptions(), "group": GroupState.READY}
    snapshot = Snapshot(name=record.meta.name, namespace=record.meta.namespace, spec=spec, **(base | fields))
    return Observed(
        parts=resolve(snapshot), learned=Learned(**learned), present=Present(vmcp=record, now=NOW, **present)
    )


def entry(name: str = "e", **fields: Any) -> Member:
    url = fields.pop("url", f"https://{name}.example.com/mcp")
    base = {"phase": "Valid", "transport": "streamable-http", "url": url, "remote_url": url}
    return Member(MemberType.ENTRY, name, fields.pop("order", ("2026-01-01T00:00:00Z", name)), **(base | fields))


def auth_config(name: str, spec: dict[str, Any], valid: str = "True", reason: str = "x") -> MCPExternalAuthConfig:
    condition = {"type": "Valid", "status": valid, "reason": reason, "message": "", "lastTransitionTime": ""}
    return MCPExternalAuthConfig.model_validate(
        {"metadata": {"name": name}, "spec": spec, "status": {"conditions": [condition]}}
    )


def said(decision: GatewayDecision) -> dict[str, str]:
    return {condition.type: f"{condition.status}/{condition.reason}" for condition in decision.conditions}


def config_of(decision: GatewayDecision):
    assert decision.intents.config_map is not None, said(decision)
    return load_config(decision.intents.config_map["data"]["config.yaml"])


def env_of(decision: GatewayDecision) -> dict[str, Any]:
    assert decision.intents.deployment is not None, said(decision)
    container = decision.intents.deployment["spec"]["template"]["spec"]["containers"][0]
    return {variable["name"]: variable for variable in container["env"]}


SKIPPED = {
    "a failed entry": (entry(phase="Failed"), "NotValid"),
    "an entry that was never judged": (entry(phase=""), "NotValid"),
    "a member that is being deleted": (entry(problem="it is being deleted"), "NotValid"),
    "a proxy without URL": (Member(MemberType.PROXY, "e", ("", ""), transport="sse"), "NoURL"),
    "a loopback URL behind an old verdict": (entry(url="http://127.0.0.1/"), "InvalidURL"),
    "an unknown transport": (entry(transport="carrier-pigeon"), "UnsupportedTransport"),
    "a restricted header": (entry(plain_headers={"host": "x"}), "RestrictedHeader"),
    "a header value with a line break": (entry(plain_headers={"X-A": "a\r\nb"}), "RestrictedHeader"),
    "a header that belongs to the protocol": (entry(plain_headers={"Accept": "x"}), "RestrictedHeader"),
    "an empty header value": (entry(plain_headers={"X-A": ""}), "RestrictedHeader"),
    "a header value with a blank at its edge": (entry(plain_headers={"X-A": " v"}), "RestrictedHeader"),
    "a header value beyond Latin-1": (entry(plain_headers={"X-A": "\u4e2d"}), "RestrictedHeader"),
    "a header value that is too long": (entry(plain_headers={"X-A": "v" * 9000}), "RestrictedHeader"),
    "a Secret's value with a line break": (
        entry(secret_headers=(SecretHeader("X-A", "s", "bad"),)),
        "RestrictedHeader",
    ),
    "an auth config whose Secret holds a line break": (entry(auth_config="broken"), "AuthConfigFailed"),
    "a header that is set twice": (
        entry(plain_headers={"x-a": "1"}, secret_headers=(SecretHeader("X-A", "s", "k"),)),
        "RestrictedHeader",
    ),
    "a missing header Secret": (entry(secret_headers=(SecretHeader("X-A", "none", "k"),)), "SecretNotFound"),
    "a missing key of a header Secret": (entry(secret_headers=(SecretHeader("X-A", "s", "no"),)), "SecretNotFound"),
    "a missing CA bundle": (entry(ca_config_map="none", ca_key="ca.crt"), "CABundleNotFound"),
    "a CA bundle without certificate": (entry(ca_config_map="c", ca_key="text"), "CABundleNotFound"),
    "a missing auth config": (entry(auth_config="none"), "AuthConfigFailed"),
    "an auth config that is not valid": (entry(auth_config="bad"), "AuthConfigFailed"),
    "an auth config without strategy": (entry(auth_config="bearer"), "AuthConfigFailed"),
    "an auth config whose Secret is missing": (entry(auth_config="keyless"), "SecretNotFound"),
}
MATERIAL: dict[str, Any] = {
    "secrets": {"s": Facts(frozenset({"k", "bad"}), unfit_headers={"bad": "holds a line break"})},
    "config_maps": {"c": Facts(frozenset({"text"}), frozenset())},
    "auth_configs": {
        "broken": auth_config(
            "broken",
            {
                "type": "headerInjection",
                "headerInjection": {"headerName": "X", "valueSecretRef": {"name": "s", "key": "bad"}},
            },
        ),
        "bad": auth_config("bad", {"type": "unauthenticated"}, "False", "Odd"),
        "bearer": auth_config(
            "bearer", {"type": "bearerToken", "bearerToken": {"tokenSecretRef": {"name": "s", "key": "k"}}}
        ),
        "keyless": auth_config(
            "keyless",
            {
                "type": "headerInjection",
                "headerInjection": {"headerName": "X", "valueSecretRef": {"name": "s", "key": "x"}},
            },
        ),
    },
}


@pytest.mark.parametrize("case", SKIPPED)
@pytest.mark.parametrize("dialect", Dialect)
def test_a_broken_member_is_skipped_with_its_reason_and_leaves_no_trace(case: str, dialect: Dialect):
    member, reason = SKIPPED[case]
    decision = decide(make({}, member, entry("good"), dialect=dialect, **MATERIAL))
    assert said(decision)["BackendsIncluded"] == "False/MembersSkipped"
    message = next(c.message for c in decision.conditions if c.type == "BackendsIncluded")
    assert message == f"1 member is skipped: e ({reason})"
    assert [backend.name for backend in config_of(decision).backends] == ["good"]
    template = json.dumps(decision.intents.deployment)
    assert '"none"' not in template
    assert "ca-bundle-e" not in template


def newcomer(name: str, age: timedelta, **fields: Any) -> Member:
    return entry(name, phase="", order=((NOW - age).isoformat().replace("+00:00", "Z"), name), **fields)


def test_members_that_were_made_a_moment_ago_are_not_told_of_until_they_are_judged():
    young, younger = newcomer("young", timedelta(seconds=7)), newcomer("younger", timedelta(seconds=1))
    decision = decide(make({}, entry("e"), young, younger))
    assert said(decision)["BackendsIncluded"] == "True/AllMembersIncluded"
    assert decision.look_again == pytest.approx(4), "time alone makes the first of them worth telling"
    failed = entry("f", phase="Failed")
    decision = decide(make({}, entry("e"), young, failed))
    message = next(c.message for c in decision.conditions if c.type == "BackendsIncluded")
    assert message == "1 member is skipped: f (NotValid)"


@pytest.mark.parametrize("age", [timedelta(seconds=11), timedelta(days=1), timedelta(hours=-1)])
def test_a_member_that_stays_without_a_verdict_is_told_of(age: timedelta):
    """One of the future, by the clock of this machine, is as old as it is."""
    decision = decide(make({}, entry("e"), newcomer("old", age)))
    assert said(decision)["BackendsIncluded"] == "False/MembersSkipped"
    assert decision.look_again is None


def test_the_message_names_ten_skipped_members_and_counts_all():
    members = [entry(f"e{index:02}", phase="Failed") for index in range(14)]
    decision = decide(make({}, *members, entry("good")))
    message = next(c.message for c in decision.conditions if c.type == "BackendsIncluded")
    assert message.startswith("14 members are skipped: e00 (NotValid), e01 (NotValid)")
    assert message.endswith("e09 (NotValid) and 4 more")


def test_the_older_of_two_namesakes_is_served():
    old = Member(MemberType.CONTAINER, "e", ("2026-01-01T00:00:00Z", "a"), url="http://old/mcp", transport="sse")
    young = entry(order=("2026-02-02T00:00:00Z", "b"))
    for members in ((old, young), (young, old)):
        decision = decide(make({}, *members))
        assert [backend.url for backend in config_of(decision).backends] == ["http://old/mcp"]
        assert [str(item) for item in decision.skipped] == ["e (NameCollision)"]


TOKEN = {
    "type": "tokenExchange",
    "tokenExchange": {
        "tokenUrl": "https://t.example/token",
        "audience": "a",
        "clientId": "c",
        "clientSecretRef": {"name": "s", "key": "k"},
        "subjectTokenType": "jwt",
    },
}


def _reference(name: str) -> dict[str, Any]:
    return {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": name}}


def test_an_override_wins_over_the_members_own_reference_and_that_over_the_default():
    outgoing = {"source": "inline", "default": _reference("d"), "backends": {"over": _reference("o")}}
    configs = {name: auth_config(name, TOKEN) for name in "dom"}
    members = (entry("over", auth_config="m"), entry("own", auth_config="m"), entry("plain"))
    snapshot = make({"outgoingAuth": outgoing}, *members, auth_configs=configs, secrets=MATERIAL["secrets"])
    decision = decide(snapshot)
    auth = config_of(decision).outgoing_auth
    assert auth is not None
    assert auth.default is not None
    prefix = "TOOLHIVE_TOKEN_EXCHANGE_CLIENT_SECRET_"
    variables = {name: s.token_exchange.client_secret_env for name, s in auth.backends.items() if s.token_exchange}
    assert {name: variable.rpartition("_")[0] for name, variable in variables.items()} == {
        "over": f"{prefix}O",
        "own": f"{prefix}M",
    }
    assert auth.default.token_exchange is not None
    assert auth.default.token_exchange.subject_token_type == "urn:ietf:params:oauth:token-type:jwt"
    ref = {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}
    filled = {name[: len(prefix) + 1]: given for name, given in env_of(decision).items() if name.startswith(prefix)}
    assert {name: filled[f"{prefix}{name}"]["valueFrom"] for name in "DOM"} == dict.fromkeys("DOM", ref)
    assert said(decision)["DiscoveredAuthConfig-own"] == "True/ConversionSucceeded"


def test_a_failed_reference_never_falls_through_to_the_default():
    outgoing = {"source": "inline", "default": _reference("d")}
    configs = {"d": auth_config("d", {"type": "unauthenticated"})}
    decision = decide(make({"outgoingAuth": outgoing}, entry(auth_config="gone"), entry("good"), auth_configs=configs))
    assert [backend.name for backend in config_of(decision).backends] == ["good"]
    assert said(decision)["DiscoveredAuthConfig-e"] == "False/ConversionFailed"


def test_an_invalid_auth_config_lends_its_reason():
    configs = {"a": auth_config("a", {"type": "unauthenticated"}, "False", "EnterpriseRequired")}
    decision = decide(make({}, entry(auth_config="a"), auth_configs=configs))
    assert said(decision)["DiscoveredAuthConfig-e"] == "False/EnterpriseRequired"


def test_the_stock_gateway_takes_headers_from_the_environment_and_knows_no_types():
    headers = {"plain_headers": {"X-Team": "a"}, "secret_headers": (SecretHeader("X-Key", "s", "k"),)}
    decision = decide(make({}, entry("e-1", **headers), dialect=Dialect.TOOLHIVE, **MATERIAL))
    backend = config_of(decision).backends[0]
    assert (backend.type, backend.header_forward) == ("", None)
    env = env_of(decision)
    manifest = json.loads(env["TOOLHIVE_HEADER_FORWARD_E_1"]["value"])
    assert manifest == {
        "addPlaintextHeaders": {"X-Team": "a"},
        "addHeadersFromSecret": {"X-Key": "HEADER_FORWARD_X_KEY_E_1"},
    }
    assert "TOOLHIVE_SECRET_HEADER_FORWARD_X_KEY_E_1" in env
    assert env["TOOLHIVE_SECRETS_PROVIDER"]["value"] == "environment"


def test_members_that_the_stock_gateway_would_confuse_are_refused_and_ours_keeps_them():
    members = [entry(name, plain_headers={"X-A": name}) for name in ("a-b", "a.b")] + [entry("c")]
    stock = decide(make({}, *members, dialect=Dialect.TOOLHIVE))
    assert [str(item) for item in stock.skipped] == ["a-b (IdentifierCollision)", "a.b (IdentifierCollision)"]
    assert [backend.name for backend in config_of(stock).backends] == ["c"]
    own = decide(make({}, *members))
    assert [backend.name for backend in config_of(own).backends] == ["a-b", "a.b", "c"]


def test_a_members_passing_phase_rolls_no_stock_pods():
    def checksum(phase: str) -> str:
        member = Member(MemberType.PROXY, "p", ("", ""), url="http://p/", transport="sse", phase=phase)
        decision = decide(make({}, member, dialect=Dialect.TOOLHIVE))
        assert decision.intents.deployment is not None
        annotations = decision.intents.deployment["spec"]["template"]["metadata"]["annotations"]
        return annotations["toolhive.stacklok.dev/runconfig-checksum"]

    assert checksum("Ready") == checksum("Failed")


def test_a_tool_config_of_an_endpoint_becomes_its_entry_and_the_gateways_own_words_win():
    config = MCPToolConfig.model_validate(
        {
            "metadata": {"name": "t"},
            "spec": {"toolsFilter": ["a"], "toolsOverride": {"a": {"name": "x"}, "b": {"name": "y"}}},
        }
    )
    tools = [{"workload": "d", "overrides": {"a": {"name": "mine"}}}]
    member = replace(entry("d", tool_config="t"), type=MemberType.DIRECT)
    spec = {"config": {"aggregation": {"tools": tools}}}
    aggregation = config_of(decide(make(spec, member, tool_configs={"t": config}))).aggregation
    assert aggregation is not None
    assert aggregation.tools[0].filter == ("a",)
    assert {name: override.name for name, override in aggregation.tools[0].overrides.items()} == {"a": "mine", "b": "y"}


def test_sessions_are_kept_where_the_spec_says_else_in_the_operators_default_redis():
    options = OperatorOptions(redis=DefaultRedis("default:6379", "s", "k"))
    stock = {"options": options, "dialect": Dialect.TOOLHIVE}
    implicit = decide(make({}, entry(), **stock, **MATERIAL))
    storage = config_of(implicit).session_storage
    assert storage is not None
    assert storage.address == "default:6379"
    assert env_of(implicit)["THV_SESSION_REDIS_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "s", "key": "k"}
    memory = decide(make({"sessionStorage": {"provider": "memory"}}, entry(), **stock, **MATERIAL))
    assert config_of(memory).session_storage is None
    assert "THV_SESSION_REDIS_PASSWORD" not in env_of(memory)


def test_a_stock_gateway_that_reports_owns_phase_and_ready_until_its_report_is_old():
    def reported(age: timedelta) -> GatewayDecision:
        when = (NOW - age).isoformat()
        status = {"discoveredBackends": [{"name": "e", "status": "unavailable", "lastHealthCheck": when}]}
        return decide(make({}, entry(), dialect=Dialect.TOOLHIVE, pods=PodCounts(ready=1), status=status))

    fresh, old = reported(timedelta(seconds=30)), reported(timedelta(seconds=91))
    assert fresh.health_is_reported
    assert fresh.look_again == pytest.approx(61)
    assert not old.health_is_reported
    assert old.look_again is None


def test_the_status_ends_at_its_limit_and_says_so_while_failures_stay():
    members = [entry(f"e{index:05}", auth_config="good" if index % 2 else "gone") for index in range(3000)]
    configs = {"good": auth_config("good", {"type": "unauthenticated"})}
    decision = decide(make({}, *members, auth_configs=configs))
    size = len(json.dumps([condition.as_dict() for condition in decision.conditions]))
    assert size < 300 * 1024
    assert said(decision)["StatusTruncated"] == "True/StatusTooLarge"
    assert said(decision)["Valid"] == "True/ValidationSucceeded"
    kept = [condition for condition in decision.conditions if condition.type.startswith("DiscoveredAuthConfig-")]
    assert kept
    assert {condition.status for condition in kept} == {"False"}


MEMBERS = st.builds(
    Member,
    type=st.sampled_from(MemberType),
    name=st.sampled_from(["a", "b", "a-b", "a.b", "c" * 63]),
    order=st.tuples(st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]), st.text("ab", max_size=3)),
    url=st.sampled_from(["", "https://x.example/", "http://10.0.0.1/", "nonsense"]),
    transport=st.sampled_from(["sse", "streamable-http", "stdio"]),
    phase=st.sampled_from(["", "Valid", "Ready", "Failed"]),
    auth_config=st.sampled_from(["", "bad", "keyless", "good", "none"]),
    ca_config_map=st.sampled_from(["", "c", "pki"]),
    ca_key=st.just("ca.crt"),
    plain_headers=st.dictionaries(st.sampled_from(["X-A", "Host", "é"]), st.sampled_from(["v", "a\nb"]), max_size=2),
    secret_headers=st.lists(
        st.builds(
            SecretHeader, st.sampled_from(["X-A", "X.A", "Cookie"]), st.sampled_from(["s", "none"]), st.just("k")
        ),
        max_size=2,
    ).map(tuple),
    annotations=st.dictionaries(st.sampled_from(["team", "kubernetes.io/x"]), st.text(max_size=3), max_size=2),
    problem=st.sampled_from(["", "", "it is being deleted"]),
)


@given(
    st.lists(MEMBERS, max_size=6),
    st.sampled_from(Dialect),
    st.sampled_from(["inline", "discovered"]),
    st.sampled_from(GroupState),
)
def test_any_group_gives_a_decision_that_is_sound(members, dialect, source, group):
    material = MATERIAL | {
        "auth_configs": MATERIAL["auth_configs"] | {"good": auth_config("good", TOKEN)},
        "config_maps": {"pki": Facts(frozenset({"ca.crt"}), frozenset({"ca.crt"}))},
    }
    snapshot = make({"outgoingAuth": {"source": source}}, *members, dialect=dialect, group=group, **material)
    decision = decide(snapshot)
    assert decide(snapshot) == decision, "the same input gives the same bytes"
    types = [condition.type for condition in decision.conditions]
    assert len(types) == len(set(types))
    for condition in decision.conditions:
        rule = VIRTUALMCPSERVER.rule(condition.type)
        assert rule.mirrors or condition.reason in (rule.true if condition.status == "True" else rule.false)
        assert condition.observed_generation == 3
    if decision.intents.deployment is None:
        return
    assert group is GroupState.READY
    pod = decision.intents.deployment["spec"]["template"]["spec"]
    names = [variable["name"] for variable in pod["containers"][0]["env"]]
    assert len(names) == len(set(names))
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(volumes) == len(set(volumes))
    assert "none" not in json.dumps(pod), "nothing refers to what is missing"
    load_config(decision.intents.config_map["data"]["config.yaml"], dialect=dialect)


def test_what_is_remembered_of_a_member_changes_no_decision() -> None:
    """The same members, seen by other gateways and beside other members, are decided on like new ones."""

    def members() -> list[Member]:
        secret = (SecretHeader("X-Key", "s", "k"),)
        return [
            entry("a-b", secret_headers=secret),
            entry("a.b", secret_headers=secret),  # collides with the one before
            entry("c", plain_headers={"X-A": "1"}, ca_config_map="c", ca_key="ca.crt"),
            Member(MemberType.DIRECT, "d", ("", ""), url="https://d.example.com", transport="sse"),
            entry("failed", phase="Failed"),
        ]

    known = members()
    material = {
        "secrets": {"s": Facts(frozenset({"k"}))},
        "config_maps": {"c": Facts(frozenset({"ca.crt"}), frozenset({"ca.crt"}))},
    }
    specs = [{}, {"groupRef": {"name": "other"}}, {"outgoingAuth": {"source": "discovered"}}]
    for spec, dialect, chosen in itertools.product(specs, Dialect, [slice(1), slice(None), slice(1, None)]):
        seen = decide(make(spec, *known[chosen], dialect=dialect, **material))
        assert seen == decide(make(spec, *members()[chosen], dialect=dialect, **material))
    assert all(member.made for member in known)


def test_a_gateway_that_would_watch_its_group_may_read_only_the_objects_it_needs() -> None:
    subject = make({"outgoingAuth": {"source": "discovered"}}).parts.subject
    rules = {
        resource: (rule["verbs"], rule.get("resourceNames"))
        for rule in role_rules(subject, ["keys", "v-hmac-secret"], {"pki"})
        for resource in rule["resources"]
        if rule["verbs"] != ["create"]
    }
    assert rules["secrets"] == (["get", "watch"], ["keys", "v-hmac-secret"])
    assert rules["configmaps"] == (["get", "watch"], ["v-vmcp-config", "pki"])
    assert rules["mcpremoteendpoints"] == (["get", "list", "watch"], None)
    assert rules["virtualmcpservers/status"] == (["patch"], ["v"])
    assert "secrets" not in str(role_rules(subject, [], ())), "a rule without names would grant all of them"


def test_a_not_ready_of_ours_is_taken_back_when_the_pods_of_a_reporting_gateway_are_ready() -> None:
    report = {"name": "e", "status": "ready", "lastHealthCheck": NOW.isoformat()}
    ready, own = PodCounts(ready=1), Condition("Ready", "False", "DeploymentNotReady", "starting", 3)
    theirs = Condition("Ready", "True", "AllBackendsRoutable", "m", 3)
    fields: dict[str, Any] = {"dialect": Dialect.TOOLHIVE, "status": {"discoveredBackends": [report]}, "pods": ready}
    assert decide(make({}, entry(), **fields, previous=(theirs,))).health_is_reported
    after = decide(make({}, entry(), **fields, previous=(own,)))
    assert not after.health_is_reported
    assert (str(after.health.phase), after.health.ready) == ("Ready", True)
