"""The reflector against a collection in memory, in virtual time: what each fault costs, and that nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from runtime.cache import Cache, Change, Informer, ReflectorSettings
from runtime.wire import Key, TransportError
from tests.support.fake_collection import WIDGET, FakeCollection, bookmark, line, refusal
from tests.support.virtual_time import now, settle, virtual_time


class World:
    """A collection, an informer on it, and what its handler was told."""

    def __init__(self, collection: FakeCollection, settings: ReflectorSettings | None = None) -> None:
        self.collection = collection
        self.cache = Cache(None, settings=settings, make_source=lambda *_: collection)
        self.informer: Informer = self.cache.declare(WIDGET, resync=0)
        self.changes: list[Change] = []
        self.informer.add_handler(self.changes.append)

    def names(self) -> list[str]:
        return [record.key.name for record in self.cache.reader.list(WIDGET)]

    def told(self) -> list[tuple[str, str]]:
        return [(change.type, (change.new or change.old).key.name) for change in self.changes]

    def in_step(self) -> bool:
        shown = {record.key.name: record.meta.resource_version for record in self.cache.reader.list(WIDGET)}
        return shown == {name: body["metadata"]["resourceVersion"] for name, body in self.collection.objects.items()}


@asynccontextmanager
async def running(collection: FakeCollection, settings: ReflectorSettings | None = None) -> AsyncIterator[World]:
    world = World(collection, settings)
    task = asyncio.create_task(world.cache.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def filled(*names: str) -> FakeCollection:
    collection = FakeCollection()
    for name in names:
        collection.put(name)
    return collection


@virtual_time
async def test_the_initial_objects_come_as_a_stream_that_goes_on_as_the_watch() -> None:
    collection = filled("a", "b")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.put("c")
        collection.remove("a")
        await settle()
        assert world.told() == [("added", "a"), ("added", "b"), ("added", "c"), ("deleted", "a")]
        assert [change.initial for change in world.changes] == [True, True, False, False]
        assert [kind for _, kind, _ in collection.requests] == ["stream"]
        assert world.cache.problems() == []


@virtual_time
async def test_a_server_without_streaming_is_listed_and_remembered() -> None:
    collection = filled("a")
    collection.streams = False
    with capture_logs() as logs:
        async with running(collection) as world:
            await world.cache.wait_synced()
    assert [line for line in logs if line["log_level"] not in ("debug", "info")] == [], "nothing is wrong"
    collection.requests.clear()
    async with running(collection) as world:
        await world.cache.wait_synced()
        assert now() == 0  # no pause before the fallback
        collection.watch_faults.append(refusal(410, "Expired"))
        collection.end()
        await asyncio.sleep(60)
        assert [kind for _, kind, _ in collection.requests] == ["stream", "list", "watch", "watch", "list", "watch"]


@virtual_time
async def test_a_missing_end_bookmark_falls_back_to_a_list() -> None:
    collection = filled("a")
    collection.end_bookmark = False
    async with running(collection) as world:
        await world.cache.wait_synced()
        assert now() == 10
        assert world.names() == ["a"]
        collection.put("b")
        await settle()
        assert world.in_step()
        assert collection.count("stream") == 1


@virtual_time
async def test_after_a_clean_end_the_watch_goes_on_from_the_last_version() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        await asyncio.sleep(5)
        for name in "bcd":
            collection.put(name)
            await settle()
            collection.end()
            await settle()
        assert world.in_step()
        assert (collection.count("stream"), collection.count("list"), collection.count("watch")) == (1, 0, 3)
        assert world.told() == [("added", name) for name in "abcd"]


@virtual_time
async def test_a_lost_connection_resumes_after_a_pause_without_a_new_list() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.drop()
        await settle()
        collection.put("b")
        collection.remove("a")
        await asyncio.sleep(1.7)
        assert world.told() == [("added", "a"), ("added", "b"), ("deleted", "a")]
        assert [kind for _, kind, _ in collection.requests] == ["stream", "watch"]
        assert 0.8 <= collection.times("watch")[0] <= 1.6


@virtual_time
async def test_an_expired_version_is_answered_by_one_new_list_with_tombstones() -> None:
    collection = filled("a", "b")
    async with running(collection) as world:
        await world.cache.wait_synced()
        await asyncio.sleep(20)
        collection.watch_faults.append(refusal(410, "Expired"))
        collection.end()
        collection.objects.pop("a")  # its event is lost with the history
        collection.version += 1
        await settle()
        assert world.told()[2:] == [("deleted", "a"), ("updated", "b")]
        assert world.changes[2].stale
        assert collection.count("stream") == 2
        # The version that expired must not be asked for again.
        assert [query["resourceVersion"] for _, kind, query in collection.requests if kind == "stream"] == ["", ""]


@virtual_time
async def test_an_error_event_counts_like_a_status() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        await asyncio.sleep(20)
        collection.send(line("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"}))
        await settle()
        assert collection.count("stream") == 2
        assert world.informer.stats().lists["expired"] == 1
        assert world.in_step()


@virtual_time
async def test_a_server_that_expires_everything_is_not_hammered() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.watch_faults.extend([None, *[refusal(410, "Expired")] * 1000])
        collection.end()
        await asyncio.sleep(600)
        assert len(collection.requests) < 80
        assert world.names() == ["a"]


@virtual_time
async def test_an_expired_page_is_followed_by_a_full_list_without_duplicates() -> None:
    collection = filled(*(f"w{number:03}" for number in range(7)))
    settings = ReflectorSettings(streaming=False, page_size=3)
    async with running(collection, settings) as world:
        # Served from the watch cache first; after a 410 in pages, of which the second is refused.
        collection.list_faults.extend([refusal(410, "Expired"), None, refusal(410, "Expired")])
        await world.cache.wait_synced()
        assert world.told() == [("added", f"w{number:03}") for number in range(7)]
        lists = [query for _, kind, query in collection.requests if kind == "list"]
        assert [(query.get("resourceVersion"), query.get("limit")) for query in lists] == [
            ("0", "3"),
            (None, "3"),
            (None, "3"),
            (None, None),
        ]


@virtual_time
async def test_a_version_from_the_servers_future_waits_and_asks_for_the_most_recent() -> None:
    collection = filled("a")
    settings = ReflectorSettings(streaming=False)
    async with running(collection, settings) as world:
        collection.list_faults.append(refusal(504, "Timeout", retry_after=3, cause="ResourceVersionTooLarge"))
        await world.cache.wait_synced()
        first, second = (query for _, kind, query in collection.requests if kind == "list")
        assert (first["resourceVersion"], second.get("resourceVersion")) == ("0", None)
        assert 3 <= now() <= 3.3


@virtual_time
async def test_too_many_requests_waits_as_asked_and_never_lists_again() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.watch_faults.extend([refusal(429, "TooManyRequests", retry_after=7)] * 3)
        collection.end()
        await settle()
        collection.put("b")
        await asyncio.sleep(30)
        assert world.in_step()
        assert collection.count("stream") + collection.count("list") == 1
        pauses = [later - earlier for earlier, later in pairwise(collection.times("watch"))]
        assert all(7 <= pause <= 7.71 for pause in pauses)
        assert len(pauses) == 3


@virtual_time
async def test_empty_watches_are_asked_for_ever_more_rarely() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.empty_watches = True
        collection.end()
        await asyncio.sleep(600)
        assert collection.count("watch") < 30
        assert collection.count("stream") == 1
        assert any("cannot follow" in problem for problem in world.cache.problems())
        collection.empty_watches = False
        collection.put("b")
        await asyncio.sleep(61)
        assert world.in_step()
        assert world.cache.problems() == []


@virtual_time
async def test_a_kind_in_which_nothing_happens_is_no_problem_and_is_not_fetched_again() -> None:
    # etcd that notifies nobody of progress: no bookmarks, for hours.
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        for _ in range(3600):
            await asyncio.sleep(1)
            assert world.cache.problems() == []
        assert collection.count("stream") == 1
        assert [query for _, kind, query in collection.requests if kind == "list"] == [{"limit": "1"}] * 6
        collection.put("b")
        await settle()
        assert world.in_step()


@virtual_time
async def test_a_silent_watch_is_opened_again_and_brings_what_was_missed() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.freeze()
        collection.put("b")
        await asyncio.sleep(70)
        collection.thaw()
        await asyncio.sleep(6)
        assert world.in_step()
        assert collection.times("watch") == [75]
        assert world.cache.problems() == []


@virtual_time
async def test_a_silent_watch_that_cannot_be_opened_again_is_a_problem_until_it_can() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.freeze()
        collection.watch_hangs = True
        await asyncio.sleep(89)
        assert world.cache.problems() == []
        await asyncio.sleep(2)
        assert world.cache.problems() == ["widgets.test.example.com: no sign of life for 91 s"]
        collection.watch_hangs = False
        collection.thaw()
        await asyncio.sleep(60)  # until the request that hangs is given up
        assert world.cache.problems() == []
        assert world.in_step()


@virtual_time
async def test_failures_before_a_quiet_hour_are_forgotten() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.watch_faults.extend(TransportError("refused") for _ in range(5))
        collection.drop()
        await asyncio.sleep(120)
        assert collection.count("watch") > 5
        for _ in range(3600):
            await asyncio.sleep(1)
            assert world.cache.problems() == []


@virtual_time
async def test_a_silent_watch_whose_connection_is_refused_is_a_problem_with_its_reason() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.freeze()
        collection.watch_faults.extend(TransportError("refused") for _ in range(100))
        await asyncio.sleep(91)
        (problem,) = world.cache.problems()
        assert problem.endswith("refused")


@virtual_time
async def test_bookmarks_are_signs_of_life() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        for _ in range(10):
            await asyncio.sleep(60)
            collection.send(bookmark(collection.version))
        await settle()
        assert world.cache.problems() == []
        assert collection.count("watch") == 0


@virtual_time
async def test_a_version_from_the_future_of_a_restored_server_is_found_by_a_second_silence() -> None:
    collection = filled("a", "b")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.version = 1  # etcd was restored: the past is back, and the versions are small again
        collection.history.clear()
        collection.objects.clear()
        collection.put("a", restored=True)
        collection.freeze()  # a watch from a version in the future is accepted and silent
        await asyncio.sleep(149)
        collection.thaw()
        await asyncio.sleep(2)
        assert world.names() == ["a"]
        assert world.in_step()
        assert world.informer.stats().lists["version_regression"] == 1


@pytest.mark.parametrize("kind", ["bookmark", "event"])
@virtual_time
async def test_versions_that_go_back_lead_to_a_new_list(kind: str) -> None:
    collection = filled("a", "b")
    async with running(collection) as world:
        await world.cache.wait_synced()
        await asyncio.sleep(20)
        collection.version = 1
        collection.history.clear()
        collection.objects.clear()
        if kind == "bookmark":
            collection.send(bookmark(1))
            collection.put("b", restored=True)
        else:
            collection.put("b", restored=True)
        await asyncio.sleep(2)
        assert world.in_step()
        assert world.names() == ["b"]
        assert collection.count("stream") == 2
        assert world.informer.stats().lists["version_regression"] == 1


@virtual_time
async def test_replayed_events_change_nothing() -> None:
    collection = filled("a", "b")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.put("a", n=2)
        await settle()
        told = len(world.changes)
        collection.send(collection.history[-1][1])
        await settle()
        assert len(world.changes) == told
        assert world.informer.stats().skipped["duplicate"] == 1
        assert collection.count("stream") == 1


@virtual_time
async def test_odd_events_are_skipped_and_the_stream_goes_on() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.send(line("FANCY", {}))
        collection.send(line("ADDED", {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}}))
        collection.put("b")
        await settle()
        assert world.in_step()
        assert len(collection.requests) == 1
        assert dict(world.informer.stats().skipped) == {"unknown_type": 1, "wrong_kind": 1}


@virtual_time
async def test_an_unreadable_line_is_asked_for_again() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.send(b"<html>bad gateway</html>")
        await settle()
        collection.put("b")
        await asyncio.sleep(2)
        assert world.in_step()
        assert [kind for _, kind, _ in collection.requests] == ["stream", "watch"]


@virtual_time
async def test_a_missing_permission_is_named_until_it_is_granted() -> None:
    collection = filled("a")
    collection.watch_faults.extend([refusal(403, "Forbidden")] * 2)
    async with running(collection) as world:
        await asyncio.sleep(1)
        assert world.cache.problems() == ["widgets.test.example.com: not synced yet: 403 Forbidden: "]
        await world.cache.wait_synced()
        assert world.cache.problems() == []
        assert len(collection.requests) < 10


@virtual_time
async def test_a_kind_that_goes_and_comes_back_is_followed_again() -> None:
    collection = filled("a")
    async with running(collection) as world:
        await world.cache.wait_synced()
        collection.remove("a")
        await settle()
        collection.watch_faults.extend([refusal(404, "NotFound")] * 2)
        collection.list_faults.extend([refusal(404, "NotFound")] * 50)
        collection.streams = False
        collection.end()
        await asyncio.sleep(120)
        assert world.names() == []
        assert len(collection.requests) < 20
        collection.list_faults.clear()
        collection.put("a")
        await asyncio.sleep(61)
        assert world.in_step()


@virtual_time
async def test_a_handler_that_raises_harms_nobody() -> None:
    collection = filled("a")
    async with running(collection) as world:

        def broken(change: Change) -> None:
            raise RuntimeError("boom")

        world.informer.add_handler(broken)
        later: list[Change] = []
        world.informer.add_handler(later.append)
        await world.cache.wait_synced()
        collection.put("b")
        await settle()
        assert [change.type for change in later] == ["added", "added"]
        assert world.informer.stats().handler_errors == 2


@virtual_time
async def test_a_late_handler_is_told_what_is_known_and_then_what_is_new() -> None:
    collection = filled("a", "b")
    async with running(collection) as world:
        await world.cache.wait_synced()
        late: list[Change] = []
        registration = world.informer.add_handler(late.append)
        assert registration.has_synced
        assert [(change.type, change.initial) for change in late] == [("added", True)] * 2
        collection.put("b")
        await settle()
        registration.remove()
        collection.put("b")
        await settle()
        assert [change.type for change in late] == ["added", "added", "updated"]


@virtual_time
async def test_a_resync_tells_every_object_as_unchanged() -> None:
    collection = filled("a", "b")
    world = World(collection)
    world.informer.widen(world.cache.declare(WIDGET, resync=100).options)
    task = asyncio.create_task(world.cache.run())
    await world.cache.wait_synced()
    await asyncio.sleep(111)
    assert world.told()[2:] == [("updated", "a"), ("updated", "b")]
    assert all(change.old is change.new for change in world.changes[2:])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@virtual_time
async def test_a_registration_is_synced_only_after_the_first_list_was_delivered() -> None:
    collection = filled("a")
    world = World(collection)
    seen_at_sync: list[int] = []
    told: list[Change] = []
    registration = world.informer.add_handler(told.append)

    async def watch_for_sync() -> None:
        await registration.wait_synced()
        seen_at_sync.append(len(told))

    waiter = asyncio.create_task(watch_for_sync())
    task = asyncio.create_task(world.cache.run())
    await waiter
    assert seen_at_sync == [1]
    assert world.cache.reader.get(WIDGET, Key("ns", "a")) is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
