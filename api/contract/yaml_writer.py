"""Plain Python to YAML with the same bytes every time: given order for sections, sorted keys for free maps.

The layout is that of yaml.v3 (four spaces, sequences indented below their key). A general emitter costs seconds for
thousands of backends; this one writes exactly the subset that a configuration needs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+=-]*(?::[A-Za-z0-9_./@+=-]+)*")
"""Text that no YAML reader takes for anything but a text; everything else is quoted."""
_SPAN = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+")
_WORDS = frozenset(
    "y yes n no on off true false null nan inf".split()  # noqa: SIM905  reads better than a list
)


class YamlFragment(str):
    """Lines that are YAML already, ending with a line break; the value of a key, on the lines below it."""

    __slots__ = ()


def write_yaml(document: Mapping[str, Any]) -> str:
    """Return the document; mappings keep their order, so sort free maps before."""
    if not document:
        return "{}\n"
    lines: list[str] = []
    _mapping(document, "", "", lines)
    return "".join(lines)


def _mapping(mapping: Mapping[str, Any], first: str, indent: str, lines: list[str]) -> None:
    """Append the lines; `first` stands before the first key: the indentation, or that with the dash of a sequence."""
    head = first
    for key, value in mapping.items():
        # Texts are most of what is written, and this loop is most of what writing costs.
        if type(value) is str:
            lines.append(f"{head}{_text(key)}: {_text(value)}\n")
        elif isinstance(value, YamlFragment):
            lines.append(f"{head}{_text(key)}:\n{value}")
        elif value and isinstance(value, Mapping):
            lines.append(f"{head}{_scalar(key)}:\n")
            inner = f"{indent}    "
            _mapping(value, inner, inner, lines)
        elif value and isinstance(value, list | tuple):
            lines.append(f"{head}{_scalar(key)}:\n")
            inner = f"{indent}    "
            _sequence(value, inner, inner, lines)
        else:
            lines.append(f"{head}{_scalar(key)}: {_scalar(value)}\n")
        head = indent


def render_item(item: Mapping[str, Any]) -> str:
    """Return one mapping of a list that is the value of a top-level key."""
    lines: list[str] = []
    _sequence([item], "    ", "    ", lines)
    return "".join(lines)


def _sequence(items: list[Any] | tuple[Any, ...], first: str, indent: str, lines: list[str]) -> None:
    head = first
    for item in items:
        # The first key, or the first item, stands on the line of the dash.
        if item and isinstance(item, Mapping):
            _mapping(item, f"{head}- ", f"{indent}  ", lines)
        elif item and isinstance(item, list | tuple):
            _sequence(item, f"{head}- ", f"{indent}  ", lines)
        else:
            lines.append(f"{head}- {_scalar(item)}\n")
        head = indent


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return _float(value)
        case str():
            return _text(value)
        case _:
            assert not value, f"{type(value).__name__} cannot be written"
            return "{}" if isinstance(value, Mapping) else "[]"


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    # "1e+22" is a float in YAML 1.2 and yaml.v3 only with a point in some readers; give it one.
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}.0{e}{exponent}" if e and "." not in mantissa else text


@lru_cache(maxsize=32_768)
def _text(value: str) -> str:
    if _SPAN.fullmatch(value) or (_PLAIN.fullmatch(value) and value.lower().lstrip(".") not in _WORDS):
        return value
    # A JSON string is a YAML double-quoted scalar, once characters that YAML does not print are escaped. JSON's
    # surrogate pairs are not: characters beyond the first plane are written as they are.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
