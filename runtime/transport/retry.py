"""Which failed requests are tried again, and when.

As client-go: 429 and 5xx answers that carry Retry-After. Beyond it: reads are repeated after lost connections and plain
5xx as well. A write is only repeated where the server said that it did not happen: whoever asked for it looks at the
state again anyway, and decides better.
"""

from __future__ import annotations

import random

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from runtime.wire.errors import ApiError, ServerError, TimeoutApiError, TooManyRequestsError, TransportError

MAX_ATTEMPTS = 10
"""As client-go."""
MAX_WAIT = 30.0
"""Longest obeyed Retry-After, seconds: a reconcile that holds a worker for minutes is worse than one that fails."""


class NotSentError(TransportError):
    """The connection could not be opened: the request has certainly not happened."""


def retrying(*, read: bool, attempts: int = MAX_ATTEMPTS) -> AsyncRetrying:
    """Return the retry loop of one request.

    Args:
        read: whether the request changes nothing.
        attempts: tries in total.
    """
    return AsyncRetrying(
        stop=stop_after_attempt(attempts),
        retry=retry_if_exception(lambda error: should_retry(error, read=read)),
        wait=_wait,
        reraise=True,
    )


def should_retry(error: BaseException, *, read: bool) -> bool:
    """Whether the request may be sent again after this error."""
    match error:
        case TooManyRequestsError():
            return True
        case NotSentError():
            return True
        case TransportError():
            return read
        case ServerError() | TimeoutApiError():
            # "Too large resource version" is a state of the server's, not a passing failure: the reflector handles it.
            return error.retry_after is not None if not read else not _too_large(error)
        case _:
            return False


def _too_large(error: ApiError) -> bool:
    return error.has_cause("ResourceVersionTooLarge")


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = getattr(error, "retry_after", None)
    spread = random.random()  # noqa: S311  jitter
    if asked is not None:
        return min(float(asked), MAX_WAIT) * (1 + 0.1 * spread)
    return float(min(5.0, 0.1 * 2 ** (state.attempt_number - 1))) * (0.5 + spread)
