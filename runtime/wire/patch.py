"""JSON merge patch (RFC 7386): the difference of two documents, and its application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the smallest merge patch that turns `old` into `new`; empty when nothing differs.

    Lists are replaced whole: merge patch knows no other way. A null inside `new` cannot be expressed (null means
    "remove") and counts as absent, which is what the API server makes of it.
    """
    patch: dict[str, Any] = {}
    for name, value in new.items():
        before = old.get(name)
        if value is None:
            if before is not None:
                patch[name] = None
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_diff(before, value)
            if inner:
                patch[name] = inner
        elif name not in old or not _same(before, value):
            patch[name] = without_nulls(value)
    for name, value in old.items():
        if name not in new and value is not None:
            patch[name] = None
    return patch


def merge_apply(target: Any, patch: Any) -> Any:
    """Apply a merge patch as RFC 7386 section 2 says; the arguments stay as they are."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_apply(result.get(name), value)
    return result


def without_nulls(value: Any) -> Any:
    """Return the document without the members of objects that are null; lists keep theirs."""
    if isinstance(value, Mapping):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return value


def encode(body: Any) -> bytes:
    """Return the JSON of a request body. Keys keep their order, so equal input gives equal bytes."""
    return orjson.dumps(body)


def _same(left: Any, right: Any) -> bool:
    """Equality as JSON has it: unlike in Python, true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    return bool(left == right)
