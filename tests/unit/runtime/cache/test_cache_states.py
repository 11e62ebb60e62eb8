"""The table of the reflector's transitions."""

from __future__ import annotations

import itertools

import pytest

from runtime.cache.states import (
    CHECK_EVERY,
    STREAM_FAILURES,
    Checked,
    Checking,
    Ended,
    Failed,
    Listed,
    Listing,
    ReflectorSettings,
    Silent,
    Streaming,
    Transition,
    Watching,
    WentBack,
    advance,
    start,
)
from runtime.wire import TransportError
from tests.support.fake_collection import refusal

SETTINGS = ReflectorSettings()
GONE = refusal(410, "Expired")
FUTURE = refusal(504, "Timeout", retry_after=1, cause="ResourceVersionTooLarge")
BUSY = refusal(429, "TooManyRequests", retry_after=7)
MISSING = refusal(404, "NotFound")
INVALID = refusal(422, "Invalid")
LOST = TransportError("reset")
BUG = ZeroDivisionError()


def step(state: object, outcome: object, *, streaming: bool = True) -> Transition:
    return advance(state, outcome, SETTINGS, streaming=streaming)


@pytest.mark.parametrize(
    ("state", "outcome", "expected"),
    [
        (Listing("0"), Listed("5"), Transition(Watching("5"), "listed")),
        (Listing("5"), Failed(GONE, None), Transition(Listing(""), "expired")),
        (Listing(""), Failed(GONE, None), Transition(Listing(""), "expired", pause=True)),
        (Listing("0"), Failed(GONE, None, continuing=True), Transition(Listing("", paged=False), "expired")),
        (Listing(""), Failed(GONE, None, continuing=True), Transition(Listing("", paged=False), "expired_page")),
        (Listing("0"), Failed(MISSING, None), Transition(Listing("0"), "404", pause=True)),
        (Streaming(""), Failed(INVALID, None), Transition(Listing("0"), "streaming_refused", unsupported=True)),
        (Streaming("5"), Silent(None, 3), Transition(Listing("5"), "no_end_bookmark", unsupported=True)),
        (Streaming("5"), Failed(GONE, None), Transition(Streaming(""), "expired")),
        (Streaming(""), Failed(LOST, None), Transition(Streaming("", 1), "connection", pause=True)),
        (Streaming("", 2), Ended(None, 0, 0.0), Transition(Listing("0"), "ended", pause=True)),
        (Watching("5"), Ended("7", 3, 0.1), Transition(Watching("7"), "ended")),
        (Watching("5"), Ended("5", 0, 0.1), Transition(Watching("5"), "short_watch", pause=True)),
        (Watching("5"), Ended("5", 0, 300.0), Transition(Watching("5"), "ended")),
        (Watching("5"), Failed(LOST, "6"), Transition(Watching("6"), "connection", pause=True)),
        (Watching("5"), Failed(BUSY, "6"), Transition(Watching("6"), "429", pause=True, wait=7.0)),
        (Watching("5"), Failed(GONE, "6"), Transition(Streaming(""), "expired")),
        (Watching("5"), Failed(MISSING, "6"), Transition(Streaming(""), "404", pause=True)),
        (Watching("5"), Failed(FUTURE, "6"), Transition(Streaming(""), "version_too_large", pause=True, wait=1.0)),
        (Watching("5"), Failed(BUG, None), Transition(Streaming(""), "internal", pause=True)),
        (Watching("5"), Silent("5", 0), Transition(Watching("5", silences=1), "silent")),
        (Watching("5", silences=1), Silent("5", 0), Transition(Checking("5", 2), "silent_again")),
        (Watching("5", silences=2), Silent("5", 0), Transition(Watching("5", silences=3), "silent")),
        (
            Watching("5", silences=CHECK_EVERY + 1),
            Silent("5", 0),
            Transition(Checking("5", CHECK_EVERY + 2), "silent_again"),
        ),
        (Checking("5", 2), Checked("5"), Transition(Watching("5", silences=2), "checked")),
        (Checking("5", 2), Checked("9"), Transition(Watching("5", silences=2), "checked")),
        (Checking("5", 2), Checked("4"), Transition(Streaming(""), "version_regression")),
        (Checking("5", 2), Failed(LOST, "5"), Transition(Watching("5"), "connection", pause=True)),
        (Checking("5", 2), Failed(MISSING, "5"), Transition(Streaming(""), "404", pause=True)),
        (Watching("5", silences=1), Silent("6", 1), Transition(Watching("6", silences=1), "silent")),
        (Watching("5"), WentBack("6"), Transition(Streaming(""), "version_regression")),
        # A stream that had its end bookmark is a watch.
        (Streaming(""), Failed(LOST, "6"), Transition(Watching("6"), "connection", pause=True)),
        (Streaming(""), Ended("6", 9, 400.0), Transition(Watching("6"), "ended")),
    ],
    ids=str,
)
def test_transitions(state: object, outcome: object, expected: Transition) -> None:
    assert step(state, outcome) == expected


def test_without_streaming_everything_is_listed() -> None:
    assert start(streaming=False, version="0") == Listing("0")
    assert start(streaming=True, version="0") == Streaming("")
    assert step(Watching("5"), Failed(GONE, "6"), streaming=False).state == Listing("")


def test_every_outcome_in_every_state_leads_somewhere_and_failures_always_wait() -> None:
    states = [Streaming(""), Streaming("5", STREAM_FAILURES), Listing("0"), Listing(""), Listing("5", paged=False)]
    states += [Watching("5"), Watching("5", 1)]
    errors = [GONE, FUTURE, BUSY, MISSING, INVALID, LOST, BUG, refusal(401), refusal(403), refusal(500), ValueError()]
    outcomes = [
        Failed(error, version, paging) for error in errors for version in ("6", None) for paging in (True, False)
    ]
    others = [Listed("9"), WentBack("3"), *(kind for v in ("6", None) for kind in (Ended(v, 0, 0.0), Silent(v, 0)))]
    for state, outcome, streaming in itertools.product(states, [*outcomes, *others], (True, False)):
        if isinstance(state, Watching) and not isinstance(outcome, Failed) and getattr(outcome, "version", "") is None:
            continue  # a watch always has a version
        result = step(state, outcome, streaming=streaming)
        # Whatever fetches everything again is kept apart by `relist_pause`; a failed watch waits by itself.
        if isinstance(outcome, Failed) and not result.relists:
            assert result.pause or result.wait, (state, outcome)
        if result.unsupported:
            assert isinstance(result.state, Listing)


def test_the_initial_stream_gives_way_to_a_list_after_a_few_failures() -> None:
    state: object = Streaming("")
    for _ in range(STREAM_FAILURES):
        state = step(state, Failed(LOST, None)).state
    assert state == Listing("0")
