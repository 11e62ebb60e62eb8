"""What an HTTP answer of a backend means: a message, a lost session, or a failure."""

from __future__ import annotations

from msgspec import UNSET

from vmcp.backend.errors import BackendProtocolError, BackendUnavailable
from vmcp.backend.interface import Reply
from vmcp.backend.model import Era
from vmcp.http.client import Response
from vmcp.wire.jsonrpc import JsonRpcError, Message, RpcError, parse

_PASSING = frozenset({408, 425, 429})


class SessionLost(Exception):  # noqa: N818
    """The backend no longer knows our session; the request was not executed."""


def message_of(name: str, response: Response) -> Message:
    """Return the JSON-RPC message in a whole answer, errors with a 4xx or 5xx status included.

    Args:
        name: The backend's.
        response: Without a stream.

    Raises:
        BackendUnavailable: 5xx, 408 or 429 without a JSON-RPC message.
        BackendProtocolError: Anything else that holds none.
    """
    status = response.status
    try:
        if response.body:
            return parse(response.body)
        problem = "it is empty"
    except JsonRpcError as err:
        problem = str(err)
    if status >= 500 or status in _PASSING:
        raise BackendUnavailable(name, f"answered HTTP {status}", status=status)
    if status >= 400:
        raise BackendProtocolError(name, f"answered HTTP {status} without a JSON-RPC error", status=status)
    if status == 202:
        problem = "it accepted a request without answering it"
    raise BackendProtocolError(name, f"answered HTTP {status}, but {problem}", status=status)


def error_of(response: Response) -> RpcError | None:
    """Return the JSON-RPC error of an answer, None when there is none in it."""
    try:
        message = parse(response.body)
    except JsonRpcError:
        return None
    return message.error if isinstance(message.error, RpcError) else None


def is_session_loss(response: Response) -> bool:
    """Tell whether an answer to a request that carried a session id says that the session is gone.

    404 by the specification; some servers answer 400 with an error that speaks of the session.
    """
    if response.status == 404:
        return True
    if response.status != 400:
        return False
    error = error_of(response)
    return error is not None and error.code in {-32000, -32001, -32600} and "session" in error.message.lower()


def reply_of(name: str, message: Message, id: int, *, status: int, era: Era) -> Reply:  # noqa: A002
    """Return the reply in the response to request `id`.

    Raises:
        BackendProtocolError: It answers another request. An error may lack the id (the server could not read it).
    """
    if isinstance(message.error, RpcError) and message.id in (id, None, UNSET):
        return Reply(error=message.error, era=era, status=status)
    if message.result is UNSET or message.id != id:
        raise BackendProtocolError(name, "answered another request than ours", status=status)
    return Reply(result=bytes(message.result), era=era, status=status)
