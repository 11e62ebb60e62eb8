"""ProxyParts -> Rendered: the document that the program reads, and every object around it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from api.contract import HeaderForward, IncomingAuth
from api.contract.config import ToolOverride
from api.contract.errors import ConfigError
from api.contract.identifiers import (
    GATEWAY_SERVICE_PORT,
    EnvInput,
    SecretPurpose,
    assign_bound_env_names,
    secret_identifier,
)
from api.contract.lifetime import GRACE_PERIOD, GRACE_PERIOD_ENV
from api.contract.operations import Audit, SessionStorage
from api.contract.proxy import ProxyConfig, ProxyRemote, ProxyTools, dump_proxy, validate_proxy
from api.contract.strategies import Converted, convert_strategy
from api.contract.volumes import assign_volume_names
from controllers.shared.deployed.isolation import (
    NEVER_REACHED,
    annotation_problem,
    destinations,
    is_isolated,
    urls_in,
)
from controllers.shared.parts.learned import Learned
from controllers.shared.parts.oidc import SERVICE_ACCOUNT_CA
from controllers.shared.parts.part import CaVolume
from controllers.shared.proxy.names import (
    CONFIG_DIRECTORY,
    CONFIG_KEY,
    CONTAINER,
    account_name,
    config_map_name,
    service_name,
)
from controllers.shared.proxy.resolve import ProxyParts, ProxySubject, env_names
from controllers.shared.workload.isolation import desired_network_policy
from controllers.shared.workload.manifest import Json, json_hash, manifest
from controllers.shared.workload.names import SCRATCH, service_problem, workload_labels
from controllers.shared.workload.network import desired_disruption_budget, desired_service
from controllers.shared.workload.pod import (
    PodVolume,
    Variable,
    container_security,
    desired_deployment,
    file_of,
    http_probe,
    merged_template,
    pod_security,
    pull_secret_references,
    rotation_hash,
    with_variable,
    without_annotations,
)
from controllers.shared.workload.restrictions import account_problem, template_problems
from controllers.shared.workload.strategic_merge import StrategicMergeError

CHECKSUM = "toolhive.stacklok.dev/runconfig-checksum"
ROTATION = "toolhive.stacklok.dev/secrets-hash"
TEMPLATE_HASH = "toolhive.stacklok.io/podtemplatespec-hash"


@dataclass(frozen=True, kw_only=True)
class ProxyObjects:
    """What shall be there.

    Attributes:
        account: None where the user names one.
        disruption_budget: None with a single replica.
        network_policy: None where nobody asks for one.
    """

    config_map: Json
    deployment: Json
    service: Json
    account: Json | None = None
    disruption_budget: Json | None = None
    network_policy: Json | None = None


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The outcome.

    Attributes:
        objects: None where there are problems.
        problems: what cannot be served, each a sentence with its place.
        template_problem: why the user's pod template cannot be merged; "" where it can.
    """

    objects: ProxyObjects | None = None
    problems: tuple[str, ...] = field(default=())
    template_problem: str = ""


def render(parts: ProxyParts, learned: Learned, *, said: Iterable[str] = ()) -> Rendered:
    """Make the document and every object, or say what the program or the platform would refuse.

    Args:
        parts: what the references come to.
        learned: what is known of Secrets.
        said: places of the document that another check answers for, and that are not mentioned again.
    """
    subject = parts.subject
    stamps = {s.input: f"{s.secret}/{s.key}={learned.stamp(s.secret, s.key)}" for s in parts.sources}
    names = assign_bound_env_names(stamps)
    config = document_of(parts, names)
    places = tuple(said)
    problems = [
        *filter(None, (service_problem(subject.name, service_name), parts.auth_problem, parts.tools_problem)),
        *(str(error) for error in validate_proxy(config) if not _answered(error, places)),
        *_unsupported(subject),
        *_unfit(parts, learned),
        *(str(error) for error in annotation_problem(subject.annotations)),
    ]
    if subject.pods.restricted and (problem := account_problem(subject.pods.account)):
        problems.append(problem)
    document = dump_proxy(config)
    variables = (*parts.oidc.variables, *env_names(parts, names), *parts.telemetry.variables, *_plain(subject))
    try:
        deployment = _deployment(parts, document, variables, rotation_hash(variables, learned.stamp))
    except StrategicMergeError as error:
        return Rendered(problems=tuple(problems), template_problem=f"podTemplateSpec cannot be merged: {error}")
    if subject.pods.restricted:
        account = account_name(subject.name)
        problems += template_problems(deployment["spec"]["template"], account=account)
    if problems:
        return Rendered(problems=tuple(problems))
    policy = _network_policy(parts, config) if is_isolated(subject.annotations) else None
    return Rendered(objects=_objects(subject, document, deployment, policy))


