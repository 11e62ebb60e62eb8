"""What the spec refers to about tools: MCPToolConfigs and VirtualMCPCompositeToolDefinitions."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from api.common.vmcp_config import VirtualMCPConfig
from api.conditions import VirtualMCPServerCondition as T
from api.conditions import VirtualMCPServerReason as R
from api.contract import CompositeTool, VmcpConfig, with_defaults
from api.contract.validation.composite import check_composite_tool
from api.contract.validation.report import Findings
from api.v1beta1 import MCPToolConfig, MCPToolConfigSpec, VirtualMCPCompositeToolDefinition
from controllers.shared.parts.part import Part
from controllers.shared.verdicts import Unreadable, Verdict


def tool_config_names(config: VirtualMCPConfig | None) -> list[str]:
    """Return the MCPToolConfigs that spec.config names."""
    tools = config.aggregation.tools if config is not None and config.aggregation is not None else ()
    return sorted({entry.tool_config_ref.name for entry in tools if entry.tool_config_ref is not None})


def resolve_tool_configs(
    config: VirtualMCPConfig | None, found: Mapping[str, MCPToolConfig | Unreadable]
) -> Part[Mapping[str, MCPToolConfigSpec]]:
    """Resolve the MCPToolConfigs; one that a member names and that cannot be used costs no more than its words."""
    usable = {name: item.spec for name, item in found.items() if not isinstance(item, Unreadable)}
    names = tool_config_names(config)
    if not names:
        return Part(section=usable)
    missing = [name for name in names if name not in found]
    unreadable = [name for name in names if isinstance(found.get(name), Unreadable)]
    verdict = Verdict(T.TOOL_CONFIG_REFS_VALIDATED, True, R.TOOL_CONFIG_REFS_VALID, "every MCPToolConfig exists")
    if missing or unreadable:
        message = f"MCPToolConfig not found or not readable: {', '.join(missing + unreadable)}"
        verdict = Verdict(T.TOOL_CONFIG_REFS_VALIDATED, False, R.TOOL_CONFIG_REF_NOT_FOUND, message)
    return Part(section=usable, checks=(verdict,))


def resolve_composite_tools(
    config: VirtualMCPConfig | None, found: Mapping[str, VirtualMCPCompositeToolDefinition | Unreadable]
) -> Part[tuple[CompositeTool, ...]]:
    """Resolve the definitions of composite tools: all of them, or none."""
    names = [ref.name for ref in (config.composite_tool_refs if config is not None else ())]
    missing = sorted({name for name in names if name not in found})
    if missing:
        message = f"VirtualMCPCompositeToolDefinition not found: {', '.join(missing)}"
        return _refused(R.COMPOSITE_TOOL_REF_NOT_FOUND, message)
    tools: list[CompositeTool] = []
    problems: list[str] = []
    for name in names:
        tool, refused = _composite_tool(found[name], name)
        problems += refused
        if tool is not None:
            tools.append(tool)
    if problems:
        return _refused(R.COMPOSITE_TOOL_REF_INVALID, "; ".join(problems[:10]))
    message = f"{len(tools)} composite tool definitions are valid" if tools else "no composite tool definitions"
    fine = Verdict(T.COMPOSITE_TOOL_REFS_VALIDATED, True, R.COMPOSITE_TOOL_REFS_VALID, message)
    return Part(section=tuple(tools), checks=(fine,))


def _refused(reason: R, message: str) -> Part[tuple[CompositeTool, ...]]:
    return Part(section=(), checks=(Verdict(T.COMPOSITE_TOOL_REFS_VALIDATED, False, reason, message),))


def _composite_tool(
    definition: VirtualMCPCompositeToolDefinition | Unreadable, name: str
) -> tuple[CompositeTool | None, list[str]]:
    if isinstance(definition, Unreadable):
        return None, [f"{name}: {definition.message}"]
    if definition.status is not None and definition.status.validation_status == "Invalid":
        return None, [f"{name}: its status says Invalid"]
    try:
        tool = CompositeTool.model_validate(
            definition.spec.model_dump(mode="json", by_alias=True, exclude_none=True), extra="ignore"
        )
    except ValidationError as error:
        return None, [f"{name}: {item['msg']}" for item in error.errors(include_input=False)]
    tool = with_defaults(VmcpConfig(composite_tools=(tool,))).composite_tools[0]
    report = Findings()
    check_composite_tool(tool, name, report)
    return tool, [str(error) for error in report.errors]
