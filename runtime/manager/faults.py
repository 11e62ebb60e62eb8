"""Turns the failures that a user can cause and mend into one sentence; everything else stays a traceback."""

from __future__ import annotations

import asyncio

from runtime.control.controller import SourceNotSyncedError
from runtime.election.elector import LeaseLostError
from runtime.manager.caches import CacheNotSyncedError
from runtime.manager.groups import RunnableError
from runtime.manager.manager import GracefulShutdownError
from runtime.observe.servers import BindError
from runtime.transport.config import ConfigurationError
from runtime.wire.errors import ApiError, TransportError


class UserError(ValueError):
    """A mistake of whoever started the process; the message is all that they need."""


_PLAIN = (
    UserError,
    BindError,
    ConfigurationError,
    CacheNotSyncedError,
    SourceNotSyncedError,
    LeaseLostError,
    GracefulShutdownError,
    ApiError,
    TransportError,
)


def explain(error: BaseException) -> str | None:
    """One line for a failure that needs no stack; None when it is a bug."""
    match error:
        case KeyboardInterrupt() | asyncio.CancelledError():
            return "interrupted"
        case BaseExceptionGroup():
            sentences = [explain(inner) for inner in error.exceptions]
            return None if None in sentences else "; ".join(sentence for sentence in sentences if sentence)
        case RunnableError() if error.__cause__ is not None:
            inner = explain(error.__cause__)
            return None if inner is None else f"{error.name}: {inner}"
        case _ if isinstance(error, _PLAIN):
            return " ".join(str(error).split())
        case _:
            return None
