"""Words of an MCPRemoteProxy's status."""

from __future__ import annotations

from api.conditions.vocabulary import (
    APPLY_FAILED_REASON,
    CONTESTED_REASON,
    CRD_OUTDATED_PRESENCE,
    CRD_OUTDATED_TYPE,
    DEPLOYMENT_NOT_READY_REASON,
    DEPLOYMENT_READY_REASON,
    DEPLOYMENT_READY_TYPE,
    FOREIGN_OBJECT_REASON,
    OBJECT_REFUSED_REASON,
    OBJECTS_APPLIED_REASON,
    OBJECTS_APPLIED_TYPE,
    PROXY_CONFIG_INVALID_REASON,
    STALLED_PRESENCE,
    STALLED_TYPE,
    STATUS_FIELDS_UNKNOWN_REASON,
    ConditionRule,
    KindVocabulary,
    Word,
)


class MCPRemoteProxyPhase(Word):
    """`status.phase` of an MCPRemoteProxy."""

    PENDING = "Pending", "Something does not exist yet: a pod that is ready, a Secret's content."
    READY = "Ready", "A pod serves, and status.url can be used."
    FAILED = "Failed", "A check did not pass, and only the user can fix the problem."
    TERMINATING = "Terminating", "Deletion is waiting for a finalizer."


class MCPRemoteProxyCondition(Word):
    """Condition types of an MCPRemoteProxy."""

    READY = "Ready", "Summary of the other conditions; carries the reason of the first failing one."
    STALLED = STALLED_TYPE
    CONFIGURATION_VALID = "ConfigurationValid", "Whether the spec and what it refers to directly can be served."
    GROUP_REF_VALIDATED = "GroupRefValidated", "Whether the group of spec.groupRef exists and is Ready. Stops nothing."
    TOOL_CONFIG_VALIDATED = "ToolConfigValidated", "Whether the MCPToolConfig exists."
    TELEMETRY_CONFIG_REF_VALIDATED = "TelemetryConfigRefValidated", "Whether the MCPTelemetryConfig can be used."
    EXTERNAL_AUTH_CONFIG_VALIDATED = "ExternalAuthConfigValidated", "Whether the MCPExternalAuthConfig can be used."
    OIDC_CONFIG_REF_VALIDATED = "OIDCConfigRefValidated", "Whether the MCPOIDCConfig can be used."
    AUTHZ_CONFIG_REF_VALIDATED = "AuthzConfigRefValidated", "Whether the MCPAuthzConfig can be used."
    POD_TEMPLATE_VALID = "PodTemplateValid", "Whether spec.podTemplateSpec can be merged."
    OBJECTS_APPLIED = OBJECTS_APPLIED_TYPE
    DEPLOYMENT_READY = DEPLOYMENT_READY_TYPE
    SESSION_STORAGE_WARNING = "SessionStorageWarning", "Whether several replicas run without a shared session store."
    CRD_OUTDATED = CRD_OUTDATED_TYPE


