"""Words of an MCPExternalAuthConfig's status."""

from __future__ import annotations

from api.conditions.vocabulary import (
    CRD_OUTDATED_PRESENCE,
    CRD_OUTDATED_TYPE,
    STALLED_PRESENCE,
    STALLED_TYPE,
    STATUS_FIELDS_UNKNOWN_REASON,
    ConditionRule,
    KindVocabulary,
    Word,
)


class MCPExternalAuthConfigCondition(Word):
    """Condition types of an MCPExternalAuthConfig."""

    VALID = "Valid", "Whether the spec can be used as it stands."
    READY = "Ready", "The same as Valid, under the name that tools wait for."
    STALLED = STALLED_TYPE
    IDENTITY_SYNTHESIZED = (
        "IdentitySynthesized",
        "Whether an OAuth 2 upstream without user information makes the embedded server synthesize the identity.",
    )
    DELETION_BLOCKED = "DeletionBlocked", "Deletion is blocked because objects still refer to this configuration."
    CRD_OUTDATED = CRD_OUTDATED_TYPE


class MCPExternalAuthConfigReason(Word):
    """Reasons of an MCPExternalAuthConfig's conditions."""

    CONFIG_READY = "ConfigReady", "Every check passed."
    VALIDATION_SUCCEEDED = "ValidationSucceeded", "Every check passed."
    VALIDATION_FAILED = "ValidationFailed", "A check did not pass; the message says which."
    ENTERPRISE_REQUIRED = (
        "EnterpriseRequired",
        "The type is `obo`, which needs a handler that is not part of this build.",
    )
    INVALID_CONFIG = "InvalidConfig", "The section for the type is present but contradicts itself."
    OAUTH2_WITHOUT_USER_INFO = (
        "OAuth2UpstreamWithoutUserInfo",
        "At least one oauth2 upstream has neither userInfo nor identityFromToken.",
    )
    ALL_HAVE_USER_INFO = "AllUpstreamsHaveUserInfo", "Every upstream identifies the user."
    REFERENCED_BY_WORKLOADS = "ReferencedByWorkloads", "Objects refer to this configuration; the message names them."
    STATUS_FIELDS_UNKNOWN = STATUS_FIELDS_UNKNOWN_REASON


_T, _R = MCPExternalAuthConfigCondition, MCPExternalAuthConfigReason

MCPEXTERNALAUTHCONFIG = KindVocabulary(
    kind="MCPExternalAuthConfig",
    phase=None,
    types=_T,
    reasons=_R,
    rules=(
        ConditionRule(
            _T.VALID,
            (_R.VALIDATION_SUCCEEDED,),
            (_R.VALIDATION_FAILED, _R.ENTERPRISE_REQUIRED, _R.INVALID_CONFIG),
        ),
        ConditionRule(_T.READY, (_R.CONFIG_READY,), mirrors="False"),
        ConditionRule(_T.STALLED, presence=STALLED_PRESENCE, mirrors="True"),
        ConditionRule(
            _T.IDENTITY_SYNTHESIZED,
            (_R.OAUTH2_WITHOUT_USER_INFO,),
            (_R.ALL_HAVE_USER_INFO,),
            presence="only with type embeddedAuthServer",
        ),
        ConditionRule(
            _T.DELETION_BLOCKED,
            (_R.REFERENCED_BY_WORKLOADS,),
            presence="only while deletion is blocked",
        ),
        ConditionRule(_T.CRD_OUTDATED, true=(_R.STATUS_FIELDS_UNKNOWN,), presence=CRD_OUTDATED_PRESENCE),
    ),
)
