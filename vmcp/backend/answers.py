"""What an HTTP answer of a backend means: a message, a lost session, or a failure.

The specification has one sign for a lost session: HTTP 404. Deployed servers say it in other ways, and use 404 for
other things. What decides is the id of the request:

| answer | meaning |
|---|---|
| a result, or an error with the request's id | the answer, whatever the status; it is never asked for twice |
| the same, but all it says is that the session is unknown (`Session not found`, `Server not initialized`) | lost |
| an error with no id or a made-up one, which speaks of an unknown session | lost |
| any other error | the answer: code, message and data are the backend's |
| 404 or 410 without a JSON-RPC message, to a request that carried a session id | lost |
| another 4xx without a JSON-RPC message that speaks of an unknown session | lost |
| anything else without a JSON-RPC message | a failure |

"Lost" means that the request was not executed, so it may be sent again in a new session. Where that is not certain, the
answer stands, and the session looks after itself (`legacy.doubts`).
"""

from __future__ import annotations

import re

from msgspec import UNSET

from vmcp.backend.errors import BackendAuthFailed, BackendError, BackendProtocolError, BackendUnavailable
from vmcp.backend.interface import Reply
from vmcp.backend.model import Era
from vmcp.http.client.types import LATER, Response
from vmcp.wire.jsonrpc import EMPTY, JsonRpcError, Message, RpcError
from vmcp.wire.mending import read_batch, read_message
from vmcp.wire.protocol import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, SSE_TYPE
from vmcp.wire.sse import SseError, SseParser

_LOOKED_AT = 512
"""Characters of a text that are compared with the phrases below."""
_PREFIXES = ("bad request ", "not found ", "unauthorized ", "gone ", "invalid request ", "error ", "mcp error ")
_PHRASES = frozenset(
    {
        "session not found",
        "session id not found",
        "session does not exist",
        "session expired",
        "session has expired",
        "session terminated",
        "session has been terminated",
        "session closed",
        "session not initialized",
        "no such session",
        "unknown session",
        "unknown session id",
        "invalid session",
        "invalid session id",
        "invalid or expired session",
        "invalid or expired session id",
        "invalid or missing session id",
        "no valid session",
        "no valid session id",
        "no valid session id provided",
        "could not find session",
        "server not initialized",
        "server is not initialized",
        "not initialized",
        "received request before initialization was complete",
    }
)
"""What deployed servers say of a session that they do not know, in the form that `_plain` gives."""
_LOSS_CODES = frozenset({-32000, -32001, -32002, INVALID_REQUEST})
_PLAIN_CODES = frozenset({METHOD_NOT_FOUND, INVALID_PARAMS, PARSE_ERROR})
"""Codes that say something about the request, whoever's id they carry."""
_GONE = frozenset(
    {"not", "no", "invalid", "unknown", "expired", "terminated", "closed", "missing", "gone", "lost", "ended", "stale"}
)
_WORD = re.compile(r"[a-z]+")


class SessionLost(Exception):  # noqa: N818
    """The backend no longer knows our session; the request was not executed."""


def message_of(name: str, response: Response) -> Message:
    """Return the JSON-RPC message in a whole answer, errors with a 4xx or 5xx status included.

    Args:
        name: The backend's.
        response: Without a stream; a refusal may still have the form of an event stream.

    Raises:
        BackendUnavailable: 5xx, 408, 425 or 429 without a JSON-RPC message.
        BackendProtocolError: Anything else that holds none.
    """
    status = response.status
    try:
        if response.body:
            if status >= 400 and response.media_type == SSE_TYPE:
                return read_message(_event_in(response))
            return _message_in(response.body)
        problem = "it is empty"
    except JsonRpcError as err:
        problem = str(err)
    if status >= 500 or status in LATER:
        raise BackendUnavailable(name, f"answered HTTP {status}", status=status)
    if status >= 400:
        raise BackendProtocolError(name, f"answered HTTP {status} without a JSON-RPC error", status=status)
    if status == 202:
        problem = "it accepted a request without answering it"
    raise BackendProtocolError(name, f"answered HTTP {status}, but {problem}", status=status)


