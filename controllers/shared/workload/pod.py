"""A workload's pods: variables, volumes, security, and the user's own template laid over the generated one.

Everything secret comes from Secrets by reference, never by value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controllers.shared.workload.manifest import Json, manifest
from controllers.shared.workload.strategic_merge import POD_TEMPLATE_SPEC, StrategicMergeError, strategic_merge

USER_ID = 1000
_CONTAINER_IDS = ("runAsUser", "runAsGroup")
_POD_IDS = (*_CONTAINER_IDS, "fsGroup")


@dataclass(frozen=True, kw_only=True)
class PodSettings:
    """What an object and the installation say about pods, whatever runs in them.

    Attributes:
        image: of the container.
        account: ServiceAccount that the user names; "" for the workload's own.
        pull_secrets: names of image pull secrets, the object's own first.
        fixed_ids: whether the pods have uid, gid and fsGroup of ours; where the platform gives them, it refuses others.
        restricted: whether a template may not do more than the workload itself (`restrictions`).
        template: podTemplateSpec; None for none.
        replicas: None where somebody else scales.
    """

    image: str
    account: str = ""
    pull_secrets: tuple[str, ...] = ()
    fixed_ids: bool = True
    restricted: bool = False
    template: Mapping[str, Any] | None = None
    replicas: int | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a container.

    Attributes:
        name: of the variable.
        value: of a plain one.
        secret: Secret that fills it; "" for a plain one.
        key: in that Secret.
        optional: a pod starts without it. For what only a part of the workload needs: a Secret can go between the
            decision and the start of a pod.
    """

    name: str
    value: str = ""
    secret: str = ""
    key: str = ""
    optional: bool = False

    def as_json(self) -> Json:
        """Return it as it stands in a container."""
        if not self.secret:
            return {"name": self.name, "value": self.value}
        reference: Json = {"name": self.secret, "key": self.key}
        if self.optional:
            reference["optional"] = True
        return {"name": self.name, "valueFrom": {"secretKeyRef": reference}}


@dataclass(frozen=True, slots=True)
class PodVolume:
    """A volume of a pod, and where its container has it.

    Attributes:
        name: of the volume.
        path: where it is mounted.
        source: its part of the pod's JSON, such as `{"emptyDir": {}}`.
        writable: whether the container may write to it.
    """

    name: str
    path: str
    source: Mapping[str, Any]
    writable: bool = False

    def as_json(self) -> Json:
        """Return it as it stands in a pod."""
        return {"name": self.name, **self.source}

    def mount(self) -> Json:
        """Return it as it stands in a container."""
        found: Json = {"name": self.name, "mountPath": self.path}
        return found if self.writable else found | {"readOnly": True}


def file_of(config_map: str, key: str, *, optional: bool = False) -> Json:
    """Return the source of a volume that holds one key of a ConfigMap under that name."""
    source: Json = {"name": config_map, "items": [{"key": key, "path": key}]}
    if optional:
        source["optional"] = True
    return {"configMap": source}


def rotation_hash(variables: Iterable[Variable], stamp: Callable[[str, str], str]) -> str:
    """Return a hash of every value that Secrets give to the variables; "" where they give none.

    Args:
        variables: of the container.
        stamp: of Secret and key: what changes with the value and tells nothing about it.
    """
    used = {(variable.secret, variable.key) for variable in variables if variable.secret}
    parts = sorted(f"{secret}/{key}={stamp(secret, key)}" for secret, key in used)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else ""


def pull_secret_references(names: Sequence[str]) -> list[Json]:
    """Return image pull secrets as they stand in a pod."""
    return [{"name": name} for name in names]


def pod_security(*, fixed_ids: bool) -> Json:
    """Return the securityContext of a pod under the "Restricted" Pod Security Standard."""
    ids = dict.fromkeys(_POD_IDS, USER_ID) if fixed_ids else {}
    return {"runAsNonRoot": True, **ids, "seccompProfile": {"type": "RuntimeDefault"}}


