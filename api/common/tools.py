"""How tools are shown to clients, and composite tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.common.markers import KeepUnknown
from api.common.model import Duration, Struct

JSONObject = Annotated[dict[str, Any], KeepUnknown()]
JSONValue = Annotated[Any, KeepUnknown()]


class ToolAnnotations(Struct):
    """Hints of a tool; only those that are set replace the backend's."""

    title: str | None = None
    """Name shown to people."""
    read_only_hint: bool | None = None
    """The tool changes nothing."""
    destructive_hint: bool | None = None
    """The tool may destroy something."""
    idempotent_hint: bool | None = None
    """Calling the tool twice does no more than calling it once."""
    open_world_hint: bool | None = None
    """The tool reaches beyond its own closed domain."""


class ToolOverride(Struct):
    """What to show instead of the backend's own name, description and hints."""

    name: str | None = None
    """Name shown to clients; the backend is still called by its own."""
    description: str | None = None
    """Description shown to clients."""
    annotations: ToolAnnotations | None = None
    """Hints shown to clients."""


class StepErrorHandling(Struct):
    """What to do when a step fails."""

    action: Literal["abort", "continue", "retry"] = "abort"
    """End the workflow, go on without the step's result, or try the step again."""
    retry_count: int | None = None
    """How often to try again, for retry."""
    retry_delay: Duration | None = None
    """Wait between two tries, for retry."""


class ElicitationResponseHandling(Struct):
    """What to do when the user does not answer the question."""

    action: Literal["skip_remaining", "abort", "continue"] = "abort"
    """Leave out the steps that follow, end the workflow, or go on."""


class WorkflowStep(Struct):
    """One step of a composite tool."""

    id: str
    """Name of the step, unique in the workflow; other steps refer to its result by it."""
    type: Literal["tool", "elicitation", "forEach"] = "tool"
    """Call a tool, ask the user, or repeat an inner step for each item of a collection."""
    tool: str | None = None
    """Tool to call, as workload.tool, for type tool."""
    arguments: JSONObject | None = None
    """Arguments of the tool; text values may be templates over parameters and earlier results."""
    condition: str | None = None
    """Template that must come out true, or the step is skipped."""
    depends_on: tuple[str, ...] = ()
    """Ids of steps that must have ended first."""
    on_error: StepErrorHandling | None = None
    """What to do when the step fails."""
    message: str | None = None
    """Question to the user, a template, for type elicitation."""
    schema_: JSONObject | None = Field(default=None, alias="schema")
    """JSON schema of the user's answer, for type elicitation."""
    timeout: Duration | None = None
    """Longest time that the step may take."""
    on_decline: ElicitationResponseHandling | None = None
    """What to do when the user declines."""
    on_cancel: ElicitationResponseHandling | None = None
    """What to do when the user cancels."""
    default_results: JSONValue | None = None
    """Result to use when the step is skipped or fails and the workflow goes on."""
    collection: str | None = None
    """Template of the list to walk over, for type forEach."""
    item_var: str | None = None
    """Name of the current item in the inner step's templates, for type forEach; item when empty."""
    max_parallel: int | None = None
    """How many items are worked on at the same time, for type forEach."""
    max_iterations: int | None = None
    """Most items that are accepted, for type forEach."""
    step: JSONObject | None = None
    """Inner step, of type tool, for type forEach."""


class OutputProperty(Struct):
    """One property of a composite tool's structured result."""

    type: Literal["string", "integer", "number", "boolean", "object", "array"]
    """JSON type of the property."""
    description: str | None = None
    """What the property means."""
    value: str | None = None
    """Template of the value, over the results of the steps."""
    properties: JSONObject | None = None
    """Nested properties, for type object; each has the fields of this one."""
    default: JSONValue | None = None
    """Value to use when the template yields none."""


class OutputConfig(Struct):
    """Structured result of a composite tool."""

    properties: dict[str, OutputProperty]
    """Properties of the result by name."""
    required: tuple[str, ...] = ()
    """Properties that the result always has."""


class CompositeTool(Struct):
    """A tool of the gateway's own that runs a workflow over the backends' tools."""

    name: str
    """Name of the tool."""
    description: str | None = None
    """What the tool does, for clients."""
    parameters: JSONObject | None = None
    """JSON schema of the tool's input."""
    timeout: Duration | None = None
    """Longest time that the whole workflow may take."""
    steps: tuple[WorkflowStep, ...]
    """The steps; their order follows from dependsOn."""
    output: OutputConfig | None = None
    """Structured result; the last step's result when absent."""
    annotations: ToolAnnotations | None = None
    """Hints shown to clients."""
