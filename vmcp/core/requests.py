"""Params of the methods that the gateway routes: read once, rewritten only where a name differs at the backend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vmcp.wire.jsonrpc import dumps, fields, loads_str

_MRTR = ("inputResponses", "requestState")


class ParamsError(ValueError):
    """The params of a request are not what its method takes; the text says which."""


class Target(msgspec.Struct, gc=False):
    """The members of params that decide where a request goes. Everything else stays in the raw params.

    Attributes:
        name: Tool or prompt name.
        uri: Of resources.
        arguments: Raw.
        inputResponses: Raw; modern retries only.
        requestState: Modern retries only.
    """

    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET
    arguments: Raw | UnsetType = UNSET
    inputResponses: Raw | UnsetType = UNSET  # noqa: N815  the wire's name
    requestState: str | UnsetType = UNSET  # noqa: N815  the wire's name

    @property
    def is_retry(self) -> bool:
        """The request answers an earlier `input_required`."""
        return self.inputResponses is not UNSET or self.requestState is not UNSET


_target = msgspec.json.Decoder(Target)


def read_target(params: bytes, key: str, target: Target | None = None) -> tuple[str, Target]:
    """Return the name (or URI) under `key`, and the rest of what matters.

    Raises:
        ParamsError: It is missing, or something has the wrong type.
    """
    try:
        target = target or _target.decode(params)
    except msgspec.ValidationError as err:
        raise ParamsError(f"invalid params: {err}") from err
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as err:
        raise ParamsError("invalid params") from err
    found = target.name if key == "name" else target.uri
    if found is UNSET:
        raise ParamsError(f"invalid params: member {key!r} is missing")
    arguments = target.arguments
    if arguments is not UNSET and bytes(memoryview(arguments)[:1]) != b"{" and bytes(arguments) != b"null":
        raise ParamsError("invalid params: member 'arguments' must be an object")
    return found, target


def argument_in_another_case(arguments: bytes, item: bytes) -> tuple[str, str] | None:
    """Return an argument that is one of those that an item declares but for its case, and the declared name.

    A policy looks for the declared name, and a server that does not mind case takes the other one for it.
    """
    declared, folded = _declared_arguments(item)
    for name in fields(arguments):
        if name not in declared and (meant := folded.get(name.casefold())) is not None:
            return name[:64], meant
    return None


class _Schema(msgspec.Struct):
    properties: dict[str, Raw] = {}


class _Argument(msgspec.Struct):
    name: str


class _Item(msgspec.Struct):
    inputSchema: _Schema | None = None  # noqa: N815  the wire's name
    arguments: list[_Argument] = []


_item = msgspec.json.Decoder(_Item)


@lru_cache(maxsize=1024)
def _declared_arguments(item: bytes) -> tuple[frozenset[str], Mapping[str, str]]:
    """Return the names that a tool's schema or a prompt declares, and the same by their folded form."""
    try:
        found = _item.decode(item)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return frozenset(), {}
    names = [*(found.inputSchema.properties if found.inputSchema else ()), *(one.name for one in found.arguments)]
    return frozenset(names), {name.casefold(): name for name in names}


def without_answers(params: bytes) -> bytes:
    """Return the params without the members of a retry: they travel beside the call."""
    members = fields(params)
    for name in _MRTR:
        members.pop(name, None)
    return dumps(members)


_NAME_FIRST: Final = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"name"[ \t\r\n]*:[ \t\r\n]*')


def with_name(params: bytes, advertised: str, name: str) -> bytes:
    """Return the params for a tool or prompt that has another name at its backend.

    Most clients write the name first; then nothing else has to be read.
    """
    quoted = dumps(advertised)
    begin = _NAME_FIRST.match(params)
    if begin is not None and params.startswith(quoted, begin.end()):
        return b"".join((b'{"name":', dumps(name), memoryview(params)[begin.end() + len(quoted) :]))
    members = fields(params)
    members["name"] = Raw(dumps(name))
    return dumps(members)


def with_uri(params: bytes, uri: str) -> bytes:
    """Return the params for a resource that has another URI at its backend."""
    members = fields(params)
    members["uri"] = Raw(dumps(uri))
    return dumps(members)


def renamed_contents(result: bytes, original: str, name: str) -> bytes:
    """Return the result of a read whose contents bear the URI that the client asked for."""
    members = fields(result)
    try:
        contents = msgspec.json.decode(members.get("contents", b"[]"), type=list[Raw])
    except msgspec.DecodeError:
        return result
    renamed: list[Raw] = []
    for raw in contents:
        content = fields(raw)
        if loads_str(content.get("uri")) == original:
            content["uri"] = Raw(dumps(name))
            raw = Raw(dumps(content))
        renamed.append(raw)
    members["contents"] = Raw(dumps(renamed))
    return dumps(members)


class Reference(msgspec.Struct):
    """`params.ref` of a completion."""

    type: str
    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET


class _Completion(msgspec.Struct):
    ref: Reference


_completion = msgspec.json.Decoder(_Completion)


def read_reference(params: bytes) -> Reference:
    """Return what a completion is for.

    Raises:
        ParamsError: There is no usable `ref`.
    """
    try:
        return _completion.decode(params).ref
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as err:
        raise ParamsError("invalid params: member 'ref' is missing or malformed") from err


def with_reference(params: bytes, name: str) -> bytes:
    """Return the params of a completion for a prompt that has another name at its backend."""
    members = fields(params)
    ref = fields(members["ref"])
    ref["name"] = Raw(dumps(name))
    members["ref"] = Raw(dumps(ref))
    return dumps(members)
