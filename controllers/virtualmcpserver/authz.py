"""What a caller may do: Cedar policies, and whether incoming authentication as a whole is configured."""

from __future__ import annotations

from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import OIDC, Authz
from api.v1beta1 import MCPAuthzConfig
from api.v1beta1.virtualmcpserver import IncomingAuthConfig
from controllers.shared.parts.learned import PolicyText
from controllers.shared.parts.part import Need, Part, secret_needs
from controllers.shared.parts.policies import PolicyProblem, own_policies, shared_policies
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.shared.workload.pod import Variable


def resolve_authz(
    auth: IncomingAuthConfig,
    config: MCPAuthzConfig | Unreadable | None,
    text: str | PolicyText | None,
    oidc: Part[OIDC | None],
) -> Part[Authz | None]:
    """Resolve the policies; `AuthConfigured` also covers the Secret of the OIDC client."""
    checks: list[Verdict | Need] = []
    authz: Authz | None = None
    if auth.authz_config_ref is not None:
        authz, verdict = _shared_authz(auth.authz_config_ref.name, config)
        checks.append(verdict)
    configured = Verdict(T.AUTH_CONFIGURED, True, R.AUTH_VALID, "incoming authentication is configured")
    if auth.authz_config is not None:
        found = own_policies(auth.authz_config, text)
        if isinstance(found, PolicyProblem):
            reason = R.AUTHZ_CONFIG_MAP_NOT_FOUND if found.missing else R.AUTHZ_CONFIG_MAP_INVALID
            configured = Verdict(T.AUTH_CONFIGURED, False, reason, found.message)
        else:
            authz = found
    return Part(section=authz, checks=(*checks, configured, *_client_needs(auth, oidc.variables)))


def _client_needs(auth: IncomingAuthConfig, client: tuple[Variable, ...]) -> tuple[Need, ...]:
    owner = auth.oidc_config_ref.name if auth.oidc_config_ref is not None else ""

    def refused(what: str) -> Verdict:
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTH_INVALID, f"{what} of MCPOIDCConfig {owner} not found")

    return secret_needs(((variable.secret, variable.key) for variable in client), refused)


def _shared_authz(name: str, config: MCPAuthzConfig | Unreadable | None) -> tuple[Authz | None, Verdict]:
    found = shared_policies(name, config)
    type_ = T.AUTHZ_CONFIG_REF_VALIDATED
    if isinstance(found, PolicyProblem):
        reason = R.AUTHZ_CONFIG_REF_NOT_FOUND if found.missing else R.AUTHZ_CONFIG_REF_NOT_VALID
        return None, Verdict(type_, False, reason, found.message)
    return found, Verdict(type_, True, R.AUTHZ_CONFIG_REF_VALID, f"MCPAuthzConfig {name} is valid")
