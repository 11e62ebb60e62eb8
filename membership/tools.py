"""Which tools of a member are shown, and as what: what the gateway says, completed by MCPToolConfigs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from api.contract import ToolConfigRef, ToolOverride, WorkloadTools
from api.v1beta1.mcptoolconfig import MCPToolConfigSpec
from membership.member import Member

SpecOf = Callable[[str], MCPToolConfigSpec | None]
"""The spec of an MCPToolConfig; None where there is no usable one."""


def with_tool_config(tools: WorkloadTools, name: str, spec_of: SpecOf, *, keep_reference: bool) -> WorkloadTools:
    """Return the tools of a workload, completed by a tool config; what they say themselves wins, field by field.

    Args:
        tools: Of the workload.
        name: Of the tool config; "" for none.
        spec_of: Finds it.
        keep_reference: Show where the words come from. The stock gateway has nothing left to resolve.
    """
    spec = spec_of(name) if name else None
    if spec is None:
        return tools
    overrides: Mapping[str, ToolOverride] = {
        tool: ToolOverride.model_validate(
            override.model_dump(mode="json", by_alias=True, exclude_none=True), extra="ignore"
        )
        for tool, override in spec.tools_override.items()
    }
    # An override that only changes annotations is refused by the gateway; its tool keeps its own words.
    usable = {tool: override for tool, override in overrides.items() if override.name or override.description}
    return tools.model_copy(
        update={
            "filter": tools.filter or spec.tools_filter,
            "overrides": dict(sorted((usable | tools.overrides).items())),
            "tool_config_ref": (tools.tool_config_ref or ToolConfigRef(name=name)) if keep_reference else None,
        }
    )


def with_tools_of_members(
    given: Iterable[WorkloadTools], members: Iterable[Member], spec_of: SpecOf, *, keep_reference: bool
) -> tuple[WorkloadTools, ...]:
    """Return the tools of all workloads, completed by the members' own tool configs.

    Args:
        given: What the gateway says.
        members: The backends.
        spec_of: Finds a tool config.
        keep_reference: See `with_tool_config`.
    """
    by_name = {tools.workload: tools for tools in given}
    for member in members:
        if member.tool_config:
            tools = by_name.get(member.name) or WorkloadTools(workload=member.name)
            by_name[member.name] = with_tool_config(tools, member.tool_config, spec_of, keep_reference=keep_reference)
    return tuple(by_name.values())
