"""The vocabulary of every kind's status: phases, condition types and reasons, each with the sentence that explains it.

`from api.conditions import MCPServerEntryCondition, MCPServerEntryReason, MCPServerEntryPhase` and so on per kind; the
members are plain strings on the wire. `VOCABULARIES` says which reason may stand in which condition; the table in
docs/reference/conditions.md is generated from it (`python -m hack.generate_conditions`).
"""

from api.conditions.configkinds import (
    MCPAUTHZCONFIG,
    MCPOIDCCONFIG,
    MCPTELEMETRYCONFIG,
    MCPTOOLCONFIG,
    VIRTUALMCPCOMPOSITETOOLDEFINITION,
    CompositeToolCondition,
    CompositeToolReason,
    CompositeToolValidationStatus,
    ConfigCondition,
    ConfigReason,
)
from api.conditions.mcpexternalauthconfig import (
    MCPEXTERNALAUTHCONFIG,
    MCPExternalAuthConfigCondition,
    MCPExternalAuthConfigReason,
)
from api.conditions.mcpgroup import MCPGROUP, MCPGroupCondition, MCPGroupPhase, MCPGroupReason
from api.conditions.mcpremoteendpoint import (
    MCPREMOTEENDPOINT,
    MCPRemoteEndpointCondition,
    MCPRemoteEndpointPhase,
    MCPRemoteEndpointReason,
)
from api.conditions.mcpremoteproxy import (
    MCPREMOTEPROXY,
    MCPRemoteProxyCondition,
    MCPRemoteProxyPhase,
    MCPRemoteProxyReason,
)
from api.conditions.mcpserverentry import (
    MCPSERVERENTRY,
    MCPServerEntryCondition,
    MCPServerEntryPhase,
    MCPServerEntryReason,
)
from api.conditions.names import named_condition_type
from api.conditions.virtualmcpserver import (
    VIRTUALMCPSERVER,
    MemberSkipReason,
    VirtualMCPServerCondition,
    VirtualMCPServerPhase,
    VirtualMCPServerReason,
)
from api.conditions.vocabulary import ConditionRule, KindVocabulary, Word
from api.conditions.workloads import (
    EMBEDDINGSERVER,
    MCPSERVER,
    EmbeddingServerPhase,
    MCPServerPhase,
    WorkloadCondition,
    WorkloadReason,
)

VOCABULARIES: tuple[KindVocabulary, ...] = (
    MCPGROUP,
    MCPSERVERENTRY,
    VIRTUALMCPSERVER,
    MCPEXTERNALAUTHCONFIG,
    MCPREMOTEENDPOINT,
    MCPREMOTEPROXY,
    MCPSERVER,
    MCPTOOLCONFIG,
    MCPOIDCCONFIG,
    MCPTELEMETRYCONFIG,
    MCPAUTHZCONFIG,
    VIRTUALMCPCOMPOSITETOOLDEFINITION,
    EMBEDDINGSERVER,
)
"""One per kind, the controlled ones first."""

__all__ = [
    "VOCABULARIES",
    "CompositeToolCondition",
    "CompositeToolReason",
    "CompositeToolValidationStatus",
    "ConditionRule",
    "ConfigCondition",
    "ConfigReason",
    "EmbeddingServerPhase",
    "KindVocabulary",
    "MCPExternalAuthConfigCondition",
    "MCPExternalAuthConfigReason",
    "MCPGroupCondition",
    "MCPGroupPhase",
    "MCPGroupReason",
    "MCPRemoteEndpointCondition",
    "MCPRemoteEndpointPhase",
    "MCPRemoteEndpointReason",
    "MCPRemoteProxyCondition",
    "MCPRemoteProxyPhase",
    "MCPRemoteProxyReason",
    "MCPServerEntryCondition",
    "MCPServerEntryPhase",
    "MCPServerEntryReason",
    "MCPServerPhase",
    "MemberSkipReason",
    "VirtualMCPServerCondition",
    "VirtualMCPServerPhase",
    "VirtualMCPServerReason",
    "Word",
    "WorkloadCondition",
    "WorkloadReason",
    "named_condition_type",
]
