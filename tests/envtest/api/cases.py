"""For every field: what the server must accept, and what it must refuse with a message that names the field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.envtest.api.samples import DELETE, MAP_KEY, PATTERNS, Builder, put, shown, text

WRONG_TYPE = {"string": 7, "integer": "x", "boolean": "x", "object": "x", "[": "x", "map[": "x"}


@dataclass(frozen=True)
class Case:
    """One object to offer."""

    name: str
    doc: dict[str, Any]
    refused: str = ""
    """Text that the refusal must hold; empty when the object must be accepted."""
    since: int = 0
    """Minor version of Kubernetes that refuses first; those before accept."""
    path: str = ""
    stored: Any = DELETE
    """What must be at `path` in the answer, if the object is accepted; DELETE: nothing."""


def cases(kind: str) -> Iterator[Case]:
    """All cases of a kind."""
    builder = Builder(kind)
    for path, facts in builder.fields.items():
        yield from _presence(builder, path, facts)
        yield from _values(builder, path, facts)


def _accept(builder: Builder, path: str, value: Any, why: str) -> Case:
    return Case(f"{path}: {why}", builder.with_value(path, value), path=path, stored=value)


def _refuse(builder: Builder, path: str, value: Any, why: str, *, at: str = "") -> Case:
    doc = builder.around(path)
    put(doc, path, value)
    return Case(f"{path}: {why}", doc, refused=shown(path) + at)


def _presence(builder: Builder, path: str, facts: dict[str, Any]) -> Iterator[Case]:
    absent = builder.without(path)
    if path == "status":
        return
    if facts.get("required") and "default" not in facts:
        yield Case(f"{path}: absent", absent, refused=f"{shown(path)}: Required value")
    else:
        # A status that was never written has a default of its own.
        inherited = builder.fields["status"].get("default", {}).get(path.removeprefix("status."), DELETE)
        yield Case(f"{path}: absent", absent, path=path, stored=facts.get("default", inherited))
    # A rule may give the field a value that depends on others: the smallest object around it must be accepted.
    around = builder.around(path)
    yield Case(f"{path}: present", around)


def _values(builder: Builder, path: str, facts: dict[str, Any]) -> Iterator[Case]:
    kind = facts["type"]
    for prefix, wrong in WRONG_TYPE.items():
        if kind.startswith(prefix):
            yield _refuse(builder, path, wrong, "of another type")
    if kind == "string" or kind.startswith("string/"):
        for value, why, good in _texts(facts, ""):
            yield (_accept if good else _refuse)(builder, path, value, why)
    elif kind.startswith("integer"):
        yield from _integers(builder, path, facts)
    elif kind == "boolean":
        for value in (True, False):
            yield _accept(builder, path, value, str(value))
    elif kind.startswith("["):
        yield from _lists(builder, path, facts)
    elif kind.startswith("map["):
        yield from _maps(builder, path, facts)
    elif "unknown kept" in kind:
        value = builder.value(path) | {"surprise": {"deep": [1]}}
        yield _accept(builder, path, value, "unknown fields are kept")


def _texts(facts: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, bool]]:
    for value in facts.get(f"{prefix}enum", ()):
        yield value, f"enum {value!r}", True
    if f"{prefix}enum" in facts:
        yield "no-such-value", "outside the enum", False
        return
    if facts["type"] == "string/date-time":
        yield "yesterday", "not a date", False
        return
    if pattern := facts.get(f"{prefix}pattern"):
        yield PATTERNS[pattern][1], "against the pattern", False
    if high := facts.get(f"{prefix}maxLength"):
        yield text(facts, prefix, high)[:high], "of the greatest length", True
        yield text(facts, prefix, high + 1), "too long", False
    if low := facts.get(f"{prefix}minLength"):
        shortest = text(facts, prefix)
        if not facts.get(f"{prefix}pattern"):
            shortest = shortest[:low]
        yield shortest, "short", True
        yield "", "empty", False


def _integers(builder: Builder, path: str, facts: dict[str, Any]) -> Iterator[Case]:
    low, high = facts.get("minimum"), facts.get("maximum")
    if low is not None:
        yield _accept(builder, path, low, "least")
        yield _refuse(builder, path, low - 1, "too small")
    if high is not None:
        yield _accept(builder, path, high, "greatest")
        yield _refuse(builder, path, high + 1, "too great")
    if facts["type"] == "integer/int32":
        doc = builder.around(path)
        put(doc, path, 2**31)
        # Directly below spec and status the server names only the last part of the path. Formats of numbers are looked
        # at since 1.36 (kube-openapi, pkg/validation/validate/schema.go); bounds of their own since ever.
        since = 36 if high is None else 0
        yield Case(f"{path}: beyond 32 bits", doc, refused=path.rpartition(".")[2], since=since)
    yield _accept(builder, path, (low or 0) + 1, "inside")


def _lists(builder: Builder, path: str, facts: dict[str, Any]) -> Iterator[Case]:
    item = builder.value(f"{path}[]")
    key = facts.get("list-map-keys", [None])[0]

    def distinct(count: int) -> list[Any]:
        if isinstance(item, str):
            return [f"{item}{n:03}" for n in range(count)]
        return [item | ({key: f"{item[key]}{n:03}"} if key else {}) for n in range(count)]

    if low := facts.get("minItems"):
        yield _refuse(builder, path, distinct(low - 1), "too few items")
        yield _accept(builder, path, distinct(low), "least items")
    if (high := facts.get("maxItems")) and not path.endswith("subjectBindings"):
        yield _accept(builder, path, distinct(high), "most items")
    if high:
        yield _refuse(builder, path, distinct(high + 1), "too many items")
    if facts.get("list-type") in ("set", "map"):
        yield _refuse(builder, path, [item, item], "the same item twice", at="[1]: Duplicate value")
    if facts["type"] == "[string]":
        for value, why, good in _texts(facts, "items."):
            if good:
                yield _accept(builder, path, [value], f"item {why}")
            else:
                yield _refuse(builder, path, [value], f"item {why}", at="[0]")
        yield _refuse(builder, path, [7], "item of another type", at="[0]")


def _maps(builder: Builder, path: str, facts: dict[str, Any]) -> Iterator[Case]:
    if high := facts.get("maxProperties"):
        value = builder.value(f"{path}{{}}")
        yield _accept(builder, path, {f"k{n}": value for n in range(high)}, "most keys")
        yield _refuse(builder, path, {f"k{n}": value for n in range(high + 1)}, "too many keys")
    if facts["type"] == "map[string]string":
        for value, why, good in _texts(facts, "values."):
            if good:
                yield _accept(builder, path, {MAP_KEY: value}, f"value {why}")
            else:
                yield _refuse(builder, path, {MAP_KEY: value}, f"value {why}", at=f".{MAP_KEY}")
        yield _refuse(builder, path, {MAP_KEY: 7}, "value of another type", at=f".{MAP_KEY}")
