"""The gateway's Deployment."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from api.contract import Dialect, VmcpConfig
from api.contract.identifiers import GATEWAY_PORT, GATEWAY_SERVICE_PORT
from api.contract.lifetime import GRACE_PERIOD, GRACE_PERIOD_ENV
from controllers.shared.strategic_merge import POD_TEMPLATE_SPEC, StrategicMergeError, strategic_merge
from controllers.virtualmcpserver.environment import Json, rotation_hash
from controllers.virtualmcpserver.names import CONFIG_DIRECTORY, CONFIG_KEY, identity_name
from controllers.virtualmcpserver.snapshot import Snapshot

CONTAINER = "vmcp"
CHECKSUM = "toolhive.stacklok.dev/runconfig-checksum"
ROTATION = "toolhive.stacklok.dev/secrets-hash"
SESSION_SECRET = "toolhive.stacklok.dev/session-secret-hash"  # noqa: S105  an annotation's name
TEMPLATE_HASH = "toolhive.stacklok.io/podtemplatespec-hash"
USER_ID = 1000
_CONTAINER_IDS = ("runAsUser", "runAsGroup")
_POD_IDS = (*_CONTAINER_IDS, "fsGroup")
PULL_SECRETS_HASH = "toolhive.stacklok.io/imagepullsecrets-hash"


def labels_of(name: str) -> dict[str, str]:
    """Return the labels of a gateway's Deployment, Service and pods."""
    return {
        "app": "virtualmcpserver",
        "app.kubernetes.io/name": "virtualmcpserver",
        "app.kubernetes.io/instance": name,
        "toolhive": "true",
        "toolhive-name": name,
    }


def pull_secrets(snapshot: Snapshot) -> list[Json]:
    """Return the image pull secrets: those of the object first, then the installation's."""
    names = [ref.name for ref in snapshot.spec.image_pull_secrets if ref.name]
    return [{"name": name} for name in dict.fromkeys((*names, *snapshot.options.image_pull_secrets))]


def desired_deployment(
    snapshot: Snapshot, config: VmcpConfig, env: list[Json], volumes: list[Json], mounts: list[Json], checksum: str
) -> Json:
    """Return the Deployment.

    Args:
        snapshot: the world.
        config: the gateway's configuration, for its log level.
        env: from `pod_env`.
        volumes: from `pod_volumes`.
        mounts: from `pod_volumes`.
        checksum: of the configuration; written on the pod template only for the stock gateway, which does not notice
            a changed configuration by itself.

    Raises:
        StrategicMergeError: podTemplateSpec cannot be merged.
    """
    spec = snapshot.spec
    labels = labels_of(snapshot.name)
    template = _template(snapshot, config, env, volumes, mounts, checksum)
    if spec.pod_template_spec is not None:
        template = merged_template(template, spec.pod_template_spec)
    if snapshot.dialect is Dialect.NATIVE:
        template = with_grace_period(template)
    annotations = {}
    if spec.pod_template_spec is not None:
        annotations[TEMPLATE_HASH] = _hash(spec.pod_template_spec)
    secrets = pull_secrets(snapshot)
    if secrets:
        annotations[PULL_SECRETS_HASH] = _hash(sorted(secrets, key=lambda secret: str(secret["name"])))
    body: Json = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": snapshot.name, "namespace": snapshot.namespace, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    if annotations:
        body["metadata"]["annotations"] = annotations
    if spec.replicas is not None:
        body["spec"]["replicas"] = spec.replicas
    return body


def with_grace_period(template: Json) -> Json:
    """Return the template with its grace period in the gateway's environment; one of podTemplateSpec's own stays."""
    pod = template["spec"]
    period = pod.get("terminationGracePeriodSeconds", GRACE_PERIOD)
    containers = []
    for container in pod["containers"]:
        env = container.get("env") or []
        if container.get("name") == CONTAINER and all(variable.get("name") != GRACE_PERIOD_ENV for variable in env):
            container = {**container, "env": [*env, {"name": GRACE_PERIOD_ENV, "value": str(period)}]}
        containers.append(container)
    return {**template, "spec": {**pod, "containers": containers}}


def with_session_secret(deployment: Json, mark: str) -> Json:
    """Return the Deployment with a mark of the session Secret's value on its template, never the value.

    Pods read the Secret when they start. If it changes or is made anew, some replicas would otherwise go on with the
    old value and refuse what the others hand out. It is added on writing, because the Secret is made then.
    """
    template = deployment["spec"]["template"]
    metadata = template.get("metadata", {})
    stamp = hashlib.sha256(mark.encode()).hexdigest()
    annotations = {**metadata.get("annotations", {}), SESSION_SECRET: stamp}
    template = {**template, "metadata": {**metadata, "annotations": annotations}}
    return {**deployment, "spec": {**deployment["spec"], "template": template}}


def without_rotation(deployment: Json) -> Json:
    """Return the Deployment without what only says which versions of its Secrets the pods have."""
    template = deployment["spec"]["template"]
    metadata = template.get("metadata", {})
    kept = {key: v for key, v in metadata.get("annotations", {}).items() if key not in (ROTATION, SESSION_SECRET)}
    template = {**template, "metadata": {**metadata, "annotations": kept}}
    return {**deployment, "spec": {**deployment["spec"], "template": template}}


