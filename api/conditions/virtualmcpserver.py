"""Words of a VirtualMCPServer's status.

Two programs write this status: the operator, and the running gateway (`writer="vmcp"` below). Each owns its own
conditions and never touches the other's.
"""

from __future__ import annotations

from api.conditions.vocabulary import (
    APPLY_FAILED_REASON,
    CONTESTED_REASON,
    CRD_OUTDATED_PRESENCE,
    CRD_OUTDATED_TYPE,
    FOREIGN_OBJECT_REASON,
    OBJECT_REFUSED_REASON,
    OBJECTS_APPLIED_REASON,
    STALLED_PRESENCE,
    STALLED_TYPE,
    STATUS_FIELDS_UNKNOWN_REASON,
    ConditionRule,
    KindVocabulary,
    Word,
)


class VirtualMCPServerPhase(Word):
    """`status.phase` of a VirtualMCPServer."""

    PENDING = "Pending", "Something does not exist yet: the group, pods, a first usable backend."
    READY = "Ready", "A pod is ready, and no backend is known to be down."
    DEGRADED = "Degraded", "A pod is ready, but the gateway reports backends that are down."
    FAILED = "Failed", "A reference or the spec must be fixed, or every pod failed."


class VirtualMCPServerCondition(Word):
    """Condition types of a VirtualMCPServer."""

    READY = "Ready", "Whether the gateway serves; follows the phase."
    STALLED = STALLED_TYPE
    VALID = "Valid", "Whether the spec passes the checks that the API server cannot make."
    POD_TEMPLATE_SPEC_VALID = (
        "PodTemplateSpecValid",
        "Whether spec.podTemplateSpec can be merged into the pod template.",
    )
    GROUP_REF_VALIDATED = "GroupRefValidated", "Whether the group of spec.groupRef exists and is Ready."
    COMPOSITE_TOOL_REFS_VALIDATED = (
        "CompositeToolRefsValidated",
        "Whether every definition of spec.config.compositeToolRefs exists and is valid.",
    )
    EMBEDDING_SERVER_READY = "EmbeddingServerReady", "Whether the server of spec.embeddingServerRef can be used."
    AUTH_SERVER_CONFIG_VALIDATED = "AuthServerConfigValidated", "Whether spec.authServerConfig can be used."
    IDENTITY_SYNTHESIZED = (
        "IdentitySynthesized",
        "Advice: an upstream of spec.authServerConfig has no user information.",
    )
    AUTHZ_UPSTREAM_SELECTION_WARNING = (
        "AuthzUpstreamSelectionWarning",
        "Advice: authorization uses the first of several upstreams.",
    )
    SESSION_STORAGE_WARNING = (
        "SessionStorageWarning",
        "Whether several replicas run without a shared session store.",
    )
    OIDC_CONFIG_REF_VALIDATED = "OIDCConfigRefValidated", "Whether the MCPOIDCConfig exists and is valid."
    AUTHZ_CONFIG_REF_VALIDATED = "AuthzConfigRefValidated", "Whether the MCPAuthzConfig exists, is Cedar and parses."
    TELEMETRY_CONFIG_REF_VALIDATED = (
        "TelemetryConfigRefValidated",
        "Whether the MCPTelemetryConfig exists and is valid.",
    )
    TOOL_CONFIG_REFS_VALIDATED = (
        "ToolConfigRefsValidated",
        "Whether every MCPToolConfig of spec.config.aggregation.tools exists.",
    )
    AUTH_CONFIGURED = "AuthConfigured", "Whether the Secrets and policies of incoming authentication are usable."
    DEFAULT_AUTH_CONFIG = "DefaultAuthConfig", "Whether spec.outgoingAuth.default could be converted to a strategy."
    BACKEND_AUTH_CONFIG = (
        "BackendAuthConfig",
        "Whether spec.outgoingAuth.backends.<name> could be converted to a strategy.",
    )
    DISCOVERED_AUTH_CONFIG = (
        "DiscoveredAuthConfig",
        "Whether the member's externalAuthConfigRef could be converted to a strategy.",
    )
    BACKENDS_INCLUDED = "BackendsIncluded", "Whether every member of the group is a backend."
    CONFIG_PUBLISHED = "ConfigPublished", "Whether the gateway's configuration could be written."
    OBJECTS_APPLIED = "ObjectsApplied", "Whether the generated objects could be written."
    ROLLED_OUT = "RolledOut", "Whether every pod runs the current pod template."
    DIALECT_VALIDATED = "DialectValidated", "Whether the dialect annotation names a dialect."
    STATUS_TRUNCATED = "StatusTruncated", "Lists or conditions in the status were cut at 256 KiB; counts stay exact."
    BACKENDS_DISCOVERED = "BackendsDiscovered", "The gateway knows its backends."
    DEGRADED = "Degraded", "The gateway reports backends that are down; the message names them."
    BACKENDS_REPORTED = "BackendsReported", "Whether the status of the backends is up to date."
    CRD_OUTDATED = CRD_OUTDATED_TYPE


