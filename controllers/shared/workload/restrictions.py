"""What `--restrict-pod-templates` refuses: a pod that could do more than a gateway or a proxy.

Whoever may write what deploys them decides about pods: podTemplateSpec lays anything over the generated template, and
serviceAccount names any account of the namespace. With the flag a template can no longer reach the node (the "Baseline"
of the Pod Security Standards, and the doors that these leave to node configuration: device plugins, runtimes,
annotations of runtimes and networks) nor become somebody else. Fields are allowed by name, so that what a later
Kubernetes adds is refused until somebody has thought about it.

It does not take away what any pod of the namespace may do: run an image of the user's choice, use the namespace's
Secrets and ConfigMaps, match a Service by labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

POD_FIELDS = frozenset(
    {
        "activeDeadlineSeconds",
        "affinity",
        "automountServiceAccountToken",
        "containers",
        "dnsConfig",
        "dnsPolicy",
        "enableServiceLinks",
        "hostAliases",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostUsers",
        "hostname",
        "imagePullSecrets",
        "initContainers",
        "nodeSelector",
        "os",
        "preemptionPolicy",
        "priorityClassName",
        "readinessGates",
        "resources",
        "restartPolicy",
        "schedulingGates",
        "securityContext",
        "serviceAccount",
        "serviceAccountName",
        "setHostnameAsFQDN",
        "shareProcessNamespace",
        "subdomain",
        "terminationGracePeriodSeconds",
        "tolerations",
        "topologySpreadConstraints",
        "volumes",
    }
)
"""Of a pod. Left out on purpose: nodeName (goes around the scheduler), runtimeClassName and schedulerName (another
runtime, another scheduler), resourceClaims (devices), ephemeralContainers."""

CONTAINER_FIELDS = frozenset(
    {
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "name",
        "ports",
        "readinessProbe",
        "resizePolicy",
        "resources",
        "restartPolicy",
        "securityContext",
        "startupProbe",
        "stdin",
        "stdinOnce",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "tty",
        "volumeMounts",
        "workingDir",
    }
)
"""Of a container. Left out on purpose: volumeDevices (raw block devices)."""

VOLUME_TYPES = frozenset(("configMap", "downwardAPI", "emptyDir", "projected", "secret"))
"""Left out on purpose: hostPath, everything that mounts by the node's rights, and what makes or takes claims."""

