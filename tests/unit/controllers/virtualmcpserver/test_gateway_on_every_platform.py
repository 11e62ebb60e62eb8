"""What a gateway's objects must be like so that they work on every platform, whatever tools users write with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.contract import Dialect, load_config
from api.v1beta1 import MCPToolConfig
from controllers.options import OperatorOptions, OptionsError, read_options
from controllers.shared.workload.pod import merged_template, without_fixed_ids
from controllers.virtualmcpserver.decide import decide
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import entry, make, said

IDS = {"runAsUser", "runAsGroup", "fsGroup"}


def template(**given: Any) -> dict[str, Any]:
    decision = decide(make(given.pop("spec", None), entry(), **given))
    assert decision.intents.deployment is not None, said(decision)
    found: dict[str, Any] = decision.intents.deployment["spec"]["template"]["spec"]
    return found


def ids(pod: dict[str, Any]) -> set[str]:
    return IDS & ({*pod["securityContext"]} | {*pod["containers"][0]["securityContext"]})


# --- uids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", list(Dialect))
def test_openshift_gives_the_pods_their_ids_itself(dialect: Dialect):
    assert ids(template(dialect=dialect)) == IDS
    pod = template(dialect=dialect, options=OperatorOptions(openshift=True))
    assert ids(pod) == set()
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def patched(security: Any, container: Any) -> dict[str, Any]:
    return {"spec": {"securityContext": security, "containers": [{"name": "vmcp", "securityContext": container}]}}


NULLS = patched(dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup")), dict.fromkeys(("runAsUser", "runAsGroup")))


@pytest.mark.parametrize(
    "patch",
    [NULLS, patched({}, {})],
    ids=["nulls, as server-side apply stores them", "what kubectl apply leaves of nulls"],
)
def test_fixed_ids_can_be_taken_away_with_every_tool_and_the_rest_stays(patch: dict[str, Any]):
    pod = template(spec={"podTemplateSpec": patch})
    assert ids(pod) == set()
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_security_context_can_be_replaced_whole():
    replaced = {"$patch": "replace", "runAsNonRoot": True}
    pod = template(spec={"podTemplateSpec": patched(replaced, replaced)})
    assert pod["securityContext"] == pod["containers"][0]["securityContext"] == {"runAsNonRoot": True}


def test_an_empty_security_context_of_another_container_is_just_empty():
    sidecar = {"name": "side", "securityContext": {}}
    pod = template(spec={"podTemplateSpec": {"spec": {"containers": [sidecar]}}})
    assert {"name": "side", "securityContext": {}} in pod["containers"]
    assert ids({**pod, "containers": [c for c in pod["containers"] if c["name"] == "vmcp"]}) == IDS


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_reading_an_odd_patch_for_empty_contexts_never_fails(odd: Any):
    for patch in ({"spec": odd}, {"spec": {"containers": odd, "securityContext": odd}}):
        without_fixed_ids(patch, "vmcp")


def test_a_patch_is_not_changed_by_being_read():
    patch = patched({}, {})
    merged_template({"spec": {"containers": [{"name": "vmcp"}]}}, patch, "vmcp")
    assert patch == patched({}, {})


@pytest.mark.parametrize(("value", "said"), [("true", True), ("1", True), ("False", False), ("", None)])
def test_the_environment_can_say_the_platform(value: str, said: bool | None):
    assert read_options({"OPERATOR_OPENSHIFT": value}).openshift is said


def test_a_platform_that_is_neither_true_nor_false_is_a_mistake():
    with pytest.raises(OptionsError, match="OPERATOR_OPENSHIFT must be true or false, not 'maybe'"):
        read_options({"OPERATOR_OPENSHIFT": "maybe"})


# --- lists that others write, too ------------------------------------------------------------------------------------


def test_pull_secrets_are_on_the_pods_and_not_on_the_account_whose_list_platforms_write():
    options = OperatorOptions(image_pull_secrets=("installation",))
    decision = decide(make({"imagePullSecrets": [{"name": "own"}]}, entry(), options=options))
    (account,) = (body for body in decision.intents.identity if body["kind"] == "ServiceAccount")
    assert set(account) == {"apiVersion", "kind", "metadata"}
    assert decision.intents.deployment is not None
    pod = decision.intents.deployment["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "own"}, {"name": "installation"}]


# --- address families and names --------------------------------------------------------------------------------------


def test_our_gateway_listens_on_both_address_families_and_the_stock_one_as_it_always_did():
    assert "--host=::" in template()["containers"][0]["args"]
    assert "--host=0.0.0.0" in template(dialect=Dialect.TOOLHIVE)["containers"][0]["args"]


RESOLVERS = {
    "nameserver 10.0.0.10\nsearch ns.svc.k8s.corp svc.k8s.corp k8s.corp\noptions ndots:5\n": "k8s.corp",
    "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\n": "cluster.local",
    "search corp.example\n": "cluster.local",
    "search svc. svc\n": "cluster.local",
    "": "cluster.local",
    "# search svc.no\nsearch\tsvc.a.b.\n": "a.b",
}


@pytest.mark.parametrize(("text", "domain"), RESOLVERS.items())
def test_the_clusters_domain_is_what_the_resolver_searches(tmp_path: Path, text: str, domain: str):
    (tmp_path / "resolv.conf").write_text(text)
    assert read_options({}, resolv_conf=tmp_path / "resolv.conf").cluster_domain == domain


def test_the_clusters_domain_can_be_said_and_stands_in_the_url(tmp_path: Path):
    options = read_options({"CLUSTER_DOMAIN": "corp.example."}, resolv_conf=tmp_path / "none")
    fields = decide(make(None, entry(), options=options)).fields
    assert fields["url"] == "http://vmcp-v.ns.svc.corp.example:4483"
    assert read_options({}, resolv_conf=tmp_path / "none").cluster_domain == "cluster.local"


@pytest.mark.parametrize("name", ["a" * 59, "a" * 63, "a" * 100, "a.b", "v1.2.3"])
def test_a_name_that_no_service_could_have_is_refused_before_anything_is_written(name: str):
    decision = decide(make(None, entry(), name=name))
    assert decision.intents.empty
    assert said(decision)["Valid"] == "False/ValidationFailed"
    assert "metadata.name" in decision.health.message


def test_the_longest_name_that_fits_is_not_refused():
    decision = decide(make(None, entry(), name="a" * 58))
    assert decision.intents.service is not None
    assert len(decision.intents.service["metadata"]["name"]) == 63


# --- the stock gateway -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_tool_config_is_resolved_and_the_stock_gateway_gets_no_reference_beside_it(dialect: Dialect):
    tools = {"aggregation": {"tools": [{"workload": "e", "toolConfigRef": {"name": "t"}}]}}
    config = MCPToolConfig.model_validate({"metadata": {"name": "t"}, "spec": {"toolsFilter": ["a"]}})
    decision = decide(make({"config": tools}, entry(), dialect=dialect, tool_configs={"t": config}))
    assert decision.intents.config_map is not None, said(decision)
    aggregation = load_config(decision.intents.config_map["data"]["config.yaml"]).aggregation
    assert aggregation is not None
    (found,) = aggregation.tools
    assert found.filter == ("a",)
    assert (found.tool_config_ref is None) is (dialect is Dialect.TOOLHIVE)


def test_what_shows_the_inside_of_a_gateway_has_a_port_that_no_service_leads_to():
    container = template()["containers"][0]
    assert "--service-port=4484" in container["args"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 4483, "service": 4484}
    stock = template(dialect=Dialect.TOOLHIVE)["containers"][0]
    assert not any(argument.startswith("--service-port") for argument in stock["args"]), "it knows no such flag"
    assert [port["containerPort"] for port in stock["ports"]] == [4483]
