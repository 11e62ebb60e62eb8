"""A status is written when it differs, with the version that was read, and its echo wakes nobody."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from api.v1beta1 import MCPServerEntry
from controllers.shared.resources import ENTRY
from controllers.shared.verdicts import StatusWriter, Unreadable, read_model, status_patch
from runtime import ConflictError, Event, NotFoundError, Record
from runtime.wire.decode import decode_record


def entry(version: int, *, generation: int = 1, status: Any = None, uid: str = "u", **meta: Any) -> Record:
    metadata = {"name": "e", "namespace": "ns", "uid": uid, "resourceVersion": str(version), "generation": generation}
    body = {"apiVersion": ENTRY.api_version, "kind": ENTRY.kind, "metadata": metadata | meta}
    return decode_record(ENTRY, orjson.dumps(body | ({"status": status} if status is not None else {})))


class Recording:
    """Takes the patches of a status writer."""

    def __init__(self, answer: Record | Exception) -> None:
        self.answer, self.patches = answer, []

    async def merge_patch(self, resource: Any, key: Any, patch: Any, **options: Any) -> Record:
        self.patches.append((patch, options))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_only_what_differs_is_sent_with_the_version_that_was_read() -> None:
    client = Recording(entry(8, status={"phase": "Valid", "observedGeneration": 1}))
    writer = StatusWriter(client, ENTRY)  # type: ignore[arg-type]
    stored = entry(7, status={"phase": "Failed", "observedGeneration": 1, "url": "x"})
    await writer.write(stored, {"phase": "Valid", "observedGeneration": 1, "url": None, "entries": None})
    assert client.patches == [
        ({"status": {"phase": "Valid", "url": None}}, {"resource_version": "7", "subresource": "status"})
    ]


async def test_an_equal_status_is_not_sent() -> None:
    client = Recording(entry(8))
    stored = entry(7, status={"phase": "Valid"})
    assert await StatusWriter(client, ENTRY).write(stored, {"phase": "Valid", "url": None}) is stored  # type: ignore[arg-type]
    assert client.patches == []


def test_a_status_that_is_not_there_gets_all_fields() -> None:
    assert status_patch(entry(1), {"phase": "Valid", "url": None}) == {"phase": "Valid"}


async def test_the_echo_of_an_own_write_does_not_matter_but_a_strangers_write_does() -> None:
    before, mine = entry(7), entry(8, status={"phase": "Valid"})
    writer = StatusWriter(Recording(mine), ENTRY)  # type: ignore[arg-type]
    await writer.write(before, {"phase": "Valid"})
    assert not writer.matters(Event(before, mine))
    assert writer.matters(Event(mine, entry(9, status={"phase": "Failed"})))


async def test_an_echo_that_is_faster_than_the_answer_does_not_matter() -> None:
    before, mine = entry(7), entry(8, status={"phase": "Valid"})
    heard: list[bool] = []

    class Fast(Recording):
        async def merge_patch(self, *arguments: Any, **options: Any) -> Record:
            heard.append(writer.matters(Event(before, mine)))
            return mine

    writer = StatusWriter(Fast(mine), ENTRY)  # type: ignore[arg-type]
    await writer.write(before, {"phase": "Valid"})
    assert heard == [False]


async def test_after_a_conflict_the_other_writers_change_matters() -> None:
    writer = StatusWriter(Recording(ConflictError(409, "Conflict", "no")), ENTRY)  # type: ignore[arg-type]
    with pytest.raises(ConflictError):
        await writer.write(entry(7), {"phase": "Valid"})
    assert writer.matters(Event(entry(7), entry(8, status={"phase": "Failed"})))


async def test_an_object_that_is_gone_needs_no_status() -> None:
    writer = StatusWriter(Recording(NotFoundError(404, "NotFound", "no")), ENTRY)  # type: ignore[arg-type]
    stored = entry(7)
    assert await writer.write(stored, {"phase": "Valid"}) is stored


@pytest.mark.parametrize(
    ("old", "new", "matters"),
    [
        (None, entry(1), True),
        (entry(1), None, True),
        (entry(1), entry(2, generation=2), True),
        (entry(1), entry(2, deletionTimestamp="2026-01-01T00:00:00Z"), True),
        (entry(1), entry(2, finalizers=["f"]), True),
        (entry(1), entry(2, labels={"a": "b"}), False),
        (entry(1), entry(1), False),
    ],
)
def test_what_matters_of_an_object(old: Record | None, new: Record | None, matters: bool) -> None:
    assert StatusWriter(Recording(entry(1)), ENTRY).matters(Event(old, new)) is matters  # type: ignore[arg-type]


def test_an_object_that_does_not_fit_says_where() -> None:
    found = read_model(entry(1), MCPServerEntry)
    assert isinstance(found, Unreadable)
    assert found.message == "the object cannot be read: spec: field required"
