"""What `kubectl apply -k` finds in config/ is accepted by a real API server, strictly, and keeps its promises."""

from __future__ import annotations

import asyncio
import functools
import subprocess
from pathlib import Path

import pytest
import yaml

from api.conditions import VOCABULARIES
from hack.controlplane import Options
from hack.controlplane.crds import documents
from hack.run.expect import expectations, read_table
from manager import parser

CONFIG = Path(__file__).parents[3] / "config"
SYSTEM = "mcp-operator-system"
CLUSTER_WIDE = (
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)


@pytest.fixture(scope="module")
def render(control_plane):
    """The objects of a kustomization below config/, for the caller to change; built once for this file."""

    @functools.cache
    def text(name: str) -> str:
        return control_plane.kubectl("kustomize", str(CONFIG / name)).stdout

    return lambda name: list(documents(text(name)))


@pytest.fixture
async def system_namespace(admin, render):
    """The operator's namespace as config/default has it, labels included."""
    (body,) = (document for document in render("default") if document["kind"] == "Namespace")
    await admin.apply(body)
    return body["metadata"]["name"]


async def test_the_default_installation_is_accepted(admin, render, system_namespace):
    documents = render("default")
    kinds = {document["kind"] for document in documents}
    assert {
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "Deployment",
        "NetworkPolicy",
    } <= kinds
    for document in documents:
        await admin.apply(document, dry_run=True)


async def test_every_object_but_the_cluster_wide_ones_is_in_the_operators_namespace(render):
    for document in render("default"):
        if document["kind"] not in CLUSTER_WIDE:
            assert document["metadata"]["namespace"] == SYSTEM, document["metadata"]["name"]
        if document["kind"] != "CustomResourceDefinition":
            assert document["metadata"]["name"].startswith("mcp-operator-")


def test_bindings_and_selectors_point_at_what_is_there(render):
    documents = {(d["kind"], d["metadata"]["name"]): d for d in render("default")}
    for (kind, _), document in documents.items():
        if kind == "ValidatingAdmissionPolicyBinding":
            assert (kind.removesuffix("Binding"), document["spec"]["policyName"]) in documents
        elif kind.endswith("Binding"):
            assert (document["roleRef"]["kind"], document["roleRef"]["name"]) in documents
            for subject in document["subjects"]:
                assert (subject["kind"], subject["name"]) in documents
                assert subject["namespace"] == SYSTEM
    deployment = documents["Deployment", "mcp-operator-controller-manager"]["spec"]["template"]
    assert ("ServiceAccount", deployment["spec"]["serviceAccountName"]) in documents
    labels = deployment["metadata"]["labels"].items()
    for kind, path in (("Service", ("selector",)), ("NetworkPolicy", ("podSelector", "matchLabels"))):
        for document in (d for (k, _), d in documents.items() if k == kind):
            selector = document["spec"]
            for step in path:
                selector = selector[step]
            assert selector
            assert selector.items() <= labels


async def test_the_managers_pod_fulfils_the_restricted_pod_security_standard(admin, render, system_namespace):
    (deployment,) = (document for document in render("default") if document["kind"] == "Deployment")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "manager", "namespace": system_namespace},
        "spec": deployment["spec"]["template"]["spec"],
    }
    await admin.create(pod, dry_run=True)  # refused by the PodSecurity plugin if it did not
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_on_openshift_the_managers_pod_leaves_its_ids_to_the_platform_and_nothing_else_changes(render):
    (plain,) = (document for document in render("default") if document["kind"] == "Deployment")
    (found,) = (document for document in render("openshift") if document["kind"] == "Deployment")
    context = plain["spec"]["template"]["spec"]["securityContext"]
    assert context.pop("runAsUser")
    assert context.pop("runAsGroup")
    assert found == plain
    others = [[d for d in render(name) if d["kind"] != "Deployment"] for name in ("default", "openshift")]
    assert others[0] == others[1]


