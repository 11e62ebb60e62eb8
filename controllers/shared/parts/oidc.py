"""Who a caller is: MCPOIDCConfig."""

from __future__ import annotations

from collections.abc import Mapping

from api.common.references import MCPOIDCConfigReference
from api.contract import OIDC
from api.contract.identifiers import OIDC_CLIENT_SECRET_ENV
from api.contract.volumes import DEFAULT_CA_KEY, VolumeInput, VolumePurpose
from api.v1beta1 import MCPOIDCConfig, MCPOIDCConfigSpec
from api.v1beta1.mcpoidcconfig import InlineOIDCConfig
from controllers.shared.parts.part import CaVolume, Part, Words, bundle_needs
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.shared.workload.pod import Variable

SERVICE_ACCOUNT_CA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"


def resolve_oidc(
    reference: MCPOIDCConfigReference | None, config: MCPOIDCConfig | Unreadable | None, words: Words, url: str
) -> Part[OIDC | None]:
    """Resolve the MCPOIDCConfig. Whether the client's Secret is there is left to whoever asks: see `variables`.

    Args:
        reference: to it; None where callers are not asked who they are.
        config: what it names; None when that is missing.
        words: of the check.
        url: of what callers reach: for whom tokens are, unless the reference says so.
    """
    if reference is None:
        return Part(section=None)
    variables = _client_secret(config)

    def refused(reason: str, message: str) -> Verdict:
        return Verdict(words.type, False, reason, f"MCPOIDCConfig {reference.name}{message}")

    if config is None:
        return Part(section=None, checks=(refused(words.not_found, " not found"),))
    problem = config.message if isinstance(config, Unreadable) else _oidc_problem(config.spec)
    if problem or isinstance(config, Unreadable):
        verdict = refused(words.invalid, f": {problem}")
        return Part(section=None, checks=(verdict,), variables=variables)
    volumes = _bundle(config.spec)
    needs = bundle_needs(volumes, lambda what: refused(words.invalid, f": {what}"))
    # Its controller's word counts; where there is none, the spec was judged above.
    valid = next((c for c in (config.status.conditions if config.status else ()) if c.type == "Valid"), None)
    if valid is not None and valid.status == "False":
        verdict = refused(words.invalid, f": it is not valid: {valid.message}")
        return Part(section=None, checks=(*needs, verdict), variables=variables)
    common = {
        "audience": reference.audience,
        "resource": reference.resource_url or url,
        "scopes": reference.scopes,
    }
    message = f"MCPOIDCConfig {reference.name} is valid"
    fine = Verdict(words.type, True, words.valid, message)
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
