"""Composite tools: workflows over the backends' tools."""

from __future__ import annotations

from pydantic import Field

from api.contract.section import Count, Flag, FreeMapping, FreeValue, Section, Span, Text


class Annotations(Section):
    """Hints of a tool; absent and false differ."""

    title: Text | None = None
    read_only_hint: Flag | None = None
    destructive_hint: Flag | None = None
    idempotent_hint: Flag | None = None
    open_world_hint: Flag | None = None


class OnError(Section):
    """What a failed step does."""

    action: Text = ""
    """abort (default), continue or retry."""
    retry_count: Count = 0
    retry_delay: Span | None = None


class OnAnswer(Section):
    """What a declined or cancelled elicitation does."""

    action: Text = ""
    """abort (default), continue or skip_remaining."""


class Step(Section):
    """One step of a workflow."""

    id: Text = ""
    type: Text = ""
    """tool (default), elicitation or forEach."""
    tool: Text = ""
    arguments: FreeMapping = Field(default_factory=dict)
    condition: Text = ""
    depends_on: tuple[Text, ...] = ()
    on_error: OnError | None = None
    message: Text = ""
    schema_: FreeMapping = Field(default_factory=dict, alias="schema")
    timeout: Span | None = None
    on_decline: OnAnswer | None = None
    on_cancel: OnAnswer | None = None
    default_results: FreeMapping = Field(default_factory=dict)
    collection: Text = ""
    item_var: Text = ""
    max_parallel: Count = 0
    max_iterations: Count = 0
    step: Step | None = None


class OutputProperty(Section):
    """One property of a workflow's result."""

    type: Text = ""
    description: Text = ""
    value: Text = ""
    properties: dict[Text, OutputProperty] = Field(default_factory=dict)
    default: FreeValue = None


class Output(Section):
    """Shape of a workflow's result."""

    properties: dict[Text, OutputProperty] = Field(default_factory=dict)
    required: tuple[Text, ...] = ()


class CompositeTool(Section):
    """A tool of the gateway's own."""

    name: Text = ""
    description: Text = ""
    parameters: FreeMapping = Field(default_factory=dict)
    timeout: Span | None = None
    steps: tuple[Step, ...] = ()
    output: Output | None = None
    annotations: Annotations | None = None


class CompositeToolRef(Section):
    """A VirtualMCPCompositeToolDefinition that the operator has resolved."""

    name: Text = ""