def container_security(*, fixed_ids: bool) -> Json:
    """Return the securityContext of a container that needs nothing but its own volumes."""
    ids = dict.fromkeys(_CONTAINER_IDS, USER_ID) if fixed_ids else {}
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        **ids,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def http_probe(path: str, *, period: int, timeout: int, failures: int) -> Json:
    """Return a probe that asks the port called `http`; times in seconds."""
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def desired_deployment(
    name: str, namespace: str, labels: Mapping[str, str], template: Json, replicas: int | None
) -> Json:
    """Return the Deployment of a template; without a number of replicas where somebody else scales."""
    body = manifest("apps/v1", "Deployment", name, namespace, labels)
    body["spec"] = {"selector": {"matchLabels": dict(labels)}, "template": template}
    if replicas is not None:
        body["spec"]["replicas"] = replicas
    return body


def with_variable(template: Json, container: str, variable: Variable) -> Json:
    """Return a pod template with one more variable; one of that name that is there already stays as it is."""
    pod = template["spec"]
    containers = []
    for item in pod["containers"]:
        env = item.get("env") or []
        if item.get("name") == container and all(known.get("name") != variable.name for known in env):
            item = {**item, "env": [*env, variable.as_json()]}
        containers.append(item)
    return {**template, "spec": {**pod, "containers": containers}}


def with_annotation(deployment: Json, name: str, value: str) -> Json:
    """Return a Deployment with an annotation on its pod template: another value replaces the pods."""
    template = deployment["spec"]["template"]
    metadata = template.get("metadata", {})
    annotations = {**metadata.get("annotations", {}), name: value}
    return _with_template(deployment, {**template, "metadata": {**metadata, "annotations": annotations}})


def without_annotations(deployment: Json, names: Iterable[str]) -> Json:
    """Return a Deployment without some annotations of its pod template."""
    template = deployment["spec"]["template"]
    metadata = template.get("metadata", {})
    names = frozenset(names)
    kept = {key: value for key, value in metadata.get("annotations", {}).items() if key not in names}
    return _with_template(deployment, {**template, "metadata": {**metadata, "annotations": kept}})


def _with_template(deployment: Json, template: Json) -> Json:
    return {**deployment, "spec": {**deployment["spec"], "template": template}}


def merged_template(template: Json, patch: Mapping[str, Any], container: str) -> Json:
    """Lay podTemplateSpec over the generated template.

    Args:
        template: the generated one.
        patch: a strategic merge patch.
        container: the one without which the workload is none.

    Raises:
        StrategicMergeError: a malformed directive, or a result that is no pod template.
    """
    merged = strategic_merge(template, without_fixed_ids(patch, container), POD_TEMPLATE_SPEC)
    containers = merged.get("spec", {}).get("containers") if isinstance(merged.get("spec"), dict) else None
    if not isinstance(containers, list) or not any(
        isinstance(item, dict) and item.get("name") == container for item in containers
    ):
        raise StrategicMergeError("spec.containers", f'the container "{container}" must stay')
    return merged


def without_fixed_ids(patch: Mapping[str, Any], container: str) -> dict[str, Any]:
    """Read an empty securityContext, of the pod or of the container, as one without fixed uids and gids.

    `runAsUser: null` is how a strategic merge patch takes a field away, but `kubectl apply` on the client's side drops
    nulls before they are stored: what arrives is `securityContext: {}`, which could mean nothing else.
    """
    spec = patch.get("spec")
    if not isinstance(spec, dict):
        return dict(patch)
    found = dict(spec)
    if spec.get("securityContext") == {}:
        found["securityContext"] = dict.fromkeys(_POD_IDS)
    if isinstance(containers := spec.get("containers"), list):
        found["containers"] = [
            {**item, "securityContext": dict.fromkeys(_CONTAINER_IDS)}
            if isinstance(item, dict) and item.get("name") == container and item.get("securityContext") == {}
            else item
            for item in containers
        ]
    return {**patch, "spec": found}
