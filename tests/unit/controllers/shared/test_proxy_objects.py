"""From the spec of a proxy to its document and its objects, and what is refused before a pod starts in vain."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.contract.proxy import ProxyConfig, parse_proxy, validate_proxy
from api.v1beta1 import MCPExternalAuthConfig, MCPOIDCConfig, MCPRemoteEndpointSpec, MCPToolConfig
from controllers.mcpremoteendpoint.decide import WORDS
from controllers.shared.content import Facts
from controllers.shared.parts.learned import Learned, PolicyText
from controllers.shared.parts.part import judged
from controllers.shared.proxy.names import generated, optional
from controllers.shared.proxy.render import Rendered, render
from controllers.shared.proxy.resolve import ProxyParts, ProxySubject, Referenced, resolve
from controllers.shared.verdicts import Unreadable
from controllers.shared.workload.pod import PodSettings

SECRET = Facts(frozenset({"k"}), digests={"k": "digest-of-the-value"})
BUNDLE = Facts(frozenset({"ca.crt"}), frozenset({"ca.crt"}))
KNOWN = Learned(secrets={"s": SECRET}, config_maps={"c": BUNDLE}, hashed=True)
INLINE = {"type": "inline", "inline": {"issuer": "https://login.example.com"}}
CLUSTER = {"type": "kubernetesServiceAccount", "kubernetesServiceAccount": {"issuer": "https://kubernetes.default.svc"}}
VALUE = {"name": "s", "key": "k"}
INJECTION = {"type": "headerInjection", "headerInjection": {"headerName": "X-A", "valueSecretRef": VALUE}}
HEADER = {"headerName": "X-B", "valueSecretRef": {"name": "s", "key": "k"}}


def parts_of(
    proxy: dict[str, Any] | None = None,
    name: str = "p",
    pods: PodSettings | None = None,
    found: Referenced | None = None,
    oidc: dict[str, Any] = INLINE,
    **spec: Any,
) -> ProxyParts:
    base = {"remoteUrl": "https://m.example/mcp", "transport": "streamable-http", "groupRef": {"name": "g"}}
    config = {"oidcConfigRef": {"name": "o", "audience": "a"}} | (proxy or {})
    settings = pods or PodSettings(image="registry.example/mcp-vmcp:1")
    read = MCPRemoteEndpointSpec.model_validate(base | {"type": "proxy", "proxyConfig": config} | spec)
    assert read.proxy_config is not None
    subject = ProxySubject(
        name=name,
        namespace="n",
        app="mcpremoteendpoint",
        spec=read,
        cluster_domain="cluster.local",
        pods=replace(settings, template=read.proxy_config.pod_template_spec, replicas=read.proxy_config.replicas),
    )
    issuer = MCPOIDCConfig.model_validate({"metadata": {"name": "o"}, "spec": oidc})
    return resolve(subject, replace(found or Referenced(), oidc_config=issuer), WORDS)


def rendered(*arguments: Any, learned: Learned = KNOWN, **settings: Any) -> Rendered:
    return render(parts_of(*arguments, **settings), learned)


def document(made: Rendered) -> ProxyConfig:
    assert made.objects is not None, made.problems
    return parse_proxy(made.objects.config_map["data"]["proxy.yaml"])


def deployment(made: Rendered) -> dict[str, Any]:
    assert made.objects is not None, made.problems
    return made.objects.deployment


def container(made: Rendered) -> dict[str, Any]:
    (found,) = deployment(made)["spec"]["template"]["spec"]["containers"]
    assert found["name"] == "toolhive"
    return dict(found)


def auth(**spec: Any) -> MCPExternalAuthConfig:
    return MCPExternalAuthConfig.model_validate({"metadata": {"name": "x"}, "spec": spec})


def test_names_labels_and_port_are_those_that_clients_of_toolhives_proxies_know() -> None:
    made = rendered()
    assert made.objects is not None
    objects = (made.objects.account, made.objects.config_map, made.objects.deployment, made.objects.service)
    assert [(o["kind"], o["metadata"]["name"]) for o in objects if o] == [
        (kind.kind, name) for kind, name in generated("p") if (kind, name) not in optional("p")
    ]
    assert (made.objects.disruption_budget, made.objects.network_policy) == (None, None)
    assert made.objects.service["metadata"]["name"] == "mcp-p-remote-proxy"
    assert made.objects.service["spec"]["ports"][0]["port"] == 8080
    labels = {"app": "mcpremoteendpoint", "toolhive": "true", "toolhive-name": "p"}
    for where in (made.objects.service["spec"]["selector"], deployment(made)["spec"]["selector"]["matchLabels"]):
        assert labels.items() <= where.items()
    assert container(made)["args"][:2] == ["proxy", "--config=/etc/runconfig/proxy.yaml"]


@given(st.integers(1, 65535), st.sampled_from(["ClientIP", "None"]))
def test_one_port_serves_clients_and_another_what_is_not_for_them(port: int, affinity: str) -> None:
    made = rendered({"proxyPort": port, "sessionAffinity": affinity})
    ports = {one["name"]: one["containerPort"] for one in container(made)["ports"]}
    assert ports["http"] == port != ports["service"]
    assert {f"--port={port}", f"--service-port={ports['service']}"} <= set(container(made)["args"])
    assert made.objects is not None
    assert made.objects.service["spec"]["sessionAffinity"] == affinity


def test_the_program_accepts_the_document_of_a_proxy_with_everything() -> None:
    tools = MCPToolConfig.model_validate(
        {"metadata": {"name": "t"}, "spec": {"toolsFilter": ["b"], "toolsOverride": {"a": {"name": "b"}}}}
    )
    policy = "permit(principal, action, resource);"
    made = rendered(
        {"authzConfig": {"type": "inline", "inline": {"policies": [policy]}}, "audit": {"enabled": True}},
        found=Referenced(auth_config=auth(**INJECTION), tool_config=tools),
        externalAuthConfigRef={"name": "x"},
        toolConfigRef={"name": "t"},
        caBundleRef={"configMapRef": {"name": "c"}},
        headerForward={"addPlaintextHeaders": {"X-C": "v"}, "addHeadersFromSecret": [HEADER]},
    )
    found = document(made)
    assert validate_proxy(found) == ()
    assert found.remote is not None
    assert found.remote.ca_bundle_path == "/etc/toolhive/ca-bundles/p/c/ca.crt"
    assert found.tools is not None
    assert found.tools.filter == ("b",)
    assert found.audit is not None
    assert found.incoming_auth is not None
    assert found.incoming_auth.oidc is not None
    assert found.incoming_auth.oidc.resource == "http://mcp-p-remote-proxy.n.svc.cluster.local:8080"
    assert found.incoming_auth.authz is not None
    assert found.incoming_auth.authz.policies == (policy,)
    mounts = {mount["mountPath"] for mount in container(made)["volumeMounts"]}
    assert mounts == {"/etc/runconfig", "/tmp", "/etc/toolhive/ca-bundles/p/c"}
    env = {one["name"]: one for one in container(made)["env"]}
    assert found.remote.auth is not None
    assert found.remote.auth.header_injection is not None
    for variable in (
        found.remote.auth.header_injection.header_value_env,
        *(f"TOOLHIVE_SECRET_{one}" for one in (found.remote.header_forward.add_headers_from_secret.values())),
    ):
        assert env[variable]["valueFrom"]["secretKeyRef"] == {"name": "s", "key": "k"}


def test_a_rotated_value_changes_names_and_template_and_a_touched_secret_nothing() -> None:
    wish = {"headerForward": {"addHeadersFromSecret": [HEADER]}}
    before, again = rendered(**wish), rendered(**wish)
    rotated = replace(KNOWN, secrets={"s": replace(SECRET, digests={"k": "another"})})
    after = rendered(learned=rotated, **wish)
    assert deployment(before) == deployment(again)
    assert deployment(before)["spec"]["template"] != deployment(after)["spec"]["template"]
    assert {one["name"] for one in container(before)["env"]} != {one["name"] for one in container(after)["env"]}
    assert "digest-of-the-value" not in json.dumps(deployment(before))


def test_a_changed_document_is_another_template() -> None:
    one, other = rendered(), rendered(remoteUrl="https://m.example/other")
    assert deployment(one)["spec"]["template"] != deployment(other)["spec"]["template"]
    assert deployment(one)["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_only_the_clusters_own_issuer_gives_pods_a_token_mount() -> None:
    assert deployment(rendered())["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    made = rendered(oidc=CLUSTER)
    assert deployment(made)["spec"]["template"]["spec"]["automountServiceAccountToken"] is True


def test_an_account_of_the_users_is_used_and_none_is_made() -> None:
    made = rendered(pods=PodSettings(image="i", account="mine"))
    assert made.objects is not None
    assert made.objects.account is None
    assert deployment(made)["spec"]["template"]["spec"]["serviceAccountName"] == "mine"


def test_what_a_user_adds_to_the_objects_is_there_and_replaces_nothing_of_ours() -> None:
    added = {"labels": {"team": "a", "app": "mine"}, "annotations": {"note": "b"}}
    overrides = {
        "proxyService": added,
        "proxyDeployment": added
        | {
            "podTemplateMetadataOverrides": added,
            "env": [{"name": "HOME", "value": "/x"}, {"name": "MINE", "value": "y"}],
        },
    }
    resources = {"limits": {"cpu": "1"}}
    made = rendered(
        {"resourceOverrides": overrides, "resources": resources, "podTemplateSpec": {"spec": {"nodeName": "n"}}}
    )
    assert made.objects is not None
    template = deployment(made)["spec"]["template"]
    for metadata in (made.objects.service["metadata"], deployment(made)["metadata"], template["metadata"]):
        assert metadata["labels"]["team"] == "a"
        assert metadata["labels"]["app"] == "mcpremoteendpoint"
        assert metadata["annotations"]["note"] == "b"
    env = {one["name"]: one.get("value") for one in container(made)["env"]}
    assert (env["HOME"], env["MINE"]) == ("/tmp", "y")
    assert container(made)["resources"] == resources
    assert template["spec"]["nodeName"] == "n"


def test_who_scales_is_left_to_others_unless_the_spec_says_a_number() -> None:
    assert "replicas" not in deployment(rendered())["spec"]
    assert deployment(rendered({"replicas": 0}))["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"name": "n" * 47}, "46"),
        ({"name": "a.b"}, "dots"),
        ({"proxy": {"endpointPrefix": "/x"}}, "endpointPrefix"),
        ({"proxy": {"authServerRef": {"name": "x"}}}, "authServerRef"),
        ({"proxy": {"sessionStorage": {"provider": "redis", "address": "r:1"}}}, "Redis"),
        ({"proxy": {"podTemplateSpec": {"spec": {"containers": "x"}}}}, "podTemplateSpec"),
        ({"proxy": {"podTemplateSpec": {"spec": {"$patch": "delete"}}}}, "podTemplateSpec"),
        ({"pods": PodSettings(image="i", account="admin", restricted=True)}, "admin"),
        (
            {
                "pods": PodSettings(image="i", restricted=True),
                "proxy": {"podTemplateSpec": {"spec": {"hostNetwork": True}}},
            },
            "hostNetwork",
        ),
        (
            {
                "pods": PodSettings(image="i", restricted=True),
                "proxy": {"podTemplateSpec": {"spec": {"serviceAccountName": "admin"}}},
            },
            "p-remote-proxy-runner",
        ),
    ],
)
def test_what_cannot_be_served_is_a_sentence_and_no_object(settings: dict[str, Any], word: str) -> None:
    made = rendered(**settings)
    said = "; ".join((*made.problems, made.template_problem))
    assert made.objects is None
    assert word in said
    assert "gateway" not in said, "whoever reads it has none"


@pytest.mark.parametrize("name", ["n" * 46, "a-b", "a1"])
def test_every_name_that_fits_is_fine(name: str) -> None:
    assert rendered(name=name).problems == ()


@pytest.mark.parametrize(
    ("found", "proxy", "spec", "said"),
    [
        (Referenced(), {"authzConfigRef": {"name": "z"}}, {}, "AuthzConfigValid=False/AuthzConfigNotFound"),
        (
            Referenced(policy_text=PolicyText.UNREAD),
            {"authzConfig": {"type": "configMap", "configMap": {"name": "c"}}},
            {},
            "AuthzConfigValid=None/ReadFailed",
        ),
        (
            Referenced(policy_text="{}"),
            {"authzConfig": {"type": "configMap", "configMap": {"name": "c"}}},
            {},
            "AuthzConfigValid=False/AuthzConfigInvalid",
        ),
        (Referenced(), {"telemetryConfigRef": {"name": "t"}}, {}, "TelemetryConfigValid=False/TelemetryConfigNotFound"),
        (Referenced(), {}, {"externalAuthConfigRef": {"name": "x"}}, "AuthConfigValid=False/AuthConfigNotFound"),
        (
            Referenced(auth_config=auth(**INJECTION)),
            {},
            {"externalAuthConfigRef": {"name": "x"}},
            "AuthConfigValid=True/AuthConfigValid",
        ),
    ],
)
def test_each_reference_is_judged_in_the_words_of_an_endpoint(
    found: Referenced, proxy: dict[str, Any], spec: dict[str, Any], said: str
) -> None:
    verdicts = judged(parts_of(proxy, found=found, **spec).in_order, KNOWN)
    assert said in {f"{v.type}={v.ok}/{v.reason}" for v in verdicts}


def test_a_tool_config_that_cannot_be_read_shows_no_tool_that_it_hides() -> None:
    made = rendered(found=Referenced(tool_config=Unreadable("nonsense")), toolConfigRef={"name": "t"})
    assert made.objects is None
    assert "nonsense" in "; ".join(made.problems)


def test_a_missing_secret_of_the_auth_config_is_found_before_a_pod_waits_for_it() -> None:
    parts = parts_of(found=Referenced(auth_config=auth(**INJECTION)), externalAuthConfigRef={"name": "x"})
    assert parts.secrets == ("s",)
    (verdict,) = [v for v in judged(parts.in_order, Learned(hashed=True)) if not v.ok]
    assert (verdict.type, verdict.reason) == ("AuthConfigValid", "AuthConfigInvalid")
