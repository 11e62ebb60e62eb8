"""How capabilities of many backends become one list."""

from __future__ import annotations

from api.contract.config import Aggregation, VmcpConfig, WorkloadTools
from api.contract.validation.report import Findings, Positions

STRATEGIES = ("prefix", "priority", "manual", "prefixOnConflict")
_WITH_PREFIX = ("prefix", "prefixOnConflict")


def check_aggregation(config: VmcpConfig, report: Findings) -> None:
    """Check `aggregation`."""
    aggregation = config.aggregation
    if aggregation is None:
        report.add("aggregation", "is required")
        return
    known = report.one_of("aggregation.conflictResolution", aggregation.conflict_resolution, STRATEGIES)
    report.one_of(
        "aggregation.defaultToolVisibility", aggregation.default_tool_visibility, ("allow", "deny"), optional=True
    )
    if known:
        _check_strategy(aggregation, report)
    names = [tools.workload for tools in aggregation.tools]
    positions = Positions(config)
    # A filter that cannot be read must not show what it hides: its backend is left out, not its filter.
    report.unique("aggregation.tools", names, "workload", "workload", costs=lambda _index, name: positions.of(name))
    for index, tools in enumerate(aggregation.tools):
        with report.costing(positions.of(tools.workload) if tools.workload else None):
            _check_tools(tools, f"aggregation.tools[{index}]", report)


def _check_strategy(aggregation: Aggregation, report: Findings) -> None:
    strategy = aggregation.conflict_resolution
    settings = aggregation.conflict_resolution_config
    if settings is None:
        report.add("aggregation.conflictResolutionConfig", "is required")
        return
    where = "aggregation.conflictResolutionConfig"
    if strategy in _WITH_PREFIX:
        report.require(f"{where}.prefixFormat", settings.prefix_format)
    if strategy == "manual":
        report.require("aggregation.tools", aggregation.tools)
    if strategy != "priority":
        return
    report.require(f"{where}.priorityOrder", settings.priority_order)
    if aggregation.default_tool_visibility == "deny":
        listed = {tools.workload for tools in aggregation.tools}
        for index, name in enumerate(settings.priority_order):
            if name not in listed:
                report.add(f"{where}.priorityOrder[{index}]", f'"{name}" needs an entry in tools: the default is deny')


def _check_tools(tools: WorkloadTools, where: str, report: Findings) -> None:
    report.require(f"{where}.workload", tools.workload)
    if tools.tool_config_ref is not None:
        report.require(f"{where}.toolConfigRef.name", tools.tool_config_ref.name)
    for name, override in tools.overrides.items():
        if not override.name and not override.description:
            report.add(f"{where}.overrides.{name}", "needs a name or a description")
