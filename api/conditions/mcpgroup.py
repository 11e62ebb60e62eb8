"""Words of an MCPGroup's status."""

from __future__ import annotations

from api.conditions.vocabulary import (
    CRD_OUTDATED_PRESENCE,
    CRD_OUTDATED_TYPE,
    STATUS_FIELDS_UNKNOWN_REASON,
    ConditionRule,
    KindVocabulary,
    Word,
)


class MCPGroupPhase(Word):
    """`status.phase` of an MCPGroup."""

    READY = "Ready", "The members were listed, even if there are none. Their health does not matter."
    PENDING = "Pending", "Default of the schema until the first reconcile."
    FAILED = "Failed", "The members could not be listed; the member fields are empty."


class MCPGroupCondition(Word):
    """Condition types of an MCPGroup."""

    MEMBERS_CHECKED = "MCPServersChecked", "Whether the members of all kinds could be listed."
    READY = "Ready", "Whether members can join; true once they have been listed. Their health does not matter."
    STATUS_TRUNCATED = (
        "StatusTruncated",
        "The member lists in the status were cut because together they would exceed 256 KiB; the counts stay exact.",
    )
    CRD_OUTDATED = CRD_OUTDATED_TYPE


class MCPGroupReason(Word):
    """Reasons of an MCPGroup's conditions."""

    GROUP_READY = "GroupReady", "The members were listed."
    LIST_SUCCEEDED = "ListMCPServersCheckSucceeded", "The members of every kind were listed."
    LIST_FAILED = "ListMCPServersCheckFailed", "Listing the members of a kind failed; the message names the kind."
    TOO_MANY_MEMBERS = "TooManyMembers", "The names of all members do not fit into 256 KiB of status."
    STATUS_FIELDS_UNKNOWN = STATUS_FIELDS_UNKNOWN_REASON


MCPGROUP = KindVocabulary(
    kind="MCPGroup",
    phase=MCPGroupPhase,
    types=MCPGroupCondition,
    reasons=MCPGroupReason,
    rules=(
        ConditionRule(
            MCPGroupCondition.MEMBERS_CHECKED,
            true=(MCPGroupReason.LIST_SUCCEEDED,),
            false=(MCPGroupReason.LIST_FAILED,),
        ),
        ConditionRule(MCPGroupCondition.READY, true=(MCPGroupReason.GROUP_READY,)),
        ConditionRule(
            MCPGroupCondition.STATUS_TRUNCATED,
            true=(MCPGroupReason.TOO_MANY_MEMBERS,),
            presence="only while lists are cut",
        ),
        ConditionRule(
            MCPGroupCondition.CRD_OUTDATED, true=(MCPGroupReason.STATUS_FIELDS_UNKNOWN,), presence=CRD_OUTDATED_PRESENCE
        ),
    ),
)
