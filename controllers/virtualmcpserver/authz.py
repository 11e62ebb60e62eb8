"""What a caller may do: Cedar policies from where users keep them, inline, in a ConfigMap, in an MCPAuthzConfig."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.common.authz import AuthzConfigRef
from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import OIDC, Authz
from api.v1beta1 import MCPAuthzConfig
from api.v1beta1.virtualmcpserver import IncomingAuthConfig
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.shared.workload.pod import Variable
from controllers.virtualmcpserver.parts import Need, Part, secret_needs
from controllers.virtualmcpserver.snapshot import PolicyText

_NAMES = {
    "entities_json": ("entities_json", "entitiesJson"),
    "primary_upstream_provider": ("primary_upstream_provider", "primaryUpstreamProvider"),
    "group_claim_name": ("group_claim_name", "groupClaimName"),
    "role_claim_name": ("role_claim_name", "roleClaimName"),
    "group_entity_type": ("group_entity_type", "groupEntityType"),
}


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """Why there are no usable policies."""

    message: str


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
    own = auth.authz_config
    if own is not None:
        found = _own_authz(own, text)
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
    return Part(section=authz, checks=(*checks, configured, *_client_needs(auth, oidc.variables)))


def _client_needs(auth: IncomingAuthConfig, client: tuple[Variable, ...]) -> tuple[Need, ...]:
    owner = auth.oidc_config_ref.name if auth.oidc_config_ref is not None else ""

    def refused(what: str) -> Verdict:
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTH_INVALID, f"{what} of MCPOIDCConfig {owner} not found")

    return secret_needs(((variable.secret, variable.key) for variable in client), refused)


def _shared_authz(name: str, config: MCPAuthzConfig | Unreadable | None) -> tuple[Authz | None, Verdict]:
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


def _own_authz(own: AuthzConfigRef, text: str | PolicyText | None) -> Authz | Verdict | None:
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
    if text is None or text is PolicyText.MISSING:
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTHZ_CONFIG_MAP_NOT_FOUND, f"ConfigMap {name} not found")
    if isinstance(text, PolicyText):
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTHZ_CONFIG_MAP_INVALID, f"ConfigMap {name}: {text.value}")
    found = read_policy_document(text)
    if isinstance(found, PolicyProblem):
        return Verdict(T.AUTH_CONFIGURED, False, R.AUTHZ_CONFIG_MAP_INVALID, f"ConfigMap {name}: {found.message}")
    return found


def read_policy_document(text: str) -> Authz | PolicyProblem:
    """Read the document of a ConfigMap: `{"version": "1.0", "type": "cedarv1", "cedar": {...}}`."""
    try:
        document = json.loads(text)
    except ValueError:
        return PolicyProblem("the document is not JSON")
    if not isinstance(document, dict):
        return PolicyProblem("the document is not a JSON object")
    if document.get("type") != "cedarv1":
        return PolicyProblem('the document\'s type must be "cedarv1"')
    return read_cedar(document.get("cedar"))


def read_cedar(section: Any) -> Authz | PolicyProblem:
    """Read the Cedar part: policies, entities, claim names; in snake_case or camelCase."""
    if isinstance(section, Mapping) and isinstance(section.get("cedar"), Mapping):
        section = section["cedar"]
    if not isinstance(section, Mapping):
        return PolicyProblem('"cedar" is missing')
    policies = section.get("policies")
    if not isinstance(policies, list) or not all(isinstance(policy, str) for policy in policies):
        return PolicyProblem('"policies" must be a list of texts')
    fields: dict[str, str] = {}
    for field, keys in _NAMES.items():
        value = next((section[key] for key in keys if section.get(key)), "")
        if not isinstance(value, str):
            return PolicyProblem(f'"{keys[0]}" must be a text')
        fields[field] = value
    return check_policies(Authz(type="cedar", policies=tuple(policies), **fields))


def check_policies(authz: Authz) -> Authz | PolicyProblem:
    """Parse policies and entities as the gateway will."""
    if not authz.policies:
        return PolicyProblem("there is no policy")
    from cedarpy import policies_to_json_str  # 15 MiB, and most gateways have no policies

    for position, policy in enumerate(authz.policies):
        try:
            policies_to_json_str(policy)
        except ValueError as error:
            return PolicyProblem(f"policy {position + 1} does not parse: {error}")
    try:
        entities = json.loads(authz.entities_json or "[]")
    except ValueError:
        return PolicyProblem("entitiesJson is not JSON")
    return authz if isinstance(entities, list) else PolicyProblem("entitiesJson is not a JSON array")
