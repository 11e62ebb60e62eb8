"""Resources that an answer hands out: a client may read them although no list of the backend holds them.

MCP 2025-11-25, server/tools, "Resource Links": such a URI is "not guaranteed to appear in the results of a
resources/list request". Who handed it out is remembered with the client's sessions, for that client alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vmcp.wire.jsonrpc import fields

MAX_LINKS: Final = 1024
"""Links that are remembered per client; the one that was handed out first is forgotten first."""
MAX_URI: Final = 8192
"""Characters; longer ones are not remembered."""
MARK: Final = b'"resource'
"""Is part of every answer that hands out a resource."""


class Links:
    """Which backend handed out which URI."""

    __slots__ = ("_backends",)

    def __init__(self) -> None:
        self._backends: OrderedDict[str, str] = OrderedDict()

    def note(self, backend: str, result: bytes) -> None:
        """Remember what a result of `tools/call` or `prompts/get` hands out."""
        for uri in _uris(result):
            if len(uri) > MAX_URI:
                continue
            self._backends[uri] = backend
            self._backends.move_to_end(uri)
            if len(self._backends) > MAX_LINKS:
                self._backends.popitem(last=False)

    def backend(self, uri: str) -> str | None:
        """Return who handed a URI out last; None = nobody."""
        return self._backends.get(uri)


class _Embedded(msgspec.Struct):
    uri: str | UnsetType = UNSET


class _Block(msgspec.Struct):
    type: str = ""
    uri: str | UnsetType = UNSET
    resource: _Embedded | UnsetType = UNSET


class _Message(msgspec.Struct):
    content: Raw | UnsetType = UNSET


_raws = msgspec.json.Decoder(list[Raw])
_block = msgspec.json.Decoder(_Block)
_message = msgspec.json.Decoder(_Message)


def _uris(result: bytes) -> Iterator[str]:
    members = fields(result)
    blocks = _list(members.get("content"))
    for raw in _list(members.get("messages")):
        try:
            content = _message.decode(raw).content
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if content is not UNSET:
            blocks.append(content)
    for raw in blocks[:MAX_LINKS]:
        try:
            block = _block.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if block.type == "resource_link" and block.uri is not UNSET:
            yield block.uri
        elif block.type == "resource" and block.resource is not UNSET and block.resource.uri is not UNSET:
            yield block.resource.uri


def _list(raw: Raw | None) -> list[Raw]:
    try:
        return [] if raw is None else _raws.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
