"""JSON-RPC 2.0 envelopes with raw contents.

Only the envelope is decoded. `params`, `result` and `error.data` stay `msgspec.Raw`: the very bytes that arrived, so
that fields which we do not know, number formats and key order survive a pass through the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

RequestId = str | int | float
"""MCP allows strings and integers; fractional numbers are accepted because JSON-RPC does."""

_COLON_NULL: Final = b"null"


MAX_CODE: Final = 2**53 - 1
"""Greatest amount of an error code: what is not exact in JavaScript, clients of it refuse with the whole message."""


class RpcError(msgspec.Struct, frozen=True):
    """The `error` member.

    Attributes:
        code: JSON-RPC or MCP error code.
        message: For people. Written even where it is empty: clients refuse an error without one.
        data: Raw JSON, untouched; UNSET when there is none.
    """

    code: Annotated[int, Meta(ge=-MAX_CODE, le=MAX_CODE)]
    message: str = ""
    data: Raw | UnsetType = UNSET


class Message(msgspec.Struct, frozen=True, gc=False):
    """Any JSON-RPC message, told apart by which members are there.

    Attributes:
        jsonrpc: Must be "2.0"; checked by `parse`.
        id: The request's id; UNSET in notifications, None where a peer wrote `null`.
        method: UNSET in responses.
        params: Raw; UNSET when absent.
        result: Raw; UNSET unless this is a successful response.
        error: UNSET unless this is an error response.
    """

    jsonrpc: str = ""
    id: str | int | float | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: RpcError | UnsetType | None = UNSET

    @property
    def is_request(self) -> bool:
        """Asks for an answer."""
        return self.method is not UNSET and self.id is not UNSET and self.id is not None

    @property
    def is_notification(self) -> bool:
        """Asks for none."""
        return self.method is not UNSET and self.id is UNSET

    @property
    def is_response(self) -> bool:
        """Answers a request of ours."""
        return self.method is UNSET and (self.result is not UNSET or isinstance(self.error, RpcError))


class JsonRpcError(ValueError):
    """Bytes that are no acceptable JSON-RPC message.

    Attributes:
        code: PARSE_ERROR (-32700) or INVALID_REQUEST (-32600).
        id: The message's id, where it could be read.
    """

    def __init__(self, code: int, reason: str, *, id: RequestId | None = None) -> None:  # noqa: A002  the member's name
        super().__init__(reason)
        self.code = code
        self.id = id


_decoder = msgspec.json.Decoder(Message)
_id_decoder = msgspec.json.Decoder(str | int | float)
_raw_object = msgspec.json.Decoder(dict[str, Raw])
_encoder = msgspec.json.Encoder()

EMPTY: Final = b"{}"


def parse(body: bytes | bytearray | memoryview | Raw) -> Message:
    """Decode one message. Its raw members are views that keep `body` alive: `bytes()` them to store them for long.

    Raises:
        JsonRpcError: No JSON, a batch, a wrong version, or neither request, notification nor response.
    """
    if not _is_utf8(body):
        raise JsonRpcError(-32700, "the body is not valid JSON: it is not UTF-8")
    try:
        message = _decoder.decode(body)
    except msgspec.ValidationError as err:
        raise JsonRpcError(-32600, _explain(body)) from err
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise JsonRpcError(-32700, "the body is not valid JSON") from err
    if message.jsonrpc != "2.0":
        raise JsonRpcError(-32600, 'member "jsonrpc" must be "2.0"', id=known_id(message))
    # A request with an id is what nearly all messages are.
    if (message.method is UNSET or message.id is UNSET or message.id is None) and not (
        message.is_notification or message.is_response
    ):
        raise JsonRpcError(-32600, "neither a request, a notification nor a response", id=known_id(message))
    return message


def _is_utf8(body: bytes | bytearray | memoryview | Raw) -> bool:
    """Say whether all of the body is UTF-8: msgspec does not look into strings that it keeps raw."""
    text = body if type(body) is bytes else bytes(body)
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def known_id(message: Message) -> RequestId | None:
    """Return the id, None when there is none."""
    return None if message.id is UNSET or message.id is None else message.id


def _explain(body: bytes | bytearray | memoryview | Raw) -> str:
    """Say why valid JSON is not a message: a batch is the one mistake that deserves its own words."""
    if bytes(body[:64] if not isinstance(body, Raw) else bytes(body)[:64]).lstrip()[:1] == b"[":
        return "JSON-RPC batches are not supported"
    return "the body is not a JSON-RPC message"


def fields(raw: bytes | Raw | None) -> dict[str, Raw]:
    """Return the members of a JSON object, each still raw; {} for None and for anything that is not an object."""
    if not raw:
        return {}
    try:
        return _raw_object.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def join(members: Mapping[str, Raw | bytes]) -> bytes:
    """Return the JSON object of raw members, in their order."""
    return _encoder.encode({key: value if type(value) is Raw else Raw(value) for key, value in members.items()})


def join_raw(members: Mapping[str, Raw]) -> bytes:
    """Return the same for members that are `Raw` already, as `fields` gives them: one pass in C."""
    return _encoder.encode(members)


def dumps(value: object) -> bytes:
    """Encode any plain value; Raw inside it is copied as it is."""
    return _encoder.encode(value)


def loads_str(raw: Raw | bytes | None) -> str | None:
    """Return a JSON string's value, None when `raw` is anything else."""
    if not raw:
        return None
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def loads_id(raw: Raw | bytes | None) -> RequestId | None:
    """Return the request id that `raw` is, None when it is anything else: only texts and numbers are ids."""
    try:
        return None if not raw else _id_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def request(id: RequestId, method: str, params: bytes | Raw | None = None) -> bytes:  # noqa: A002  the member's name
    """Encode a request; `params` None leaves the member out."""
    head = b'{"jsonrpc":"2.0","id":%b,"method":%b' % (_encoder.encode(id), _encoder.encode(method))
    return head + b"}" if params is None else b"".join((head, b',"params":', params, b"}"))


def notification(method: str, params: bytes | Raw | None = None) -> bytes:
    """Encode a notification; `params` None leaves the member out."""
    head = b'{"jsonrpc":"2.0","method":%b' % _encoder.encode(method)
    return head + b"}" if params is None else b'%b,"params":%b}' % (head, bytes(params))


def response(id: RequestId | None, result: bytes | Raw) -> bytes:  # noqa: A002  the member's name
    """Encode a successful response around raw result bytes."""
    return b"".join((b'{"jsonrpc":"2.0","id":', _encoder.encode(id), b',"result":', result, b"}"))


def error_response(id: RequestId | None, error: RpcError, *, omit_id: bool = False) -> bytes:  # noqa: A002
    """Encode an error response; `omit_id` leaves the member out (modern: never `null`)."""
    if omit_id and id is None:
        return b'{"jsonrpc":"2.0","error":%b}' % _encoder.encode(error)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (_encoder.encode(id), _encoder.encode(error))
