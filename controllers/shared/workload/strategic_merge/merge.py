"""The merge itself: a pure function of (original, patch, schema)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from controllers.shared.workload.strategic_merge.schema import PLAIN, ListRule, PatchSchema

PATCH = "$patch"
RETAIN_KEYS = "$retainKeys"
ELEMENT_ORDER = "$setElementOrder/"
DELETE_SCALARS = "$deleteFromPrimitiveList/"

Json = Any


class StrategicMergeError(ValueError):
    """The patch cannot be applied: `path` names the field, the message says what to change."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__(f"{path or '.'}: {problem}")


def strategic_merge(original: Mapping[str, Json], patch: Mapping[str, Json], schema: PatchSchema) -> dict[str, Json]:
    """Lay `patch` over `original`; neither is changed.

    Args:
        original: JSON object to start from.
        patch: JSON object with optional directives.
        schema: which lists merge by which key.

    Raises:
        StrategicMergeError: a malformed directive, an element without its merge key, or lists of mixed types.
    """
    return _merge_map(copy.deepcopy(dict(original)), copy.deepcopy(dict(patch)), schema, "")


def _merge_map(original: dict[str, Json], patch: dict[str, Json], schema: PatchSchema, path: str) -> dict[str, Json]:
    directive = patch.pop(PATCH, None)
    if directive == "replace":
        return _plain_fields(patch)
    if directive == "delete":
        return {}
    if directive is not None:
        # "merge" is the default and, as with kubectl, cannot be asked for by name
        raise StrategicMergeError(path, f"$patch must be replace or delete, not {directive!r}")
    _retain_keys(original, patch, path)
    orders = {k.removeprefix(ELEMENT_ORDER): patch.pop(k) for k in list(patch) if k.startswith(ELEMENT_ORDER)}
    for name, order in orders.items():
        _merge_ordered(original, patch, name, order, schema, path)
    for key, value in patch.items():
        if key.startswith(DELETE_SCALARS):
            _delete_scalars(original, key.removeprefix(DELETE_SCALARS), value, path)
        else:
            _merge_field(original, key, value, schema, f"{path}.{key}" if path else key)
    return original


def _merge_field(original: dict[str, Json], key: str, value: Json, schema: PatchSchema, path: str) -> None:
    if value is None:
        original.pop(key, None)
        return
    current = original.get(key)
    rule = schema.lists.get(key)
    if isinstance(current, dict) and isinstance(value, dict):
        original[key] = _merge_map(current, value, schema.child(key), path)
    elif isinstance(current, list) and isinstance(value, list):
        original[key] = _plain(value) if rule is None else _merge_list(current, value, rule, path)
    elif isinstance(value, dict) and PATCH in value:
        original.pop(key, None)
    else:
        original[key] = _plain(value)


def _merge_list(original: list[Json], patch: list[Json], rule: ListRule, path: str) -> list[Json]:
    if not original and not patch:
        return original
    _refuse_mixed(original, patch, path)
    if rule.merge_key is None:
        merged = _unique([*original, *patch])
        return _arrange(merged, patch, original, None)
    original, patch = _element_directives(original, patch, rule.merge_key, path)
    merged = list(original)
    for element in patch:
        at = _find(merged, rule.merge_key, _key_of(element, rule.merge_key, path))
        if at is None:
            merged.append(_plain(element))
        else:
            merged[at] = _merge_map(
                merged[at], element, rule.element, f"{path}[{rule.merge_key}={element[rule.merge_key]}]"
            )
    return _arrange(merged, patch, original, rule.merge_key)


def _element_directives(
    original: list[Json], patch: list[Json], merge_key: str, path: str
) -> tuple[list[Json], list[Json]]:
    """Carry out `$patch: delete` and `$patch: replace` among the elements; return what is left to merge."""
    plain: list[Json] = []
    replace = False
    for element in patch:
        directive = element.get(PATCH)
        if directive is None:
            plain.append(element)
        elif directive == "delete":
            gone = _key_of(element, merge_key, path)
            original = [o for o in original if o.get(merge_key) != gone]
        elif directive == "replace":
            replace = True
        else:
            raise StrategicMergeError(path, f"$patch in a list element must be delete or replace, not {directive!r}")
    return ([_plain(e) for e in plain], []) if replace else (original, plain)


def _merge_ordered(
    original: dict[str, Json], patch: dict[str, Json], name: str, order: Json, schema: PatchSchema, path: str
) -> None:
    """Merge the list `name` and put it into the order that `$setElementOrder/<name>` asks for."""
    where = f"{path}.{name}" if path else name
    rule = schema.lists.get(name, ListRule(None, PLAIN))
    current, change = original.get(name), patch.pop(name, None)
    for value, what in ((order, "$setElementOrder"), (current or [], "the list"), (change or [], "the list")):
        if not isinstance(value, list):
            raise StrategicMergeError(where, f"{what} must be a list")
    _check_order(change or [], order, rule.merge_key, where)
    if current is None and change is None:
        return
    if change is None:
        merged = current
    elif current is None:
        merged = _plain(change)
    else:
        merged = _merge_list(current, change, rule, where) if name in schema.lists else change
    original[name] = _arrange(merged or [], order, _known_places(current or [], change or [], rule), rule.merge_key)


