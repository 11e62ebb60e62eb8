"""Cedar policies from where users keep them: inline, in a ConfigMap, in an MCPAuthzConfig."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.common.authz import AuthzConfigRef
from api.contract import Authz
from api.v1beta1 import MCPAuthzConfig
from controllers.shared.parts.learned import PolicyText
from controllers.shared.verdicts import Unreadable

_NAMES = {
    "entities_json": ("entities_json", "entitiesJson"),
    "primary_upstream_provider": ("primary_upstream_provider", "primaryUpstreamProvider"),
    "group_claim_name": ("group_claim_name", "groupClaimName"),
    "role_claim_name": ("role_claim_name", "roleClaimName"),
    "group_entity_type": ("group_entity_type", "groupEntityType"),
}


@dataclass(frozen=True, slots=True)
class PolicyProblem:
    """Why there are no usable policies.

    Attributes:
        message: what is wrong, and where.
        missing: there is no object of the name.
        unread: it could not be read for a passing reason.
    """

    message: str
    missing: bool = False
    unread: bool = False


def shared_policies(name: str, config: MCPAuthzConfig | Unreadable | None) -> Authz | PolicyProblem:
    """Read the policies of an MCPAuthzConfig; None stands for one that is missing."""
    if config is None:
        return PolicyProblem(f"MCPAuthzConfig {name} not found", missing=True)
    if isinstance(config, Unreadable):
        return PolicyProblem(f"MCPAuthzConfig {name}: {config.message}")
    if config.spec.type != "cedarv1":
        return PolicyProblem(f"MCPAuthzConfig {name}: type {config.spec.type} is not supported, only cedarv1 is")
    found = read_cedar(config.spec.config)
    return found if isinstance(found, Authz) else PolicyProblem(f"MCPAuthzConfig {name}: {found.message}")


def own_policies(own: AuthzConfigRef, text: str | PolicyText | None) -> Authz | PolicyProblem:
    """Read the policies that a spec holds, or those of the ConfigMap that it names.

    Args:
        own: what the spec says.
        text: content of that ConfigMap; None when it names none.
    """
    found = _own(own, text)
    if isinstance(found, PolicyProblem):
        return found
    # What the object itself says about claims wins over the document.
    return found.model_copy(
        update={
            "group_claim_name": own.group_claim_name or found.group_claim_name,
            "role_claim_name": own.role_claim_name or found.role_claim_name,
            "group_entity_type": own.group_entity_type or found.group_entity_type,
        }
    )


def _own(own: AuthzConfigRef, text: str | PolicyText | None) -> Authz | PolicyProblem:
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
        return found if isinstance(found, Authz) else PolicyProblem(f"authzConfig.inline: {found.message}")
    name = own.config_map.name if own.config_map is not None else ""
    if text is None or text is PolicyText.MISSING:
        return PolicyProblem(f"ConfigMap {name} not found", missing=True)
    if isinstance(text, PolicyText):
        return PolicyProblem(f"ConfigMap {name}: {text.value}", unread=text is PolicyText.UNREAD)
    found = read_policy_document(text)
    return found if isinstance(found, Authz) else PolicyProblem(f"ConfigMap {name}: {found.message}")


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