PROJECTIONS = frozenset(("configMap", "downwardAPI", "secret", "serviceAccountToken"))
CAPABILITIES = frozenset(("NET_BIND_SERVICE",))
SELINUX_TYPES = frozenset(("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
ANNOTATIONS = (
    "cdi.k8s.io/",
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "io.containerd.",
    "io.katacontainers.",
    "io.kubernetes.cri-o.",
    "k8s.ovn.org/",
    "k8s.v1.cni.cncf.io/",
    "run.oci.",
    "seccomp.security.alpha.kubernetes.io/",
    "v1.multus-cni.io/",
)
"""Prefixes of annotations by which runtimes and networks hand out devices, namespaces, profiles and interfaces."""


def account_problem(account: str | None) -> str:
    """What is wrong with the `serviceAccount` of a spec; "" when the pods get the account that is made for them."""
    return f"serviceAccount {account}: only the generated account may be used" if account else ""


def template_problems(template: Json, *, account: str) -> list[str]:
    """Return a sentence for everything in a merged pod template that `--restrict-pod-templates` refuses.

    Args:
        template: metadata and spec, podTemplateSpec already laid over the generated one.
        account: name of the ServiceAccount that is made for the pods.
    """
    metadata, pod = _map(template.get("metadata")), _map(template.get("spec"))
    return [*_metadata(metadata), *_pod(pod, account), *_all_containers(pod), *_volumes(pod)]


def _metadata(metadata: Json) -> Iterator[str]:
    for name in _map(metadata.get("annotations")):
        if str(name).startswith(ANNOTATIONS):
            yield f"metadata.annotations: {name} is not allowed"


def _pod(pod: Json, account: str) -> Iterator[str]:
    yield from _unknown(pod, POD_FIELDS, "spec")
    for name in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
        # hostUsers: false is a user namespace of the pod's own, and an absent one is the cluster's choice.
        if pod.get(name) not in (None, False):
            yield f"spec.{name}: must not be true"
    for name in ("serviceAccountName", "serviceAccount"):
        if pod.get(name) not in (None, "", account):
            yield f"spec.{name}: only the generated account {account} may be used"
    context = _map(pod.get("securityContext"))
    if context.get("sysctls"):
        yield "spec.securityContext.sysctls: not allowed"
    yield from _context(context, "spec.securityContext")


def _all_containers(pod: Json) -> Iterator[str]:
    for kind in ("initContainers", "containers"):
        for container in _items(pod.get(kind)):
            where = f"spec.{kind}[{container.get('name', '')}]"
            yield from _container(container, where)


def _container(container: Json, where: str) -> Iterator[str]:
    yield from _unknown(container, CONTAINER_FIELDS, where)
    context = _map(container.get("securityContext"))
    for name in ("privileged", "allowPrivilegeEscalation"):
        if context.get(name) not in (None, False):
            yield f"{where}.securityContext.{name}: must not be true"
    if context.get("procMount") not in (None, "", "Default"):
        yield f"{where}.securityContext.procMount: must be Default"
    added = _map(context.get("capabilities")).get("add") or ()
    refused = [str(name) for name in _list(added) if name not in CAPABILITIES]
    if refused:
        yield f"{where}.securityContext.capabilities.add: {', '.join(refused)} not allowed"
    yield from _context(context, f"{where}.securityContext")
    for port in _items(container.get("ports")):
        if port.get("hostPort") or port.get("hostIP"):
            yield f"{where}.ports: hostPort and hostIP are not allowed"
    for mount in _items(container.get("volumeMounts")):
        if mount.get("mountPropagation") not in (None, "", "None"):
            yield f"{where}.volumeMounts[{mount.get('name', '')}].mountPropagation: must be None"
    for name, action in _actions(container):
        for how in ("httpGet", "tcpSocket"):
            # The kubelet makes this connection, from the node's network.
            if _map(action.get(how)).get("host"):
                yield f"{where}.{name}.{how}.host: not allowed"


def _actions(container: Json) -> Iterator[tuple[str, Json]]:
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        yield name, _map(container.get(name))
    lifecycle = _map(container.get("lifecycle"))
    for name in ("postStart", "preStop"):
        yield f"lifecycle.{name}", _map(lifecycle.get(name))


def _context(context: Json, where: str) -> Iterator[str]:
    """What the security contexts of pods and of containers have in common."""
    if context.get("runAsNonRoot") not in (None, True):
        yield f"{where}.runAsNonRoot: must not be false"
    if context.get("runAsUser") in (0, "0"):
        yield f"{where}.runAsUser: must not be 0"
    for name in ("seccompProfile", "appArmorProfile"):
        if _map(context.get(name)).get("type") not in (None, "RuntimeDefault"):
            yield f"{where}.{name}: must be RuntimeDefault"
    selinux = _map(context.get("seLinuxOptions"))
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where}.seLinuxOptions: only the container types without user and role are allowed"
    if context.get("windowsOptions"):
        yield f"{where}.windowsOptions: not allowed"


def _volumes(pod: Json) -> Iterator[str]:
    for volume in _items(pod.get("volumes")):
        where = f"spec.volumes[{volume.get('name', '')}]"
        yield from _unknown(volume, VOLUME_TYPES | {"name"}, where)
        for source in _items(_map(volume.get("projected")).get("sources")):
            yield from _unknown(source, PROJECTIONS, f"{where}.projected")
            # A token for another audience is a way to be this account somewhere else: a cloud, a vault.
            if _map(source.get("serviceAccountToken")).get("audience"):
                yield f"{where}.projected.serviceAccountToken.audience: not allowed"


def _unknown(value: Json, known: Iterable[str], where: str) -> Iterator[str]:
    for name in sorted(str(name) for name in value):
        # Explicit nulls and empty values say nothing.
        if name not in known and value[name] not in (None, "", [], {}):
            yield f"{where}.{name}: not allowed"


def _map(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _items(value: object) -> Iterator[Json]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list | tuple) else iter(())
