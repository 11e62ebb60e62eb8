"""Plain Python to YAML with the same bytes every time: given order for sections, sorted keys for free maps.

The layout is that of yaml.v3 (four spaces, sequences indented below their key). A general emitter costs seconds for
thousands of backends; this one writes exactly the subset that a configuration needs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+=-]*(?::[A-Za-z0-9_./@+=-]+)*")
"""Text that no YAML reader takes for anything but a text; everything else is quoted."""
_SPAN = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+")
_WORDS = frozenset(
    "y yes n no on off true false null nan inf".split()  # noqa: SIM905  reads better than a list
)


def write_yaml(document: Mapping[str, Any]) -> str:
    """Return the document; mappings keep their order, so sort free maps before."""
    if not document:
        return "{}\n"
    return "".join(_mapping(document, ""))


def _mapping(mapping: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in mapping.items():
        yield from _entry(f"{indent}{_scalar(key)}:", value, f"{indent}    ")


def _entry(head: str, value: Any, inner: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield f"{head}\n"
        yield from _mapping(value, inner)
    elif isinstance(value, list | tuple) and value:
        yield f"{head}\n"
        yield from _sequence(value, inner)
    else:
        yield f"{head} {_scalar(value)}\n"


def _sequence(items: list[Any] | tuple[Any, ...], indent: str) -> Iterator[str]:
    for item in items:
        if isinstance(item, Mapping) and item:
            lines = _mapping(item, f"{indent}  ")
            # The first key stands on the line of the dash.
            yield f"{indent}- {next(lines)[len(indent) + 2 :]}"
            yield from lines
        elif isinstance(item, list | tuple) and item:
            lines = _sequence(item, f"{indent}  ")
            yield f"{indent}- {next(lines)[len(indent) + 2 :]}"
            yield from lines
        else:
            yield f"{indent}- {_scalar(item)}\n"


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
