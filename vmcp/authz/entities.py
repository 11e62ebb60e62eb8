"""How callers, items and arguments look to a Cedar policy. The vocabulary is ToolHive's.

| Cedar | from |
|---|---|
| `Client::"<sub>"`, attributes `claim_<name>` | the principal and its claims |
| parents of the client, `THVGroup::"<name>"` | its groups and roles (the entity type is configurable) |
| `Action::"call_tool"`, `"read_resource"`, `"get_prompt"` | what is asked for |
| `Tool::"<name>"`, `Resource::"<uri>"`, `Prompt::"<name>"` | the item under its advertised name; parent
`MCP::"<gateway>"` |
| attributes of the item: `name`, `readOnlyHint` ..., `arg_<name>` | the item, its annotations, the call's arguments |
| `context.claim_<name>`, `context.arg_<name>` | the same claims and arguments again |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vmcp.auth.interface import Principal
from vmcp.authz.interface import Action, Annotations

RESOURCE_TYPE = {Action.CALL_TOOL: "Tool", Action.READ_RESOURCE: "Resource", Action.GET_PROMPT: "Prompt"}
OPERATION = {
    Action.CALL_TOOL: ("call", "tool"),
    Action.READ_RESOURCE: ("read", "resource"),
    Action.GET_PROMPT: ("get", "prompt"),
}
HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
DEFAULT_GROUP_TYPE = "THVGroup"

_MAX_DEPTH = 16
_LONG = range(-(2**63), 2**63)
_ESCAPES = frozenset({"__entity", "__extn", "__expr"})


def uid(kind: str, name: str) -> dict[str, str]:
    """Return an entity's identity in the form that takes any name."""
    return {"type": kind, "id": name}


def cedar_value(value: Any, depth: int = 0) -> Any:
    """Return a JSON value as Cedar may see it; None = it cannot.

    Cedar's JSON has escapes (`__entity`, `__extn`) by which a plain object becomes a reference to an entity. Objects
    that hold one come from a caller here, so they are refused rather than believed. Floats have no counterpart but
    `decimal` with four digits; others become text.
    """
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if value in _LONG else str(value)
    if isinstance(value, float):
        return _decimal(value)
    if depth >= _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [found for item in value if (found := cedar_value(item, depth + 1)) is not None]
    if isinstance(value, Mapping):
        if _ESCAPES & value.keys():
            return None
        return {key: found for key, item in value.items() if (found := cedar_value(item, depth + 1)) is not None}
    return None


def _decimal(value: float) -> Any:
    if value != value or abs(value) >= 9e14:  # noqa: PLR0124  NaN
        return str(value)
    text = f"{value:.4f}"
    return {"__extn": {"fn": "decimal", "arg": text}} if float(text) == value else str(value)


def prefixed(prefix: str, values: Mapping[str, Any], names: frozenset[str] | None) -> dict[str, Any]:
    """Return `values` with prefixed keys, as Cedar may see them; only `names` (with prefix), None = all."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key
        if (names is None or name in names) and (converted := cedar_value(value)) is not None:
            found[name] = converted
    return found


def client_entity(principal: Principal, claims: Mapping[str, Any], group_type: str) -> dict[str, Any]:
    """Return the caller's entity; `claims` are prefixed already."""
    parents = dict.fromkeys((*principal.groups, *principal.roles))
    return {
        "uid": uid("Client", principal.subject),
        "attrs": dict(claims),
        "parents": [uid(group_type, name) for name in parents],
    }


def item_entity(
    server: str, action: Action, name: str, annotations: Annotations | None, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the item's entity; `arguments` are prefixed already."""
    operation, feature = OPERATION[action]
    attrs: dict[str, Any] = {"name": name, "operation": operation, "feature": feature}
    if action is Action.READ_RESOURCE:
        attrs["uri"] = name
    for hint in HINTS if annotations else ():
        value = annotations.get(hint) if annotations else None
        if isinstance(value, bool):
            attrs[hint] = value
    attrs.update(arguments)
    return {"uid": uid(RESOURCE_TYPE[action], name), "attrs": attrs, "parents": [uid("MCP", server)]}


def merge(entity: dict[str, Any], known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Add what the configuration says of the same entity; it wins over what the request brings."""
    if known is None:
        return entity
    parents: Iterable[Any] = [*known.get("parents", ()), *entity["parents"]]
    unique = {(parent["type"], parent["id"]): parent for parent in parents}
    return {
        "uid": entity["uid"],
        "attrs": {**entity["attrs"], **known.get("attrs", {})},
        "parents": list(unique.values()),
    }
