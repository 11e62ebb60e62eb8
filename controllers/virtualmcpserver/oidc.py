"""Who a caller is: MCPOIDCConfig."""

from __future__ import annotations

from collections.abc import Mapping

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import OIDC
from api.contract.identifiers import GATEWAY_PORT, OIDC_CLIENT_SECRET_ENV
from api.contract.volumes import DEFAULT_CA_KEY, VolumeInput, VolumePurpose
from api.v1beta1 import MCPOIDCConfig, MCPOIDCConfigSpec
from api.v1beta1.mcpoidcconfig import InlineOIDCConfig
from api.v1beta1.virtualmcpserver import IncomingAuthConfig
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.shared.workload.network import service_url
from controllers.shared.workload.pod import Variable
from controllers.virtualmcpserver.parts import CaVolume, Part, Subject, bundle_needs

SERVICE_ACCOUNT_CA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"


def resolve_oidc(
    auth: IncomingAuthConfig, config: MCPOIDCConfig | Unreadable | None, subject: Subject
) -> Part[OIDC | None]:
    """Resolve the MCPOIDCConfig. That the client's Secret is there is part of `AuthConfigured` (`resolve_authz`)."""
    reference = auth.oidc_config_ref
    if reference is None or auth.type != "oidc":
        return Part(section=None)
    variables = _client_secret(config)

    def refused(reason: R, message: str) -> Verdict:
        return Verdict(T.OIDC_CONFIG_REF_VALIDATED, False, reason, f"MCPOIDCConfig {reference.name}{message}")

    if config is None:
        return Part(section=None, checks=(refused(R.OIDC_CONFIG_REF_NOT_FOUND, " not found"),))
    problem = config.message if isinstance(config, Unreadable) else _oidc_problem(config.spec)
    if problem or isinstance(config, Unreadable):
        verdict = refused(R.OIDC_CONFIG_REF_NOT_VALID, f": {problem}")
        return Part(section=None, checks=(verdict,), variables=variables)
    volumes = _bundle(config.spec)
    needs = bundle_needs(volumes, lambda what: refused(R.OIDC_CONFIG_REF_NOT_VALID, f": {what}"))
    # Its controller's word counts; where there is none, the spec was judged above.
    valid = next((c for c in (config.status.conditions if config.status else ()) if c.type == "Valid"), None)
    if valid is not None and valid.status == "False":
        verdict = refused(R.OIDC_CONFIG_REF_NOT_VALID, f": it is not valid: {valid.message}")
        return Part(section=None, checks=(*needs, verdict), variables=variables)
    # The stock operator builds this very URL, without the Service's prefix; tokens were issued for it.
    resource = reference.resource_url or service_url(
        subject.name, subject.namespace, subject.cluster_domain, GATEWAY_PORT
    )
    common = {"audience": reference.audience, "resource": resource, "scopes": reference.scopes}
    message = f"MCPOIDCConfig {reference.name} is valid"
    fine = Verdict(T.OIDC_CONFIG_REF_VALIDATED, True, R.OIDC_CONFIG_REF_VALID, message)
    return Part(
        section=_oidc_settings(config.spec, common, volumes),
        checks=(*needs, fine),
        variables=variables,
        volumes=volumes,
    )


def _client_secret(config: MCPOIDCConfig | Unreadable | None) -> tuple[Variable, ...]:
    inline = config.spec.inline if config is not None and not isinstance(config, Unreadable) else None
    ref = inline.client_secret_ref if inline is not None else None
    return (Variable(OIDC_CLIENT_SECRET_ENV, secret=ref.name, key=ref.key),) if ref is not None else ()


def _oidc_problem(spec: MCPOIDCConfigSpec) -> str:
    if spec.type == "inline":
        return "" if spec.inline is not None and spec.inline.issuer else "inline.issuer is required"
    return "" if spec.kubernetes_service_account is not None else "kubernetesServiceAccount is required"


def _bundle(spec: MCPOIDCConfigSpec) -> tuple[CaVolume, ...]:
    source = spec.inline.ca_bundle_ref if spec.inline is not None and spec.type == "inline" else None
    bundle = source.config_map_ref if source is not None else None
    if bundle is None:
        return ()
    return (CaVolume(VolumeInput(VolumePurpose.OIDC_CA, bundle.name), bundle.name, bundle.key or DEFAULT_CA_KEY),)


def _oidc_settings(spec: MCPOIDCConfigSpec, common: Mapping[str, object], volumes: tuple[CaVolume, ...]) -> OIDC:
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


def _inline_oidc(inline: InlineOIDCConfig, common: Mapping[str, object], volumes: tuple[CaVolume, ...]) -> OIDC:
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
            "caBundlePath": volumes[0].input.path(volumes[0].key) if volumes else "",
        }
    )