class VirtualMCPServerReason(Word):
    """Reasons of a VirtualMCPServer's conditions."""

    DEPLOYMENT_READY = "DeploymentReady", "A pod is ready and no backend is known to be unhealthy."
    DEPLOYMENT_NOT_READY = "DeploymentNotReady", "No pod is ready yet."
    DEPLOYMENT_FAILED = "DeploymentFailed", "Every pod failed."
    BACKENDS_UNAVAILABLE = "BackendsUnavailable", "The gateway reports that no backend can be used."
    BACKENDS_DEGRADED = "BackendsDegraded", "The gateway reports that some backends cannot be used."
    BACKENDS_UNKNOWN = "BackendsUnknown", "The gateway has not checked its backends yet."
    VALIDATION_SUCCEEDED = "ValidationSucceeded", "Every check of the spec passed."
    VALIDATION_FAILED = "ValidationFailed", "A check of the spec did not pass; the message names each."
    POD_TEMPLATE_SPEC_VALID = "PodTemplateSpecValid", "The patch is a pod template and could be merged."
    POD_TEMPLATE_RESTRICTED = (
        "PodTemplateRestricted",
        "The pod template or service account asks for more than `--restrict-pod-templates` allows.",
    )
    INVALID_POD_TEMPLATE_SPEC = "InvalidPodTemplateSpec", "The patch is not a pod template or cannot be merged."
    GROUP_REF_VALID = "GroupRefValid", "The group exists and is Ready."
    GROUP_REF_NOT_FOUND = "GroupRefNotFound", "The group does not exist or is being deleted."
    GROUP_REF_NOT_READY = "GroupRefNotReady", "The group exists but its phase is not Ready."
    COMPOSITE_TOOL_REFS_VALID = "CompositeToolRefsValid", "Every definition exists and is valid, or there are none."
    COMPOSITE_TOOL_REF_NOT_FOUND = "CompositeToolRefNotFound", "A definition does not exist."
    COMPOSITE_TOOL_REF_INVALID = "CompositeToolRefInvalid", "A definition breaks a rule; the message names each."
    EMBEDDING_SERVER_READY = "EmbeddingServerReady", "The embedding server is Ready."
    EMBEDDING_SERVER_NOT_FOUND = "EmbeddingServerNotFound", "The embedding server does not exist."
    EMBEDDING_SERVER_NOT_READY = "EmbeddingServerNotReady", "The embedding server is not Ready yet."
    NOT_SUPPORTED = "NotSupported", "This build does not support the field."
    AUTH_SERVER_CONFIG_VALID = "AuthServerConfigValid", "The embedded authorization server can be configured."
    AUTH_SERVER_CONFIG_INVALID = "AuthServerConfigInvalid", "spec.authServerConfig breaks a rule."
    AUTHZ_REQUIRES_UPSTREAM = "AuthzRequiresUpstream", "Authorization needs an upstream provider."
    AUTHZ_UPSTREAM_UNKNOWN = "AuthzUpstreamUnknown", "The primary upstream is not one of the providers."
    AUTHZ_PRIMARY_REQUIRES_AUTH_SERVER = (
        "AuthzPrimaryProviderRequiresAuthServer",
        "A primary upstream is named without spec.authServerConfig.",
    )
    OAUTH2_WITHOUT_USER_INFO = "OAuth2UpstreamWithoutUserInfo", "An oauth2 upstream has no user information."
    ALL_HAVE_USER_INFO = "AllUpstreamsHaveUserInfo", "Every upstream identifies the user."
    AUTHZ_UPSTREAM_AUTO_SELECTED = "AuthzUpstreamAutoSelected", "The first of several upstreams was selected."
    SESSION_STORAGE_MISSING = (
        "SessionStorageMissingForReplicas",
        "More than one replica without Redis: a session lives in one pod only.",
    )
    SESSION_STORAGE_CONFIGURED = "SessionStorageConfigured", "The replicas share a session store."
    SESSION_STORAGE_NOT_APPLICABLE = "SessionStorageWarningNotApplicable", "There is at most one replica."
    OIDC_CONFIG_REF_VALID = "OIDCConfigRefValid", "The MCPOIDCConfig can be used."
    OIDC_CONFIG_REF_NOT_FOUND = "OIDCConfigRefNotFound", "The MCPOIDCConfig does not exist."
    OIDC_CONFIG_REF_NOT_VALID = "OIDCConfigRefNotValid", "The MCPOIDCConfig is not valid."
    AUTHZ_CONFIG_REF_VALID = "AuthzConfigRefValid", "The MCPAuthzConfig can be used."
    AUTHZ_CONFIG_REF_NOT_FOUND = "AuthzConfigRefNotFound", "The MCPAuthzConfig does not exist."
    AUTHZ_CONFIG_REF_NOT_VALID = "AuthzConfigRefNotValid", "The MCPAuthzConfig is not valid, or is not Cedar."
    TELEMETRY_CONFIG_REF_VALID = "TelemetryConfigRefValid", "The MCPTelemetryConfig can be used."
    TELEMETRY_CONFIG_REF_FETCH_ERROR = "TelemetryConfigRefFetchError", "The MCPTelemetryConfig could not be read."
    TELEMETRY_CONFIG_REF_NOT_FOUND = "TelemetryConfigRefNotFound", "The MCPTelemetryConfig does not exist."
    TELEMETRY_CONFIG_REF_INVALID = "TelemetryConfigRefInvalid", "The MCPTelemetryConfig is not valid."
    TOOL_CONFIG_REFS_VALID = "ToolConfigRefsValid", "Every MCPToolConfig exists."
    TOOL_CONFIG_REF_NOT_FOUND = "ToolConfigRefNotFound", "An MCPToolConfig does not exist; the message names each."
    AUTH_VALID = "AuthValid", "Incoming authentication can be configured."
    AUTH_INVALID = "AuthInvalid", "A Secret or a key that incoming authentication needs is missing."
    AUTHZ_CONFIG_MAP_NOT_FOUND = "AuthzConfigMapNotFound", "The ConfigMap with the policies does not exist."
    AUTHZ_CONFIG_MAP_INVALID = "AuthzConfigMapInvalid", "The ConfigMap's policies do not parse as Cedar."
    CONVERSION_SUCCEEDED = "ConversionSucceeded", "The MCPExternalAuthConfig was converted to a strategy."
    CONVERSION_FAILED = "ConversionFailed", "The MCPExternalAuthConfig does not exist, or its type has no strategy."
    INVALID_EXTERNAL_AUTH_CONFIG = "InvalidExternalAuthConfig", "The MCPExternalAuthConfig is not valid."
    ENTERPRISE_REQUIRED = "EnterpriseRequired", "The MCPExternalAuthConfig's type is `obo`, not part of this build."
    AMBIGUOUS_SUBJECT_PROVIDER = "AmbiguousSubjectProvider", "xaa with several upstreams and none chosen."
    ALL_MEMBERS_INCLUDED = (
        "AllMembersIncluded",
        "Every member of the group is a backend, apart from those created in the last 10 s and not checked yet.",
    )
    MEMBERS_SKIPPED = (
        "MembersSkipped",
        "Some members cannot be used; the message gives their number and the first ten with reasons.",
    )
    CONFIG_WRITTEN = "ConfigWritten", "The configuration was written."
    CONFIG_COMPRESSED = "ConfigCompressed", "The configuration was compressed because it is longer than 900 KiB."
    CONFIG_TOO_LARGE = (
        "ConfigTooLarge",
        "The configuration does not fit into a ConfigMap, even without members; the previous one is kept.",
    )
    CONFIG_INVALID = (
        "ConfigInvalid",
        "The configuration breaks a rule of the gateway; the message names every violation.",
    )
    NO_USABLE_BACKENDS = (
        "NoUsableBackends",
        "The stock gateway refuses a static configuration without backends; the previous one is kept.",
    )
    OBJECTS_APPLIED = OBJECTS_APPLIED_REASON
    OBJECT_REFUSED = OBJECT_REFUSED_REASON
    FOREIGN_OBJECT = FOREIGN_OBJECT_REASON
    CONTESTED = CONTESTED_REASON
    APPLY_FAILED = APPLY_FAILED_REASON
    READ_FAILED = (
        "ReadFailed",
        "Something required could not be read for now, so nothing was written; retried soon.",
    )
    ROLLOUT_COMPLETE = "RolloutComplete", "Every pod runs the current pod template."
    ROLLOUT_IN_PROGRESS = "RolloutInProgress", "Pods are being replaced, or are about to be."
    ROLLOUT_STALLED = (
        "RolloutStalled",
        "New pods cannot start or be created; the message says why. Pods with the previous template keep serving.",
    )
    HMAC_SECRET_INVALID = (
        "HMACSecretInvalid",
        "The session Secret does not contain 32 bytes in base64, or they are all zero.",
    )
    UNKNOWN_DIALECT = "UnknownDialect", "The annotation names an unknown dialect; the manager's default is used."
    STATUS_TOO_LARGE = "StatusTooLarge", "The status would exceed 256 KiB."
    BACKENDS_DISCOVERED = "BackendsDiscovered", "The gateway knows its backends."
    REPORT_TRUNCATED = (
        "ReportTruncated",
        "The gateway knows its backends, but their list would exceed 256 KiB: some are shortened or left out.",
    )
    REPORT_CURRENT = "ReportCurrent", "The gateway reports, at least every five minutes."
    REPORTER_GONE = "ReporterGone", "No gateway pod is ready: the last report may be out of date."
    REPORT_OVERDUE = (
        "ReportOverdue",
        "Pods are ready, but the last report is older than seven minutes; phase and Ready ignore it.",
    )
    ALL_BACKENDS_ROUTABLE = "AllBackendsRoutable", "Stock gateway: every backend can be used."
    SOME_BACKENDS_UNHEALTHY = "SomeBackendsUnhealthy", "Stock gateway: some backends cannot be used."
    NO_ROUTABLE_BACKENDS = "NoRoutableBackends", "Stock gateway: no backend can be used."
    BACKENDS_PENDING = "BackendsPending", "Stock gateway: the backends have not been checked yet."
    BACKENDS_UNHEALTHY = "BackendsUnhealthy", "Stock gateway: every backend is unhealthy."
    STATUS_FIELDS_UNKNOWN = STATUS_FIELDS_UNKNOWN_REASON


