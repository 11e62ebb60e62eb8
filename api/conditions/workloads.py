"""Words of MCPServer and EmbeddingServer: kinds that other controllers run and this operator reads."""

from __future__ import annotations

from api.conditions.vocabulary import ConditionRule, KindVocabulary, Word


class MCPServerPhase(Word):
    """`status.phase` of an MCPServer."""

    PENDING = "Pending", "No pod runs yet."
    READY = "Ready", "A pod runs with all containers ready."
    FAILED = "Failed", "A pod failed or cannot be started."
    TERMINATING = "Terminating", "Deletion is waiting for the finalizer."
    STOPPED = "Stopped", "Scaled to zero."


class EmbeddingServerPhase(Word):
    """`status.phase` of an EmbeddingServer."""

    PENDING = "Pending", "No replica yet."
    DOWNLOADING = "Downloading", "Replicas run and download the model."
    READY = "Ready", "A replica is ready."
    FAILED = "Failed", "The spec cannot be deployed."
    TERMINATING = "Terminating", "Deletion is waiting for the finalizer."


class WorkloadCondition(Word):
    """Condition types of MCPServer and EmbeddingServer."""

    READY = "Ready", "Whether the workload serves."
    GROUP_REF_VALIDATED = "GroupRefValidated", "Whether the group of spec.groupRef exists and is Ready."
    TELEMETRY_CONFIG_REF_VALIDATED = "TelemetryConfigRefValidated", "Whether the MCPTelemetryConfig can be used."
    EXTERNAL_AUTH_CONFIG_VALIDATED = "ExternalAuthConfigValidated", "Whether the MCPExternalAuthConfig can be used."
    AUTH_SERVER_REF_VALIDATED = "AuthServerRefValidated", "Whether the embedded authorization server can be used."
    OIDC_CONFIG_REF_VALIDATED = "OIDCConfigRefValidated", "Whether the MCPOIDCConfig can be used."
    AUTHZ_CONFIG_REF_VALIDATED = "AuthzConfigRefValidated", "Whether the MCPAuthzConfig can be used."
    WEBHOOK_CONFIG_VALIDATED = "WebhookConfigValidated", "Whether the MCPWebhookConfig can be used."
    CA_BUNDLE_REF_VALIDATED = "CABundleRefValidated", "Whether the CA bundle of the OIDC configuration can be used."
    POD_TEMPLATE_VALID = "PodTemplateValid", "Whether spec.podTemplateSpec can be merged."
    SESSION_STORAGE_WARNING = "SessionStorageWarning", "Whether several replicas run without a shared session store."
    STDIO_REPLICA_CAPPED = "StdioReplicaCapped", "A stdio server runs at most one replica."
    RATE_LIMIT_CONFIG_VALID = "RateLimitConfigValid", "Whether spec.rateLimiting can be applied."
    AUTHZ_PRIMARY_UPSTREAM_IGNORED = (
        "AuthzPrimaryUpstreamProviderIgnored",
        "The deprecated primary upstream in the policies has no effect here.",
    )


