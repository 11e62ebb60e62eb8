"""Cedar policies from where users keep them: inline, in a ConfigMap, in an MCPAuthzConfig."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.contract import Authz

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
