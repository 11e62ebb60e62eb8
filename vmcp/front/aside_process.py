"""The process in which large bodies are read, and how the gateway talks with it.

A question is the length of the bounds and of the body, then both; the answer is its length and what was found out, with
the place in the body of everything that may be long. It holds no secret and opens nothing: it gets bytes on its
standard input, which is a socket, and says what they are.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from vmcp.front.reading import Bounds, Reading, read_all
from vmcp.front.request import Params
from vmcp.http.server.asgi import Refusal
from vmcp.wire.jsonrpc import Message, RequestId, RpcError

QUESTION: Final = struct.Struct("!II")
"""Lengths of the bounds and of the body."""
ANSWER: Final = struct.Struct("!I")
_NICE: Final = 5
"""Large bodies take longer rather than small ones."""

_Place = tuple[int, int]


class _Said(msgspec.Struct, omit_defaults=True):
    """A message, with places instead of raw members."""

    jsonrpc: str = ""
    id: str | int | float | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: _Place | UnsetType = UNSET
    result: _Place | UnsetType = UNSET
    error: RpcError | UnsetType | None = UNSET


class _Wanted(msgspec.Struct, omit_defaults=True):
    """Params, with places instead of raw members."""

    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET
    arguments: _Place | UnsetType = UNSET
    inputResponses: _Place | UnsetType = UNSET  # noqa: N815  the wire's name
    requestState: str | UnsetType = UNSET  # noqa: N815  the wire's name
    meta: _Place | UnsetType = UNSET


class _Refused(msgspec.Struct, omit_defaults=True):
    status: int
    code: int
    text: str
    id: RequestId | None = None


class _Found(msgspec.Struct, omit_defaults=True):
    message: _Said | None = None
    target: _Wanted | None = None
    refusal: _Refused | None = None


_found = msgspec.json.Decoder(_Found)
_bounds = msgspec.json.Decoder(Bounds)


def question(bounds: Bounds, size: int) -> bytes:
    """Return what precedes a body of `size` bytes."""
    said = msgspec.json.encode(bounds)
    return QUESTION.pack(len(said), size) + said


def understood(answer: bytes, body: bytes) -> Reading:
    """Return what an answer says about `body`.

    Raises:
        msgspec.DecodeError: It is none.
    """
    found = _found.decode(answer)
    view, refused = memoryview(body), found.refusal
    return Reading(
        None if found.message is None else _message(found.message, view),
        None if found.target is None else _params(found.target, view),
        None if refused is None else Refusal(refused.status, refused.code, refused.text, id=refused.id),
    )


def _raw(place: _Place | UnsetType, view: memoryview) -> Raw | UnsetType:
    return UNSET if place is UNSET else Raw(view[place[0] : place[1]])


def _message(said: _Said, view: memoryview) -> Message:
    return Message(said.jsonrpc, said.id, said.method, _raw(said.params, view), _raw(said.result, view), said.error)


def _params(wanted: _Wanted, view: memoryview) -> Params:
    return Params(
        name=wanted.name,
        uri=wanted.uri,
        arguments=_raw(wanted.arguments, view),
        inputResponses=_raw(wanted.inputResponses, view),
        requestState=wanted.requestState,
        meta=_raw(wanted.meta, view),
    )


def _place(raw: Raw | UnsetType, body: bytes) -> _Place | UnsetType:
    if raw is UNSET:
        return UNSET
    # Where the same bytes stand several times it does not matter which of them are meant.
    start = body.find(bytes(raw))
    return start, start + len(raw)


def _answer(found: Reading, body: bytes) -> bytes:
    message, target, refusal = found.message, found.target, found.refusal
    said = wanted = refused = None
    if message is not None:
        params, result = _place(message.params, body), _place(message.result, body)
        said = _Said(message.jsonrpc, message.id, message.method, params, result, message.error)
    if target is not None and refusal is None:
        wanted = _Wanted(
            target.name,
            target.uri,
            _place(target.arguments, body),
            _place(target.inputResponses, body),
            target.requestState,
            _place(target.meta, body),
        )
    if refusal is not None:
        refused = _Refused(refusal.status, refusal.error.code, refusal.error.message, refusal.id)
    return msgspec.json.encode(_Found(said, wanted, refused))


def _receive(sock: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        more = sock.recv_into(view[got:])
        if not more:
            return None
        got += more
    return data


def serve(sock: socket.socket) -> None:
    """Answer until the other side closes."""
    while (head := _receive(sock, QUESTION.size)) is not None:
        bounds, size = QUESTION.unpack(head)
        said, received = _receive(sock, bounds), _receive(sock, size)
        if said is None or received is None:
            return
        body = bytes(received)
        del received
        answer = _answer(read_all(body, _bounds.decode(said)), body)
        sock.sendall(ANSWER.pack(len(answer)) + answer)
        del body, answer


def main() -> None:
    """Serve on the standard input."""
    # Its end is the end of the gateway, which closes the socket; what is sent to the whole group is not meant for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(_NICE)
    serve(socket.socket(fileno=0))


if __name__ == "__main__":
    main()
