"""The objects that a VirtualMCPServer refers to, each resolved into its part of the configuration or into a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import OIDC, Authz, CompositeTool, ConfigErrors, Telemetry, with_defaults
from api.contract.config import VmcpConfig
from api.contract.errors import ConfigError
from api.contract.identifiers import GATEWAY_PORT, OIDC_CLIENT_SECRET_ENV
from api.contract.validation.composite import check_composite_tool
from api.contract.validation.report import Report
from api.contract.volumes import DEFAULT_CA_KEY, VolumeInput, VolumePurpose
from api.v1beta1 import MCPOIDCConfigSpec, MCPTelemetryConfigSpec
from api.v1beta1.mcpoidcconfig import InlineOIDCConfig
from controllers.shared.groups import GroupState
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.virtualmcpserver.policies import PolicyProblem, check_policies, read_cedar, read_policy_document
from controllers.virtualmcpserver.snapshot import PolicyText, Snapshot

SERVICE_ACCOUNT_CA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"


@dataclass(frozen=True)
class Referenced:
    """What the references gave.

    Attributes:
        verdicts: one per reference; the first that is not ok decides the phase.
        ca_volumes: certificates to mount: volume, ConfigMap, key.
    """

    verdicts: tuple[Verdict, ...] = ()
    oidc: OIDC | None = None
    authz: Authz | None = None
    telemetry: Telemetry | None = None
    composite_tools: tuple[CompositeTool, ...] = ()
    ca_volumes: tuple[tuple[VolumeInput, str, str], ...] = field(default=())


def resolve(snapshot: Snapshot) -> Referenced:
    """Resolve every reference but those of the members."""
    verdicts = [judge_group(snapshot)]
    tools, verdict = _composite_tools(snapshot)
    verdicts.append(verdict)
    volumes: list[tuple[VolumeInput, str, str]] = []
    oidc, found = _oidc(snapshot, volumes)
    verdicts += found
    authz, found = _authz(snapshot)
    verdicts += found
    telemetry, found = _telemetry(snapshot, volumes)
    verdicts += found
    verdicts += _tool_configs(snapshot)
    return Referenced(tuple(verdicts), oidc, authz, telemetry, tools, tuple(volumes))


def judge_group(snapshot: Snapshot) -> Verdict:
    """Say whether the group is there and Ready."""
    name = snapshot.spec.group_ref.name
    match snapshot.group:
        case GroupState.READY:
            return Verdict(T.GROUP_REF_VALIDATED, True, R.GROUP_REF_VALID, f"MCPGroup {name} is ready")
        case GroupState.NOT_READY:
            return Verdict(T.GROUP_REF_VALIDATED, False, R.GROUP_REF_NOT_READY, f"MCPGroup {name} is not ready")
        case GroupState.DELETING:
            return Verdict(T.GROUP_REF_VALIDATED, False, R.GROUP_REF_NOT_FOUND, f"MCPGroup {name} is being deleted")
        case _:
            return Verdict(T.GROUP_REF_VALIDATED, False, R.GROUP_REF_NOT_FOUND, f"MCPGroup {name} not found")


def _composite_tools(snapshot: Snapshot) -> tuple[tuple[CompositeTool, ...], Verdict]:
    config = snapshot.spec.config
    refs = [ref.name for ref in (config.composite_tool_refs if config is not None else ())]
    missing = sorted({name for name in refs if name not in snapshot.composite_tools})
    if missing:
        message = f"VirtualMCPCompositeToolDefinition not found: {', '.join(missing)}"
        return (), Verdict(T.COMPOSITE_TOOL_REFS_VALIDATED, False, R.COMPOSITE_TOOL_REF_NOT_FOUND, message)
    tools: list[CompositeTool] = []
    problems: list[str] = []
    for name in refs:
        tool, found = _composite_tool(snapshot, name)
        problems += found
        if tool is not None:
            tools.append(tool)
    if problems:
        message = "; ".join(problems[:10])
        return (), Verdict(T.COMPOSITE_TOOL_REFS_VALIDATED, False, R.COMPOSITE_TOOL_REF_INVALID, message)
    message = f"{len(tools)} composite tool definitions are valid" if tools else "no composite tool definitions"
    return tuple(tools), Verdict(T.COMPOSITE_TOOL_REFS_VALIDATED, True, R.COMPOSITE_TOOL_REFS_VALID, message)


def _composite_tool(snapshot: Snapshot, name: str) -> tuple[CompositeTool | None, list[str]]:
    definition = snapshot.composite_tools[name]
    if isinstance(definition, Unreadable):
        return None, [f"{name}: {definition.message}"]
    if definition.status is not None and definition.status.validation_status == "Invalid":
        return None, [f"{name}: its status says Invalid"]
    try:
        tool = CompositeTool.model_validate(
            definition.spec.model_dump(mode="json", by_alias=True, exclude_none=True), extra="ignore"
        )
    except ValidationError as error:
        return None, [f"{name}: {item['msg']}" for item in error.errors(include_input=False)]
    tool = with_defaults(VmcpConfig(composite_tools=(tool,))).composite_tools[0]
    report = Report()
    check_composite_tool(tool, name, report)
    return tool, [str(error) for error in report.errors]


def _oidc(snapshot: Snapshot, volumes: list[tuple[VolumeInput, str, str]]) -> tuple[OIDC | None, list[Verdict]]:
    reference = snapshot.spec.incoming_auth.oidc_config_ref
    if reference is None or snapshot.spec.incoming_auth.type != "oidc":
        return None, []
    config = snapshot.oidc_config
    if config is None:
        message = f"MCPOIDCConfig {reference.name} not found"
        return None, [Verdict(T.OIDC_CONFIG_REF_VALIDATED, False, R.OIDC_CONFIG_REF_NOT_FOUND, message)]
    problem = config.message if isinstance(config, Unreadable) else _oidc_problem(snapshot, config.spec)
    if not isinstance(config, Unreadable) and not problem:
        valid = next((c for c in (config.status.conditions if config.status else ()) if c.type == "Valid"), None)
        # Its controller's word counts; where there is none, the spec was judged above.
        problem = f"it is not valid: {valid.message}" if valid is not None and valid.status == "False" else ""
    if problem or isinstance(config, Unreadable):
        message = f"MCPOIDCConfig {reference.name}: {problem}"
        return None, [Verdict(T.OIDC_CONFIG_REF_VALIDATED, False, R.OIDC_CONFIG_REF_NOT_VALID, message)]
    # The stock operator builds this very URL, without the Service's prefix; tokens were issued for it.
    resource = reference.resource_url or (
        f"http://{snapshot.name}.{snapshot.namespace}.svc.{snapshot.options.cluster_domain}:{GATEWAY_PORT}"
    )
    common = {"audience": reference.audience, "resource": resource, "scopes": reference.scopes}
    oidc = _oidc_settings(config.spec, common, volumes)
    message = f"MCPOIDCConfig {reference.name} is valid"
    return oidc, [Verdict(T.OIDC_CONFIG_REF_VALIDATED, True, R.OIDC_CONFIG_REF_VALID, message)]


def _oidc_problem(snapshot: Snapshot, spec: MCPOIDCConfigSpec) -> str:
    if spec.type == "inline":
        if spec.inline is None or not spec.inline.issuer:
            return "inline.issuer is required"
        bundle = spec.inline.ca_bundle_ref.config_map_ref if spec.inline.ca_bundle_ref is not None else None
        if bundle is not None and not snapshot.has_certificate(bundle.name, bundle.key or DEFAULT_CA_KEY):
            return f'ConfigMap "{bundle.name}" has no certificate under "{bundle.key or DEFAULT_CA_KEY}"'
        return ""
    return "" if spec.kubernetes_service_account is not None else "kubernetesServiceAccount is required"


def _oidc_settings(
    spec: MCPOIDCConfigSpec, common: Mapping[str, object], volumes: list[tuple[VolumeInput, str, str]]
) -> OIDC:
    if spec.inline is not None and spec.type == "inline":
        return _inline_oidc(spec.inline, common, volumes)
    account = spec.kubernetes_service_account
    assert account is not None
    in_cluster = account.use_cluster_auth is None or account.use_cluster_auth
    return OIDC.model_validate(
        dict(common)
        | {
            "issuer": account.issuer,
            "jwksUrl": account.jwks_url or "",
            "introspectionUrl": account.introspection_url or "",
            "jwksAllowPrivateIp": in_cluster,
            "caBundlePath": SERVICE_ACCOUNT_CA if in_cluster else "",
        }
    )


def _inline_oidc(
    inline: InlineOIDCConfig, common: Mapping[str, object], volumes: list[tuple[VolumeInput, str, str]]
) -> OIDC:
    bundle = inline.ca_bundle_ref.config_map_ref if inline.ca_bundle_ref is not None else None
    path = ""
    if bundle is not None:
        volume = VolumeInput(VolumePurpose.OIDC_CA, bundle.name)
        volumes.append((volume, bundle.name, bundle.key or DEFAULT_CA_KEY))
        path = volume.path(bundle.key or DEFAULT_CA_KEY)
    return OIDC.model_validate(
        dict(common)
        | {
            "issuer": inline.issuer,
            "clientId": inline.client_id or "",
            "clientSecretEnv": OIDC_CLIENT_SECRET_ENV if inline.client_secret_ref is not None else "",
            "jwksUrl": inline.jwks_url or "",
            "introspectionUrl": inline.introspection_url or "",
            "protectedResourceAllowPrivateIp": inline.protected_resource_allow_private_ip,
            "jwksAllowPrivateIp": inline.jwks_allow_private_ip,
            "insecureAllowHttp": inline.insecure_allow_http,
            "caBundlePath": path,
        }
    )


def _authz(snapshot: Snapshot) -> tuple[Authz | None, list[Verdict]]:
    """Resolve policies; `AuthConfigured` also covers the OIDC client's Secret."""
    auth = snapshot.spec.incoming_auth
    verdicts: list[Verdict] = []
    authz: Authz | None = None
    if auth.authz_config_ref is not None:
        authz, verdict = _shared_authz(snapshot, auth.authz_config_ref.name)
        verdicts.append(verdict)
    configured = Verdict(T.AUTH_CONFIGURED, True, R.AUTH_VALID, "incoming authentication is configured")
    own = auth.authz_config
    if own is not None:
        found = _own_authz(snapshot)
        if isinstance(found, Verdict):
            configured = found
        else:
            authz = found
        if authz is not None:
            # What the object itself says about claims wins over the document.
            claims = {
                "group_claim_name": own.group_claim_name or authz.group_claim_name,
                "role_claim_name": own.role_claim_name or authz.role_claim_name,
                "group_entity_type": own.group_entity_type or authz.group_entity_type,
            }
            authz = authz.model_copy(update=claims)
    secret = _missing_client_secret(snapshot)
    if secret and configured.ok:
        configured = Verdict(T.AUTH_CONFIGURED, False, R.AUTH_INVALID, secret)
    return authz, [*verdicts, configured]