async def test_the_managers_flags_and_ports_agree(render):
    (deployment,) = (document for document in render("default") if document["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert f"--metrics-bind-address=:{ports['metrics']}" in container["args"]
    assert f"--health-probe-bind-address=:{ports['health']}" in container["args"]
    parser().parse_args(container["args"])


@pytest.mark.parametrize("port", [443, 6443, 6444, 8443, 16443])
def test_the_manager_reaches_the_api_server_on_the_ports_of_the_common_distributions(port):
    """A NetworkPolicy sees the port behind the Service: 6444 on k3s and RKE2, 16443 on MicroK8s."""
    folder = Path(__file__).parents[3] / "config" / "network-policy"
    policies = [body for file in sorted(folder.glob("manager*.yaml")) for body in yaml.safe_load_all(file.read_text())]
    allowed = [each for body in policies for rule in body["spec"]["egress"] for each in rule.get("ports", [])]
    assert {"port": port, "protocol": "TCP"} in allowed


async def test_the_samples_are_accepted(admin, render, namespace):
    for document in render("samples"):
        document["metadata"]["namespace"] = namespace
        await admin.apply(document, dry_run=True)


def test_what_is_expected_is_said_of_every_sample_and_of_nothing_else(render):
    table = read_table()
    expected = expectations(render("samples"), table)
    assert {f"{e.kind}/{e.name}" for e in expected} == set(table)
    assert all(e.conditions for e in expected)


def test_what_is_expected_uses_words_of_the_vocabulary(render):
    for expectation in expectations(render("samples"), read_table()):
        vocabulary = next(v for v in VOCABULARIES if v.kind == expectation.kind)
        phases = {str(phase) for phase in vocabulary.phase} if vocabulary.phase else {None}
        assert expectation.phase in phases, expectation
        for condition in expectation.conditions:
            rule = vocabulary.rule(condition.type)
            allowed = {str(reason) for reason in dict(rule.by_status)[condition.status]}
            if condition.status == rule.mirrors:  # the reason of a failing condition, which must be expected, too
                failing = (c for c in expectation.conditions if c.status == "False" and c.type != condition.type)
                allowed |= {c.reason for c in failing}
            assert condition.reason in allowed, condition


def test_an_older_version_is_served_with_a_warning(control_plane, namespace):
    sample = str(CONFIG / "samples" / "entry_v1alpha1.yaml")
    done = control_plane.kubectl("apply", "-n", namespace, "-f", sample)
    assert "toolhive.stacklok.dev/v1alpha1 is deprecated; use v1beta1" in done.stderr


def test_the_service_monitor_selects_the_metrics_service(render):
    (monitor,) = render("prometheus")
    (service,) = (document for document in render("manager") if document["kind"] == "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_deploy_sets_both_images_and_leaves_no_overlay_behind(control_plane):
    root = CONFIG.parent
    environment = control_plane.environment() | {"KUBECTL": str(control_plane.kubectl_path)}
    text = subprocess.run(
        ["hack/deploy.sh", "example.com/operator:1", "example.com/mcp-vmcp:2"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (deployment,) = (d for d in documents(text) if d["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "example.com/operator:1"
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert variables["VMCP_IMAGE"] == "example.com/mcp-vmcp:2"
    assert set(variables) == {"POD_NAMESPACE", "WATCH_NAMESPACE", "VMCP_IMAGE"}
    assert list(root.glob("build.overlay.*")) == []


async def test_a_plain_apply_installs_everything_and_a_second_one_changes_nothing(make_control_plane):
    plane = await asyncio.to_thread(make_control_plane, Options())
    first = plane.handle.kubectl("apply", "-k", str(CONFIG / "default")).stdout.splitlines()
    assert all(line.endswith(" created") for line in first)
    second = plane.handle.kubectl("apply", "-k", str(CONFIG / "default")).stdout.splitlines()
    assert sorted(second) == sorted(line.replace(" created", " unchanged") for line in first)


async def test_whoever_applies_an_entry_is_warned_and_nothing_is_refused(admin, control_plane, render, namespace):
    """The binding is narrowed to the test's own namespace: others share the API server."""
    policies = [body for body in render("default") if body["kind"].startswith("ValidatingAdmissionPolicy")]
    binding = policies[-1]
    assert binding["kind"] == "ValidatingAdmissionPolicyBinding"
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding["spec"]["matchResources"] = {"namespaceSelector": here}
    manifest = yaml.safe_dump(
        {
            "apiVersion": "toolhive.stacklok.dev/v1beta1",
            "kind": "MCPServerEntry",
            "metadata": {"name": "e", "namespace": namespace},
            "spec": {"remoteUrl": "https://a.example", "transport": "sse", "groupRef": {"name": "g"}},
        }
    )
    for body in policies:
        await admin.apply(body)
    try:
        async with asyncio.timeout(20):  # the server takes a new policy up with a delay
            while True:
                done = await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", stdin=manifest)
                if "MCPServerEntry is deprecated: use MCPRemoteEndpoint" in done.stderr:
                    break
                await asyncio.to_thread(control_plane.kubectl, "delete", "-f", "-", stdin=manifest)
    finally:
        for body in policies:
            await admin.delete(body["apiVersion"], body["kind"], body["metadata"]["name"])
    assert "created" in done.stdout or "configured" in done.stdout or "unchanged" in done.stdout
