"""Words of an MCPRemoteEndpoint's status."""

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


class MCPRemoteEndpointPhase(Word):
    """`status.phase` of an MCPRemoteEndpoint."""

    PENDING = "Pending", "Something does not exist yet: the group, a Secret's content, a proxy's Deployment."
    READY = "Ready", "Every check passed and status.url can be used."
    FAILED = "Failed", "Only the user can fix the problem, or no gateway can reach the server (BackendUnavailable)."
    TERMINATING = "Terminating", "Deletion is waiting for the finalizer."


class MCPRemoteEndpointCondition(Word):
    """Condition types of an MCPRemoteEndpoint."""

    READY = "Ready", "Summary of the other conditions; carries the reason of the first failing one."
    STALLED = STALLED_TYPE
    CONFIGURATION_VALID = "ConfigurationValid", "Whether the spec, judged on its own, can be served."
    GROUP_REF_VALID = "GroupRefValid", "Whether the group of spec.groupRef exists and is Ready."
    AUTH_CONFIG_VALID = "AuthConfigValid", "Whether the MCPExternalAuthConfig exists and is valid."
    CA_BUNDLE_VALID = "CABundleValid", "Whether the CA bundle exists and contains a certificate."
    HEADER_SECRETS_VALID = "HeaderSecretsValid", "Whether every Secret and key used by forwarded headers exists."
    TOOL_CONFIG_VALID = "ToolConfigValid", "Whether the MCPToolConfig of spec.toolConfigRef exists."
    OIDC_CONFIG_VALID = "OIDCConfigValid", "Whether the MCPOIDCConfig by which the proxy knows callers can be used."
    AUTHZ_CONFIG_VALID = "AuthzConfigValid", "Whether the policies of the proxy are there and can be read."
    TELEMETRY_CONFIG_VALID = "TelemetryConfigValid", "Whether the MCPTelemetryConfig of the proxy can be used."
    OBJECTS_APPLIED = OBJECTS_APPLIED_TYPE
    DEPLOYMENT_READY = DEPLOYMENT_READY_TYPE
    SESSION_STORAGE_WARNING = "SessionStorageWarning", "What several replicas of the proxy mean for sessions."
    CRD_OUTDATED = CRD_OUTDATED_TYPE