def without_rotation(deployment: Json) -> Json:
    """Return the Deployment without what only says which versions of its Secrets the pods have."""
    return without_annotations(deployment, (ROTATION,))


def _answered(error: ConfigError, places: tuple[str, ...]) -> bool:
    return any(error.path == place or error.path.startswith((f"{place}.", f"{place}[")) for place in places)


def _unsupported(subject: ProxySubject) -> Iterator[str]:
    """Say what the spec asks for and the document cannot even say."""
    if subject.proxy.auth_server_ref is not None:
        yield "authServerRef: an authorization server of its own is not supported by this version"


def _unfit(parts: ProxyParts, learned: Learned) -> Iterator[str]:
    """Say which credentials the program could not use, whatever their names."""
    for source in parts.sources:
        if source.input.purpose is SecretPurpose.HEADER_FORWARD:
            continue  # said of the header
        header = source.input.purpose is SecretPurpose.HEADER_INJECTION
        if problem := learned.unfit(source.secret, source.key, header=header):
            yield f'the value of Secret "{source.secret}", key "{source.key}" {problem}'


def document_of(parts: ProxyParts, names: Mapping[EnvInput, str]) -> ProxyConfig:
    """Return what the program reads. Values of Secrets are in it by the names of variables only."""
    subject, proxy = parts.subject, parts.subject.proxy
    storage = proxy.session_storage
    authenticated = proxy.oidc_config_ref is not None
    return ProxyConfig(
        name=subject.name,
        group_ref=subject.group,
        remote=_remote(parts, names),
        incoming_auth=IncomingAuth(
            type="oidc" if authenticated else "anonymous", oidc=parts.oidc.section, authz=parts.authz.section
        ),
        tools=_tools(parts),
        telemetry=parts.telemetry.section,
        audit=Audit(enabled=True, component=subject.name) if proxy.audit is not None and proxy.audit.enabled else None,
        session_storage=SessionStorage(
            provider="redis", address=storage.address or "", db=storage.db, key_prefix=storage.key_prefix or ""
        )
        if storage is not None and storage.provider == "redis"
        else None,
        trust_proxy_headers=proxy.trust_proxy_headers,
        endpoint_prefix=proxy.endpoint_prefix or "",
    )


def _remote(parts: ProxyParts, names: Mapping[EnvInput, str]) -> ProxyRemote:
    subject, spec = parts.subject, parts.subject.spec
    strategy = None
    if spec.external_auth_config_ref is not None and parts.auth.section is not None:
        converted = convert_strategy(spec.external_auth_config_ref.name, parts.auth.section, names.__getitem__)
        strategy = converted.strategy if isinstance(converted, Converted) else None
    forward = spec.header_forward
    headers = None
    if forward is not None and (forward.add_plaintext_headers or forward.add_headers_from_secret):
        inputs = {
            h.header_name: EnvInput(SecretPurpose.HEADER_FORWARD, (h.header_name, subject.name))
            for h in forward.add_headers_from_secret
        }
        headers = HeaderForward(
            add_plaintext_headers=dict(forward.add_plaintext_headers),
            add_headers_from_secret={name: secret_identifier(names[item]) for name, item in inputs.items()},
        )
    return ProxyRemote(
        url=spec.remote_url,
        transport=spec.transport,
        ca_bundle_path=parts.ca.input.path(parts.ca.key) if parts.ca is not None else "",
        header_forward=headers,
        auth=strategy,
    )


