"""What is found out about a body before anything is done with it.

How deep it is, what it says, and that all parsers would read the same.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET

from vmcp.front.guard import check_depth
from vmcp.front.members import check_members
from vmcp.front.request import Params, read_params
from vmcp.http.server.asgi import Refusal
from vmcp.wire.jsonrpc import JsonRpcError, Message, parse
from vmcp.wire.mending import read_message
from vmcp.wire.protocol import INVALID_REQUEST

_LONGEST_ANSWER: Final = 8192
"""Bytes of an answer that is read as it is meant: a longer body that is wrong is refused at once, whatever it is."""


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """What a body may hold.

    Attributes:
        depth: Levels of nesting.
        batch: Messages of an array.
        arguments_judged: Policies look at arguments: their names must not differ in case only.
    """

    depth: int
    batch: int
    arguments_judged: bool = False


class Reading(msgspec.Struct):
    """What was found out.

    Attributes:
        message: None = an array, which one old version allows.
        target: Its params, where they were read.
        refusal: Why it cannot be served; None = it can.
    """

    message: Message | None = None
    target: Params | None = None
    refusal: Refusal | None = None

    def refused(self) -> Refusal:
        """Return the refusal and forget it: who raises it must not keep it, or the two would keep the body."""
        refusal, self.refusal = self.refusal, None
        assert refusal is not None
        return refusal


def parsed(body: bytes) -> Message | None:
    """Return the message; None for an array, which one old version allows.

    A request is what it says, or refused. The answer to a backend's question is read as it is meant, because a call
    waits for it.

    Raises:
        Refusal: 400, neither.
    """
    try:
        return parse(body)
    except JsonRpcError as err:
        if err.code == INVALID_REQUEST and body.lstrip()[:1] == b"[":
            return None
        if (meant := _answer(body)) is not None:
            return meant
        raise Refusal(400, err.code, str(err), id=err.id) from err


def _answer(body: bytes) -> Message | None:
    if len(body) > _LONGEST_ANSWER:
        return None
    try:
        message = read_message(body)
    except JsonRpcError:
        return None
    return message if message.is_response else None


def read_all(body: bytes, bounds: Bounds) -> Reading:
    """Find out everything at once. Takes time linear in the body, which for some MiB may be a tenth of a second."""
    found = Reading()
    try:
        check_depth(body, bounds.depth)
        found.message = parsed(body)
        if found.message is None:
            _check_length(body, bounds.batch)
        found.target = check_members(body, found.message, arguments_judged=bounds.arguments_judged)
        if found.target is None and found.message is not None and found.message.params is not UNSET:
            found.target = _target(found.message)
    except Refusal as refusal:
        refusal.__cause__ = refusal.__context__ = None
        found.refusal = refusal.with_traceback(None)  # which holds the body
    return found


def _check_length(body: bytes, most: int) -> None:
    try:
        number = len(msgspec.json.decode(body, type=list[msgspec.Raw]))
    except (msgspec.DecodeError, RecursionError):
        return  # whoever reads it will say so
    if number > most:
        raise Refusal(400, INVALID_REQUEST, "the batch is empty or too long")


def _target(message: Message) -> Params | None:
    try:
        return read_params(message.params)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None  # whoever needs them will say what is wrong
