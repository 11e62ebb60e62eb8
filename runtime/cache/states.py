"""The reflector's states and the one function that leads from state to state.

```
            +---------+  end bookmark   +----------+
  start --> |Streaming|---------------->|          |
            +---------+                 |          |--> clean end, lost connection, 429, 5xx, silence: Watching again
                 | not offered,         | Watching |    from the last version
                 | bookmark missing     |          |
                 v                      |          |--> 410, version too large, 404, versions going back:
            +---------+   last page     |          |    start again
            | Listing |---------------->|          |
            +---------+                 +----------+
                                          |      ^
                      silent, once opened |      | the server is at our version or beyond (else: start again)
                        again, once more  v      |
                                        +----------+
                                        | Checking |
                                        +----------+
```

No IO and no clock in here: the table of transitions is tested without a server. The rules are client-go's
(reflector.go), except where a comment says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime._kit.backoff import BackoffSettings
from runtime.wire.decode import DecodeError, UnexpectedKindError, parse_version
from runtime.wire.errors import (
    TOO_LARGE_RESOURCE_VERSION,
    ApiError,
    BadRequestError,
    ExpiredError,
    InvalidError,
    NotFoundError,
    TransportError,
)


@dataclass(frozen=True)
class ReflectorSettings:
    """How a reflector follows the server. All times in seconds."""

    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    """Pauses after failures."""
    silence: float = 75.0
    """Without a byte for this long, a watch counts as dead and is opened again. Servers send a bookmark about every
    60 s; of a kind in which nothing happens only if etcd notifies them of progress, which is an option of etcd."""
    fresh: float = 90.0
    """Without a sign of life for this long the informer reports itself as not fresh. Above `silence`, with time to open
    a watch: silence alone is no problem, only when nothing came of opening it again."""
    end_bookmark: float = 10.0
    """Silence in the initial stream after which the server counts as one that sends no end bookmark."""
    streaming: bool = True
    """Whether to try WatchList (initial objects as a stream) at all."""
    streaming_retry: float = 1800.0
    """How long a server without WatchList is remembered."""
    watch_min: float = 300.0
    """Lower end of the asked duration of a watch; random, so that watches do not end together."""
    watch_max: float = 600.0
    """Upper end of it."""
    page_size: int = 500
    """Objects per page of a list that is not served from the server's watch cache."""
    list_timeout: float = 60.0
    """Limit of one page."""
    short_watch: float = 1.0
    """A watch that ends sooner without any event is a failure."""
    relist_pause: float = 10.0
    """Two lists closer to each other than this are kept apart by the back-off."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """Getting the initial objects as watch events (WatchList)."""

    version: str = ""
    """Not older than this; empty for the most recent."""
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """Getting the initial objects as a list."""

    version: str = "0"
    """"0": anything, from the server's cache; empty: the most recent; else not older than this."""
    paged: bool = True


@dataclass(frozen=True, slots=True)
class Watching:
    """Following from a version."""

    version: str
    silences: int = 0
    """Silent watches in a row."""


@dataclass(frozen=True, slots=True)
class Checking:
    """Asking a silent server for its version: ours may be in its future."""

    version: str
    """Ours."""
    silences: int
    """Silent watches in a row."""


State = Streaming | Listing | Watching | Checking


@dataclass(frozen=True, slots=True)
class Checked:
    """The server's own version."""

    version: str


@dataclass(frozen=True, slots=True)
class Listed:
    """The list is in the store."""

    version: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The server closed the stream in good order."""

    version: str | None
    """Version reached; None when the initial objects were not complete."""
    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A refusal, a lost connection, or something unreadable."""

    error: Exception
    version: str | None
    """Version from which a watch can go on; None when the initial objects were not complete."""
    continuing: bool = False
    """It was a further page of a list."""


@dataclass(frozen=True, slots=True)
class Silent:
    """No byte for too long."""

    version: str | None
    events: int


@dataclass(frozen=True, slots=True)
class WentBack:
    """The server told a version below one that it had told before: replayed events, or a restored etcd."""

    version: str


RoundOutcome = Listed | Checked | Ended | Failed | Silent | WentBack


@dataclass(frozen=True, slots=True)
class Transition:
    """Where to go from here."""

    state: State
    cause: str
    """Short and constant: a label of metrics and logs."""
    pause: bool = False
    """Back off first."""
    wait: float | None = None
    """The server asked to wait this long: instead of the back-off."""
    unsupported: bool = False
    """Remember that this server offers no WatchList for this kind."""

    @property
    def relists(self) -> bool:
        """Whether the whole state is fetched again."""
        return isinstance(self.state, (Streaming, Listing))


STREAM_FAILURES = 3
"""Failures of the initial stream after which this round is done by a list."""
CHECK_EVERY = 8
"""Of the silent watches in a row the second leads to a check, and then every one of this number."""