class MCPRemoteProxyReason(Word):
    """Reasons of an MCPRemoteProxy's conditions."""

    DEPLOYMENT_READY = DEPLOYMENT_READY_REASON
    DEPLOYMENT_NOT_READY = DEPLOYMENT_NOT_READY_REASON
    CONFIGURATION_VALID = "ConfigurationValid", "The spec can be served."
    REMOTE_URL_INVALID = "RemoteURLInvalid", "The URL broke a rule; the message says which."
    RESTRICTED_HEADER = "RestrictedHeader", "A header is restricted or not legal in HTTP; the message names each."
    HEADER_SECRET_NOT_FOUND = (
        "HeaderSecretNotFound",
        "A Secret or a key of a header is missing; the message names each.",
    )
    AUTHZ_POLICY_SYNTAX_INVALID = "AuthzPolicySyntaxInvalid", "An inline policy does not parse."
    AUTHZ_CONFIG_MAP_NOT_FOUND = "AuthzConfigMapNotFound", "The ConfigMap with the policies does not exist."
    AUTHZ_CONFIG_MAP_INVALID = "AuthzConfigMapInvalid", "The ConfigMap's policies cannot be read or do not parse."
    NAME_COLLISION = "NameCollision", "An older workload of another kind has the same name in the namespace."
    PROXY_MODE_NOT_SUPPORTED = (
        "ProxyModeNotSupported",
        "The operator runs another image than this project's gateway (dialect toolhive).",
    )
    PROXY_CONFIG_INVALID = PROXY_CONFIG_INVALID_REASON
    GROUP_REF_IS_VALID = "GroupRefIsValid", "The group exists and is Ready."
    GROUP_REF_NOT_FOUND = "GroupRefNotFound", "The group does not exist or is being deleted."
    GROUP_REF_NOT_READY = "GroupRefNotReady", "The group exists but its phase is not Ready."
    TOOL_CONFIG_VALID = "ToolConfigValid", "The MCPToolConfig exists."
    TOOL_CONFIG_NOT_FOUND = "ToolConfigNotFound", "The MCPToolConfig does not exist."
    TELEMETRY_CONFIG_REF_VALID = "TelemetryConfigRefValid", "The MCPTelemetryConfig can be used."
    TELEMETRY_CONFIG_REF_NOT_FOUND = "TelemetryConfigRefNotFound", "The MCPTelemetryConfig does not exist."
    TELEMETRY_CONFIG_REF_INVALID = (
        "TelemetryConfigRefInvalid",
        "The MCPTelemetryConfig, a Secret or its CA bundle cannot be used.",
    )
    EXTERNAL_AUTH_CONFIG_VALID = "ExternalAuthConfigValid", "The MCPExternalAuthConfig can be used."
    EXTERNAL_AUTH_CONFIG_NOT_FOUND = "ExternalAuthConfigNotFound", "The MCPExternalAuthConfig does not exist."
    INVALID_CONFIG = "InvalidConfig", "The MCPExternalAuthConfig is not valid, or one of its Secrets is missing."
    OIDC_CONFIG_REF_VALID = "OIDCConfigRefValid", "The MCPOIDCConfig can be used."
    OIDC_CONFIG_REF_NOT_FOUND = "OIDCConfigRefNotFound", "The MCPOIDCConfig does not exist."
    OIDC_CONFIG_REF_NOT_VALID = (
        "OIDCConfigRefNotValid",
        "The MCPOIDCConfig, its Secret or its CA bundle cannot be used.",
    )
    AUTHZ_CONFIG_REF_VALID = "AuthzConfigRefValid", "The MCPAuthzConfig can be used."
    AUTHZ_CONFIG_REF_NOT_FOUND = "AuthzConfigRefNotFound", "The MCPAuthzConfig does not exist."
    AUTHZ_CONFIG_REF_NOT_VALID = "AuthzConfigRefNotValid", "The MCPAuthzConfig is not valid."
    VALID_POD_TEMPLATE_SPEC = "ValidPodTemplateSpec", "The patch can be merged."
    INVALID_POD_TEMPLATE_SPEC = "InvalidPodTemplateSpec", "The patch cannot be merged."
    OBJECTS_APPLIED = OBJECTS_APPLIED_REASON
    FOREIGN_OBJECT = FOREIGN_OBJECT_REASON
    OBJECT_REFUSED = OBJECT_REFUSED_REASON
    CONTESTED = CONTESTED_REASON
    APPLY_FAILED = APPLY_FAILED_REASON
    SESSION_STORAGE_MISSING = "SessionStorageMissingForReplicas", "Several replicas without a shared session store."
    SESSION_STORAGE_NOT_APPLICABLE = "SessionStorageWarningNotApplicable", "There is at most one replica."
    READ_FAILED = (
        "ReadFailed",
        "A referenced Secret or ConfigMap exists but could not be read; retried within a minute.",
    )
    STATUS_FIELDS_UNKNOWN = STATUS_FIELDS_UNKNOWN_REASON


_T, _R = MCPRemoteProxyCondition, MCPRemoteProxyReason

