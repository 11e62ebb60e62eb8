"""Items of a backend's lists: tools, resources, templates, prompts, changed without losing a byte.

An item is kept as the JSON members that the backend sent. A rename replaces one member's value; every other value goes
out with the very bytes that came in, known to us or not (title, icons, `_meta`, vendor fields, schemas, number forms).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from vmcp.backend.interface import Kind
from vmcp.backend.model import LIST_KINDS
from vmcp.wire.jsonrpc import fields

LIST_METHOD: Mapping[str, Kind] = {spec.method: kind for kind, spec in LIST_KINDS.items()}
"""The list methods, the same in both eras."""

_encode = msgspec.json.Encoder().encode


def replace_members(raw: bytes, changes: Mapping[str, Any]) -> bytes:
    """Return the object with `changes` put in; other members keep their place and their exact bytes.

    A new member goes to the end. Values are encoded as JSON.
    """
    members = fields(raw)
    for name, value in changes.items():
        members[name] = msgspec.Raw(_encode(value))
    return _encode(members)


def member(raw: bytes, name: str) -> Any:
    """Return one member, decoded; None when absent or when `raw` is not an object."""
    found = fields(raw).get(name)
    try:
        return None if found is None else msgspec.json.decode(found)
    except msgspec.DecodeError:
        return None
