"""Whether a group fills up is counted by an index; no member is looked at for it."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.shared.groups import UNJUDGED, count_unjudged, unjudged
from controllers.shared.resources import ENDPOINT, ENTRY, MEMBER_KINDS, SERVER
from runtime import Key, Record, Resource
from runtime.cache.cache import Cache
from runtime.wire.decode import record_from_body

GROUP = Key("ns", "g")


def member(kind: Resource, *, name: str = "m", phase: str = "", deleting: bool = False, **spec: Any) -> Record:
    metadata: dict[str, Any] = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"}
    if deleting:
        metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/y"]}
    status = {"phase": phase} if phase else {}
    body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata, "status": status}
    return record_from_body(kind, body | {"spec": {"groupRef": {"name": "g"}} | spec})


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        (member(ENTRY), True),
        (member(ENTRY, phase="Valid"), False),
        (member(ENTRY, phase="Failed"), False),
        (member(ENTRY, deleting=True), False),
        (member(ENTRY, groupRef=None), False),
        (member(ENDPOINT, type="direct"), True),
        (member(ENDPOINT, type="direct", phase="Ready"), False),
        (member(ENDPOINT, type="proxy"), False),  # judged by nobody before its pods run
        (member(SERVER), False),
    ],
)
def test_members_that_this_operator_has_yet_to_judge_count(record: Record, counts: bool) -> None:
    assert list(unjudged(record)) == (["g"] if counts else [])


def test_verdicts_and_deletions_are_counted_as_they_come() -> None:
    cache = Cache(None, make_source=lambda *_: pytest.fail("nothing is watched"))
    stores = {kind: cache.declare(kind, indexes={UNJUDGED: unjudged}).store for kind in MEMBER_KINDS}
    assert count_unjudged(cache.reader, GROUP) == 0
    for name in "abc":
        stores[ENTRY].told(member(ENTRY, name=name))
    stores[ENDPOINT].told(member(ENDPOINT, name="d", type="direct"))
    assert count_unjudged(cache.reader, GROUP) == 4
    stores[ENTRY].told(member(ENTRY, name="a", phase="Valid"))
    stores[ENTRY].told_gone(Key("ns", "b"), None, 2)
    assert count_unjudged(cache.reader, GROUP) == 2
    assert count_unjudged(cache.reader, Key("other", "g")) == 0
