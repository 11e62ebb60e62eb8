"""A configuration as the mapping that is written: order of the sections, sorted free maps, nothing that is zero."""

from __future__ import annotations

from functools import cache
from typing import Any

from api.contract.config import Dialect
from api.contract.duration import Duration
from api.contract.operations import Bucket
from api.contract.section import Section

_FREE = frozenset({"arguments", "schema", "defaultResults", "parameters"})
"""Free-form maps: their zero values mean something and stay."""


def to_document(section: Section, dialect: Dialect) -> dict[str, Any]:
    """Return the mapping to write, as yaml.v3 with omitempty everywhere would order and shorten it."""
    found: dict[str, Any] = {}
    for name, key, omit_zero, free in _plan(type(section)):
        value = getattr(section, name)
        if value is None or (omit_zero and _is_zero(value)):
            continue
        if type(value) is str:
            found[key] = value
        elif free or (key == "default" and not isinstance(value, Section | Duration)):
            found[key] = _sorted(value)
        elif isinstance(section, Bucket) and isinstance(value, Duration):
            # metav1.Duration has no YAML form of its own: yaml.v3 writes the struct around it.
            found[key] = {"duration": str(value)} if dialect is Dialect.TOOLHIVE else str(value)
        else:
            found[key] = _value(value, dialect)
    return found


@cache
def _plan(section: type[Section]) -> tuple[tuple[str, str, bool, bool], ...]:
    """Attribute, key, whether a zero is left out, whether it is a free map; once per class, not per backend."""
    return tuple(
        (name, field.alias or name, field.default is not None, (field.alias or name) in _FREE)
        for name, field in section.model_fields.items()
    )


def _is_zero(value: Any) -> bool:
    return not isinstance(value, Section | Duration) and not value


def _value(value: Any, dialect: Dialect) -> Any:
    if type(value) is str:
        return value
    match value:
        case Section():
            return to_document(value, dialect)
        case Duration():
            return str(value)
        case tuple():
            return [_value(item, dialect) for item in value]
        case dict():
            return {key: _value(value[key], dialect) for key in sorted(value)}
        case _:
            return value


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value