def _tools(parts: ProxyParts) -> ProxyTools | None:
    if parts.tools is None:
        return None
    overrides = {
        tool: ToolOverride.model_validate(
            override.model_dump(mode="json", by_alias=True, exclude_none=True), extra="ignore"
        )
        for tool, override in sorted(parts.tools.tools_override.items())
    }
    # An override that only changes annotations is refused by the program; its tool keeps its own words.
    usable = {tool: override for tool, override in overrides.items() if override.name or override.description}
    return ProxyTools(filter=parts.tools.tools_filter, overrides=usable)


def _network_policy(parts: ProxyParts, config: ProxyConfig) -> Json:
    """Return the policy that opens what the document and the strategy towards the remote name."""
    subject = parts.subject
    urls = [*urls_in(config.model_dump())]
    if config.telemetry is not None:
        urls.append(config.telemetry.endpoint)
    if parts.auth.section is not None:
        urls += urls_in(parts.auth.section.model_dump())
    return desired_network_policy(
        service_name(subject.name),
        subject.namespace,
        workload_labels(subject.app, subject.name),
        port=subject.proxy.proxy_port,
        places=destinations(urls, subject.namespace, subject.cluster_domain),
        never=NEVER_REACHED,
    )


def _objects(subject: ProxySubject, document: bytes, deployment: Json, policy: Json | None) -> ProxyObjects:
    name, namespace, proxy = subject.name, subject.namespace, subject.proxy
    labels = workload_labels(subject.app, name)
    config_map = manifest("v1", "ConfigMap", config_map_name(name), namespace, labels)
    config_map["data"] = {CONFIG_KEY: document.decode()}
    service = desired_service(
        service_name(name),
        namespace,
        labels,
        proxy.proxy_port,
        type_="ClusterIP",
        session_affinity=proxy.session_affinity,
    )
    added = proxy.resource_overrides.proxy_service if proxy.resource_overrides is not None else None
    if added is not None:
        _add(service["metadata"], added.labels, added.annotations)
    account = None
    if not subject.pods.account:
        account = manifest("v1", "ServiceAccount", account_name(name), namespace, labels)
        account["automountServiceAccountToken"] = False
    budget = None
    if subject.pods.replicas is not None and subject.pods.replicas > 1:
        budget = desired_disruption_budget(service_name(name), namespace, labels)
    return ProxyObjects(
        config_map=config_map,
        deployment=deployment,
        service=service,
        account=account,
        disruption_budget=budget,
        network_policy=policy,
    )


def _add(metadata: Json, labels: Mapping[str, str], annotations: Mapping[str, str]) -> None:
    """Add what a user wants on an object; what the operator puts there itself stays."""
    if labels:
        metadata["labels"] = dict(labels) | metadata.get("labels", {})
    if annotations:
        metadata["annotations"] = dict(annotations) | metadata.get("annotations", {})


