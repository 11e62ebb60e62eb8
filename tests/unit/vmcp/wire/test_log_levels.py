"""One answer to "is this message severe enough", whoever asks."""

from __future__ import annotations

import pytest

from vmcp.wire.levels import reaches
from vmcp.wire.protocol import LOG_LEVELS


@pytest.mark.parametrize("wanted", LOG_LEVELS)
def test_a_level_lets_itself_through_and_what_is_more_severe(wanted: str) -> None:
    assert [said for said in LOG_LEVELS if reaches(said, wanted)] == list(LOG_LEVELS[LOG_LEVELS.index(wanted) :])


@pytest.mark.parametrize("said", [None, "", "loud", "ERROR"])
def test_a_level_that_the_protocol_does_not_know_is_the_least_severe(said: str | None) -> None:
    assert [wanted for wanted in LOG_LEVELS if reaches(said, wanted)] == ["debug"]


@pytest.mark.parametrize("said", [*LOG_LEVELS, "loud", None])
def test_whoever_wants_no_messages_gets_none(said: str | None) -> None:
    assert not reaches(said, None)
