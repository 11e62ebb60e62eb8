"""Words of an MCPServerEntry's status."""

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


class MCPServerEntryPhase(Word):
    """`status.phase` of an MCPServerEntry."""

    VALID = "Valid", "Every check passed; the entry is a backend of the VirtualMCPServers of its group."
    PENDING = "Pending", "Nothing failed, but something could not be read yet; also the schema's default."
    FAILED = "Failed", "At least one check did not pass."


class MCPServerEntryCondition(Word):
    """Condition types of an MCPServerEntry."""

    VALID = "Valid", "Summary of all other conditions."
    READY = "Ready", "The same summary; carries the reason of the first failing condition."
    STALLED = STALLED_TYPE
    REMOTE_URL_VALIDATED = "RemoteURLValidated", "Whether spec.remoteUrl may be reached, judged by its text alone."
    GROUP_REF_VALIDATED = "GroupRefValidated", "Whether the group of spec.groupRef exists and is Ready."
    EXTERNAL_AUTH_CONFIG_VALIDATED = (
        "ExternalAuthConfigValidated",
        "Whether the MCPExternalAuthConfig of spec.externalAuthConfigRef exists.",
    )
    CA_BUNDLE_REF_VALIDATED = (
        "CABundleRefValidated",
        "Whether the ConfigMap of spec.caBundleRef exists and its key contains a certificate.",
    )
    HEADER_SECRET_REFS_VALIDATED = (
        "HeaderSecretRefsValidated",
        "Whether every Secret and key named in spec.headerForward.addHeadersFromSecret exists.",
    )
    HEADERS_VALIDATED = (
        "HeadersValidated",
        "Whether every header of spec.headerForward may be forwarded: a legal name and value, not a restricted header.",
    )
    CRD_OUTDATED = CRD_OUTDATED_TYPE


class MCPServerEntryReason(Word):
    """Reasons of an MCPServerEntry's conditions."""

    ENTRY_READY = "EntryReady", "All checks passed."
    CONFIG_VALID = "ConfigValid", "All checks passed."
    CONFIG_INVALID = "ConfigInvalid", "At least one check did not pass."
    NAME_COLLISION = (
        "NameCollision",
        "An older MCPServer, MCPRemoteProxy or MCPRemoteEndpoint has the same name in the namespace.",
    )
    REMOTE_URL_VALID = "RemoteURLValid", "The URL passed the rules."
    REMOTE_URL_INVALID = "RemoteURLInvalid", "The URL broke a rule; the message says which."
    GROUP_REF_IS_VALID = "GroupRefIsValid", "The group exists and is Ready."
    GROUP_REF_NOT_FOUND = "GroupRefNotFound", "The group does not exist or is being deleted."
    GROUP_REF_NOT_READY = "GroupRefNotReady", "The group exists but its phase is not Ready."
    AUTH_CONFIG_NOT_CONFIGURED = "AuthConfigNotConfigured", "spec.externalAuthConfigRef is not set."
    AUTH_CONFIG_VALID = "AuthConfigValid", "The MCPExternalAuthConfig exists."
    AUTH_CONFIG_NOT_FOUND = "AuthConfigNotFound", "The MCPExternalAuthConfig does not exist."
    CA_BUNDLE_REF_NOT_CONFIGURED = "CABundleRefNotConfigured", "spec.caBundleRef is not set."
    CA_BUNDLE_REF_VALID = "CABundleRefValid", "The ConfigMap exists and its key contains a certificate."
    CA_BUNDLE_REF_NOT_FOUND = "CABundleRefNotFound", "The ConfigMap, or its key, does not exist."
    CA_BUNDLE_REF_INVALID = "CABundleRefInvalid", "The key does not contain a PEM certificate."
    HEADER_SECRETS_VALID = "HeaderSecretsValid", "Every Secret and key exists."
    HEADER_SECRET_NOT_FOUND = "HeaderSecretNotFound", "A Secret or a key is missing; the message names each."
    HEADERS_VALID = "HeadersValid", "Every header may be forwarded."
    RESTRICTED_HEADER = "RestrictedHeader", "A header is one that only the gateway may set; the message names each."
    HEADER_INVALID = "HeaderInvalid", "A header name or a plaintext value is not legal in HTTP; the message names each."
    READ_FAILED = (
        "ReadFailed",
        "A referenced Secret or ConfigMap exists but could not be read; retried within a minute.",
    )
    STATUS_FIELDS_UNKNOWN = STATUS_FIELDS_UNKNOWN_REASON


_T, _R = MCPServerEntryCondition, MCPServerEntryReason

MCPSERVERENTRY = KindVocabulary(
    kind="MCPServerEntry",
    phase=MCPServerEntryPhase,
    types=_T,
    reasons=_R,
    rules=(
        ConditionRule(_T.VALID, (_R.CONFIG_VALID,), (_R.CONFIG_INVALID, _R.NAME_COLLISION), (_R.READ_FAILED,)),
        ConditionRule(_T.READY, (_R.ENTRY_READY,), unknown=(_R.READ_FAILED,), mirrors="False"),
        ConditionRule(_T.STALLED, presence=STALLED_PRESENCE, mirrors="True"),
        ConditionRule(_T.REMOTE_URL_VALIDATED, (_R.REMOTE_URL_VALID,), (_R.REMOTE_URL_INVALID,)),
        ConditionRule(
            _T.GROUP_REF_VALIDATED, (_R.GROUP_REF_IS_VALID,), (_R.GROUP_REF_NOT_FOUND, _R.GROUP_REF_NOT_READY)
        ),
        ConditionRule(
            _T.EXTERNAL_AUTH_CONFIG_VALIDATED,
            (_R.AUTH_CONFIG_NOT_CONFIGURED, _R.AUTH_CONFIG_VALID),
            (_R.AUTH_CONFIG_NOT_FOUND,),
        ),
        ConditionRule(
            _T.CA_BUNDLE_REF_VALIDATED,
            (_R.CA_BUNDLE_REF_NOT_CONFIGURED, _R.CA_BUNDLE_REF_VALID),
            (_R.CA_BUNDLE_REF_NOT_FOUND, _R.CA_BUNDLE_REF_INVALID),
            (_R.READ_FAILED,),
        ),
        ConditionRule(
            _T.HEADER_SECRET_REFS_VALIDATED,
            (_R.HEADER_SECRETS_VALID,),
            (_R.HEADER_SECRET_NOT_FOUND,),
            (_R.READ_FAILED,),
            presence="only with headers from Secrets",
        ),
        ConditionRule(
            _T.HEADERS_VALIDATED,
            (_R.HEADERS_VALID,),
            (_R.RESTRICTED_HEADER, _R.HEADER_INVALID),
            presence="only with spec.headerForward",
        ),
        ConditionRule(_T.CRD_OUTDATED, true=(_R.STATUS_FIELDS_UNKNOWN,), presence=CRD_OUTDATED_PRESENCE),
    ),
)