def _shared_authz(snapshot: Snapshot, name: str) -> tuple[Authz | None, Verdict]:
    config = snapshot.authz_config
    if config is None:
        message = f"MCPAuthzConfig {name} not found"
        return None, Verdict(T.AUTHZ_CONFIG_REF_VALIDATED, False, R.AUTHZ_CONFIG_REF_NOT_FOUND, message)
    found: Authz | PolicyProblem
    if isinstance(config, Unreadable):
        found = PolicyProblem(config.message)
    elif config.spec.type != "cedarv1":
        found = PolicyProblem(f"type {config.spec.type} is not supported by a VirtualMCPServer, only cedarv1 is")
    else:
        found = read_cedar(config.spec.config)
    if isinstance(found, PolicyProblem):
        message = f"MCPAuthzConfig {name}: {found.message}"
        return None, Verdict(T.AUTHZ_CONFIG_REF_VALIDATED, False, R.AUTHZ_CONFIG_REF_NOT_VALID, message)
    message = f"MCPAuthzConfig {name} is valid"
    return found, Verdict(T.AUTHZ_CONFIG_REF_VALIDATED, True, R.AUTHZ_CONFIG_REF_VALID, message)


def _own_authz(snapshot: Snapshot) -> Authz | Verdict | None:
    own = snapshot.spec.incoming_auth.authz_config
    assert own is not None
    if own.type == "inline" and own.inline is not None:
        inline = own.inline
        found = check_policies(
            Authz(
                type="cedar",
                policies=inline.policies,
                entities_json=inline.entities_json,
                primary_upstream_provider=inline.primary_upstream_provider or "",
            )
        )
        if isinstance(found, PolicyProblem):
            return Verdict(T.AUTH_CONFIGURED, False, R.AUTHZ_CONFIG_MAP_INVALID, f"authzConfig.inline: {found.message}")
        return found
    name = own.config_map.name if own.config_map is not None else ""
    text = snapshot.policy_text
    if text is None or text is PolicyText.MISSING:
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTHZ_CONFIG_MAP_NOT_FOUND, f"ConfigMap {name} not found")
    if isinstance(text, PolicyText):
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTHZ_CONFIG_MAP_INVALID, f"ConfigMap {name}: {text.value}")
    found = read_policy_document(text)
    if isinstance(found, PolicyProblem):
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTHZ_CONFIG_MAP_INVALID, f"ConfigMap {name}: {found.message}")
    return found


