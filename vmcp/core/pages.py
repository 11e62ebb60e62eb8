"""Pages of tools (`ui://`, MCP Apps): each belongs to the backend whose tool shows it.

Backends choose these URIs alone, so two copies of one server, or two servers of one author, use the same. A tool
refers to its page in `_meta`; where several backends use a URI, each gets one of its own, in the tool as in the list,
and a read of it goes to that backend under the old name. A page that only a tool mentions can be read as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from msgspec import Raw

from vmcp.backend.interface import Item
from vmcp.wire.jsonrpc import dumps, fields, join, loads_str

SCHEME: Final = "ui://"
_HOST: Final = ".vmcp"
"""Ends the host of the URIs that are made here; a backend that uses such a host itself always gets another."""
_FLAT: Final = ("ui/resourceUri", "openai/outputTemplate")
"""Members of `_meta` that name a page, besides `ui.resourceUri`."""


class _Offer(Protocol):
    @property
    def backend(self) -> str: ...
    @property
    def tools(self) -> Iterable[Item]: ...
    @property
    def resources(self) -> Iterable[Item]: ...


class SharedPages:
    """The pages of all backends, and what those that several use are called."""

    def __init__(self, offers: Iterable[_Offer]) -> None:
        """Look through tools and resources of all backends."""
        self._users: dict[str, set[str]] = defaultdict(set)
        listed: set[tuple[str, str]] = set()
        named: set[tuple[str, str]] = set()
        for offer in offers:
            listed.update((offer.backend, item.key) for item in offer.resources if item.key.startswith(SCHEME))
            for tool in offer.tools:
                named.update((offer.backend, uri) for uri in _pages_of(tool.raw))
        for backend, uri in listed | named:
            self._users[uri].add(backend)
        self._unlisted = sorted(named - listed)

    def alias(self, backend: str, uri: str) -> str:
        """Return what a backend's page is called here; its own URI unless another backend uses the same."""
        if not uri.startswith(SCHEME):
            return uri
        rest = uri.removeprefix(SCHEME)
        if len(self._users.get(uri, ())) < 2 and not rest.partition("/")[0].endswith(_HOST):
            return uri
        return f"{SCHEME}{backend}{_HOST}/{rest}"

    def unlisted(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield (name here, (backend, URI there)) of pages that tools mention and no list does."""
        for backend, uri in self._unlisted:
            yield self.alias(backend, uri), (backend, uri)

    def renamed_in(self, backend: str, raw: bytes) -> bytes:
        """Return a tool that refers to its page as it is called here."""
        changes = {uri: alias for uri in _pages_of(raw) if (alias := self.alias(backend, uri)) != uri}
        if not changes:
            return raw
        members = fields(raw)
        meta = fields(members["_meta"])
        for name in _FLAT:
            meta = _replaced(meta, name, changes)
        if "ui" in meta:
            meta["ui"] = Raw(join(_replaced(fields(meta["ui"]), "resourceUri", changes)))
        members["_meta"] = Raw(join(meta))
        return join(members)


def _replaced(members: dict[str, Raw], name: str, changes: Mapping[str, str]) -> dict[str, Raw]:
    uri = loads_str(members.get(name))
    return members if uri is None or uri not in changes else {**members, name: Raw(dumps(changes[uri]))}


def _pages_of(raw: bytes) -> list[str]:
    if b"ui:" not in raw:
        return []
    meta = fields(fields(raw).get("_meta"))
    found = [loads_str(meta.get(name)) for name in _FLAT]
    found.append(loads_str(fields(meta.get("ui")).get("resourceUri")))
    return [uri for uri in found if uri is not None and uri.startswith(SCHEME)]