class MemberSkipReason(Word):
    """Why a member of the group is not a backend; appears in the message of `BackendsIncluded`."""

    NOT_VALID = "NotValid", "The member failed its own checks."
    NO_URL = "NoURL", "The member has no URL yet."
    INVALID_URL = "InvalidURL", "The member's URL broke a rule."
    UNSUPPORTED_TRANSPORT = "UnsupportedTransport", "The gateway does not support the member's transport."
    SECRET_NOT_FOUND = "SecretNotFound", "A Secret or key that the member's headers or auth need is missing."
    CA_BUNDLE_NOT_FOUND = "CABundleNotFound", "The member's CA bundle or its key is missing."
    RESTRICTED_HEADER = "RestrictedHeader", "The member forwards a header that is restricted or not legal."
    NOT_SUPPORTED = "NotSupported", "The stock gateway does not know this kind when it watches the group itself."
    AUTH_CONFIG_FAILED = "AuthConfigFailed", "The member's auth config could not be converted to a strategy."
    NAME_COLLISION = "NameCollision", "An older member of another kind has the same name."
    TOO_LARGE = "ConfigTooLarge", "The configuration does not fit into a ConfigMap; the largest members are left out."
    IDENTIFIER_COLLISION = (
        "IdentifierCollision",
        "The stock gateway would give this member and another the same environment variables.",
    )


