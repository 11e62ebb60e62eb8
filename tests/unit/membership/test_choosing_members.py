"""Members become backends, each whole and once, or are named with a reason; nobody else is touched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.conditions import MemberSkipReason
from api.contract import Dialect, VmcpConfig, validate_config
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfig
from membership import (
    GatewayTraits,
    Member,
    MemberType,
    Place,
    References,
    Resolution,
    SecretHeader,
    backend_of,
    choose,
    is_settled,
    judge_auth_config,
    member_sources,
    read_member,
    strategy_for,
)
from membership.auth import UNAUTHENTICATED


@dataclass(frozen=True)
class Meta:
    name: str
    uid: str = "u"
    generation: int = 1
    creation_timestamp: str | None = "2026-01-01T00:00:00Z"
    annotations: Mapping[str, str] = field(default_factory=dict)
    deleting: bool = False


@dataclass(frozen=True)
class Known:
    """Secrets with their keys, and ConfigMaps with certificates."""

    keys: frozenset[tuple[str, str]] = frozenset({("s", "k")})
    bundles: frozenset[tuple[str, str]] = frozenset({("c", "ca.crt")})

    def has_key(self, secret: str, key: str) -> bool:
        return (secret, key) in self.keys

    def unfit(self, secret: str, key: str, *, header: bool) -> str:
        return "is no good" if key == "bad" else ""

    def has_certificate(self, config_map: str, key: str) -> bool:
        return (config_map, key) in self.bundles


def config(**spec: object) -> MCPExternalAuthConfig:
    return MCPExternalAuthConfig.model_validate({"metadata": {"name": "a"}, "spec": spec})


INJECTION = config(
    type="headerInjection", headerInjection={"headerName": "X", "valueSecretRef": {"name": "s", "key": "k"}}
)


def gateway(dialect: Dialect = Dialect.NATIVE, references: References | None = None) -> GatewayTraits:
    usable = judge_auth_config("a", INJECTION, dialect)
    missing = judge_auth_config("gone", None, dialect)
    resolution = Resolution({"a": usable}, {"gone": missing})  # type: ignore[dict-item]
    return GatewayTraits(
        dialect=dialect, inline=True, references=references or References(), resolution=resolution, material=Known()
    )


def body(**spec: object) -> bytes:
    given = {"remoteUrl": "https://m.example/mcp", "transport": "sse", "type": "direct", **spec}
    return json.dumps({"spec": given, "status": {"phase": "Valid", "url": "https://m.example/mcp"}}).encode()


def test_the_four_kinds_have_one_shape():
    kinds = ["MCPServer", "MCPRemoteProxy", "MCPServerEntry", "MCPRemoteEndpoint"]
    members = [read_member(kind, Meta(kind.lower()), body()) for kind in kinds]
    assert [member.type for member in members] == list(MemberType)
    assert choose(members, gateway()).skipped == ()
    assert read_member("MCPRemoteEndpoint", Meta("m"), body(type="proxy")).type is MemberType.PROXY


def proxy(**status: object) -> bytes:
    spec = {"remoteUrl": "https://m.example/mcp", "transport": "sse", "type": "proxy", "toolConfigRef": {"name": "t"}}
    forward = {"addPlaintextHeaders": {"X-Key": "v"}}
    return json.dumps({"spec": spec | {"headerForward": forward}, "status": status}).encode()


def test_an_endpoints_proxy_is_reached_by_the_url_of_its_status_and_keeps_headers_and_tools_to_itself():
    member = read_member("MCPRemoteEndpoint", Meta("m"), proxy(url="http://mcp-m-remote-proxy.n.svc:8080"))
    assert (member.url, member.remote_url) == ("http://mcp-m-remote-proxy.n.svc:8080", "https://m.example/mcp")
    assert (dict(member.plain_headers), member.tool_config) == ({}, "")
    assert choose([member], gateway()).skipped == ()


def test_an_endpoints_proxy_without_a_url_is_skipped_and_one_that_has_failed_settles_it():
    waiting = read_member("MCPRemoteEndpoint", Meta("m"), proxy(phase="Pending"))
    failed = read_member("MCPRemoteEndpoint", Meta("m"), proxy(phase="Failed"))
    (skipped,) = choose([waiting], gateway()).skipped
    assert (skipped.name, skipped.reason) == ("m", "NoURL")
    assert [is_settled(waiting), is_settled(failed)] == [False, True]


def test_an_endpoints_proxy_whose_newest_spec_is_not_judged_does_not_replace_what_was_known_of_it():
    behind = Meta("m").generation + 1
    member = read_member(
        "MCPRemoteEndpoint", Meta("m"), proxy(url="http://p", phase="Ready", observedGeneration=behind)
    )
    assert not is_settled(member)


def test_an_object_that_cannot_be_read_is_a_member_with_a_problem():
    member = read_member("MCPServerEntry", Meta("m"), b'{"spec": {"remoteUrl": 7}}')
    (skipped,) = choose([member], gateway()).skipped
    assert (skipped.name, skipped.reason, skipped.detail) == ("m", "NotValid", "the object cannot be read")


def test_an_override_wins_over_the_own_reference_and_that_over_the_default():
    references = References("gone", {"over": "a", "open": None})
    own = Member(MemberType.ENTRY, "own", ("", ""), auth_config="a")
    over, plain, unprotected = (Member(MemberType.ENTRY, name, ("", "")) for name in ("over", "plain", "open"))
    assert [references.of(member) for member in (own, over, plain, unprotected)] == ["a", "a", "gone", None]
    resolution = gateway(references=references).resolution
    assert strategy_for(unprotected, references, resolution, lambda item: item.natural_name) is UNAUTHENTICATED
    assert strategy_for(plain, references, resolution, lambda item: item.natural_name) is None


MEMBERS = st.builds(
    Member,
    type=st.sampled_from(MemberType),
    name=st.sampled_from(["a", "b", "a-b", "a.b"]),
    order=st.tuples(st.sampled_from(["1", "2", "3"]), st.uuids().map(str)),
    url=st.sampled_from(
        ["", "https://x.example/", "http://127.0.0.1/", "http://x.[::1]/", f"https://{'x' * 64}.example/"]
    ),
    transport=st.sampled_from(["sse", "streamable-http", "stdio"]),
    phase=st.sampled_from(["", "Valid", "Failed"]),
    auth_config=st.sampled_from(["", "a", "gone"]),
    ca_config_map=st.sampled_from(["", "c", "none"]),
    ca_key=st.sampled_from(["ca.crt", "a..b"]),
    plain_headers=st.dictionaries(
        st.sampled_from(["X-A", "Host", "Accept"]), st.sampled_from(["v", "", " v"]), max_size=2
    ),
    secret_headers=st.lists(
        st.builds(SecretHeader, st.sampled_from(["X-A", "X-B"]), st.just("s"), st.sampled_from(["k", "bad", "gone"])),
        max_size=1,
    ).map(tuple),
    available=st.booleans(),
)


@pytest.mark.parametrize("url", ["http://x.[::1]/", "x", "ftp://x/", "http://a@b/", "http://b:0/"])
def test_a_workload_whose_status_holds_no_url_is_skipped_with_the_reason(url):
    workload = Member(
        type=MemberType.CONTAINER, name="a", order=("1", "u"), url=url, transport="sse", phase="Running", available=True
    )
    (skipped,) = choose([workload], gateway(Dialect.NATIVE)).skipped
    assert skipped.reason is MemberSkipReason.INVALID_URL


@given(st.lists(MEMBERS, max_size=8), st.sampled_from(Dialect))
def test_every_member_is_a_backend_or_skipped_exactly_once_and_what_is_chosen_is_sound(members, dialect):
    place = gateway(dialect)
    chosen = choose(members, place)
    assert len(chosen.backends) + len(chosen.skipped) == len(members)
    names = [member.name for member in chosen.backends]
    assert names == sorted(set(names))
    for member in chosen.backends:
        namesakes = [other for other in members if other.name == member.name]
        assert member.order == min(other.order for other in namesakes), "the name is its own"
        assert all(Known().has_key(source.secret, source.key) for source in member_sources(member, place))
        backend = backend_of(member, Place(Dialect.NATIVE, "ns", "g"), lambda item: item.natural_name)
        errors = validate_config(VmcpConfig(backends=(backend,)))
        assert not [error for error in errors if error.backends], errors
