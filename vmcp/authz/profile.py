"""What a policy set looks at: decides what a decision may be cached by, and what need not be told to Cedar at all.

A policy that never mentions an argument decides the same for every call of a tool, so its decision is kept per caller
and tool, and arguments of megabytes are never parsed. The analysis errs on the safe side: whoever passes the whole
`context` or `resource` around, or uses an operator that we do not know, gets no shortcut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from cedarpy import policies_to_json_str

_BY_IDENTITY = frozenset({"==", "!=", "in", "is"})


@dataclass(frozen=True, slots=True)
class Profile:
    """What a policy set looks at.

    Attributes:
        attributes: Every attribute name that occurs (`claim_x`, `arg_y` ...); None = could be any.
        uses_arguments: Decisions may differ by arguments.
    """

    attributes: frozenset[str] | None
    uses_arguments: bool


def profile(policies: str) -> Profile:
    """Look through a policy set.

    Raises:
        ValueError: It is not Cedar, or holds templates (which need links that the configuration cannot give).
    """
    parsed = orjson.loads(policies_to_json_str(policies))
    if parsed.get("templates"):
        raise ValueError("policy templates (?principal, ?resource) are not supported")
    names: set[str] = set()
    open_ended = False
    for policy in parsed.get("staticPolicies", {}).values():
        for condition in policy.get("conditions", ()):
            for found in _walk(condition.get("body"), None):
                if found is None:
                    open_ended = True
                else:
                    names.add(found)
    if open_ended:
        return Profile(None, uses_arguments=True)
    return Profile(frozenset(names), any(name.startswith("arg_") for name in names))


def _walk(node: Any, operator: str | None) -> Iterator[str | None]:
    """Yield the attributes that are read; None for a use that could read any."""
    if isinstance(node, list):
        for item in node:
            yield from _walk(item, operator)
        return
    if not isinstance(node, dict):
        return
    if "Value" in node:
        return
    if "Var" in node:
        # `principal`, `action` and the item are entities, harmless when compared by identity; a record is not.
        if node["Var"] == "context" or operator not in _BY_IDENTITY:
            yield None
        return
    for name, body in node.items():
        if name in (".", "has") and isinstance(body, dict):
            yield from _attribute(body)
        else:
            operands = body.values() if isinstance(body, dict) else [body]
            for operand in operands:
                yield from _walk(operand, name)


def _attribute(body: dict[str, Any]) -> Iterator[str | None]:
    attr, left = body.get("attr"), body.get("left")
    names = attr if isinstance(attr, list) else [attr]
    for name in names:
        yield name if isinstance(name, str) else None
    if not (isinstance(left, dict) and "Var" in left):
        yield from _walk(left, ".")
