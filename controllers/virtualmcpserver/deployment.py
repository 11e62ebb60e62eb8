"""The gateway's Deployment."""

from __future__ import annotations

import hashlib

from api.contract import Dialect, VmcpConfig
from api.contract.identifiers import GATEWAY_PORT, GATEWAY_SERVICE_PORT
from api.contract.lifetime import GRACE_PERIOD, GRACE_PERIOD_ENV
from api.contract.volumes import VolumePurpose, assign_volume_names
from controllers.shared.parts.part import CaVolume
from controllers.shared.workload.manifest import Json, json_hash
from controllers.shared.workload.names import SCRATCH
from controllers.shared.workload.pod import (
    PodVolume,
    Variable,
    container_security,
    file_of,
    http_probe,
    merged_template,
    pod_security,
    pull_secret_references,
    with_annotation,
    with_variable,
    without_annotations,
)
from controllers.shared.workload.pod import desired_deployment as deployment_of
from controllers.virtualmcpserver.choose import Publication
from controllers.virtualmcpserver.names import (
    CONFIG_DIRECTORY,
    CONFIG_KEY,
    CONTAINER,
    config_map_name,
    identity_name,
    labels_of,
)
from controllers.virtualmcpserver.parts import Subject

CHECKSUM = "toolhive.stacklok.dev/runconfig-checksum"
ROTATION = "toolhive.stacklok.dev/secrets-hash"
SESSION_SECRET = "toolhive.stacklok.dev/session-secret-hash"  # noqa: S105  an annotation's name
TEMPLATE_HASH = "toolhive.stacklok.io/podtemplatespec-hash"
PULL_SECRETS_HASH = "toolhive.stacklok.io/imagepullsecrets-hash"


def desired_deployment(subject: Subject, publication: Publication) -> Json:
    """Return the Deployment.

    Raises:
        StrategicMergeError: podTemplateSpec cannot be merged.
    """
    pods = subject.pods
    template = _template(subject, publication)
    annotations = {}
    if pods.template is not None:
        template = merged_template(template, pods.template, CONTAINER)
        annotations[TEMPLATE_HASH] = json_hash(pods.template)
    if subject.dialect is Dialect.NATIVE:
        template = _with_grace_period(template)
    if pods.pull_secrets:
        annotations[PULL_SECRETS_HASH] = json_hash(pull_secret_references(sorted(pods.pull_secrets)))
    labels = labels_of(subject.name)
    body = deployment_of(subject.name, subject.namespace, labels, template, pods.replicas)
    if subject.dialect is Dialect.NATIVE:
        # Kubernetes' own default takes a quarter of the pods away before their successors are ready.
        body["spec"]["strategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
        }
    if annotations:
        body["metadata"]["annotations"] = annotations
    return body


def with_session_secret(deployment: Json, mark: str) -> Json:
    """Return the Deployment with a mark of the session Secret's value on its template, never the value.

    Pods read the Secret when they start. If it changes or is made anew, some replicas would otherwise go on with the
    old value and refuse what the others hand out. It is added on writing, because the Secret is made then.
    """
    return with_annotation(deployment, SESSION_SECRET, hashlib.sha256(mark.encode()).hexdigest())


def without_rotation(deployment: Json) -> Json:
    """Return the Deployment without what only says which versions of its Secrets the pods have."""
    return without_annotations(deployment, (ROTATION, SESSION_SECRET))


def _with_grace_period(template: Json) -> Json:
    """Return the template with its grace period in the gateway's environment; one of podTemplateSpec's own stays."""
    period = template["spec"].get("terminationGracePeriodSeconds", GRACE_PERIOD)
    return with_variable(template, CONTAINER, Variable(GRACE_PERIOD_ENV, str(period)))