def merged_template(template: Json, patch: dict[str, Any]) -> Json:
    """Lay podTemplateSpec over the generated template.

    Raises:
        StrategicMergeError: a malformed directive, or a result that is no pod template.
    """
    merged = strategic_merge(template, without_fixed_ids(patch), POD_TEMPLATE_SPEC)
    containers = merged.get("spec", {}).get("containers") if isinstance(merged.get("spec"), dict) else None
    if not isinstance(containers, list) or not any(
        isinstance(container, dict) and container.get("name") == CONTAINER for container in containers
    ):
        raise StrategicMergeError("spec.containers", f'the container "{CONTAINER}" must stay')
    return merged


def without_fixed_ids(patch: dict[str, Any]) -> dict[str, Any]:
    """Read an empty securityContext, of the pod or of the gateway's container, as one without fixed uids and gids.

    `runAsUser: null` is how a strategic merge patch takes a field away, but `kubectl apply` on the client's side drops
    nulls before they are stored: what arrives is `securityContext: {}`, which could mean nothing else.
    """
    spec = patch.get("spec")
    if not isinstance(spec, dict):
        return patch
    found = dict(spec)
    if spec.get("securityContext") == {}:
        found["securityContext"] = dict.fromkeys(_POD_IDS)
    if isinstance(containers := spec.get("containers"), list):
        found["containers"] = [
            {**container, "securityContext": dict.fromkeys(_CONTAINER_IDS)}
            if isinstance(container, dict)
            and container.get("name") == CONTAINER
            and container.get("securityContext") == {}
            else container
            for container in containers
        ]
    return {**patch, "spec": found}


def _template(
    snapshot: Snapshot, config: VmcpConfig, env: list[Json], volumes: list[Json], mounts: list[Json], checksum: str
) -> Json:
    annotations = {}
    if snapshot.dialect is Dialect.TOOLHIVE:
        annotations[CHECKSUM] = checksum
    rotation = rotation_hash(snapshot, env)
    if rotation:
        annotations[ROTATION] = rotation
    metadata: Json = {"labels": labels_of(snapshot.name)}
    if annotations:
        metadata["annotations"] = annotations
    pod: Json = {
        "terminationGracePeriodSeconds": GRACE_PERIOD,
        "serviceAccountName": snapshot.spec.service_account or identity_name(snapshot.name),
        "securityContext": {
            "runAsNonRoot": True,
            **_fixed_ids(snapshot, _POD_IDS),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(snapshot, config, env, mounts)],
        "volumes": volumes,
    }
    secrets = pull_secrets(snapshot)
    if secrets:
        pod["imagePullSecrets"] = secrets
    return {"metadata": metadata, "spec": pod}


def _fixed_ids(snapshot: Snapshot, names: tuple[str, ...]) -> dict[str, int]:
    """The ids of the pods; OpenShift gives each namespace a range of its own and refuses all others."""
    return {} if snapshot.options.openshift else dict.fromkeys(names, USER_ID)


def _container(snapshot: Snapshot, config: VmcpConfig, env: list[Json], mounts: list[Json]) -> Json:
    # "::" takes connections of both families; the stock gateway would put it before the port without brackets.
    host = "::" if snapshot.dialect is Dialect.NATIVE else "0.0.0.0"  # noqa: S104  a pod listens for its Service
    arguments = ["serve", f"--config={CONFIG_DIRECTORY}/{CONFIG_KEY}", f"--host={host}", f"--port={GATEWAY_PORT}"]
    ports: list[Json] = [{"name": "http", "containerPort": GATEWAY_PORT, "protocol": "TCP"}]
    if snapshot.dialect is Dialect.NATIVE:
        # What shows the gateway's inside is not for its clients; the stock gateway has one port for everything.
        arguments.append(f"--service-port={GATEWAY_SERVICE_PORT}")
        ports.append({"name": "service", "containerPort": GATEWAY_SERVICE_PORT, "protocol": "TCP"})
    if config.operational is not None and config.operational.log_level == "debug":
        arguments.append("--debug")
    return {
        "name": CONTAINER,
        "image": snapshot.options.vmcp_image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "ports": ports,
        "env": env,
        "volumeMounts": mounts,
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        },
        # What a gateway says before it exits comes back in the status of its pod, and from there in ours.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **_probes(snapshot.dialect),
        "securityContext": {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            **_fixed_ids(snapshot, _CONTAINER_IDS),
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _probes(dialect: Dialect) -> Json:
    """Return the container's probes.

    The stock gateway's are ToolHive's. This project's gateway listens after 2 s and says by itself in `/readyz` when
    its backends were heard: it is asked every second, without a delay, and has 2 minutes to start on a busy node. Once
    it runs, both bear with it for as long as ToolHive's do.
    """
    if dialect is Dialect.TOOLHIVE:
        return {
            "livenessProbe": _probe("/health", period=10, timeout=5, failures=3) | {"initialDelaySeconds": 30},
            "readinessProbe": _probe("/readyz", period=5, timeout=3, failures=3) | {"initialDelaySeconds": 15},
        }
    return {
        "startupProbe": _probe("/health", period=1, timeout=3, failures=120),
        "livenessProbe": _probe("/health", period=10, timeout=5, failures=3),
        "readinessProbe": _probe("/readyz", period=1, timeout=3, failures=15),
    }


def _probe(path: str, *, period: int, timeout: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
