"""`Mcp-Param-*`: arguments that a tool's schema wants mirrored in headers (modern era, `x-mcp-header`).

Rules of the specification: string, integer and boolean properties only, reachable through `properties` alone, header
names are tokens and unique without regard to case. A tool that breaks them must not be offered.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from vmcp.wire.protocol import H_PARAM_PREFIX, encode_value, is_token

_KEY: Final = "x-mcp-header"
_TYPES: Final = frozenset({"string", "integer", "boolean"})
_ONE: Final = (
    "items",
    "contains",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
)
_MANY: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties")
_MAX_NODES: Final = 20_000

Mirror = tuple[tuple[tuple[str, ...], str], ...]
"""(path of the argument, header name) pairs."""


class InvalidMirrorError(ValueError):
    """The schema's annotations break the rules; the text says which and where."""


class _Tool(msgspec.Struct):
    inputSchema: Any = None  # noqa: N815  the protocol's name


_tool = msgspec.json.Decoder(_Tool)


def mirror_of(raw_tool: bytes) -> Mirror:
    """Return what a tool wants mirrored; () for nearly all tools.

    Raises:
        InvalidMirrorError: The tool must be dropped.
    """
    if b'"x-mcp-header"' not in raw_tool and b"\\u" not in raw_tool:
        return ()
    try:
        schema = _tool.decode(raw_tool).inputSchema
    except (msgspec.DecodeError, RecursionError) as err:
        raise InvalidMirrorError("the tool cannot be read") from err
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    stack: list[tuple[Any, tuple[str, ...] | None]] = [(schema, ())]
    seen = 0
    while stack:
        node, path = stack.pop()
        if not isinstance(node, dict):
            continue
        seen += 1
        if seen > _MAX_NODES:
            raise InvalidMirrorError("the schema is too large to be checked")
        if _KEY in node:
            header = _checked(node, path)
            assert path is not None
            if header.lower() in found:
                raise InvalidMirrorError(f"{_KEY} {header!r} is used twice")
            found[header.lower()] = (path, H_PARAM_PREFIX + header)
        stack.extend(_children(node, path))
    return tuple(sorted(found.values()))


def _children(node: dict[str, Any], path: tuple[str, ...] | None) -> list[tuple[Any, tuple[str, ...] | None]]:
    out: list[tuple[Any, tuple[str, ...] | None]] = []
    properties = node.get("properties")
    if isinstance(properties, dict):
        out += [(sub, None if path is None else (*path, name)) for name, sub in properties.items()]
    out += [(node[key], None) for key in _ONE if key in node]
    for key in _MANY:
        if isinstance(node.get(key), list):
            out += [(sub, None) for sub in node[key]]
    for key in _NAMED:
        if isinstance(node.get(key), dict):
            out += [(sub, None) for sub in node[key].values()]
    return out


def _checked(node: dict[str, Any], path: tuple[str, ...] | None) -> str:
    header = node[_KEY]
    where = ".".join(path) if path else "the schema"
    if not path:
        raise InvalidMirrorError(f"{_KEY} where no chain of properties leads")
    if not isinstance(header, str) or not is_token(header):
        raise InvalidMirrorError(f"{_KEY} of {where!r} is not a header name")
    if node.get("type") not in _TYPES:
        raise InvalidMirrorError(f"{_KEY} of {where!r}: only string, integer and boolean can be mirrored")
    return header


def mirrored_headers(mirror: Mirror, params: bytes) -> tuple[tuple[str, str], ...]:
    """Return the headers for one call; arguments that are absent or null have none."""
    try:
        arguments = msgspec.json.decode(params).get("arguments")
    except (msgspec.DecodeError, AttributeError, RecursionError):
        return ()
    out: list[tuple[str, str]] = []
    for path, header in mirror:
        value = arguments
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        match value:
            case bool():
                out.append((header, "true" if value else "false"))
            case int():
                out.append((header, str(value)))
            case float() if value.is_integer():
                out.append((header, str(int(value))))
            case str():
                out.append((header, encode_value(value)))
            case _:
                pass
    return tuple(out)