class WorkloadReason(Word):
    """Reasons of the workload kinds' conditions."""

    READY = "Ready", "A pod is ready."
    NOT_READY = "NotReady", "No pod is ready."
    GROUP_REF_IS_VALID = "GroupRefIsValid", "The group exists and is Ready."
    GROUP_REF_NOT_FOUND = "GroupRefNotFound", "The group does not exist."
    GROUP_REF_NOT_READY = "GroupRefNotReady", "The group is not Ready."
    TELEMETRY_CONFIG_REF_VALID = "TelemetryConfigRefValid", "The MCPTelemetryConfig can be used."
    TELEMETRY_CONFIG_REF_NOT_FOUND = "TelemetryConfigRefNotFound", "The MCPTelemetryConfig does not exist."
    TELEMETRY_CONFIG_REF_INVALID = "TelemetryConfigRefInvalid", "The MCPTelemetryConfig is not valid."
    TELEMETRY_CONFIG_REF_ERROR = "TelemetryConfigRefError", "MCPServer: the MCPTelemetryConfig could not be used."
    EXTERNAL_AUTH_CONFIG_VALID = "ExternalAuthConfigValid", "The MCPExternalAuthConfig can be used."
    EXTERNAL_AUTH_CONFIG_NOT_FOUND = "ExternalAuthConfigNotFound", "The MCPExternalAuthConfig does not exist."
    EXTERNAL_AUTH_CONFIG_FETCH_ERROR = "ExternalAuthConfigFetchError", "The MCPExternalAuthConfig could not be read."
    MULTI_UPSTREAM_NOT_SUPPORTED = "MultiUpstreamNotSupported", "Several upstreams, where one is supported."
    INVALID_CONFIG = "InvalidConfig", "The configuration contradicts itself."
    AUTH_SERVER_REF_VALID = "AuthServerRefValid", "The embedded authorization server can be used."
    AUTH_SERVER_REF_INVALID_KIND = "AuthServerRefInvalidKind", "The reference's kind is not MCPExternalAuthConfig."
    AUTH_SERVER_REF_NOT_FOUND = "AuthServerRefNotFound", "The referenced object does not exist."
    AUTH_SERVER_REF_FETCH_ERROR = "AuthServerRefFetchError", "The referenced object could not be read."
    AUTH_SERVER_REF_INVALID_TYPE = "AuthServerRefInvalidType", "The type is not embeddedAuthServer."
    AUTH_SERVER_REF_INVALID_CONFIG = "AuthServerRefInvalidConfig", "The referenced object is not valid."
    OIDC_CONFIG_REF_VALID = "OIDCConfigRefValid", "The MCPOIDCConfig can be used."
    OIDC_CONFIG_REF_NOT_FOUND = "OIDCConfigRefNotFound", "The MCPOIDCConfig does not exist."
    OIDC_CONFIG_REF_NOT_VALID = "OIDCConfigRefNotValid", "The MCPOIDCConfig is not valid."
    AUTHZ_CONFIG_REF_VALID = "AuthzConfigRefValid", "The MCPAuthzConfig can be used."
    AUTHZ_CONFIG_REF_NOT_FOUND = "AuthzConfigRefNotFound", "The MCPAuthzConfig does not exist."
    AUTHZ_CONFIG_REF_NOT_VALID = "AuthzConfigRefNotValid", "The MCPAuthzConfig is not valid."
    WEBHOOK_CONFIG_VALID = "WebhookConfigValid", "The MCPWebhookConfig can be used."
    CA_BUNDLE_REF_VALID = "CABundleRefValid", "The CA bundle can be used."
    CA_BUNDLE_REF_NOT_FOUND = "CABundleRefNotFound", "The ConfigMap does not exist."
    CA_BUNDLE_REF_INVALID = "CABundleRefInvalid", "The key is missing, or the ConfigMap's name is too long."
    VALID_POD_TEMPLATE_SPEC = "ValidPodTemplateSpec", "The patch can be merged."
    INVALID_POD_TEMPLATE_SPEC = "InvalidPodTemplateSpec", "The patch cannot be merged."
    SESSION_STORAGE_MISSING = "SessionStorageMissingForReplicas", "Several replicas without a shared session store."
    SESSION_STORAGE_CONFIGURED = "SessionStorageConfigured", "The replicas share a session store."
    SESSION_STORAGE_NOT_APPLICABLE = "SessionStorageWarningNotApplicable", "There is at most one replica."
    STDIO_CAP = "StdioTransportCapAt1", "More than one replica was asked for."
    RATE_LIMIT_CONFIG_VALID = "RateLimitConfigValid", "The limits can be applied."
    PER_USER_REQUIRES_AUTH = "PerUserRequiresAuth", "Limits per user need authentication."
    RATE_LIMIT_NOT_APPLICABLE = "RateLimitNotApplicable", "There are no limits."
    PRIMARY_UPSTREAM_IGNORED = "PrimaryUpstreamProviderIgnored", "The deprecated field is set."