def _missing_client_secret(snapshot: Snapshot) -> str:
    config = snapshot.oidc_config
    if snapshot.spec.incoming_auth.type != "oidc" or config is None or isinstance(config, Unreadable):
        return ""
    ref = config.spec.inline.client_secret_ref if config.spec.inline is not None else None
    if ref is None or snapshot.has_key(ref.name, ref.key):
        return ""
    return f'Secret "{ref.name}" with key "{ref.key}" of MCPOIDCConfig {config.metadata.name} not found'


def _telemetry(
    snapshot: Snapshot, volumes: list[tuple[VolumeInput, str, str]]
) -> tuple[Telemetry | None, list[Verdict]]:
    reference = snapshot.spec.telemetry_config_ref
    if reference is None:
        return None, []
    config = snapshot.telemetry_config
    if config is None:
        message = f"MCPTelemetryConfig {reference.name} not found"
        return None, [Verdict(T.TELEMETRY_CONFIG_REF_VALIDATED, False, R.TELEMETRY_CONFIG_REF_NOT_FOUND, message)]
    problem = config.message if isinstance(config, Unreadable) else _telemetry_problem(snapshot, config.spec)
    if problem or isinstance(config, Unreadable):
        message = f"MCPTelemetryConfig {reference.name}: {problem}"
        return None, [Verdict(T.TELEMETRY_CONFIG_REF_VALIDATED, False, R.TELEMETRY_CONFIG_REF_INVALID, message)]
    telemetry = _telemetry_settings(config.spec, reference.service_name or snapshot.name, volumes)
    message = f"MCPTelemetryConfig {reference.name} is valid"
    return telemetry, [Verdict(T.TELEMETRY_CONFIG_REF_VALIDATED, True, R.TELEMETRY_CONFIG_REF_VALID, message)]


