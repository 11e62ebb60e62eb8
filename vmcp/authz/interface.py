"""What a caller may see and do: the question that core asks before it lists, calls, reads or gets anything."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from vmcp.auth.interface import Principal

Annotations = Mapping[str, object]
"""A tool's annotations as the client sees them (`readOnlyHint` ...); unknown keys are ignored."""


class Action(StrEnum):
    """What is asked for. Lists are filtered with the same action as the use of the item."""

    CALL_TOOL = "call_tool"
    READ_RESOURCE = "read_resource"
    GET_PROMPT = "get_prompt"


@dataclass(frozen=True, slots=True)
class PolicyItem:
    """One entry of a list, under its advertised name."""

    name: str
    annotations: Annotations | None = None


class Authorizer(Protocol):
    """Decides; never raises: whatever cannot be decided is denied (and, in a list, hidden)."""

    @property
    def uses_arguments(self) -> bool:
        """Decisions may depend on the arguments of a call."""
        ...

    def allows(
        self,
        principal: Principal,
        action: Action,
        name: str,
        arguments: bytes | None = None,
        annotations: Annotations | None = None,
    ) -> bool:
        """Say whether `principal` may do `action` with the item of this advertised name (tool, URI, prompt).

        Args:
            principal: Who asks.
            action: What is asked for.
            name: Advertised name or URI.
            arguments: The raw JSON object of arguments; None = none.
            annotations: Of the tool as advertised; values of any type, whatever the backend wrote.
        """
        ...

    def visible(self, principal: Principal, action: Action, items: Sequence[PolicyItem]) -> list[bool]:
        """Decide a whole list, without arguments, in one go."""
        ...

    def view(self, principal: Principal) -> Hashable:
        """Return a key: principals with equal keys see equal lists under this policy. For caches of finished lists."""
        ...


DENIED_MESSAGE: dict[Action, str] = {
    Action.CALL_TOOL: "call denied by authorization policy",
    Action.READ_RESOURCE: "read denied by authorization policy",
    Action.GET_PROMPT: "prompt denied by authorization policy",
}
"""What a refused caller is told. Never the item's name: a denial must not tell whether the item exists.

It goes out as JSON-RPC error 403 (HTTP 403), in both eras.
"""
