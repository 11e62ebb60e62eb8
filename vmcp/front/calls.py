"""One request under way, from its caller to its answer: the same for both eras, which differ in what a call is.

What a call of an era has to say: whom its backend may tell and ask meanwhile, what it means that it is cancelled, and
which bytes answer it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

from vmcp.core.types import Caller, RequestOutcome, failed
from vmcp.front.base import Front
from vmcp.front.request import McpRequest, Told
from vmcp.turns import LARGE, turn
from vmcp.wire.protocol import INVALID_REQUEST


class ClientCall(Protocol):
    """The client's side of a request under way."""

    def begin(self, task: asyncio.Task[Any]) -> None:
        """It is served by `task`, which may be cancelled."""
        ...

    def end(self, task: asyncio.Task[Any]) -> None:
        """It is served no more, however that ended."""
        ...

    @property
    def cancelled(self) -> bool:
        """The client wants no answer any more."""
        ...

    async def abandon(self) -> None:
        """End without an answer, as the client wants it."""
        ...

    def discard(self) -> None:
        """Drop what runs beside the request: something went wrong."""
        ...

    def told(self) -> Told:
        """Return what is recorded of it."""
        ...

    def answer(self, outcome: RequestOutcome) -> tuple[int, bytes]:
        """Return HTTP status and body for an outcome."""
        ...

    async def finish(self, status: int, body: bytes) -> None:
        """Send the answer."""
        ...


class Dispatch(Protocol):
    """Leads a request to what serves its method."""

    def __call__(self, caller: Caller, request: McpRequest) -> Awaitable[RequestOutcome]:
        """Serve a request."""
        ...


async def carry_out(front: Front, request: McpRequest, caller: Caller, call: ClientCall, dispatch: Dispatch) -> None:
    """Serve a request and send its answer."""
    task = front.watches.current_task()
    call.begin(task)
    try:
        outcome = await dispatch(caller, request)
    except asyncio.CancelledError:
        if not call.cancelled:
            raise
        task.uncancel()
        if front.recording:
            front.record(call.told(), failed(INVALID_REQUEST, "cancelled"), 499)
        await call.abandon()
        return
    except BaseException:
        call.discard()
        raise
    finally:
        call.end(task)
    if outcome.result is not None and len(outcome.result) > LARGE:
        await turn()
    status, body = call.answer(outcome)
    if front.recording:
        front.record(call.told(), outcome, status)
    await call.finish(status, body)


async def at_once(outcome: RequestOutcome) -> RequestOutcome:
    """Return an outcome for which nothing had to be waited."""
    return outcome
