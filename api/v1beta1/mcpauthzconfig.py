"""MCPAuthzConfig: an authorization policy that servers share."""

from __future__ import annotations

from typing import ClassVar

from api.common.markers import AGE, Column, Definition, condition_column
from api.common.model import Conditions, CustomResource, Int64, Struct
from api.common.references import NonEmpty
from api.common.tools import JSONObject


class MCPAuthzConfigSpec(Struct):
    """The policy."""

    type: NonEmpty
    """Language of the policy: cedarv1 or httpv1."""
    config: JSONObject
    """The policy document of that language."""


class MCPAuthzConfigStatus(Struct):
    """Whether the policy can be used."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    config_hash: str | None = None
    """Hash of the spec; changes when the policy does."""
    conditions: Conditions = ()
    """Aspects of the object's state."""


class MCPAuthzConfig(CustomResource):
    """An authorization policy that servers share."""

    definition: ClassVar[Definition] = Definition(
        plural="mcpauthzconfigs",
        short_names=("authzcfg",),
        columns=(Column("Type", ".spec.type"), condition_column("Valid", "Valid"), AGE),
    )

    kind: str = "MCPAuthzConfig"
    """Name of the kind."""
    spec: MCPAuthzConfigSpec
    """The policy."""
    status: MCPAuthzConfigStatus | None = None
    """Whether the policy can be used, written by the operator."""