class MCPRemoteEndpointReason(Word):
    """Reasons of an MCPRemoteEndpoint's conditions."""

    ENDPOINT_READY = "EndpointReady", "Every check passed."
    BACKEND_UNAVAILABLE = (
        "BackendUnavailable",
        "Every VirtualMCPServer that serves the endpoint reports its circuit open; cleared when one recovers.",
    )
    CONFIGURATION_VALID = "ConfigurationValid", "The spec can be served."
    REMOTE_URL_INVALID = "RemoteURLInvalid", "The URL broke a rule; the message says which."
    UNSUPPORTED_AUTH_TYPE = (
        "UnsupportedAuthTypeForDirectMode",
        "A VirtualMCPServer cannot use an auth config of this type for a direct endpoint.",
    )
    RESTRICTED_HEADER = "RestrictedHeader", "A header is restricted or not legal in HTTP; the message names each."
    NAME_COLLISION = "NameCollision", "An older workload of another kind has the same name in the namespace."
    PROXY_MODE_NOT_SUPPORTED = (
        "ProxyModeNotSupported",
        "The type is proxy, and the operator runs another image than this project's gateway (dialect toolhive).",
    )
    PROXY_CONFIG_INVALID = PROXY_CONFIG_INVALID_REASON
    OIDC_CONFIG_VALID = "OIDCConfigValid", "The MCPOIDCConfig can be used."
    OIDC_CONFIG_NOT_FOUND = "OIDCConfigNotFound", "The MCPOIDCConfig does not exist."
    OIDC_CONFIG_INVALID = "OIDCConfigInvalid", "The MCPOIDCConfig, its Secret or its CA bundle cannot be used."
    AUTHZ_CONFIG_VALID = "AuthzConfigValid", "The policies can be used."
    AUTHZ_CONFIG_NOT_FOUND = "AuthzConfigNotFound", "The MCPAuthzConfig or the ConfigMap does not exist."
    AUTHZ_CONFIG_INVALID = "AuthzConfigInvalid", "The policies cannot be read or do not parse."
    TELEMETRY_CONFIG_VALID = "TelemetryConfigValid", "The MCPTelemetryConfig can be used."
    TELEMETRY_CONFIG_NOT_FOUND = "TelemetryConfigNotFound", "The MCPTelemetryConfig does not exist."
    TELEMETRY_CONFIG_INVALID = (
        "TelemetryConfigInvalid",
        "The MCPTelemetryConfig, a Secret or its CA bundle cannot be used.",
    )
    OBJECTS_APPLIED = OBJECTS_APPLIED_REASON
    FOREIGN_OBJECT = FOREIGN_OBJECT_REASON
    OBJECT_REFUSED = OBJECT_REFUSED_REASON
    CONTESTED = CONTESTED_REASON
    APPLY_FAILED = APPLY_FAILED_REASON
    SESSION_STORAGE_MISSING = (
        "SessionStorageMissing",
        "There are several replicas, and a session lives in one pod only; session affinity sends a client there.",
    )
    GROUP_REF_IS_VALID = "GroupRefIsValid", "The group exists and is Ready."
    GROUP_REF_NOT_FOUND = "GroupRefNotFound", "The group does not exist or is being deleted."
    GROUP_REF_NOT_READY = "GroupRefNotReady", "The group exists but its phase is not Ready."
    AUTH_CONFIG_VALID = "AuthConfigValid", "The MCPExternalAuthConfig exists and its Valid condition is not False."
    AUTH_CONFIG_NOT_FOUND = "AuthConfigNotFound", "The MCPExternalAuthConfig does not exist."
    AUTH_CONFIG_INVALID = (
        "AuthConfigInvalid",
        "The Valid condition of the MCPExternalAuthConfig is False, or a proxy lacks one of its Secrets.",
    )
    CA_BUNDLE_VALID = "CABundleValid", "The ConfigMap's key contains a certificate."
    CA_BUNDLE_NOT_FOUND = "CABundleRefNotFound", "The ConfigMap does not exist."
    CA_BUNDLE_KEY_NOT_FOUND = "CABundleKeyNotFound", "The ConfigMap has no such key."
    CA_BUNDLE_INVALID = "CABundleInvalid", "The key does not contain a PEM certificate."
    HEADER_SECRETS_VALID = "HeaderSecretsValid", "Every Secret and key exists."
    HEADER_SECRET_NOT_FOUND = "HeaderSecretNotFound", "A Secret or a key is missing; the message names each."
    TOOL_CONFIG_VALID = "ToolConfigValid", "The MCPToolConfig exists."
    TOOL_CONFIG_NOT_FOUND = "ToolConfigNotFound", "The MCPToolConfig does not exist."
    DEPLOYMENT_READY = DEPLOYMENT_READY_REASON
    DEPLOYMENT_NOT_READY = DEPLOYMENT_NOT_READY_REASON
    READ_FAILED = (
        "ReadFailed",
        "A referenced Secret or ConfigMap exists but could not be read; retried within a minute.",
    )
    STATUS_FIELDS_UNKNOWN = STATUS_FIELDS_UNKNOWN_REASON


_T, _R = MCPRemoteEndpointCondition, MCPRemoteEndpointReason