def _deployment(parts: ProxyParts, document: bytes, variables: tuple[Variable, ...], rotation: str) -> Json:
    subject = parts.subject
    overrides = subject.proxy.resource_overrides
    added = overrides.proxy_deployment if overrides is not None else None
    labels = workload_labels(subject.app, subject.name)
    template = _template(parts, document, variables, rotation)
    pods = added.pod_template_metadata_overrides if added is not None else None
    if pods is not None:
        _add(template["metadata"], pods.labels, pods.annotations)
    if subject.pods.template is not None:
        template = merged_template(template, subject.pods.template, CONTAINER)
    period = template["spec"].get("terminationGracePeriodSeconds", GRACE_PERIOD)
    template = with_variable(template, CONTAINER, Variable(GRACE_PERIOD_ENV, str(period)))
    body = desired_deployment(subject.name, subject.namespace, labels, template, subject.pods.replicas)
    # No pod is taken away before its successor is ready.
    body["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}}
    if subject.pods.template is not None:
        body["metadata"]["annotations"] = {TEMPLATE_HASH: json_hash(subject.pods.template)}
    if added is not None:
        _add(body["metadata"], added.labels, added.annotations)
    return body


def _template(parts: ProxyParts, document: bytes, variables: tuple[Variable, ...], rotation: str) -> Json:
    """Return the pod template.

    The hash of the document is on it: a proxy that follows its file would serve the new spec when the kubelet brings
    it, a minute or more later, and nothing would tell when that is.
    """
    subject = parts.subject
    annotations = {CHECKSUM: hashlib.sha256(document).hexdigest()}
    if rotation:
        annotations[ROTATION] = rotation
    volumes = _volumes(parts)
    account_ca = parts.oidc.section is not None and parts.oidc.section.ca_bundle_path == SERVICE_ACCOUNT_CA
    pod: Json = {
        "terminationGracePeriodSeconds": GRACE_PERIOD,
        "serviceAccountName": subject.pods.account or account_name(subject.name),
        # The program asks no API server; with the cluster's own issuer it needs the cluster's certificates.
        "automountServiceAccountToken": account_ca,
        "securityContext": pod_security(fixed_ids=subject.pods.fixed_ids),
        "containers": [_container(subject, variables, volumes)],
        "volumes": [volume.as_json() for volume in volumes],
    }
    if subject.pods.pull_secrets:
        pod["imagePullSecrets"] = pull_secret_references(subject.pods.pull_secrets)
    return {"metadata": {"labels": workload_labels(subject.app, subject.name), "annotations": annotations}, "spec": pod}


def _volumes(parts: ProxyParts) -> list[PodVolume]:
    """Return the configuration, scratch space, then certificates sorted by name."""
    own: tuple[CaVolume, ...] = (parts.ca,) if parts.ca is not None else ()
    sources = {volume.input: volume for volume in (*parts.oidc.volumes, *parts.telemetry.volumes, *own)}
    names = assign_volume_names(sources)
    found = [
        PodVolume("runconfig", CONFIG_DIRECTORY, {"configMap": {"name": config_map_name(parts.subject.name)}}),
        PodVolume("scratch", SCRATCH, {"emptyDir": {"sizeLimit": "64Mi"}}, writable=True),
    ]
    found += [
        PodVolume(names[item], item.directory, file_of(sources[item].config_map, sources[item].key))
        for item in sorted(sources, key=lambda item: names[item])
    ]
    return found


def _plain(subject: ProxySubject) -> Iterator[Variable]:
    """Return the variables without secrets; the user's come last and replace none of the operator's."""
    own = {"XDG_CONFIG_HOME": SCRATCH, "HOME": SCRATCH}
    overrides = subject.proxy.resource_overrides
    added = overrides.proxy_deployment.env if overrides is not None and overrides.proxy_deployment is not None else ()
    yield from (Variable(name, value) for name, value in own.items())
    yield from (Variable(item.name, item.value) for item in added if item.name not in own)


def _container(subject: ProxySubject, variables: tuple[Variable, ...], volumes: list[PodVolume]) -> Json:
    port = subject.proxy.proxy_port
    # What shows the proxy's inside is not for its clients.
    service_port = GATEWAY_SERVICE_PORT if port != GATEWAY_SERVICE_PORT else GATEWAY_SERVICE_PORT + 1
    wanted = subject.proxy.resources
    return {
        "name": CONTAINER,
        "image": subject.pods.image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "proxy",
            f"--config={CONFIG_DIRECTORY}/{CONFIG_KEY}",
            "--host=::",
            f"--port={port}",
            f"--service-port={service_port}",
        ],
        "ports": [
            {"name": "http", "containerPort": port, "protocol": "TCP"},
            {"name": "service", "containerPort": service_port, "protocol": "TCP"},
        ],
        "env": [variable.as_json() for variable in {v.name: v for v in reversed(variables)}.values()][::-1],
        "volumeMounts": [volume.mount() for volume in volumes],
        "resources": wanted.model_dump(mode="json", by_alias=True, exclude_none=True)
        if wanted is not None
        else {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
        # What a proxy says before it exits comes back in the status of its pod.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": http_probe("/health", period=1, timeout=3, failures=120),
        "livenessProbe": http_probe("/health", period=10, timeout=5, failures=3),
        "readinessProbe": http_probe("/readyz", period=1, timeout=3, failures=15),
        "securityContext": container_security(fixed_ids=subject.pods.fixed_ids),
    }