def _telemetry_problem(snapshot: Snapshot, spec: MCPTelemetryConfigSpec) -> str:
    otel = spec.open_telemetry
    if otel is None or not otel.enabled:
        return ""
    traces = otel.tracing is not None and otel.tracing.enabled
    metrics = otel.metrics is not None and otel.metrics.enabled
    if otel.endpoint and not traces and not metrics:
        return "an endpoint needs tracing or metrics"
    bundle = otel.ca_bundle_ref.config_map_ref if otel.ca_bundle_ref is not None else None
    if bundle is not None and not snapshot.has_certificate(bundle.name, bundle.key or DEFAULT_CA_KEY):
        return f'ConfigMap "{bundle.name}" has no certificate under "{bundle.key or DEFAULT_CA_KEY}"'
    for header in otel.sensitive_headers:
        if not snapshot.has_key(header.secret_key_ref.name, header.secret_key_ref.key):
            return f'Secret "{header.secret_key_ref.name}" with key "{header.secret_key_ref.key}" not found'
    return ""


def _telemetry_settings(
    spec: MCPTelemetryConfigSpec, service: str, volumes: list[tuple[VolumeInput, str, str]]
) -> Telemetry:
    prometheus = spec.prometheus is not None and spec.prometheus.enabled
    otel = spec.open_telemetry
    if otel is None or not otel.enabled:
        return Telemetry(service_name=service, enable_prometheus_metrics_path=prometheus)
    bundle = otel.ca_bundle_ref.config_map_ref if otel.ca_bundle_ref is not None else None
    path = ""
    if bundle is not None:
        volume = VolumeInput(VolumePurpose.TELEMETRY_CA, bundle.name)
        volumes.append((volume, bundle.name, bundle.key or DEFAULT_CA_KEY))
        path = volume.path(bundle.key or DEFAULT_CA_KEY)
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
        ca_cert_path=path,
    )


def _tool_configs(snapshot: Snapshot) -> list[Verdict]:
    names = tool_config_names(snapshot)
    if not names:
        return []
    missing = [name for name in names if name not in snapshot.tool_configs]
    unreadable = [name for name in names if isinstance(snapshot.tool_configs.get(name), Unreadable)]
    if missing or unreadable:
        message = f"MCPToolConfig not found or not readable: {', '.join(missing + unreadable)}"
        return [Verdict(T.TOOL_CONFIG_REFS_VALIDATED, False, R.TOOL_CONFIG_REF_NOT_FOUND, message)]
    return [Verdict(T.TOOL_CONFIG_REFS_VALIDATED, True, R.TOOL_CONFIG_REFS_VALID, "every MCPToolConfig exists")]


def tool_config_names(snapshot: Snapshot) -> list[str]:
    """Return the MCPToolConfigs that spec.config names."""
    config = snapshot.spec.config
    tools = config.aggregation.tools if config is not None and config.aggregation is not None else ()
    return sorted({entry.tool_config_ref.name for entry in tools if entry.tool_config_ref is not None})


def sentences(errors: Iterable[ConfigError] | ConfigErrors) -> str:
    """Return configuration errors as one message."""
    items = errors.errors if isinstance(errors, ConfigErrors) else tuple(errors)
    return "; ".join(str(error) for error in items[:10]) + (f" and {len(items) - 10} more" if len(items) > 10 else "")
