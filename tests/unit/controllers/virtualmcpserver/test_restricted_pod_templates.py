"""What `--restrict-pod-templates` refuses, attack by attack, and what it lets pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.options import OperatorOptions
from controllers.shared.workload.restrictions import template_problems
from controllers.virtualmcpserver.decide import decide
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import make

RESTRICTED = OperatorOptions(restrict_pod_templates=True)


def pod(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def vmcp(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "vmcp", **fields}])


def context(**fields: Any) -> dict[str, Any]:
    return vmcp(securityContext=fields)


def volume(**source: Any) -> dict[str, Any]:
    return pod(volumes=[{"name": "v", **source}])


def token(**fields: Any) -> dict[str, Any]:
    return volume(projected={"sources": [{"serviceAccountToken": {"path": "t", **fields}}]})


def annotated(name: str, value: str = "x") -> dict[str, Any]:
    return {"metadata": {"annotations": {name: value}}}


ATTACKS = {
    "privileged": context(privileged=True),
    "privileged sidecar": pod(containers=[{"name": "s", "image": "i", "securityContext": {"privileged": True}}]),
    "privileged init container": pod(
        initContainers=[{"name": "s", "image": "i", "securityContext": {"privileged": True}}]
    ),
    "escalation": context(allowPrivilegeEscalation=True),
    "capability": context(capabilities={"add": ["SYS_ADMIN"]}),
    "all capabilities": context(capabilities={"add": ["ALL"]}),
    "proc unmasked": context(procMount="Unmasked"),
    "root": context(runAsUser=0),
    "root of the pod": pod(securityContext={"runAsUser": 0}),
    "may be root": context(runAsNonRoot=False),
    "no seccomp": context(seccompProfile={"type": "Unconfined"}),
    "a seccomp profile of the node": pod(
        securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}
    ),
    "no AppArmor": context(appArmorProfile={"type": "Unconfined"}),
    "SELinux type": context(seLinuxOptions={"type": "spc_t"}),
    "SELinux user": pod(securityContext={"seLinuxOptions": {"user": "system_u"}}),
    "Windows host process": pod(securityContext={"windowsOptions": {"hostProcess": True}}),
    "sysctl": pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
    "host network": pod(hostNetwork=True),
    "host processes": pod(hostPID=True),
    "host IPC": pod(hostIPC=True),
    "host users": pod(hostUsers=True),
    "host port": vmcp(ports=[{"containerPort": 1, "hostPort": 80}]),
    "host address": vmcp(ports=[{"containerPort": 4483, "hostIP": "10.0.0.1"}]),
    "host path": volume(hostPath={"path": "/"}),
    "node's mount by CSI": volume(csi={"driver": "hostpath.csi.k8s.io"}),
    "somebody's claim": volume(persistentVolumeClaim={"claimName": "theirs"}),
    "a claim of one's own": volume(ephemeral={"volumeClaimTemplate": {"spec": {}}}),
    "NFS by the node": volume(nfs={"server": "s", "path": "/"}),
    "block device": vmcp(volumeDevices=[{"name": "v", "devicePath": "/dev/x"}]),
    "mount propagation": vmcp(volumeMounts=[{"name": "v", "mountPath": "/m", "mountPropagation": "Bidirectional"}]),
    "mounts of the host seen": vmcp(
        volumeMounts=[{"name": "v", "mountPath": "/m", "mountPropagation": "HostToContainer"}]
    ),
    "another account": pod(serviceAccountName="admin"),
    "another account by its old name": pod(serviceAccount="admin"),
    "a token for another audience": token(audience="vault"),
    "a certificate for the pod": volume(projected={"sources": [{"podCertificate": {"signerName": "s"}}]}),
    "ephemeral container": pod(ephemeralContainers=[{"name": "e", "image": "i"}]),
    "chosen node": pod(nodeName="control-plane"),
    "another runtime": pod(runtimeClassName="host"),
    "another scheduler": pod(schedulerName="mine"),
    "device": pod(resourceClaims=[{"name": "c", "resourceClaimName": "gpu"}]),
    "probe of the kubelet's network": vmcp(livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}}),
    "hook of the kubelet's network": vmcp(lifecycle={"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 22}}}),
    "field of a later Kubernetes": pod(hostEverything=True),
    "field of a later container": vmcp(hostEverything=True),
    "AppArmor by annotation": annotated("container.apparmor.security.beta.kubernetes.io/vmcp", "unconfined"),
    "device by annotation": annotated("cdi.k8s.io/x", "vendor/device=0"),
    "runtime's devices": annotated("io.kubernetes.cri-o.Devices", "/dev/kmsg"),
    "network by annotation": annotated("k8s.v1.cni.cncf.io/networks", "host"),
    "whole spec replaced": pod(**{"$patch": "replace", "hostNetwork": True, "containers": [{"name": "vmcp"}]}),
    "context replaced": context(**{"$patch": "replace", "privileged": True}),
}

HARMLESS = {
    "labels and annotations": {"metadata": {"labels": {"team": "a"}, "annotations": {"prometheus.io/scrape": "true"}}},
    "placement": pod(nodeSelector={"zone": "a"}, tolerations=[{"operator": "Exists"}], priorityClassName="high"),
    "resources": vmcp(resources={"limits": {"memory": "1Gi"}}),
    "environment": vmcp(env=[{"name": "A", "value": "b"}]),
    "sidecar": pod(containers=[{"name": "s", "image": "i", "ports": [{"containerPort": 9}]}]),
    "volumes": pod(volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "c"}}]),
    "its own token": token(expirationSeconds=600),
    "binding a low port": context(capabilities={"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}),
    "said as it is": pod(hostNetwork=False, hostUsers=False, serviceAccountName="v-vmcp"),
    "ids taken away": pod(securityContext={"runAsUser": None, "fsGroup": None}),
    "probe of the pod": vmcp(readinessProbe={"httpGet": {"path": "/readyz", "port": "http"}}),
}


def verdict(patch: dict[str, Any], options: OperatorOptions = RESTRICTED) -> tuple[str, str]:
    decision = decide(make({"podTemplateSpec": patch}, options=options))
    (found,) = [c for c in decision.conditions if c.type == "PodTemplateSpecValid"]
    assert decision.intents.empty == (found.status == "False")
    assert any(c.type == "Stalled" for c in decision.conditions) == (found.status == "False")
    return f"{found.status}/{found.reason}", found.message


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_with_the_flag_only(attack: str) -> None:
    assert verdict(ATTACKS[attack])[0] == "False/PodTemplateRestricted"
    assert verdict(ATTACKS[attack], OperatorOptions())[0] == "True/PodTemplateSpecValid"


@pytest.mark.parametrize("use", HARMLESS)
def test_what_any_pod_may_do_passes(use: str) -> None:
    assert verdict(HARMLESS[use]) == ("True/PodTemplateSpecValid", "podTemplateSpec is valid")


def test_every_problem_is_named_at_its_place() -> None:
    message = verdict(pod(hostPID=True, volumes=[{"name": "root", "hostPath": {"path": "/"}}]))[1]
    assert "spec.hostPID: must not be true" in message
    assert "spec.volumes[root].hostPath: not allowed" in message


def test_another_account_in_the_spec_is_refused_with_the_flag_only() -> None:
    for options, wanted in ((RESTRICTED, False), (OperatorOptions(), True)):
        decision = decide(make({"serviceAccount": "admin"}, options=options))
        said = {c.type: (c.status, c.reason) for c in decision.conditions}
        assert said.get("PodTemplateSpecValid") == (None if wanted else ("False", "PodTemplateRestricted"))
        assert decision.intents.empty == (not wanted)


@pytest.mark.parametrize("openshift", [False, True])
def test_what_the_operator_generates_passes_itself(openshift: bool) -> None:
    decision = decide(make(options=replace(RESTRICTED, openshift=openshift)))
    assert decision.intents.deployment is not None
    template = decision.intents.deployment["spec"]["template"]
    assert template_problems(template, account=template["spec"]["serviceAccountName"]) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "host", "add", "type"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["containers", "volumes", "securityContext", "hostPID", "serviceAccountName", "later"]), values
    )
)
def test_no_shape_breaks_the_judge_and_nothing_unknown_passes(spec: dict[str, Any]) -> None:
    problems = template_problems({"metadata": None, "spec": spec}, account="v-vmcp")
    assert ("later" in spec and spec["later"] not in (None, "", [], {})) == any(".later:" in p for p in problems)
