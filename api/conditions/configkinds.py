"""Words of the shared configuration kinds: tools, OIDC, telemetry, authorization, composite tools."""

from __future__ import annotations

from api.conditions.vocabulary import ConditionRule, KindVocabulary, Word


class ConfigCondition(Word):
    """Condition types of MCPToolConfig, MCPOIDCConfig, MCPTelemetryConfig and MCPAuthzConfig."""

    VALID = "Valid", "Whether the spec can be used as it stands."
    DELETION_BLOCKED = "DeletionBlocked", "Deletion is blocked because objects still refer to this configuration."


class ConfigReason(Word):
    """Reasons of the configuration kinds' conditions."""

    CONFIG_VALID = "ConfigValid", "MCPOIDCConfig, MCPAuthzConfig: every check passed."
    CONFIG_INVALID = "ConfigInvalid", "MCPOIDCConfig, MCPAuthzConfig: a check did not pass."
    VALIDATION_SUCCEEDED = "ValidationSucceeded", "MCPToolConfig, MCPTelemetryConfig: every check passed."
    VALIDATION_FAILED = "ValidationFailed", "MCPTelemetryConfig: a check did not pass."
    REFERENCED_BY_WORKLOADS = "ReferencedByWorkloads", "Objects refer to this configuration; the message names them."


class CompositeToolValidationStatus(Word):
    """`status.validationStatus` of a VirtualMCPCompositeToolDefinition."""

    VALID = "Valid", "Every check passed."
    INVALID = "Invalid", "A check did not pass; status.validationErrors names each."
    UNKNOWN = "Unknown", "Not checked yet."


class CompositeToolCondition(Word):
    """Condition types of a VirtualMCPCompositeToolDefinition."""

    READY = "Ready", "Whether the definition can be used."


class CompositeToolReason(Word):
    """Reasons of a VirtualMCPCompositeToolDefinition's conditions."""

    VALIDATION_SUCCEEDED = "ValidationSucceeded", "Every check passed."
    VALIDATION_FAILED = "ValidationFailed", "A check did not pass."


_T, _R = ConfigCondition, ConfigReason
_BLOCKED = ConditionRule(_T.DELETION_BLOCKED, (_R.REFERENCED_BY_WORKLOADS,), presence="only while deletion is blocked")
_CONFIG = ConditionRule(_T.VALID, (_R.CONFIG_VALID,), (_R.CONFIG_INVALID,))
_VALIDATION = ConditionRule(_T.VALID, (_R.VALIDATION_SUCCEEDED,), (_R.VALIDATION_FAILED,))


def _config_kind(kind: str, valid: ConditionRule) -> KindVocabulary:
    return KindVocabulary(kind=kind, phase=None, types=_T, reasons=_R, rules=(valid, _BLOCKED), controlled=False)


MCPTOOLCONFIG = _config_kind("MCPToolConfig", ConditionRule(_T.VALID, (_R.VALIDATION_SUCCEEDED,)))
MCPOIDCCONFIG = _config_kind("MCPOIDCConfig", _CONFIG)
MCPTELEMETRYCONFIG = _config_kind("MCPTelemetryConfig", _VALIDATION)
MCPAUTHZCONFIG = _config_kind("MCPAuthzConfig", _CONFIG)
VIRTUALMCPCOMPOSITETOOLDEFINITION = KindVocabulary(
    kind="VirtualMCPCompositeToolDefinition",
    phase=CompositeToolValidationStatus,
    types=CompositeToolCondition,
    reasons=CompositeToolReason,
    rules=(
        ConditionRule(
            CompositeToolCondition.READY,
            (CompositeToolReason.VALIDATION_SUCCEEDED,),
            (CompositeToolReason.VALIDATION_FAILED,),
        ),
    ),
    controlled=False,
)
