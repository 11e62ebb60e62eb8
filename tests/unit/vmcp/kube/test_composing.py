"""From a look at the group to settings: what the operator would have written, without the operator."""

from __future__ import annotations

from typing import Any

import pytest

from api.contract.loader import parse_config
from api.v1beta1 import MCPExternalAuthConfig
from api.v1beta1.mcptoolconfig import MCPToolConfigSpec
from membership import Member, MemberType, References, SecretHeader
from tests.envtest.controllers.kit import certificate
from tests.unit.vmcp.config.configs import text
from vmcp.config.load import settle
from vmcp.config.resolve import Surroundings
from vmcp.config.secrets import EnvironmentSecrets, NamedSecrets
from vmcp.kube.compose import Composed, compose
from vmcp.kube.view import GroupView


def entry(name: str, **fields: Any) -> Member:
    given = {"phase": "Valid", "transport": "streamable-http", "uid": name, **fields}
    return Member(type=MemberType.ENTRY, name=name, order=("t", name), url=f"https://{name}.example/mcp", **given)


def auth(name: str, key: str = "k") -> MCPExternalAuthConfig:
    injection = {"headerName": "X-Auth", "valueSecretRef": {"name": name, "key": key}}
    spec = {"type": "headerInjection", "headerInjection": injection}
    return MCPExternalAuthConfig.model_validate({"metadata": {"name": name, "namespace": "n"}, "spec": spec})


def composed(*members: Member, outgoing: dict[str, Any] | None = None, **known: Any) -> Composed:
    base = parse_config(text(backends=None, outgoingAuth={"source": "discovered", **(outgoing or {})}))
    return compose(base, GroupView(group_exists=known.pop("group_exists", True), members=members, **known), "n")


def skipped(found: Composed) -> dict[str, str]:
    return {item.name: f"{item.reason}: {item.detail}" for item in found.skipped}


def injected(found: Composed) -> dict[str, str]:
    """Backend -> value of its X-Auth header, "" for none."""
    named = NamedSecrets(found.values, EnvironmentSecrets({"OF_THE_POD": "of the pod"}))
    settings = settle(found.config, "d", Surroundings({}, named)).settings
    return {name: getattr(one, "value", "") for name, one in settings.outgoing.items()}


SECRETS = {name: {"k": name.encode()} for name in ("own", "default", "override")}
CONFIGS = {name: auth(name) for name in SECRETS}


def test_headers_of_secrets_are_named_in_the_configuration_and_valued_beside_it():
    found = composed(entry("a", secret_headers=(SecretHeader("X-Key", "s", "k"),)), secrets={"s": {"k": b"t0ken\n"}})
    assert b"t0ken" not in repr(found).encode() + str(found.config).encode()
    settings = settle(found.config, "d", Surroundings({}, NamedSecrets(found.values, EnvironmentSecrets({})))).settings
    assert settings.backends[0].headers == (("X-Key", "t0ken"),)
    assert settings.secrets == ("t0ken",)


def test_override_own_reference_and_default_come_in_this_order():
    references = References("default", {"b": "override", "d": None})
    members = (entry("a"), entry("b", auth_config="own"), entry("c", auth_config="own"), entry("d"))
    found = composed(*members, references=references, auth_configs=CONFIGS, secrets=SECRETS)
    assert injected(found) == {"a": "default", "b": "override", "c": "own", "d": ""}


def test_without_a_virtual_mcp_server_the_configuration_gives_override_and_default():
    strategy = {"type": "header_injection", "headerInjection": {"headerName": "X-Auth", "headerValueEnv": "OF_THE_POD"}}
    outgoing = {"default": strategy, "backends": {"c": {"type": "unauthenticated"}}}
    members = (entry("a"), entry("b", auth_config="own"), entry("c", auth_config="own"))
    found = composed(*members, outgoing=outgoing, auth_configs=CONFIGS, secrets=SECRETS)
    assert injected(found) == {"a": "of the pod", "b": "own", "c": ""}


@pytest.mark.parametrize("broken", ["own", "default", "override"])
@pytest.mark.parametrize("how", ["no config", "no secret", "no key"])
def test_authentication_that_cannot_be_resolved_never_becomes_another_or_none(broken, how):
    configs = {name: config for name, config in CONFIGS.items() if how != "no config" or name != broken}
    secrets = {name: data for name, data in SECRETS.items() if how != "no secret" or name != broken}
    if how == "no key":
        secrets[broken] = {"other": b"x"}
    references = References("default", {"b": "override"})
    members = {"own": entry("a", auth_config="own"), "override": entry("b"), "default": entry("c")}
    found = composed(*members.values(), references=references, auth_configs=configs, secrets=secrets)
    assert set(skipped(found)) == {members[broken].name}
    assert members[broken].name not in injected(found)


@pytest.mark.parametrize(
    ("unread", "told"),
    [
        ({("Secret", "s"): ""}, {}),
        ({("Secret", "s"): "why"}, {"a": 'SecretNotFound: Secret "s" cannot be read: why'}),
        ({}, {"a": 'SecretNotFound: Secret "s" has no key "k" or does not exist'}),
    ],
    ids=["being read", "not readable", "not there"],
)
def test_a_secret_that_cannot_be_read_is_told_from_one_that_is_not_there(unread, told):
    found = composed(entry("a", secret_headers=(SecretHeader("X-Key", "s", "k"),)), entry("b"), unread=unread)
    assert skipped(found) == told
    assert [backend.name for backend in found.config.backends] == ["b"]


def test_a_ca_bundle_is_carried_along_and_one_that_is_none_costs_its_member():
    good, bad = certificate().encode(), b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
    members = (entry("a", ca_config_map="pki", ca_key="ca.crt"), entry("b", ca_config_map="pki", ca_key="bad"))
    found = composed(*members, config_maps={"pki": {"ca.crt": good, "bad": bad}})
    assert found.bundles == {found.config.backends[0].ca_bundle_path: good}
    assert set(skipped(found)) == {"b"}


def test_a_members_own_tool_config_counts_and_the_gateways_words_win():
    spec = MCPToolConfigSpec.model_validate({"toolsFilter": ["x"], "toolsOverride": {"x": {"name": "y"}}})
    found = composed(entry("a", tool_config="t"), tool_configs={"t": spec})
    assert found.config.aggregation is not None
    (tools,) = found.config.aggregation.tools
    assert (tools.workload, tools.filter, tools.overrides["x"].name) == ("a", ("x",), "y")


def test_a_group_that_does_not_exist_has_no_backends():
    assert composed(entry("a"), group_exists=False).config.backends == ()
