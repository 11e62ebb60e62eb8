"""From one era's results to the other's. Same era: the bytes pass.

| | legacy result to a modern client | modern result to a legacy client |
|---|---|---|
| `resultType` | `complete` is added | removed |
| `ttlMs`, `cacheScope` | 0, `private` where the method wants them | removed |
| error -32002 (no such resource) | -32602 | stays |
"""

from __future__ import annotations

from typing import Final

from vmcp.backend.interface import LIST_KINDS, Kind
from vmcp.core.views import Page
from vmcp.turns import LARGE
from vmcp.wire.jsonrpc import RpcError, dumps, fields
from vmcp.wire.protocol import INVALID_PARAMS, META_SERVER_INFO, RESOURCE_NOT_FOUND_LEGACY

_MODERN_ONLY: Final = ("resultType", "ttlMs", "cacheScope")
_COMPLETE: Final = b'"resultType":"complete"'
UNCACHED: Final = b'"ttlMs":0,"cacheScope":"private"'
"""Lists depend on the caller, and policy may change at any time."""


def to_modern(result: bytes, *, cacheable: bool) -> bytes:
    """Stamp a legacy result for a modern client; `cacheable` = the method's results carry cache hints."""
    stamps = _COMPLETE + b"," + UNCACHED if cacheable else _COMPLETE
    if len(result) > LARGE:
        # Copied once instead of three times.
        inner = memoryview(result.strip())[1:]
        empty = (bytes(inner[:64]).lstrip() or bytes(inner).lstrip())[:1] == b"}"
        return b"".join((b"{", stamps, b"" if empty else b",", inner))
    inside = result.strip()[1:]
    return b"{" + stamps + (b"}" if inside.lstrip()[:1] == b"}" else b"," + inside)


def to_legacy(result: bytes) -> bytes:
    """Take from a modern result what legacy clients do not know."""
    if b'"resultType"' not in result and b'"ttlMs"' not in result:
        return result
    members = fields(result)
    for name in _MODERN_ONLY:
        members.pop(name, None)
    return dumps(members)


def error_to_modern(error: RpcError) -> RpcError:
    """Return the modern code of an error."""
    if error.code == RESOURCE_NOT_FOUND_LEGACY:
        return RpcError(INVALID_PARAMS, error.message, error.data)
    return error


class Rendering:
    """List results in the two eras."""

    def __init__(self, server_info: bytes) -> None:
        """Take the raw `serverInfo` object."""
        self._info = b"%b:%b" % (dumps(META_SERVER_INFO), server_info)
        self.meta = b'"_meta":{%b}' % self._info

    def legacy(self, kind: Kind, page: Page) -> bytes:
        """Return a legacy list result."""
        return b'{%b,"_meta":{%b}}' % (_items(kind, page), page.meta) if page.meta else b"{%b}" % _items(kind, page)

    def modern(self, kind: Kind, page: Page) -> bytes:
        """Return a modern list result."""
        meta = b'"_meta":{%b,%b}' % (self._info, page.meta) if page.meta else self.meta
        return b"{%b,%b,%b,%b}" % (_COMPLETE, _items(kind, page), UNCACHED, meta)


def _items(kind: Kind, page: Page) -> bytes:
    items = b'"%b":[%b]' % (LIST_KINDS[kind].member.encode(), page.items)
    return items if page.cursor is None else b'%b,"nextCursor":%b' % (items, dumps(page.cursor))