def _template(subject: Subject, publication: Publication) -> Json:
    pods, annotations = subject.pods, {}
    if subject.dialect is Dialect.TOOLHIVE:
        # The stock gateway does not notice a changed configuration by itself.
        annotations[CHECKSUM] = publication.written.checksum
    if publication.rotation:
        annotations[ROTATION] = publication.rotation
    metadata: Json = {"labels": labels_of(subject.name)}
    if annotations:
        metadata["annotations"] = annotations
    volumes = _volumes(subject.name, publication.volumes, subject.dialect)
    pod: Json = {
        "terminationGracePeriodSeconds": GRACE_PERIOD,
        "serviceAccountName": pods.account or identity_name(subject.name),
        "securityContext": pod_security(fixed_ids=pods.fixed_ids),
        "containers": [_container(subject, publication.config, publication.variables, volumes)],
        "volumes": [volume.as_json() for volume in volumes],
    }
    if pods.pull_secrets:
        pod["imagePullSecrets"] = pull_secret_references(pods.pull_secrets)
    return {"metadata": metadata, "spec": pod}


def _volumes(name: str, certificates: tuple[CaVolume, ...], dialect: Dialect) -> list[PodVolume]:
    """Return the configuration, scratch space, then certificates sorted by name.

    The bundle of a single member is optional for the native gateway, as its variables are (`pod_variables`).
    """
    sources = {volume.input: volume for volume in certificates}
    names = assign_volume_names(sources)
    found = [
        PodVolume("vmcp-config", CONFIG_DIRECTORY, {"configMap": {"name": config_map_name(name)}}),
        PodVolume("vmcp-scratch", SCRATCH, {"emptyDir": {"sizeLimit": "64Mi"}}, writable=True),
    ]
    for item in sorted(sources, key=lambda item: names[item]):
        optional = item.purpose is VolumePurpose.BACKEND_CA and dialect is Dialect.NATIVE
        source = file_of(sources[item].config_map, sources[item].key, optional=optional)
        found.append(PodVolume(names[item], item.directory, source))
    return found


def _container(subject: Subject, config: VmcpConfig, variables: tuple[Variable, ...], volumes: list[PodVolume]) -> Json:
    native = subject.dialect is Dialect.NATIVE
    # "::" takes connections of both families; the stock gateway would put it before the port without brackets.
    host = "::" if native else "0.0.0.0"  # noqa: S104  a pod listens for its Service
    arguments = ["serve", f"--config={CONFIG_DIRECTORY}/{CONFIG_KEY}", f"--host={host}", f"--port={GATEWAY_PORT}"]
    ports: list[Json] = [{"name": "http", "containerPort": GATEWAY_PORT, "protocol": "TCP"}]
    if native:
        # What shows the gateway's inside is not for its clients; the stock gateway has one port for everything.
        arguments.append(f"--service-port={GATEWAY_SERVICE_PORT}")
        ports.append({"name": "service", "containerPort": GATEWAY_SERVICE_PORT, "protocol": "TCP"})
    if config.operational is not None and config.operational.log_level == "debug":
        arguments.append("--debug")
    return {
        "name": CONTAINER,
        "image": subject.pods.image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "ports": ports,
        "env": [variable.as_json() for variable in variables],
        "volumeMounts": [volume.mount() for volume in volumes],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        },
        # What a gateway says before it exits comes back in the status of its pod, and from there in ours.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **_probes(subject.dialect),
        "securityContext": container_security(fixed_ids=subject.pods.fixed_ids),
    }


def _probes(dialect: Dialect) -> Json:
    """Return the container's probes.

    The stock gateway's are ToolHive's. This project's gateway listens after 2 s and says by itself in `/readyz` when
    its backends were heard: it is asked every second, without a delay, and has 2 minutes to start on a busy node. Once
    it runs, both bear with it for as long as ToolHive's do.
    """
    if dialect is Dialect.TOOLHIVE:
        return {
            "livenessProbe": http_probe("/health", period=10, timeout=5, failures=3) | {"initialDelaySeconds": 30},
            "readinessProbe": http_probe("/readyz", period=5, timeout=3, failures=3) | {"initialDelaySeconds": 15},
        }
    return {
        "startupProbe": http_probe("/health", period=1, timeout=3, failures=120),
        "livenessProbe": http_probe("/health", period=10, timeout=5, failures=3),
        "readinessProbe": http_probe("/readyz", period=1, timeout=3, failures=15),
    }
