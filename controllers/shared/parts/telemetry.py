"""Telemetry: MCPTelemetryConfig."""

from __future__ import annotations

from api.common.references import MCPTelemetryConfigReference
from api.contract import Telemetry
from api.contract.identifiers import EnvInput, SecretPurpose, assign_env_names
from api.contract.volumes import DEFAULT_CA_KEY, VolumeInput, VolumePurpose
from api.v1beta1 import MCPTelemetryConfig, MCPTelemetryConfigSpec
from controllers.shared.parts.part import CaVolume, Part, Words, bundle_needs, secret_needs
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.shared.workload.pod import Variable


def resolve_telemetry(
    reference: MCPTelemetryConfigReference | None,
    config: MCPTelemetryConfig | Unreadable | None,
    words: Words,
    name: str,
    namespace: str,
) -> Part[Telemetry | None]:
    """Resolve the MCPTelemetryConfig.

    Args:
        reference: to it; None for none.
        config: what it names; None when that is missing.
        words: of the check.
        name: of the service, unless the reference says it.
        namespace: of the service.
    """
    if reference is None:
        return Part(section=None)

    def refused(reason: str, message: str) -> Verdict:
        return Verdict(words.type, False, reason, f"MCPTelemetryConfig {reference.name}{message}")

    if config is None:
        return Part(section=None, checks=(refused(words.not_found, " not found"),))
    problem = config.message if isinstance(config, Unreadable) else _problem(config.spec)
    if problem or isinstance(config, Unreadable):
        return Part(section=None, checks=(refused(words.invalid, f": {problem}"),))
    service, volumes = reference.service_name or name, _bundle(config.spec)
    variables = (
        Variable("OTEL_RESOURCE_ATTRIBUTES", f"service.name={service},service.namespace={namespace}"),
        *_headers(config.spec),
    )
    otel = config.spec.open_telemetry
    references = [header.secret_key_ref for header in otel.sensitive_headers] if otel and otel.enabled else []
    needs = (
        *bundle_needs(volumes, lambda what: refused(words.invalid, f": {what}")),
        *secret_needs(
            ((ref.name, ref.key) for ref in references),
            lambda what: refused(words.invalid, f": {what} not found"),
        ),
    )
    message = f"MCPTelemetryConfig {reference.name} is valid"
    fine = Verdict(words.type, True, words.valid, message)
    return Part(
        section=_settings(config.spec, service, volumes),
        checks=(*needs, fine),
        variables=variables,
        volumes=volumes,
    )


def _problem(spec: MCPTelemetryConfigSpec) -> str:
    otel = spec.open_telemetry
    if otel is None or not otel.enabled:
        return ""
    traces = otel.tracing is not None and otel.tracing.enabled
    metrics = otel.metrics is not None and otel.metrics.enabled
    return "an endpoint needs tracing or metrics" if otel.endpoint and not traces and not metrics else ""


def _bundle(spec: MCPTelemetryConfigSpec) -> tuple[CaVolume, ...]:
    otel = spec.open_telemetry
    source = otel.ca_bundle_ref if otel is not None and otel.enabled else None
    bundle = source.config_map_ref if source is not None else None
    if bundle is None:
        return ()
    volume = VolumeInput(VolumePurpose.TELEMETRY_CA, bundle.name)
    return (CaVolume(volume, bundle.name, bundle.key or DEFAULT_CA_KEY),)


def _headers(spec: MCPTelemetryConfigSpec) -> list[Variable]:
    otel = spec.open_telemetry
    if otel is None or not otel.enabled:
        return []
    inputs = {EnvInput(SecretPurpose.OTEL_HEADER, (h.name,)): h.secret_key_ref for h in otel.sensitive_headers}
    names = assign_env_names(inputs)
    headers = [Variable(names[item], secret=ref.name, key=ref.key) for item, ref in inputs.items()]
    return sorted(headers, key=lambda variable: variable.name)


def _settings(spec: MCPTelemetryConfigSpec, service: str, volumes: tuple[CaVolume, ...]) -> Telemetry:
    prometheus = spec.prometheus is not None and spec.prometheus.enabled
    otel = spec.open_telemetry
    if otel is None or not otel.enabled:
        return Telemetry(service_name=service, enable_prometheus_metrics_path=prometheus)
    return Telemetry(
        endpoint=otel.endpoint or "",
        service_name=service,
        tracing_enabled=otel.tracing is not None and otel.tracing.enabled,
        metrics_enabled=otel.metrics is not None and otel.metrics.enabled,
        sampling_rate=otel.tracing.sampling_rate if otel.tracing is not None else "",
        headers=otel.headers,
        insecure=otel.insecure,
        enable_prometheus_metrics_path=prometheus,
        custom_attributes=otel.resource_attributes,
        use_legacy_attributes=otel.use_legacy_attributes,
        ca_cert_path=volumes[0].input.path(volumes[0].key) if volumes else "",
    )
