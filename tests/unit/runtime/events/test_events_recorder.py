"""Events: said once, counted when repeated, cut when they flood, and never in the way."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import orjson
import pytest
from structlog.testing import capture_logs

from runtime.control.scope import ReconcileScope, current_scope
from runtime.events.recorder import EventBroadcaster
from runtime.observe.metrics import REGISTRY
from runtime.wire.decode import decode_record
from runtime.wire.errors import ForbiddenError, NotFoundError, TransportError
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record
from tests.support.fake_collection import refusal
from tests.support.virtual_time import settle, virtual_time

THING = Resource("example.com", "v1", "Thing", "things")
CLUSTER_THING = Resource("example.com", "v1", "Site", "sites", namespaced=False)


def thing(name: str = "t", uid: str = "u1", resource: Resource = THING) -> Record:
    metadata = {"name": name, "uid": uid, "resourceVersion": "7"}
    if resource.namespaced:
        metadata["namespace"] = "ns"
    return decode_record(
        resource, orjson.dumps({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata})
    )


class Api:
    def __init__(self) -> None:
        self.created: list[Any] = []
        self.patched: list[tuple[str, int]] = []
        self.error: Exception | None = None
        self.delay = 0.0

    async def create(self, resource, body):
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        self.created.append(body)
        return thing()

    async def merge_patch(self, resource, key, patch):
        if self.error:
            raise self.error
        assert key.name == self.created[-1]["metadata"]["name"]
        self.patched.append((key.name, patch["series"]["count"]))
        return thing()


def dropped(cause: str) -> float:
    return REGISTRY.get_sample_value("runtime_events_dropped_total", {"cause": cause}) or 0.0


def say(recorder, note: str = "it broke", about: Record | None = None, reason: str = "Broken", **more: bool) -> None:
    recorder.event(about or thing(), type="Warning", reason=reason, action="Check", note=note, **more)


@virtual_time
async def test_an_event_holds_what_the_api_requires():
    api = Api()
    broadcaster = EventBroadcaster(api, "pod-1")
    say(broadcaster.recorder("thing-controller"), note="x" * 2000)
    await broadcaster.flush(1)
    body = api.created[0]
    assert body["metadata"]["namespace"] == "ns"
    assert body["metadata"]["name"].startswith("t.")
    assert body["regarding"] == {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "namespace": "ns",
        "name": "t",
        "uid": "u1",
        "resourceVersion": "7",
    }
    assert (body["reportingController"], body["reportingInstance"]) == ("thing-controller", "pod-1")
    assert (body["type"], body["reason"], body["action"]) == ("Warning", "Broken", "Check")
    assert len(body["note"]) == 1024
    assert body["eventTime"].endswith("Z")


@virtual_time
async def test_repetitions_become_a_series_that_is_written_rarely():
    api = Api()
    broadcaster = EventBroadcaster(api, "pod-1")
    recorder = broadcaster.recorder("c")
    for _ in range(1000):
        say(recorder)
        await settle()
    assert len(api.created) == 1
    assert [count for _, count in api.patched] == [2]
    for _ in range(40):
        await asyncio.sleep(60)
        say(recorder)
    await settle()
    assert [count for _, count in api.patched] == [2, 1030]  # after half an hour
    await asyncio.sleep(2000)
    assert api.patched[-1][1] == 1040  # the last count, when the series ended
    say(recorder)
    await settle()
    assert len(api.created) == 2
    await broadcaster.flush(1)


@virtual_time
async def test_a_changed_note_is_a_new_event_and_floods_of_notes_are_cut_per_object():
    api = Api()
    broadcaster = EventBroadcaster(api, "pod-1")
    recorder = broadcaster.recorder("c")
    before = dropped("rate_limit")
    for i in range(1000):
        say(recorder, note=f"{i} members skipped")
        await settle()
    say(recorder, about=thing("other", "u2"))
    await settle()
    assert len(api.created) == 26
    assert dropped("rate_limit") - before == 975
    await asyncio.sleep(601)
    for i in range(10):
        say(recorder, note=f"later {i}")
        await settle()
    assert len(api.created) == 28  # two tokens were refilled
    await broadcaster.flush(1)


@virtual_time
async def test_a_full_queue_drops_and_counts_and_never_waits():
    api = Api()
    api.delay = 10
    broadcaster = EventBroadcaster(api, "pod-1", capacity=5)
    before = dropped("queue_full")
    for i in range(20):
        say(broadcaster.recorder("c"), about=thing(f"t{i}", f"u{i}"))
    assert dropped("queue_full") - before == 15
    await broadcaster.flush(1000)
    assert len(api.created) == 5


@virtual_time
async def test_a_flood_of_minor_events_leaves_half_of_the_queue_to_others():
    api = Api()
    api.delay = 10
    broadcaster = EventBroadcaster(api, "pod-1", capacity=6)
    before = dropped("minor"), dropped("queue_full")
    for i in range(20):
        say(broadcaster.recorder("c"), about=thing(f"m{i}", f"m{i}"), minor=True)
    for i in range(3):
        say(broadcaster.recorder("c"), about=thing(f"t{i}", f"u{i}"))
    assert (dropped("minor") - before[0], dropped("queue_full") - before[1]) == (17, 0)
    await broadcaster.flush(1000)
    assert [event["regarding"]["name"] for event in api.created] == ["m0", "m1", "m2", "t0", "t1", "t2"]


@virtual_time
async def test_a_refused_event_is_dropped_and_the_next_is_written():
    api = Api()
    broadcaster = EventBroadcaster(api, "pod-1")
    recorder = broadcaster.recorder("c")
    api.error = ForbiddenError(403, "Forbidden", "namespace is terminating")
    before = dropped("refused")
    say(recorder)
    await settle()
    assert dropped("refused") - before == 1
    api.error = None
    say(recorder)
    await settle()
    assert len(api.created) == 1
    await broadcaster.flush(1)


@virtual_time
async def test_a_lost_connection_is_retried_a_few_times():
    api = Api()
    broadcaster = EventBroadcaster(api, "pod-1")
    api.error = TransportError("reset")
    say(broadcaster.recorder("c"))
    await asyncio.sleep(1)
    api.error = None
    await asyncio.sleep(10)
    assert len(api.created) == 1
    await broadcaster.flush(1)


@virtual_time
async def test_a_series_whose_event_expired_is_said_anew():
    api = Api()
    broadcaster = EventBroadcaster(api, "pod-1")
    recorder = broadcaster.recorder("c")
    say(recorder)
    await settle()
    original = api.merge_patch

    async def gone(resource, key, patch):
        api.merge_patch = original
        raise NotFoundError(404, "NotFound", "expired")

    api.merge_patch = gone
    say(recorder)
    await settle()
    assert len(api.created) == 2
    await broadcaster.flush(1)


@virtual_time
async def test_cluster_scoped_objects_get_their_events_in_default():
    api = Api()
    broadcaster = EventBroadcaster(api, "pod-1")
    say(broadcaster.recorder("c"), about=thing(resource=CLUSTER_THING))
    await broadcaster.flush(1)
    assert api.created[0]["metadata"]["namespace"] == "default"


@virtual_time
async def test_flush_is_bounded_and_nothing_is_accepted_after_it():
    api = Api()
    api.delay = 100
    broadcaster = EventBroadcaster(api, "pod-1")
    say(broadcaster.recorder("c"))
    say(broadcaster.recorder("c"), reason="Other")
    start = asyncio.get_running_loop().time()
    await broadcaster.flush(2)
    assert asyncio.get_running_loop().time() - start == pytest.approx(2)
    before = dropped("stopped")
    say(broadcaster.recorder("c"))
    assert dropped("stopped") - before == 1


@virtual_time
async def test_what_is_written_belongs_to_no_reconcile_not_even_to_the_one_that_spoke_first():
    class Listening(Api):
        scopes: ClassVar[list[Any]] = []

        async def create(self, resource, body):
            self.scopes.append(current_scope.get())
            return await super().create(resource, body)

    api = Listening()
    broadcaster = EventBroadcaster(api, "pod-1")
    recorder = broadcaster.recorder("c")

    async def reconcile(name: str) -> None:
        current_scope.set(ReconcileScope("c", THING, Key("ns", name)))
        say(recorder, about=thing(name, uid=name))

    for name in ("a", "b"):
        await asyncio.create_task(reconcile(name))
    await broadcaster.flush(1)
    assert api.scopes == [None, None]


@virtual_time
async def test_the_log_names_the_object_of_an_event_that_could_not_be_written():
    api = Api()
    api.error = ForbiddenError(403, reason="Forbidden", message="no")
    broadcaster = EventBroadcaster(api, "pod-1")
    with capture_logs() as logs:
        say(broadcaster.recorder("thing-controller"))
        await broadcaster.flush(1)
    assert [
        {key: line[key] for key in ("log_level", "controller", "kind", "namespace", "name", "reason")} for line in logs
    ] == [
        {
            "log_level": "warning",
            "controller": "thing-controller",
            "kind": "Thing",
            "namespace": "ns",
            "name": "t",
            "reason": "Broken",
        }
    ]


@virtual_time
async def test_what_cannot_be_said_in_a_namespace_that_is_being_deleted_is_no_warning():
    api = Api()
    api.error = refusal(403, "Forbidden", cause="NamespaceTerminating")
    broadcaster = EventBroadcaster(api, "pod-1")
    before = dropped("terminating")
    with capture_logs() as logs:
        say(broadcaster.recorder("c"))
        await broadcaster.flush(1)
    assert [line["log_level"] for line in logs] == ["debug"]
    assert dropped("terminating") == before + 1
