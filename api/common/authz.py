"""Which authorization policy a workload applies."""

from __future__ import annotations

from typing import Annotated, Literal

from api.common.markers import CelRule, Required, ValueBounds, rules
from api.common.model import AtomicList, Struct

PROVIDER_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
ProviderName = Annotated[str, ValueBounds(pattern=PROVIDER_NAME, min_length=1, max_length=63)]

AUTHZ_EXCLUSIVE = CelRule(
    "!(has(self.authzConfig) && has(self.authzConfigRef))",
    "authzConfig and authzConfigRef are mutually exclusive; use authzConfigRef to reference a shared MCPAuthzConfig",
)


class ConfigMapAuthzRef(Struct):
    """A ConfigMap that holds the policy document."""

    name: str
    """Name of the ConfigMap."""
    key: str = "authz.json"
    """Key that holds the document."""


class InlineAuthzConfig(Struct):
    """Cedar policies written into the object."""

    policies: Annotated[AtomicList[str], ValueBounds(min_items=1)]
    """Cedar policies, one per item."""
    entities_json: str = "[]"
    """Cedar entities as a JSON array."""
    primary_upstream_provider: ProviderName | None = None
    """Deprecated; name of the upstream provider whose claims are evaluated."""


@rules(
    CelRule(
        "self.type == 'configMap' ? has(self.configMap) : !has(self.configMap)",
        "configMap must be set when type is 'configMap', and must not be set otherwise",
    ),
    CelRule(
        "self.type == 'inline' ? has(self.inline) : !has(self.inline)",
        "inline must be set when type is 'inline', and must not be set otherwise",
    ),
)
class AuthzConfigRef(Struct):
    """Cedar policies, inline or from a ConfigMap."""

    type: Annotated[Literal["configMap", "inline"], Required()] = "configMap"
    """Where the policies are."""
    config_map: ConfigMapAuthzRef | None = None
    """The ConfigMap with the policies, for type configMap."""
    inline: InlineAuthzConfig | None = None
    """The policies themselves, for type inline."""
    group_claim_name: Annotated[str, ValueBounds(max_length=253)] | None = None
    """Token claim that lists the groups of a user."""
    role_claim_name: Annotated[str, ValueBounds(max_length=253)] | None = None
    """Token claim that lists the roles of a user."""
    group_entity_type: Annotated[str, ValueBounds(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=63)] | None = None
    """Cedar entity type that groups and roles are turned into."""