MCPREMOTEENDPOINT = KindVocabulary(
    kind="MCPRemoteEndpoint",
    phase=MCPRemoteEndpointPhase,
    types=_T,
    reasons=_R,
    rules=(
        ConditionRule(
            _T.READY,
            (_R.ENDPOINT_READY,),
            (_R.DEPLOYMENT_NOT_READY, _R.BACKEND_UNAVAILABLE),
            (_R.READ_FAILED,),
            mirrors="False",
        ),
        ConditionRule(_T.STALLED, presence=STALLED_PRESENCE, mirrors="True"),
        ConditionRule(
            _T.CONFIGURATION_VALID,
            (_R.CONFIGURATION_VALID,),
            (
                _R.REMOTE_URL_INVALID,
                _R.UNSUPPORTED_AUTH_TYPE,
                _R.RESTRICTED_HEADER,
                _R.NAME_COLLISION,
                _R.PROXY_MODE_NOT_SUPPORTED,
                _R.PROXY_CONFIG_INVALID,
            ),
        ),
        ConditionRule(_T.GROUP_REF_VALID, (_R.GROUP_REF_IS_VALID,), (_R.GROUP_REF_NOT_FOUND, _R.GROUP_REF_NOT_READY)),
        ConditionRule(
            _T.AUTH_CONFIG_VALID,
            (_R.AUTH_CONFIG_VALID,),
            (_R.AUTH_CONFIG_NOT_FOUND, _R.AUTH_CONFIG_INVALID),
            presence="only with externalAuthConfigRef",
        ),
        ConditionRule(
            _T.CA_BUNDLE_VALID,
            (_R.CA_BUNDLE_VALID,),
            (_R.CA_BUNDLE_NOT_FOUND, _R.CA_BUNDLE_KEY_NOT_FOUND, _R.CA_BUNDLE_INVALID),
            (_R.READ_FAILED,),
            presence="only with caBundleRef",
        ),
        ConditionRule(
            _T.HEADER_SECRETS_VALID,
            (_R.HEADER_SECRETS_VALID,),
            (_R.HEADER_SECRET_NOT_FOUND,),
            (_R.READ_FAILED,),
            presence="only with headers from Secrets",
        ),
        ConditionRule(
            _T.TOOL_CONFIG_VALID,
            (_R.TOOL_CONFIG_VALID,),
            (_R.TOOL_CONFIG_NOT_FOUND,),
            presence="only with toolConfigRef",
        ),
        ConditionRule(
            _T.OIDC_CONFIG_VALID,
            (_R.OIDC_CONFIG_VALID,),
            (_R.OIDC_CONFIG_NOT_FOUND, _R.OIDC_CONFIG_INVALID),
            presence="only with type proxy",
        ),
        ConditionRule(
            _T.AUTHZ_CONFIG_VALID,
            (_R.AUTHZ_CONFIG_VALID,),
            (_R.AUTHZ_CONFIG_NOT_FOUND, _R.AUTHZ_CONFIG_INVALID),
            (_R.READ_FAILED,),
            presence="only with policies of a proxy",
        ),
        ConditionRule(
            _T.TELEMETRY_CONFIG_VALID,
            (_R.TELEMETRY_CONFIG_VALID,),
            (_R.TELEMETRY_CONFIG_NOT_FOUND, _R.TELEMETRY_CONFIG_INVALID),
            presence="only with telemetryConfigRef of a proxy",
        ),
        ConditionRule(
            _T.OBJECTS_APPLIED,
            (_R.OBJECTS_APPLIED,),
            (_R.FOREIGN_OBJECT, _R.OBJECT_REFUSED, _R.CONTESTED, _R.APPLY_FAILED),
            presence="only with type proxy, once there is something to write",
        ),
        ConditionRule(
            _T.SESSION_STORAGE_WARNING,
            true=(_R.SESSION_STORAGE_MISSING,),
            presence="only with several replicas of a proxy",
        ),
        ConditionRule(
            _T.DEPLOYMENT_READY, (_R.DEPLOYMENT_READY,), (_R.DEPLOYMENT_NOT_READY,), presence="only with type proxy"
        ),
        ConditionRule(_T.CRD_OUTDATED, true=(_R.STATUS_FIELDS_UNKNOWN,), presence=CRD_OUTDATED_PRESENCE),
    ),
)
