"""YAML text to plain Python, safely: no tags that make objects, no endless aliases, no deep nesting, no double keys.

Works on libyaml's event stream with an own stack, so that neither depth nor aliases can exhaust the process. Scalars
without quotes stay uninterpreted (`Plain`); the field that takes them decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from api.contract.errors import ConfigError, ConfigErrors
from api.contract.section import Plain

MAX_DEPTH = 100
MAX_NODES = 3_000_000
"""Values after aliases are followed."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(f"{_CORE}{name}" for name in ("int", "float", "bool", "null"))
_MISSING: Any = object()
_MERGE: Any = object()


@dataclass(slots=True)
class _Open:
    """A container that is being read."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    nodes: int = 1
    key: Any = _MISSING
    merges: list[dict[str, Any]] = field(default_factory=list)


def read_yaml(text: str) -> Any:
    """Return the first document of `text`; _MISSING never leaks, an empty text raises.

    Raises:
        ConfigErrors: not YAML, more than the limits allow, or a key appears twice in one mapping.
    """
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if reader.take(event):
                break
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigErrors([ConfigError("", f"not YAML: {error.problem or error.context}{where}")]) from None
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", None) or "a character is not allowed"
        raise ConfigErrors([ConfigError("", f"not YAML: {reason}")]) from None
    if reader.problems:
        raise ConfigErrors(reader.problems)
    if reader.result is _MISSING:
        raise ConfigErrors([ConfigError("", "the document is empty")])
    return reader.result


class _Reader:
    def __init__(self) -> None:
        self.result: Any = _MISSING
        self.problems: list[ConfigError] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}

    def take(self, event: yaml.Event) -> bool:
        """Take one event; True at the end of the first document."""
        match event:
            case yaml.ScalarEvent():
                value = self._scalar(event)
                self._remember(event.anchor, value, 1)
                self._add(value, 1, event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open({} if isinstance(event, yaml.MappingStartEvent) else [], event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = self._stack.pop()
                if isinstance(done.value, dict) and done.merges:
                    own, done.value = done.value, {}
                    # The mapping's own keys win over merged ones, and what is merged first over what follows.
                    for merged in (*reversed(done.merges), own):
                        done.value.update(merged)
                self._remember(done.anchor, done.value, done.nodes)
                self._add(done.value, done.nodes, event)
            case yaml.AliasEvent():
                value, nodes = self._anchors.get(event.anchor or "", (_MISSING, 0))
                if value is _MISSING:
                    self._stop(event, f"the alias *{event.anchor} refers to nothing, or to itself")
                self._add(value, nodes, event)
            case yaml.DocumentEndEvent():
                return True
            case _:
                pass
        return False

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        tag = event.tag
        if tag in (None, "!") or tag == f"{_CORE}str":
            plain = tag is None and event.style in (None, "")
            return Plain(event.value) if plain else str(event.value)
        if tag in _PLAIN_TAGS:
            return Plain(event.value)
        return self._stop(event, f"the tag {tag} is not supported")

    def _open(self, value: dict[str, Any] | list[Any], event: yaml.CollectionStartEvent) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH} levels")
        if event.tag not in (None, "!", f"{_CORE}map", f"{_CORE}seq"):
            self._stop(event, f"the tag {event.tag} is not supported")
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is _MISSING:
            self._stop(event, "a key must be a string")
        self._stack.append(_Open(value, event.anchor))

    def _remember(self, anchor: str | None, value: Any, nodes: int) -> None:
        if anchor:
            self._anchors[anchor] = (value, nodes)

    def _add(self, value: Any, nodes: int, event: yaml.Event) -> None:
        if not self._stack:
            self.result = value
            return
        top = self._stack[-1]
        top.nodes += nodes
        if top.nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES} values")
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is _MISSING:
            top.key = self._key(top.value, value, event)
        elif top.key is _MERGE:
            self._merge(top, value, event)
            top.key = _MISSING
        else:
            top.value[top.key] = value
            top.key = _MISSING

    def _key(self, mapping: dict[str, Any], key: Any, event: yaml.Event) -> Any:
        if not isinstance(key, str):
            return self._stop(event, "a key must be a string")
        if isinstance(key, Plain) and key == "<<":
            return _MERGE
        if key in mapping:
            self.problems.append(
                ConfigError("", f"the key {str(key)!r} appears twice in one mapping (line {_line(event)})")
            )
        return str(key)

    def _merge(self, top: _Open, value: Any, event: yaml.Event) -> None:
        sources = value if isinstance(value, list) else [value]
        for source in sources:
            if not isinstance(source, dict):
                self._stop(event, "<< can only merge mappings")
            top.merges.append(source)

    def _stop(self, event: yaml.Event, reason: str) -> Any:
        raise ConfigErrors([*self.problems, ConfigError("", f"{reason} (line {_line(event)})")])


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0
