"""Check a constructed model against the bounds that stand beside its fields."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from api.common.markers import OneOf, ValueBounds

Where = tuple[int | str, ...]
Violation = tuple[Where, str, Any]


@functools.cache
def hints(cls: type[BaseModel]) -> dict[str, Any]:
    """Return the annotations of the model's fields, markers included, by attribute name."""
    every = get_type_hints(cls, include_extras=True)
    return {name: every[name] for name in cls.model_fields}


def peel(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split an annotation into the type without `None` and `Annotated`, and all markers met on the way.

    Markers keep their order from the outermost to the innermost.
    """
    markers: tuple[Any, ...] = ()
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *found = get_args(annotation)
            markers = (*markers, *found)
        elif origin in (Union, types.UnionType):
            members = [a for a in get_args(annotation) if a is not type(None)]
            if len(members) != 1:
                return annotation, markers
            annotation = members[0]
        else:
            return annotation, markers


def violations(model: BaseModel, where: Where = ()) -> Iterator[Violation]:
    """Yield place, sentence and value of everything set in `model` that is out of bounds, nested models included."""
    every = hints(type(model))
    for name in sorted(model.model_fields_set & every.keys()):
        annotation = every[name]
        alias = type(model).model_fields[name].alias or name
        yield from _value(getattr(model, name), annotation, (*where, alias))


def _value(value: Any, annotation: Any, where: Where) -> Iterator[Violation]:
    if value is None:
        return
    if isinstance(value, BaseModel):
        yield from violations(value, where)
        return
    inner, markers = peel(annotation)
    for marker in markers:
        if isinstance(marker, ValueBounds | OneOf):
            for reason in marker.violations(value):
                yield where, reason, value
    args = get_args(inner)
    if isinstance(value, tuple) and args:
        for index, item in enumerate(value):
            yield from _value(item, args[0], (*where, index))
    elif isinstance(value, dict) and len(args) == 2:
        for key, item in value.items():
            yield from _value(item, args[1], (*where, key))