_T, _R = WorkloadCondition, WorkloadReason
_GROUP = ConditionRule(
    _T.GROUP_REF_VALIDATED,
    (_R.GROUP_REF_IS_VALID,),
    (_R.GROUP_REF_NOT_FOUND, _R.GROUP_REF_NOT_READY),
    presence="only with groupRef",
)
_OIDC = ConditionRule(
    _T.OIDC_CONFIG_REF_VALIDATED,
    (_R.OIDC_CONFIG_REF_VALID,),
    (_R.OIDC_CONFIG_REF_NOT_FOUND, _R.OIDC_CONFIG_REF_NOT_VALID),
)
_AUTHZ = ConditionRule(
    _T.AUTHZ_CONFIG_REF_VALIDATED,
    (_R.AUTHZ_CONFIG_REF_VALID,),
    (_R.AUTHZ_CONFIG_REF_NOT_FOUND, _R.AUTHZ_CONFIG_REF_NOT_VALID),
)
_EXTERNAL_AUTH = ConditionRule(
    _T.EXTERNAL_AUTH_CONFIG_VALIDATED,
    (_R.EXTERNAL_AUTH_CONFIG_VALID,),
    (
        _R.EXTERNAL_AUTH_CONFIG_NOT_FOUND,
        _R.EXTERNAL_AUTH_CONFIG_FETCH_ERROR,
        _R.MULTI_UPSTREAM_NOT_SUPPORTED,
        _R.INVALID_CONFIG,
    ),
    mirrors="False",
)
_AUTH_SERVER = ConditionRule(
    _T.AUTH_SERVER_REF_VALIDATED,
    (_R.AUTH_SERVER_REF_VALID,),
    (
        _R.AUTH_SERVER_REF_INVALID_KIND,
        _R.AUTH_SERVER_REF_NOT_FOUND,
        _R.AUTH_SERVER_REF_FETCH_ERROR,
        _R.AUTH_SERVER_REF_INVALID_TYPE,
        _R.AUTH_SERVER_REF_INVALID_CONFIG,
        _R.MULTI_UPSTREAM_NOT_SUPPORTED,
    ),
)
_CA = ConditionRule(
    _T.CA_BUNDLE_REF_VALIDATED, (_R.CA_BUNDLE_REF_VALID,), (_R.CA_BUNDLE_REF_NOT_FOUND, _R.CA_BUNDLE_REF_INVALID)
)
_POD_TEMPLATE = ConditionRule(_T.POD_TEMPLATE_VALID, (_R.VALID_POD_TEMPLATE_SPEC,), (_R.INVALID_POD_TEMPLATE_SPEC,))
_SESSIONS = ConditionRule(
    _T.SESSION_STORAGE_WARNING,
    (_R.SESSION_STORAGE_MISSING,),
    (_R.SESSION_STORAGE_CONFIGURED, _R.SESSION_STORAGE_NOT_APPLICABLE),
)
_PRIMARY = ConditionRule(_T.AUTHZ_PRIMARY_UPSTREAM_IGNORED, (_R.PRIMARY_UPSTREAM_IGNORED,))

MCPSERVER = KindVocabulary(
    kind="MCPServer",
    phase=MCPServerPhase,
    types=_T,
    reasons=_R,
    controlled=False,
    rules=(
        ConditionRule(_T.READY, (_R.READY,), (_R.NOT_READY,)),
        _GROUP,
        _OIDC,
        _AUTHZ,
        ConditionRule(
            _T.TELEMETRY_CONFIG_REF_VALIDATED,
            (_R.TELEMETRY_CONFIG_REF_VALID,),
            (_R.TELEMETRY_CONFIG_REF_NOT_FOUND, _R.TELEMETRY_CONFIG_REF_INVALID, _R.TELEMETRY_CONFIG_REF_ERROR),
        ),
        ConditionRule(_T.WEBHOOK_CONFIG_VALIDATED, (_R.WEBHOOK_CONFIG_VALID,)),
        _EXTERNAL_AUTH,
        _AUTH_SERVER,
        _CA,
        _POD_TEMPLATE,
        _SESSIONS,
        ConditionRule(_T.STDIO_REPLICA_CAPPED, (_R.STDIO_CAP,)),
        ConditionRule(
            _T.RATE_LIMIT_CONFIG_VALID,
            (_R.RATE_LIMIT_CONFIG_VALID, _R.RATE_LIMIT_NOT_APPLICABLE),
            (_R.PER_USER_REQUIRES_AUTH,),
        ),
        _PRIMARY,
    ),
)

EMBEDDINGSERVER = KindVocabulary(
    kind="EmbeddingServer",
    phase=EmbeddingServerPhase,
    types=_T,
    reasons=_R,
    controlled=False,
    rules=(ConditionRule(_T.READY, (_R.READY,), (_R.NOT_READY,)), _POD_TEMPLATE),
)