_T, _R = VirtualMCPServerCondition, VirtualMCPServerReason
_CONVERSION = (
    _R.CONVERSION_FAILED,
    _R.INVALID_EXTERNAL_AUTH_CONFIG,
    _R.ENTERPRISE_REQUIRED,
    _R.AMBIGUOUS_SUBJECT_PROVIDER,
)

VIRTUALMCPSERVER = KindVocabulary(
    kind="VirtualMCPServer",
    phase=VirtualMCPServerPhase,
    types=_T,
    reasons=_R,
    rules=(
        ConditionRule(
            _T.READY,
            (_R.DEPLOYMENT_READY, _R.ALL_BACKENDS_ROUTABLE),
            (
                _R.DEPLOYMENT_NOT_READY,
                _R.DEPLOYMENT_FAILED,
                _R.BACKENDS_UNAVAILABLE,
                _R.BACKENDS_DEGRADED,
                _R.BACKENDS_UNKNOWN,
                _R.AUTH_SERVER_CONFIG_INVALID,
                _R.SOME_BACKENDS_UNHEALTHY,
                _R.NO_ROUTABLE_BACKENDS,
                _R.BACKENDS_PENDING,
                _R.BACKENDS_UNHEALTHY,
            ),
            mirrors="False",
        ),
        ConditionRule(_T.STALLED, presence=STALLED_PRESENCE, mirrors="True"),
        ConditionRule(_T.VALID, (_R.VALIDATION_SUCCEEDED,), (_R.VALIDATION_FAILED,)),
        ConditionRule(
            _T.POD_TEMPLATE_SPEC_VALID,
            (_R.POD_TEMPLATE_SPEC_VALID,),
            (_R.INVALID_POD_TEMPLATE_SPEC, _R.POD_TEMPLATE_RESTRICTED),
            presence="only with podTemplateSpec, or with a serviceAccount that is not allowed",
        ),
        ConditionRule(_T.GROUP_REF_VALIDATED, (_R.GROUP_REF_VALID,), (_R.GROUP_REF_NOT_FOUND, _R.GROUP_REF_NOT_READY)),
        ConditionRule(
            _T.COMPOSITE_TOOL_REFS_VALIDATED,
            (_R.COMPOSITE_TOOL_REFS_VALID,),
            (_R.COMPOSITE_TOOL_REF_NOT_FOUND, _R.COMPOSITE_TOOL_REF_INVALID),
        ),
        ConditionRule(
            _T.EMBEDDING_SERVER_READY,
            (_R.EMBEDDING_SERVER_READY,),
            (_R.EMBEDDING_SERVER_NOT_FOUND, _R.EMBEDDING_SERVER_NOT_READY, _R.NOT_SUPPORTED),
            presence="only with embeddingServerRef",
        ),
        ConditionRule(
            _T.AUTH_SERVER_CONFIG_VALIDATED,
            (_R.AUTH_SERVER_CONFIG_VALID,),
            (
                _R.AUTH_SERVER_CONFIG_INVALID,
                _R.AUTHZ_REQUIRES_UPSTREAM,
                _R.AUTHZ_UPSTREAM_UNKNOWN,
                _R.AUTHZ_PRIMARY_REQUIRES_AUTH_SERVER,
                _R.NOT_SUPPORTED,
            ),
            presence="only with authServerConfig, or a primary upstream without it",
        ),
        ConditionRule(
            _T.IDENTITY_SYNTHESIZED,
            (_R.OAUTH2_WITHOUT_USER_INFO,),
            (_R.ALL_HAVE_USER_INFO,),
            presence="only with authServerConfig",
        ),
        ConditionRule(
            _T.AUTHZ_UPSTREAM_SELECTION_WARNING,
            (_R.AUTHZ_UPSTREAM_AUTO_SELECTED,),
            presence="only with authorization, several upstreams and none chosen",
        ),
        ConditionRule(
            _T.SESSION_STORAGE_WARNING,
            (_R.SESSION_STORAGE_MISSING,),
            (_R.SESSION_STORAGE_CONFIGURED, _R.SESSION_STORAGE_NOT_APPLICABLE),
        ),
        ConditionRule(
            _T.OIDC_CONFIG_REF_VALIDATED,
            (_R.OIDC_CONFIG_REF_VALID,),
            (_R.OIDC_CONFIG_REF_NOT_FOUND, _R.OIDC_CONFIG_REF_NOT_VALID),
            presence="only with incomingAuth.oidcConfigRef",
        ),
        ConditionRule(
            _T.AUTHZ_CONFIG_REF_VALIDATED,
            (_R.AUTHZ_CONFIG_REF_VALID,),
            (_R.AUTHZ_CONFIG_REF_NOT_FOUND, _R.AUTHZ_CONFIG_REF_NOT_VALID),
            presence="only with incomingAuth.authzConfigRef",
        ),
        ConditionRule(
            _T.TELEMETRY_CONFIG_REF_VALIDATED,
            (_R.TELEMETRY_CONFIG_REF_VALID,),
            (
                _R.TELEMETRY_CONFIG_REF_FETCH_ERROR,
                _R.TELEMETRY_CONFIG_REF_NOT_FOUND,
                _R.TELEMETRY_CONFIG_REF_INVALID,
            ),
            presence="only with telemetryConfigRef",
        ),
        ConditionRule(
            _T.TOOL_CONFIG_REFS_VALIDATED,
            (_R.TOOL_CONFIG_REFS_VALID,),
            (_R.TOOL_CONFIG_REF_NOT_FOUND,),
            presence="only with toolConfigRef in config.aggregation.tools",
        ),
        ConditionRule(
            _T.AUTH_CONFIGURED,
            (_R.AUTH_VALID,),
            (_R.AUTH_INVALID, _R.AUTHZ_CONFIG_MAP_NOT_FOUND, _R.AUTHZ_CONFIG_MAP_INVALID),
        ),
        ConditionRule(
            _T.DEFAULT_AUTH_CONFIG,
            (_R.CONVERSION_SUCCEEDED,),
            _CONVERSION,
            presence="only with outgoingAuth.default.externalAuthConfigRef",
            mirrors="False",
        ),
        ConditionRule(
            _T.BACKEND_AUTH_CONFIG,
            (_R.CONVERSION_SUCCEEDED,),
            _CONVERSION,
            presence="one per key of outgoingAuth.backends with an externalAuthConfigRef",
            family=True,
            mirrors="False",
        ),
        ConditionRule(
            _T.DISCOVERED_AUTH_CONFIG,
            (_R.CONVERSION_SUCCEEDED,),
            _CONVERSION,
            presence="one per member of the group with an externalAuthConfigRef",
            family=True,
            mirrors="False",
        ),
        ConditionRule(_T.BACKENDS_INCLUDED, (_R.ALL_MEMBERS_INCLUDED,), (_R.MEMBERS_SKIPPED,)),
        ConditionRule(
            _T.CONFIG_PUBLISHED,
            (_R.CONFIG_WRITTEN, _R.CONFIG_COMPRESSED),
            (_R.CONFIG_TOO_LARGE, _R.CONFIG_INVALID, _R.NO_USABLE_BACKENDS),
        ),
        ConditionRule(
            _T.OBJECTS_APPLIED,
            (_R.OBJECTS_APPLIED,),
            (
                _R.OBJECT_REFUSED,
                _R.FOREIGN_OBJECT,
                _R.HMAC_SECRET_INVALID,
                _R.CONTESTED,
                _R.APPLY_FAILED,
                _R.READ_FAILED,
            ),
        ),
        ConditionRule(
            _T.ROLLED_OUT,
            (_R.ROLLOUT_COMPLETE,),
            (_R.ROLLOUT_IN_PROGRESS, _R.ROLLOUT_STALLED),
            presence="once there is a Deployment",
        ),
        ConditionRule(
            _T.DIALECT_VALIDATED, false=(_R.UNKNOWN_DIALECT,), presence="only while the annotation names no dialect"
        ),
        ConditionRule(_T.STATUS_TRUNCATED, (_R.STATUS_TOO_LARGE,), presence="only while something is cut"),
        ConditionRule(
            _T.BACKENDS_DISCOVERED,
            (_R.BACKENDS_DISCOVERED, _R.REPORT_TRUNCATED),
            presence="once a gateway has reported",
            writer="vmcp",
        ),
        ConditionRule(_T.DEGRADED, (_R.BACKENDS_DEGRADED,), presence="only while backends are down", writer="vmcp"),
        ConditionRule(
            _T.BACKENDS_REPORTED,
            (_R.REPORT_CURRENT,),
            (_R.REPORTER_GONE, _R.REPORT_OVERDUE),
            presence="once a gateway of this project has reported",
        ),
        ConditionRule(_T.CRD_OUTDATED, true=(_R.STATUS_FIELDS_UNKNOWN,), presence=CRD_OUTDATED_PRESENCE),
    ),
)
