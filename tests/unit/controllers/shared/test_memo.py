"""Values are computed once per version and hold no record."""

from __future__ import annotations

import orjson

from controllers.shared.memo import PerVersion
from controllers.shared.resources import GROUP
from runtime import Record
from runtime.wire.decode import decode_record


def group(uid: str, version: int) -> Record:
    meta = {"name": "g", "namespace": "ns", "uid": uid, "resourceVersion": str(version)}
    return decode_record(GROUP, orjson.dumps({"metadata": meta}))


def test_a_value_is_computed_once_per_version_and_kept_for_the_last_one() -> None:
    asked: list[str] = []

    def version(record: Record) -> str:
        asked.append(record.meta.resource_version)
        return record.meta.resource_version

    memo = PerVersion(version, limit=2)
    assert [memo(group("a", 1)), memo(group("a", 1)), memo(group("a", 2)), memo(group("a", 1))] == ["1", "1", "2", "1"]
    assert asked == ["1", "2", "1"]
    assert [memo(group("b", 7)), memo(group("c", 8)), memo(group("c", 8))] == ["7", "8", "8"]
    assert asked[3:] == ["7", "8"]
    assert len(memo.__dict__["_known"]) == 1
