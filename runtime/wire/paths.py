"""Reading one value out of a JSON document without parsing the rest of it.

Each path is compiled once into a chain of msgspec structs that know a single field, so msgspec skips everything else. A
document whose shape differs from the path (a string where an object was expected) is walked the slow way: an index
function must never raise on an odd object.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
import orjson

_LIST = "[]"


def read_path(raw: bytes, path: str) -> Any | None:
    """Return the value at `path` in the JSON document `raw`; see `Record.path`."""
    decode, steps = _compiled(path)
    try:
        found = decode(raw)
    except msgspec.ValidationError:
        return _walk(orjson.loads(raw), steps)
    if _LIST in steps:
        return _collect(found, steps)
    for _ in steps:
        if found is None:
            return None
        found = found.value
    return found


def _collect(root: Any, steps: tuple[str, ...]) -> list[Any]:
    """Flatten the values below the `[]` steps, leaving absent ones out."""
    level = [root]
    for step in steps:
        if step == _LIST:
            level = [item for entry in level if entry is not None for item in entry]
        else:
            level = [entry.value for entry in level if entry is not None]
    return [value for value in level if value is not None]


def _walk(root: Any, steps: tuple[str, ...]) -> Any | None:
    """Do the same on parsed JSON of any shape."""
    level = [root]
    for step in steps:
        if step == _LIST:
            level = [item for entry in level if isinstance(entry, list) for item in entry]
        else:
            level = [entry[step] for entry in level if isinstance(entry, dict) and entry.get(step) is not None]
    if _LIST in steps:
        return level
    return level[0] if level else None


@lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[str, ...]:
    steps: list[str] = []
    for part in path.split("."):
        name = part.removesuffix(_LIST)
        if not name:
            raise ValueError(f"empty step in path {path!r}")
        steps.append(name)
        if name != part:
            steps.append(_LIST)
    return tuple(steps)


@lru_cache(maxsize=1024)
def _compiled(path: str) -> tuple[Callable[[bytes], Any], tuple[str, ...]]:
    steps = _steps(path)
    kind: Any = Any
    for step in reversed(steps):
        if step == _LIST:
            kind = list[kind] | None
        else:
            kind = msgspec.defstruct("Step", [("value", kind | None, None)], rename={"value": step}, gc=False) | None
    return msgspec.json.Decoder(kind).decode, steps