def start(*, streaming: bool, version: str = "") -> State:
    """Return the state in which everything is fetched.

    Args:
        streaming: whether WatchList may be used.
        version: last known one, empty to accept only the most recent. A first list passes "0" for "any".
    """
    if streaming:
        return Streaming("" if version == "0" else version)
    return Listing(version)


def advance(state: State, outcome: RoundOutcome, settings: ReflectorSettings, *, streaming: bool) -> Transition:
    """Return the next step.

    Args:
        state: the state in which the outcome occurred.
        outcome: what happened.
        settings: limits.
        streaming: whether WatchList may be used from here on.
    """
    match outcome:
        case Listed(version=version):
            return Transition(Watching(version), "listed")
        case WentBack():
            # Only a quorum read tells which of the two it is.
            return Transition(start(streaming=streaming), "version_regression")
        case Failed(version=None, error=error) if isinstance(state, Watching):
            # A mistake of ours, in a transform perhaps: what the store has cannot be trusted any more.
            return Transition(start(streaming=streaming), error_cause(error), pause=True)
        case Ended(version=None) | Failed(version=None) | Silent(version=None):
            return _initial_failed(state, outcome, streaming=streaming)
        case Ended(version=str(version), events=events, seconds=seconds):
            if seconds < settings.short_watch and events == 0:
                return Transition(Watching(version), "short_watch", pause=True)
            return Transition(Watching(version), "ended")
        case Silent(version=str(version), events=events):
            silences = state.silences + 1 if isinstance(state, Watching) and not events else 1
            if silences % CHECK_EVERY == 2:
                # Beyond client-go: a watch from a version in the server's future is accepted and silent for ever.
                return Transition(Checking(version, silences), "silent_again")
            return Transition(Watching(version, silences), "silent")
        case Checked(version=version) if isinstance(state, Checking):
            if parse_version(version) < parse_version(state.version):
                return Transition(start(streaming=streaming), "version_regression")
            return Transition(Watching(state.version, state.silences), "checked")
        case Failed(version=str(version), error=error):
            return _watch_failed(version, error, streaming=streaming)
        case _:
            raise AssertionError(outcome)


def _initial_failed(state: State, outcome: RoundOutcome, *, streaming: bool) -> Transition:
    error = outcome.error if isinstance(outcome, Failed) else None
    wait = error.retry_after if isinstance(error, ApiError) else None
    match state, error:
        case Listing(version=""), ExpiredError() if isinstance(outcome, Failed) and outcome.continuing:
            return Transition(Listing("", paged=False), "expired_page")
        case Listing(version=version), ExpiredError():
            paged = not (isinstance(outcome, Failed) and outcome.continuing)
            return Transition(Listing("", paged=paged), "expired", pause=version == "")
        case _, ApiError() if error.has_cause(TOO_LARGE_RESOURCE_VERSION):
            return Transition(start(streaming=streaming), "version_too_large", pause=True, wait=wait)
        case Listing(), _:
            return Transition(state, _cause(outcome), pause=True, wait=wait)
        case Streaming(version=version), BadRequestError() | InvalidError():
            return Transition(Listing(version or "0"), "streaming_refused", unsupported=True)
        case Streaming(version=version), None if isinstance(outcome, Silent):
            return Transition(Listing(version or "0"), "no_end_bookmark", unsupported=True)
        case Streaming(version=version), ExpiredError():
            return Transition(Streaming("") if version else Listing(""), "expired", pause=not version)
        case Streaming(version=version, failures=failures), _:
            again: State = Streaming(version, failures + 1)
            if failures + 1 >= STREAM_FAILURES:
                again = Listing(version or "0")
            return Transition(again, _cause(outcome), pause=True, wait=wait)
        case _:
            raise AssertionError((state, outcome))


def _watch_failed(version: str, error: Exception, *, streaming: bool) -> Transition:
    match error:
        case ExpiredError():
            return Transition(start(streaming=streaming), "expired")
        case ApiError() if error.has_cause(TOO_LARGE_RESOURCE_VERSION):
            return Transition(start(streaming=streaming), "version_too_large", pause=True, wait=error.retry_after)
        case NotFoundError() | BadRequestError() | InvalidError():
            # The kind is gone or has changed: what comes back may have nothing to do with what we know.
            return Transition(start(streaming=streaming), error_cause(error), pause=True)
        case ApiError():
            return Transition(Watching(version), error_cause(error), pause=True, wait=error.retry_after)
        case _:
            return Transition(Watching(version), error_cause(error), pause=True)


def _cause(outcome: RoundOutcome) -> str:
    match outcome:
        case Failed(error=error):
            return error_cause(error)
        case Silent():
            return "silent"
        case _:
            return "ended"


def error_cause(error: Exception) -> str:
    """Return a short constant name of an error: the HTTP status, `connection`, or `internal`."""
    match error:
        case ApiError():
            return str(error.status)
        case TransportError():
            return "connection"
        case DecodeError() | UnexpectedKindError():
            return "unreadable"
        case _:
            return "internal"
