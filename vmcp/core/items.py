"""Items of a backend's lists: tools, resources, templates, prompts, read without losing a byte.

An item is kept as the JSON members that the backend sent. A rename replaces one member's value; every other value goes
out with the very bytes that came in, known to us or not (title, icons, `_meta`, vendor fields, schemas, number forms).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

Members = dict[str, msgspec.Raw]
_members = msgspec.json.Decoder(Members)
_text = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode


class Kind(StrEnum):
    """A list that MCP servers offer; the value is the member of the list result that holds the items."""

    TOOLS = "tools"
    RESOURCES = "resources"
    TEMPLATES = "resourceTemplates"
    PROMPTS = "prompts"


KEY_FIELD: Mapping[Kind, str] = {
    Kind.TOOLS: "name",
    Kind.RESOURCES: "uri",
    Kind.TEMPLATES: "uriTemplate",
    Kind.PROMPTS: "name",
}
"""The member that identifies an item of each kind."""

LIST_METHOD: Mapping[str, Kind] = {
    "tools/list": Kind.TOOLS,
    "resources/list": Kind.RESOURCES,
    "resources/templates/list": Kind.TEMPLATES,
    "prompts/list": Kind.PROMPTS,
}
"""The list methods, the same in both eras."""


@dataclass(frozen=True, slots=True)
class BackendItem:
    """One item as its backend sent it.

    Attributes:
        key: Value of the kind's key field.
        raw: The whole JSON object.
    """

    key: str
    raw: bytes


def parse_items(kind: Kind, raws: Iterable[bytes]) -> tuple[tuple[BackendItem, ...], tuple[str, ...]]:
    """Read the keys of a backend's items.

    Returns:
        The items in the backend's order, and a sentence for each that was dropped: not an object, without a usable
        key, or with the key of an earlier item (the first wins, for a backend could serve only one of them anyway).
    """
    field = KEY_FIELD[kind]
    items: dict[str, BackendItem] = {}
    problems: list[str] = []
    for raw in raws:
        try:
            key = _text.decode(_members.decode(raw)[field])
        except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
            problems.append(f"an item of {kind.value} has no usable {field!r}")
            continue
        if not key:
            problems.append(f"an item of {kind.value} has an empty {field!r}")
        elif key in items:
            problems.append(f"{kind.value} has {key!r} twice")
        else:
            items[key] = BackendItem(key, bytes(raw))
    return tuple(items.values()), tuple(problems)


def replace_members(raw: bytes, changes: Mapping[str, Any]) -> bytes:
    """Return the object with `changes` put in; other members keep their place and their exact bytes.

    A new member goes to the end. Values are encoded as JSON.
    """
    members = _members.decode(raw)
    for name, value in changes.items():
        members[name] = msgspec.Raw(_encode(value))
    return _encode(members)


def member(raw: bytes, name: str) -> Any:
    """Return one member, decoded; None when absent or when `raw` is no object."""
    try:
        found = _members.decode(raw).get(name)
        return None if found is None else msgspec.json.decode(found)
    except msgspec.DecodeError:
        return None