def _known_places(current: list[Json], change: list[Json], rule: ListRule) -> list[Json]:
    """The order that the server's list stands for while `$setElementOrder` is carried out.

    kubectl deletes and appends in place: an element that the patch adds takes the place that a deleted one left, and so
    counts as being behind those that stay. Without a deletion this is the server's own list.
    """
    key = rule.merge_key
    if key is None or any(isinstance(e, dict) and e.get(PATCH) == "replace" for e in change):
        return current
    gone = [e.get(key) for e in change if e.get(PATCH) == "delete"]
    kept = [e for e in current if e.get(key) not in gone]
    added = [e for e in change if PATCH not in e and _find(kept, key, e.get(key)) is None]
    return [*kept, *added][: len(current)]


def _check_order(change: list[Json], order: list[Json], merge_key: str | None, path: str) -> None:
    """The elements of the patch must appear in the order list, in the same sequence (API convention)."""
    kept = [e for e in change if not (isinstance(e, dict) and PATCH in e)]
    if not kept or not order:
        return
    wanted = iter([_identity(e, merge_key, path) for e in order])
    for element in kept:
        mine = _identity(element, merge_key, path)
        if not any(mine == other for other in wanted):
            raise StrategicMergeError(path, f"$setElementOrder does not list {mine!r} in the order of the patch")


def _arrange(merged: list[Json], wanted: Sequence[Json], server: Sequence[Json], merge_key: str | None) -> list[Json]:
    """Put the elements that the patch names in its order; the others keep their known place relative to them."""
    rank = {_freeze(_identity(e, merge_key)): i for i, e in reversed(list(enumerate(wanted)))}
    place = {_freeze(_identity(e, merge_key)): i for i, e in reversed(list(enumerate(server)))}

    def key(element: Json) -> object:
        return _freeze(_identity(element, merge_key))

    named = sorted((e for e in merged if key(e) in rank), key=lambda e: rank[key(e)])
    others = sorted((e for e in merged if key(e) not in rank), key=lambda e: place.get(key(e), len(place)))
    result: list[Json] = []
    while named and others:
        mine, other = key(named[0]), key(others[0])
        other_first = mine in place and other in place and place[other] < place[mine]
        result.append(others.pop(0) if other_first else named.pop(0))
    return [*result, *named, *others]


def _retain_keys(original: dict[str, Json], patch: dict[str, Json], path: str) -> None:
    """`$retainKeys` lists the only keys that survive: how one member of a union replaces another."""
    if RETAIN_KEYS not in patch:
        return
    keys = patch.pop(RETAIN_KEYS)
    if not isinstance(keys, list):
        raise StrategicMergeError(path, "$retainKeys must be a list of field names")
    for key, value in patch.items():
        if value is not None and key not in keys and not key.startswith((ELEMENT_ORDER, DELETE_SCALARS)):
            raise StrategicMergeError(path, f"$retainKeys must also list the patched field {key!r}")
    for key in [k for k in original if k not in keys]:
        del original[key]


def _delete_scalars(original: dict[str, Json], key: str, gone: Json, path: str) -> None:
    where = f"{path}.{key}" if path else key
    if not isinstance(gone, list):
        raise StrategicMergeError(where, "$deleteFromPrimitiveList must be a list")
    current = original.get(key)
    if isinstance(current, list):
        original[key] = [e for e in current if e not in gone]


def _plain(value: Json) -> Json:
    """Take a value of the patch over as it is, without nulls and directives.

    kubectl leaves some of them in new list elements; a server-side apply of those would be refused.
    """
    if isinstance(value, dict):
        return _plain_fields(value)
    if isinstance(value, list):
        return [_plain(v) for v in value if not (isinstance(v, dict) and PATCH in v)]
    return value


def _plain_fields(value: Mapping[str, Json]) -> dict[str, Json]:
    return {
        k: _plain(v)
        for k, v in value.items()
        if v is not None and not k.startswith("$") and not (isinstance(v, dict) and PATCH in v)
    }


def _refuse_mixed(original: list[Json], patch: list[Json], path: str) -> None:
    if len({isinstance(e, dict) for e in (*original, *patch)}) > 1:
        raise StrategicMergeError(path, "a list must not mix objects and scalars")


def _key_of(element: Mapping[str, Json], merge_key: str, path: str) -> Json:
    if merge_key not in element:
        raise StrategicMergeError(path, f"every element needs its key {merge_key!r}")
    return element[merge_key]


def _identity(element: Json, merge_key: str | None, path: str = "") -> Json:
    if merge_key is None or not isinstance(element, dict):
        return element
    return _key_of(element, merge_key, path)


def _find(elements: Sequence[Mapping[str, Json]], merge_key: str, value: Json) -> int | None:
    return next((i for i, e in enumerate(elements) if e.get(merge_key) == value), None)


def _unique(values: Sequence[Json]) -> list[Json]:
    return [v for i, v in enumerate(values) if v not in values[:i]]


def _freeze(value: Json) -> object:
    """A hashable stand-in for a merge key or scalar, that tells 1 from True and "1"."""
    return (type(value).__name__, value if not isinstance(value, dict | list) else repr(value))