def _message_in(body: bytes) -> Message:
    """Return the message that a body is, or the response among those in an array.

    Raises:
        JsonRpcError: There is none.
    """
    try:
        return read_message(body)
    except JsonRpcError:
        found = next((message for message in read_batch(body) if message.is_response), None)
        if found is None:
            raise
        return found


def refusal_of(err: BackendAuthFailed, id_: int) -> Message | None:
    """Return the error in a 401 or 403 that names request `id_`: the request was understood, and this is its answer."""
    if err.response is None:
        return None
    try:
        message = message_of(err.backend, err.response)
    except BackendError:
        return None
    return message if isinstance(message.error, RpcError) and answers(message, id_) else None


def _event_in(response: Response) -> bytes:
    """Return the data of the first event that has any."""
    try:
        events = SseParser(max_event=len(response.body) + 1).feed(response.body + b"\n\n")
    except SseError:
        return b""
    return next((event.data for event in events if event.data), b"")


def answers(message: Message, id_: int) -> bool:
    """Tell whether a response has the id of request `id_`, as it was sent or as text (`"7"` for 7)."""
    found = message.id
    return found == id_ or (isinstance(found, str) and found == str(id_))


def is_answer(message: Message, id_: int) -> bool:
    """Tell whether a response on the stream of request `id_` is its answer.

    An error need not have the id: a server that could not read the request cannot know it, and some make one up.
    """
    if answers(message, id_) or message.id is None:
        return True
    return isinstance(message.error, RpcError) and not isinstance(message.id, int)


def reply_of(name: str, message: Message, id: int, *, status: int, era: Era) -> Reply:  # noqa: A002
    """Return the reply in the answer to request `id`.

    An error counts whatever its id: the answer to a POST can only belong to that POST.

    Raises:
        BackendProtocolError: A result that belongs to another request, or that is none: whoever takes it further
            relies on an object.
    """
    if isinstance(message.error, RpcError):
        return Reply(error=message.error, era=era, status=status)
    if message.result is UNSET or (message.id != id and not answers(message, id)):
        raise BackendProtocolError(name, "answered a different request", status=status)
    result = bytes(message.result)
    if result[:1] != b"{":
        if result != b"null":  # which is how some servers say that there is nothing to say
            raise BackendProtocolError(name, "answered with a result that is not an object", status=status)
        result = EMPTY
    return Reply(result=result, era=era, status=status)


def check_session(response: Response, message: Message | None, id_: int, session: str | None) -> None:
    """Raise SessionLost where an answer says that the backend does not know the session; see the module's table.

    Args:
        response: The answer.
        message: What it holds; None = no JSON-RPC message.
        id_: The request's.
        session: The id that the request carried; None = none.
    """
    if message is None:
        if response.stream is not None or not 400 <= response.status < 500:
            return
        text = response.body[:_LOOKED_AT].decode("utf-8", "replace")
        if (session is not None and response.status in {404, 410}) or _speaks_of_loss(text, session):
            raise SessionLost
    elif isinstance(message.error, RpcError):
        error = message.error
        if answers(message, id_):
            lost = error.code in _LOSS_CODES and _plain(error.message, session) in _PHRASES
        else:
            lost = error.code not in _PLAIN_CODES and _speaks_of_loss(error.message, session)
        if lost:
            raise SessionLost


def is_doubtful(error: RpcError, status: int) -> bool:
    """Tell whether an error that is an answer may all the same mean that the session is dead."""
    return (status >= 400 and status not in LATER) or _speaks_of_loss(error.message, None)


def _plain(text: str, session: str | None) -> str:
    """Return the words of a text in lower case, without the session's id and without what servers put in front."""
    text = text[:_LOOKED_AT]
    if session:
        text = text.replace(session, " ")
    plain = " ".join(_WORD.findall(text.lower()))
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    return plain


def _speaks_of_loss(text: str, session: str | None) -> bool:
    plain = _plain(text, session)
    if plain in _PHRASES:
        return True
    words = frozenset(plain.split())
    return ("session" in words and not words.isdisjoint(_GONE)) or (
        not words.isdisjoint({"initialized", "initialised"}) and "not" in words
    )
