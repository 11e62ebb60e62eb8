"""A verdict is told when it is decided, and holds for the one version of the object that it is about."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.shared.decided import Decided
from controllers.shared.resources import ENTRY
from controllers.shared.verdicts import StatusWriter
from membership import read_member
from runtime import ConflictError, Event, Record
from runtime.wire.decode import record_from_body

OLD = {"phase": "Valid", "observedGeneration": 1, "message": "gone with the next"}
VERDICT = {"phase": "Failed", "observedGeneration": 2, "message": None}


def entry(version: int, generation: int, status: dict[str, Any] | None = None) -> Record:
    meta = {"name": "e", "namespace": "ns", "uid": "u", "resourceVersion": str(version), "generation": generation}
    body = {"apiVersion": ENTRY.api_version, "kind": ENTRY.kind, "metadata": meta}
    spec = {"remoteUrl": f"https://host-{generation}.example.com/mcp"}
    return record_from_body(ENTRY, body | {"spec": spec, "status": status or {}})


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def decided(events: list[Event]) -> Decided:
    made = Decided()
    made.source.subscribe(events.append)
    return made


def member(record: Record) -> tuple[str, str, bool]:
    read = read_member("MCPServerEntry", record.meta, record.raw)
    return read.url, read.phase, read.judged


def test_a_verdict_is_told_with_the_object_that_it_is_about(decided: Decided, events: list[Event]):
    changed = entry(7, 2, OLD)
    decided.tell(changed, VERDICT)
    (told,) = events
    assert (told.old, told.new) == (changed, decided.view(changed))
    assert decided.view(changed).path("status") == {"phase": "Failed", "observedGeneration": 2}
    assert member(decided.view(changed)) == ("https://host-2.example.com/mcp", "Failed", True)


@pytest.mark.parametrize("other", [entry(8, 3, OLD), entry(8, 2, OLD), entry(6, 1, OLD)])
def test_no_other_version_of_the_object_is_shown_with_it(decided: Decided, other: Record):
    decided.tell(entry(7, 2, OLD), VERDICT)
    assert decided.view(other) is other


def test_what_could_not_be_stored_is_taken_back(decided: Decided):
    changed = entry(7, 2, OLD)
    decided.tell(changed, VERDICT)
    decided.withdraw(changed)
    assert decided.view(changed) is changed
    assert decided.take(Event(changed, entry(8, 2, VERDICT))) is None
    decided.withdraw(changed)


def test_a_later_verdict_is_not_taken_back_with_an_earlier_one(decided: Decided):
    before, after = entry(7, 2, OLD), entry(8, 3, OLD)
    decided.tell(before, VERDICT)
    decided.tell(after, VERDICT | {"observedGeneration": 3})
    decided.withdraw(before)
    assert decided.view(after) is not after


@pytest.mark.parametrize(
    "event", [Event(entry(7, 2, OLD), entry(8, 2, VERDICT)), Event(entry(7, 2, OLD), None)], ids=["stored", "gone"]
)
def test_it_is_forgotten_once_the_watch_tells_of_anything_newer(decided: Decided, event: Event):
    changed = entry(7, 2, OLD)
    decided.tell(changed, VERDICT)
    assert decided.take(Event(entry(6, 1, OLD), changed)) is None, "the version that it is about"
    told = decided.take(event)
    assert told is not None
    assert told.path("status.phase") == "Failed"
    assert decided.take(event) is None
    assert decided.view(changed) is changed


def test_the_first_verdict_of_a_newcomer_is_not_told(decided: Decided, events: list[Event]):
    new = entry(7, 1)
    decided.tell(new, VERDICT)
    assert (events, decided.view(new)) == ([], new)


def test_nothing_is_kept_where_nobody_listens():
    alone, changed = Decided(), entry(7, 2, OLD)
    alone.tell(changed, VERDICT)
    assert alone.view(changed) is changed


class Server:
    """Notes what is told while a status is written, and answers."""

    def __init__(self, decided: Decided, answer: Record | Exception) -> None:
        self.decided, self.answer, self.shown = decided, answer, ""

    async def merge_patch(self, *_: Any, **__: Any) -> Record:
        self.shown = str(self.decided.view(entry(7, 2, OLD)).path("status.phase"))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_status_is_told_before_it_is_written(decided: Decided):
    server = Server(decided, entry(8, 2, VERDICT))
    await StatusWriter(server, ENTRY, None, decided).write(entry(7, 2, OLD), VERDICT)  # type: ignore[arg-type]
    assert server.shown == "Failed"
    assert decided.take(Event(entry(7, 2, OLD), entry(8, 2, VERDICT))) is not None


async def test_a_status_that_is_refused_is_taken_back(decided: Decided):
    server = Server(decided, ConflictError(409, "Conflict", "it changed"))
    with pytest.raises(ConflictError):
        await StatusWriter(server, ENTRY, None, decided).write(entry(7, 2, OLD), VERDICT)  # type: ignore[arg-type]
    assert server.shown == "Failed"
    assert decided.view(entry(7, 2, OLD)).path("status.phase") == "Valid"