MCPREMOTEPROXY = KindVocabulary(
    kind="MCPRemoteProxy",
    phase=MCPRemoteProxyPhase,
    types=_T,
    reasons=_R,
    rules=(
        ConditionRule(_T.READY, (_R.DEPLOYMENT_READY,), (_R.DEPLOYMENT_NOT_READY,), (_R.READ_FAILED,), mirrors="False"),
        ConditionRule(_T.STALLED, presence=STALLED_PRESENCE, mirrors="True"),
        ConditionRule(
            _T.CONFIGURATION_VALID,
            (_R.CONFIGURATION_VALID,),
            (
                _R.REMOTE_URL_INVALID,
                _R.RESTRICTED_HEADER,
                _R.HEADER_SECRET_NOT_FOUND,
                _R.AUTHZ_POLICY_SYNTAX_INVALID,
                _R.AUTHZ_CONFIG_MAP_NOT_FOUND,
                _R.AUTHZ_CONFIG_MAP_INVALID,
                _R.EXTERNAL_AUTH_CONFIG_NOT_FOUND,
                _R.NAME_COLLISION,
                _R.PROXY_MODE_NOT_SUPPORTED,
                _R.PROXY_CONFIG_INVALID,
            ),
            (_R.READ_FAILED,),
        ),
        ConditionRule(
            _T.GROUP_REF_VALIDATED,
            (_R.GROUP_REF_IS_VALID,),
            (_R.GROUP_REF_NOT_FOUND, _R.GROUP_REF_NOT_READY),
            presence="only with groupRef",
        ),
        ConditionRule(
            _T.TOOL_CONFIG_VALIDATED,
            (_R.TOOL_CONFIG_VALID,),
            (_R.TOOL_CONFIG_NOT_FOUND,),
            presence="only with toolConfigRef",
        ),
        ConditionRule(
            _T.TELEMETRY_CONFIG_REF_VALIDATED,
            (_R.TELEMETRY_CONFIG_REF_VALID,),
            (_R.TELEMETRY_CONFIG_REF_NOT_FOUND, _R.TELEMETRY_CONFIG_REF_INVALID),
            presence="only with telemetryConfigRef",
        ),
        ConditionRule(
            _T.EXTERNAL_AUTH_CONFIG_VALIDATED,
            (_R.EXTERNAL_AUTH_CONFIG_VALID,),
            (_R.EXTERNAL_AUTH_CONFIG_NOT_FOUND, _R.INVALID_CONFIG),
            presence="only with externalAuthConfigRef",
        ),
        ConditionRule(
            _T.OIDC_CONFIG_REF_VALIDATED,
            (_R.OIDC_CONFIG_REF_VALID,),
            (_R.OIDC_CONFIG_REF_NOT_FOUND, _R.OIDC_CONFIG_REF_NOT_VALID),
            presence="only with oidcConfigRef",
        ),
        ConditionRule(
            _T.AUTHZ_CONFIG_REF_VALIDATED,
            (_R.AUTHZ_CONFIG_REF_VALID,),
            (_R.AUTHZ_CONFIG_REF_NOT_FOUND, _R.AUTHZ_CONFIG_REF_NOT_VALID),
            presence="only with authzConfigRef",
        ),
        ConditionRule(
            _T.POD_TEMPLATE_VALID,
            (_R.VALID_POD_TEMPLATE_SPEC,),
            (_R.INVALID_POD_TEMPLATE_SPEC,),
            presence="only with podTemplateSpec",
        ),
        ConditionRule(
            _T.OBJECTS_APPLIED,
            (_R.OBJECTS_APPLIED,),
            (_R.FOREIGN_OBJECT, _R.OBJECT_REFUSED, _R.CONTESTED, _R.APPLY_FAILED),
            presence="once there is something to write",
        ),
        ConditionRule(_T.DEPLOYMENT_READY, (_R.DEPLOYMENT_READY,), (_R.DEPLOYMENT_NOT_READY,)),
        ConditionRule(_T.SESSION_STORAGE_WARNING, (_R.SESSION_STORAGE_MISSING,), (_R.SESSION_STORAGE_NOT_APPLICABLE,)),
        ConditionRule(_T.CRD_OUTDATED, true=(_R.STATUS_FIELDS_UNKNOWN,), presence=CRD_OUTDATED_PRESENCE),
    ),
)
