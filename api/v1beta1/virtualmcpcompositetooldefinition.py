"""VirtualMCPCompositeToolDefinition: a composite tool that gateways share."""

from __future__ import annotations

from typing import Annotated, ClassVar

from api.common.markers import AGE, Column, Definition, OneOf, condition_column
from api.common.model import AtomicList, Conditions, CustomResource, Int64, SetList, Struct
from api.common.tools import CompositeTool


class VirtualMCPCompositeToolDefinitionSpec(CompositeTool):
    """The composite tool."""


class VirtualMCPCompositeToolDefinitionStatus(Struct):
    """Whether the definition can be used."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    validation_status: Annotated[str, OneOf("Valid", "Invalid", "Unknown")] | None = None
    """Outcome of the validation."""
    validation_errors: AtomicList[str] = ()
    """What is wrong with the definition."""
    referencing_virtual_servers: SetList[str] = ()
    """VirtualMCPServers that use the definition."""
    conditions: Conditions = ()
    """Aspects of the object's state."""


class VirtualMCPCompositeToolDefinition(CustomResource):
    """A composite tool that gateways share."""

    definition: ClassVar[Definition] = Definition(
        plural="virtualmcpcompositetooldefinitions",
        short_names=("vmcpctd", "compositetool"),
        columns=(
            Column("Workflow", ".spec.name"),
            Column("Status", ".status.validationStatus"),
            AGE,
            condition_column("Ready", "Ready"),
        ),
    )

    kind: str = "VirtualMCPCompositeToolDefinition"
    """Name of the kind."""
    spec: VirtualMCPCompositeToolDefinitionSpec
    """The composite tool."""
    status: VirtualMCPCompositeToolDefinitionStatus | None = None
    """Whether the definition can be used, written by the operator."""
