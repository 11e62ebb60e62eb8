"""`requestState` as our clients carry it: sealed, bound to principal, request and backend, with an end.

Inside lies either the backend's own state, which travels through us untouched, or the name of a parked call.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import OrderedDict

import msgspec

from vmcp.core.seal import Purpose, Sealer, SealError

TTL = 600.0
"""Seconds that a client has for its answer."""


class StateError(ValueError):
    """The state is not ours, expired, or belongs to somebody or something else. The text does not say which."""


class RequestState(msgspec.Struct, array_like=True, frozen=True):
    """What a sealed state says.

    Attributes:
        owner: `Principal.key`.
        digest: Of the original request.
        backend: Who asked.
        expires: Unix seconds.
        parked: Id of a parked call, "" when there is none.
        inner: The backend's own state; None when it gave none.
        nonce: Unique; "" in states of gateways that did not know it.
        replica: Where the parked call is; "" = it cannot be reached from elsewhere.
    """

    owner: str
    digest: bytes
    backend: str
    expires: float
    parked: str = ""
    inner: str | None = None
    nonce: str = ""
    replica: str = ""


class Continuations:
    """Which retries go on with a call that was counted already.

    A call that is answered in several requests counts once. Its state shows that it was counted, once: the client may
    send the same state again, and each time a backend would work.
    """

    def __init__(self, *, limit: int = 65_536) -> None:
        """Take how many states that were used are kept; beyond that none is taken for a continuation."""
        self._limit = limit
        self._used: OrderedDict[str, float] = OrderedDict()

    def take(self, state: RequestState) -> bool:
        """Say whether a retry with this state, which was opened, is part of a call that was counted."""
        if state.parked:
            return True  # it goes on with a call that is open at its backend, or with nothing
        now = time.time()
        while self._used and next(iter(self._used.values())) < now:
            self._used.popitem(last=False)
        if not state.nonce or state.nonce in self._used or len(self._used) >= self._limit:
            return False
        self._used[state.nonce] = now + TTL
        return True


def request_digest(method: str, name: str, arguments: bytes | msgspec.Raw | None) -> bytes:
    """Return what makes two requests the same request: method, item and arguments, however they are spelled in JSON."""
    digest = hashlib.sha256(f"{method}\0{name}\0".encode())
    if arguments:
        # Where a number is beyond what can be read, the very spelling counts.
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            arguments = msgspec.json.encode(msgspec.json.decode(arguments), order="deterministic")
        digest.update(arguments)
    return digest.digest()


def seal_state(sealer: Sealer, state: RequestState) -> str:
    """Return the token for the client."""
    return sealer.seal(Purpose.STATE, msgspec.json.encode(state))


def open_state(sealer: Sealer, token: str, *, owner: str, digest: bytes) -> RequestState:
    """Return what a token says.

    Raises:
        StateError: See there.
    """
    try:
        state = msgspec.json.decode(sealer.open(Purpose.STATE, token), type=RequestState)
    except (SealError, msgspec.DecodeError) as err:
        raise StateError("requestState is not valid") from err
    if state.owner != owner or state.digest != digest or state.expires < time.time():
        raise StateError("requestState is not valid")
    return state
