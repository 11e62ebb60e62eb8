"""Composite tools: names, steps, their order, templates and default results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from api.contract.composite import CompositeTool, OnAnswer, OutputProperty, Step
from api.contract.gotemplate import referenced_outputs, template_problem
from api.contract.validation.report import Findings

MAX_STEPS = 100
_TOOL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OUTPUT_TYPES = ("string", "integer", "number", "boolean", "object", "array")


def check_composite_tools(tools: Iterable[CompositeTool], report: Findings, where: str = "compositeTools") -> None:
    """Check a list of composite tools; also used on the definitions that a VirtualMCPServer refers to."""
    tools = tuple(tools)
    report.unique(where, (tool.name for tool in tools), "name", "composite tool")
    for index, tool in enumerate(tools):
        check_composite_tool(tool, f"{where}[{index}]", report)


def check_composite_tool(tool: CompositeTool, where: str, report: Findings) -> None:
    """Check one composite tool."""
    report.require(f"{where}.name", tool.name)
    report.require(f"{where}.description", tool.description)
    if tool.parameters and tool.parameters.get("type") != "object":
        report.add(f"{where}.parameters.type", 'must be "object"')
    if tool.timeout is not None and tool.timeout < 0:
        report.add(f"{where}.timeout", "must not be negative")
    if len(tool.steps) > MAX_STEPS:
        report.add(f"{where}.steps", f"has more than {MAX_STEPS} steps")
    if not report.require(f"{where}.steps", tool.steps):
        return
    report.unique(f"{where}.steps", (step.id for step in tool.steps), "id", "step id")
    known = {step.id for step in tool.steps}
    for index, step in enumerate(tool.steps):
        _check_step(step, f"{where}.steps[{index}]", report, known)
    _check_cycles(tool.steps, f"{where}.steps", report)
    if tool.output is not None:
        for name in tool.output.required:
            if name not in tool.output.properties:
                report.add(f"{where}.output.required", f'"{name}" is not one of the properties')
        _check_output(tool.output.properties, f"{where}.output.properties", report)
    _check_default_results(tool, f"{where}.steps", report)


def _check_step(step: Step, where: str, report: Findings, known: set[str], *, inner: bool = False) -> None:
    report.require(f"{where}.id", step.id)
    if not step.type:
        report.add(f"{where}.type", "is required when message is set: tool or elicitation")
    elif report.one_of(f"{where}.type", step.type, ("tool",) if inner else ("tool", "elicitation", "forEach")):
        {"tool": _check_tool_step, "elicitation": _check_elicitation, "forEach": _check_for_each}[step.type](
            step, where, report
        )
    for name in step.depends_on:
        if name not in known:
            report.add(f"{where}.dependsOn", f'there is no step "{name}"')
    if step.on_error is not None:
        _check_on_error(step, where, report)
    if step.timeout is not None and step.timeout < 0:
        report.add(f"{where}.timeout", "must not be negative")
    for key, text in (("condition", step.condition), ("message", step.message), ("collection", step.collection)):
        _check_template(text, f"{where}.{key}", report)
    # The values at the top level are parsed before a workflow starts, nested ones only when it runs.
    for key, value in step.arguments.items():
        if isinstance(value, str):
            _check_template(value, f"{where}.arguments.{key}", report)


def _check_tool_step(step: Step, where: str, report: Findings) -> None:
    if report.require(f"{where}.tool", step.tool) and not _TOOL.fullmatch(step.tool):
        report.add(f"{where}.tool", "must start with a letter or digit; letters, digits, '.', '_' and '-' may follow")


def _check_elicitation(step: Step, where: str, report: Findings) -> None:
    report.require(f"{where}.message", step.message)
    for key, answer in (("onDecline", step.on_decline), ("onCancel", step.on_cancel)):
        _check_answer(answer, f"{where}.{key}", report)


def _check_answer(answer: OnAnswer | None, where: str, report: Findings) -> None:
    if answer is not None:
        report.one_of(f"{where}.action", answer.action, ("abort", "continue", "skip_remaining"), optional=True)


def _check_for_each(step: Step, where: str, report: Findings) -> None:
    report.require(f"{where}.collection", step.collection)
    if step.item_var and (not _IDENTIFIER.fullmatch(step.item_var) or step.item_var == "index"):
        report.add(f"{where}.itemVar", "must be an identifier other than index")
    if not 0 <= step.max_parallel <= 50:
        report.add(f"{where}.maxParallel", "must be between 0 and 50")
    if not 0 <= step.max_iterations <= 1000:
        report.add(f"{where}.maxIterations", "must be between 0 and 1000")
    if step.step is None:
        report.add(f"{where}.step", "is required when type is forEach")
        return
    _check_step(step.step, f"{where}.step", report, set(step.step.depends_on), inner=True)
    if step.step.depends_on:
        report.add(f"{where}.step.dependsOn", "an inner step cannot depend on other steps")


def _check_on_error(step: Step, where: str, report: Findings) -> None:
    assert step.on_error is not None
    report.one_of(f"{where}.onError.action", step.on_error.action, ("abort", "continue", "retry"), optional=True)
    if step.on_error.action == "retry" and step.on_error.retry_count < 1:
        report.add(f"{where}.onError.retryCount", "must be at least 1 for retry")
    if step.on_error.retry_delay is not None and step.on_error.retry_delay < 0:
        report.add(f"{where}.onError.retryDelay", "must not be negative")


def _check_template(text: str, where: str, report: Findings) -> None:
    problem = template_problem(text)
    if problem:
        report.add(where, f"is not a template: {problem}")


def _check_cycles(steps: tuple[Step, ...], where: str, report: Findings) -> None:
    waiting = {step.id: set(step.depends_on) for step in steps}
    done = True
    while done:
        done = False
        for name in [name for name, needs in waiting.items() if not needs & waiting.keys()]:
            del waiting[name]
            done = True
    if waiting:
        report.add(where, f"the steps {', '.join(sorted(waiting))} depend on each other in a cycle")


def _check_output(properties: dict[str, OutputProperty], where: str, report: Findings) -> None:
    for name, entry in properties.items():
        path = f"{where}.{name}"
        report.one_of(f"{path}.type", entry.type, _OUTPUT_TYPES)
        if entry.value and entry.properties:
            report.add(path, "value and properties are mutually exclusive")
        if not entry.value and not entry.properties:
            report.add(path, "value or properties is required")
        if entry.properties and entry.type != "object":
            report.add(f"{path}.properties", "need type object")
        _check_template(entry.value, f"{path}.value", report)
        _check_output(entry.properties, f"{path}.properties", report)


def _check_default_results(tool: CompositeTool, where: str, report: Findings) -> None:
    """What others read of a step that may not run must have a default."""
    for index, step in enumerate(tool.steps):
        may_fail = step.on_error is not None and step.on_error.action == "continue"
        if not step.condition and not may_fail:
            continue
        needed = {
            field
            for text in _texts(tool, except_step=index)
            for name, field in referenced_outputs(text)
            if name == step.id
        }
        for field in sorted(needed - step.default_results.keys()):
            report.add(
                f"{where}[{index}].defaultResults",
                f'needs the key "{field}": the step may be left out, and others read its output.{field}',
            )


def _texts(tool: CompositeTool, *, except_step: int) -> Iterator[str]:
    for index, step in enumerate(tool.steps):
        if index != except_step:
            yield from _strings(step.model_dump(by_alias=True))
    if tool.output is not None:
        yield from _strings(tool.output.model_dump(by_alias=True))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
