"""A controller: what wakes a reconcile, how often, and what follows from its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import orjson
import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from runtime.control.controller import Controller, ControllerOptions, SourceNotSyncedError, Watch
from runtime.control.handlers import enqueue_mapped, enqueue_object, enqueue_owner
from runtime.control.predicates import Event, generation_changed, is_behind
from runtime.control.reconcile import Result, TerminalError
from runtime.control.scope import reconcile_id
from runtime.control.source import Listener, Subscription
from runtime.observe.metrics import REGISTRY
from runtime.queue.workqueue import LOW_PRIORITY
from runtime.wire.decode import decode_record
from runtime.wire.errors import ConflictError, TooManyRequestsError
from runtime.wire.gvk import Key, Resource
from runtime.wire.record import Record
from tests.support.virtual_time import now, settle, virtual_time

THING = Resource("example.com", "v1", "Thing", "things")
OWNER = Resource("example.com", "v1", "Owner", "owners")


def record(name: str, *, version: int = 1, generation: int = 1, owner: str = "", **spec: Any) -> Record:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "ns",
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "generation": generation,
    }
    if owner:
        metadata["ownerReferences"] = [
            {"apiVersion": "example.com/v9", "kind": "Owner", "name": owner, "uid": "u", "controller": True}
        ]
    body = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": metadata, "spec": spec}
    return decode_record(THING, orjson.dumps(body))


class Script:
    """A reconciler that does what a test says, and remembers when it ran."""

    def __init__(self, act: Callable[[Key], Any] | None = None) -> None:
        self.act = act
        self.runs: list[tuple[str, float]] = []
        self.running = 0
        self.most = 0
        self.ids: list[str] = []

    async def reconcile(self, request: Key) -> Result | None:
        self.runs.append((request.name, now()))
        self.ids.append(reconcile_id())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            answer = self.act(request) if self.act else None
            return await answer if asyncio.iscoroutine(answer) else answer
        finally:
            self.running -= 1


@dataclass
class Channel:
    """A source that a test feeds; what was sent before a controller subscribed is delivered when it does."""

    name: str
    listeners: list[Listener] = field(default_factory=list)
    early: list[Event] = field(default_factory=list)

    def send(self, record: Record) -> None:
        event = Event(None, record)
        if not self.listeners:
            self.early.append(event)
        for listener in tuple(self.listeners):
            listener(event)

    def subscribe(self, listener: Listener) -> Subscription:
        early, self.early = self.early, []
        self.listeners.append(listener)
        for event in early:
            listener(event)
        return ChannelSubscription(self.listeners, listener)


@dataclass
class ChannelSubscription:
    listeners: list[Listener]
    listener: Listener

    async def synced(self) -> None:
        await asyncio.sleep(0)

    def close(self) -> None:
        if self.listener in self.listeners:
            self.listeners.remove(self.listener)


class Running:
    """A started controller over one channel."""

    serial = 0

    def __init__(self, reconciler: Script, *, watches: Any = None, **options: Any) -> None:
        Running.serial += 1
        self.channel = Channel("things")
        self.name = f"test{Running.serial}"
        watches = watches(self.channel) if watches else [Watch(self.channel, enqueue_object)]
        self.controller = Controller(self.name, THING, reconciler, watches, ControllerOptions(**options))
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        ready = asyncio.Event()
        self.task = asyncio.create_task(self.controller.run(ready.set, self.stop))
        await ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await self.task

    def send(self, name: str) -> None:
        self.channel.send(record(name))

    def metric(self, name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"controller": self.name, **labels}) or 0.0


@virtual_time
async def test_events_lead_to_reconciles_with_bounded_concurrency():
    script = Script(lambda _: asyncio.sleep(1))
    async with Running(script, concurrency=3) as running:
        for i in range(7):
            running.send(f"t{i}")
        await asyncio.sleep(10)
    assert len(script.runs) == 7
    assert script.most == 3
    assert [at for _, at in script.runs] == [0, 0, 0, 1, 1, 1, 2]


@virtual_time
async def test_a_failure_is_retried_with_back_off_that_success_resets():
    failing = True

    def act(_: Key) -> None:
        if failing:
            raise RuntimeError("no")

    script = Script(act)
    async with Running(script) as running:
        running.send("a")
        await asyncio.sleep(0.1)
        assert [at for _, at in script.runs] == [0, 0.005, 0.015, 0.035, 0.075]
        failing = False
        await asyncio.sleep(1)
        script.runs.clear()
        failing = True
        running.send("a")
        await asyncio.sleep(0.01)
        assert [round(at - 1.1, 6) for _, at in script.runs] == [0, 0.005]
        assert running.metric("controller_runtime_reconcile_panics_total") == 7


@virtual_time
async def test_results_terminal_errors_and_requeues_are_counted_under_their_names():
    def act(request: Key) -> Result | None:
        match request.name:
            case "terminal":
                raise TerminalError("give up")
            case "later":
                return Result(requeue_after=30) if now() < 60 else None
            case "busy":
                raise TooManyRequestsError(429, "TooManyRequests", "slow down", retry_after=45)
        return None

    script = Script(act)
    async with Running(script) as running:
        for name in ("good", "terminal", "later", "busy"):
            running.send(name)
        await asyncio.sleep(80)
    by_name = {n: [at for name, at in script.runs if name == n] for n in ("good", "terminal", "later", "busy")}
    assert by_name == {"good": [0], "terminal": [0], "later": [0, 30, 60], "busy": [0, 45]}
    total = "controller_runtime_reconcile_total"
    assert running.metric(total, result="success") == 2
    assert running.metric(total, result="requeue_after") == 2
    assert running.metric(total, result="error") == 3
    assert running.metric("controller_runtime_terminal_reconcile_errors_total") == 1
    assert running.metric("controller_runtime_reconcile_panics_total") == 0
    assert f'{total}{{controller="{running.name}",result="requeue"}} 0.0' in generate_latest(REGISTRY).decode()


@virtual_time
async def test_conflicts_are_repeated_silently_until_they_look_like_a_fight():
    tries = 0

    def act(_: Key) -> None:
        nonlocal tries
        tries += 1
        if tries <= 8:
            raise ConflictError(409, "Conflict", "the object has been modified")

    with capture_logs() as logs:
        async with Running(Script(act), conflict_retries=5) as running:
            running.send("a")
            await asyncio.sleep(10)
    assert tries == 9
    assert running.metric("controller_runtime_reconcile_errors_total") == 3
    assert running.metric("controller_runtime_reconcile_total", result="requeue") == 5
    assert sum(line["log_level"] == "error" for line in logs) == 3


@virtual_time
async def test_conflicts_never_wait_longer_than_a_second_however_many_there_were():
    script = Script()

    def act(_: Key) -> None:
        if now() < 60:
            raise ConflictError(409, "Conflict", "the object has been modified")

    script.act = act
    async with Running(script) as running:
        running.send("a")
        await asyncio.sleep(70)
    times = [at for _, at in script.runs]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:4] == pytest.approx([0.005, 0.01, 0.02, 0.04])
    assert max(pauses) == pytest.approx(1.0)
    assert 60 <= times[-1] <= 61
    assert len(times) < 75


@virtual_time
async def test_conflicts_do_not_grow_the_back_off_of_failures():
    conflicts = iter(range(30))

    def act(_: Key) -> None:
        if next(conflicts, None) is not None:
            raise ConflictError(409, "Conflict", "the object has been modified")
        if len(script.runs) == 31:
            raise ValueError("once")

    script = Script(act)
    async with Running(script) as running:
        running.send("a")
        await asyncio.sleep(60)
    assert len(script.runs) == 32
    assert script.runs[31][1] - script.runs[30][1] == pytest.approx(0.005)


@virtual_time
async def test_a_fight_starts_from_the_beginning_after_a_success():
    def act(_: Key) -> None:
        if len(script.runs) not in (7, 14):
            raise ConflictError(409, "Conflict", "the object has been modified")

    script = Script(act)
    async with Running(script) as running:
        running.send("a")
        await asyncio.sleep(10)
        running.send("a")
        await asyncio.sleep(10)
    times = [at for _, at in script.runs]
    assert len(times) == 14
    assert times[8] - times[7] == pytest.approx(times[1] - times[0])


@virtual_time
async def test_a_reconcile_that_hangs_is_cancelled_counted_and_retried():
    script = Script(lambda _: asyncio.sleep(1000) if now() < 5 else None)
    async with Running(script, reconcile_timeout=5.0) as running:
        running.send("a")
        await asyncio.sleep(6)
    assert [at for _, at in script.runs] == [0, 5.005]
    assert running.metric("controller_runtime_reconcile_timeouts_total") == 1


@virtual_time
async def test_a_timeout_of_the_business_itself_is_not_counted_as_ours():
    def act(_: Key) -> None:
        raise TimeoutError("backend")

    async with Running(Script(act), reconcile_timeout=5.0) as running:
        running.send("a")
        await asyncio.sleep(0.001)
    assert running.metric("controller_runtime_reconcile_timeouts_total") == 0
    assert running.metric("controller_runtime_reconcile_errors_total") == 1


@virtual_time
async def test_a_worker_survives_a_cancellation_that_was_not_meant_for_it():
    async def act() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    script = Script(lambda request: act() if request.name == "bad" else None)
    async with Running(script, concurrency=1) as running:
        running.send("bad")
        running.send("good")
        await settle()
    assert [name for name, _ in script.runs] == ["bad", "good"]
    assert running.metric("controller_runtime_reconcile_panics_total") == 1


@virtual_time
async def test_a_bug_in_a_mapping_costs_its_event_and_nothing_else():
    def mapping(changed: Record) -> list[Key]:
        if changed.meta.name == "bad":
            raise KeyError("spec")
        return [changed.key]

    script = Script()
    with capture_logs() as logs:
        async with Running(script, watches=lambda c: [Watch(c, enqueue_mapped(mapping))]) as running:
            running.send("bad")
            running.send("good")
            await settle()
    assert [name for name, _ in script.runs] == ["good"]
    assert running.metric("runtime_handler_errors_total") == 1
    assert any(line["event"] == "event handler failed" for line in logs)


@virtual_time
async def test_stop_finishes_what_runs_and_takes_nothing_new():
    script = Script(lambda _: asyncio.sleep(3))
    running = Running(script, concurrency=1)
    async with running:
        running.send("a")
        running.send("b")
        await asyncio.sleep(1)
    assert now() == 3
    assert [name for name, _ in script.runs] == ["a"]


@virtual_time
async def test_workers_start_after_every_initial_list_was_delivered():
    release = asyncio.Event()

    class Slow(Channel):
        def subscribe(self, listener):
            subscription = super().subscribe(listener)

            class Late:
                close = subscription.close

                async def synced(self) -> None:
                    await release.wait()

            return Late()

    script = Script()
    slow, stop, ready = Slow("slow"), asyncio.Event(), asyncio.Event()
    slow.send(record("a"))
    controller = Controller("syncing", THING, script, [Watch(slow, enqueue_object)], ControllerOptions())
    task = asyncio.create_task(controller.run(ready.set, stop))
    await asyncio.sleep(30)
    assert not script.runs
    assert not ready.is_set()
    release.set()
    await ready.wait()
    await settle()
    assert [name for name, _ in script.runs] == ["a"]
    stop.set()
    await task


class NeverSynced(Channel):
    def subscribe(self, listener):
        class Never:
            def close(self) -> None: ...

            async def synced(self) -> None:
                await asyncio.Event().wait()

        return Never()


@virtual_time
async def test_a_source_that_never_syncs_is_named_in_the_error():
    sources = [Watch(Channel("fine"), enqueue_object), Watch(NeverSynced("things.example.com"), enqueue_object)]
    controller = Controller("unsynced", THING, Script(), sources, ControllerOptions(sync_timeout=120))
    with pytest.raises(SourceNotSyncedError, match=r"no initial list of things\.example\.com within 120 s"):
        await controller.run(lambda: None, asyncio.Event())
    assert now() == 120


@virtual_time
async def test_stop_during_the_wait_for_lists_ends_the_controller_without_error():
    stop = asyncio.Event()
    controller = Controller(
        "stopped", THING, Script(), [Watch(NeverSynced("x"), enqueue_object)], ControllerOptions(sync_timeout=120)
    )
    asyncio.get_running_loop().call_later(2, stop.set)
    await controller.run(lambda: None, stop)
    assert now() == 2


@virtual_time
async def test_a_slow_reconcile_is_reported_once_with_the_place_where_it_hangs():
    script = Script(lambda _: asyncio.sleep(100))
    with capture_logs() as logs:
        async with Running(script, slow_after=30) as running:
            running.send("a")
            await asyncio.sleep(100)
    slow = [line for line in logs if line["event"] == "reconcile is slow"]
    assert len(slow) == 1
    assert slow[0]["object"] == "ns/a"
    assert any("reconcile" in frame for frame in slow[0]["stack"])
    assert running.metric("runtime_slow_reconciles_total") == 1


@virtual_time
async def test_every_attempt_has_its_own_id():
    def act(_: Key) -> None:
        raise RuntimeError

    script = Script(act)
    async with Running(script) as running:
        running.send("a")
        await asyncio.sleep(0.02)
    assert len(script.ids) == 3
    assert len(set(script.ids)) == 3


@virtual_time
async def test_initial_lists_and_resyncs_are_queued_with_low_priority():
    script = Script(lambda _: asyncio.sleep(1))
    same = record("resync")
    events = {
        "new": Event(None, record("new")),
        "initial": Event(None, record("initial"), initial=True),
        "resync": Event(same, same),
        "gone": Event(record("gone"), None),
    }
    seen = {}
    async with Running(script, concurrency=1) as running:
        running.send("block the only worker")
        await settle()
        for name, event in events.items():
            for listener in running.channel.listeners:
                listener(event)
            seen[name] = running.controller.queue.depth_by_priority()
    assert seen == {
        "new": {0: 1},
        "initial": {0: 1, LOW_PRIORITY: 1},
        "resync": {0: 1, -100: 2},
        "gone": {0: 2, -100: 2},
    }


def judged(name: str, generation: int, observed: object) -> Record:
    """An object whose status speaks of a generation; None for an object without status."""
    status = {"status": {"observedGeneration": observed}} if observed is not None else {}
    return decode_record(THING, orjson.dumps(record(name, generation=generation).as_dict() | status))


@virtual_time
async def test_what_was_changed_while_nobody_looked_comes_before_the_rest_of_the_first_list():
    script = Script(lambda _: asyncio.sleep(1))
    async with Running(script, concurrency=1) as running:
        running.send("block the only worker")
        await settle()
        for found in (judged("a", 1, 1), judged("b", 1, None), judged("changed", 2, 1), record("c")):
            for listener in running.channel.listeners:
                listener(Event(None, found, initial=True))
        await asyncio.sleep(10)
    assert [name for name, _ in script.runs[1:]] == ["changed", "a", "b", "c"]


@virtual_time
async def test_of_other_objects_of_the_first_list_none_comes_before_a_change():
    """They are many, and what they lead to is looked at once for all of them."""
    script = Script(lambda _: asyncio.sleep(1))
    mapped = enqueue_mapped(lambda found: [found.key])
    async with Running(script, concurrency=1, watches=lambda channel: [Watch(channel, mapped)]) as running:
        running.send("block the only worker")
        await settle()
        for listener in running.channel.listeners:
            listener(Event(None, judged("changed", 2, 1), initial=True))
        assert running.controller.queue.depth_by_priority() == {LOW_PRIORITY: 1}


@pytest.mark.parametrize(
    ("generation", "observed", "behind"), [(2, 1, True), (2, 2, False), (2, None, False), (0, 1, False), (2, "x", True)]
)
def test_a_status_is_behind_when_it_speaks_of_another_generation(generation, observed, behind):
    assert is_behind(judged("a", generation, observed)) is behind


def test_a_moved_reference_wakes_both_sides_once():
    handler = enqueue_mapped(lambda r: [Key("ns", r.path("spec.group")), Key("ns", "common")])
    event = Event(record("a", group="old"), record("a", group="new"))
    assert list(handler(event)) == [Key("ns", "old"), Key("ns", "common"), Key("ns", "new")]


def test_owners_of_other_versions_are_found_and_a_change_of_owner_wakes_both():
    handler = enqueue_owner(OWNER)
    assert list(handler(Event(record("a", owner="x"), record("a", owner="y")))) == [Key("ns", "x"), Key("ns", "y")]
    assert list(handler(Event(record("a"), None))) == []


def test_generation_predicate_passes_spec_changes_creation_and_deletion_only():
    one, status, spec = record("a"), record("a", version=2), record("a", version=3, generation=2)
    assert generation_changed(Event(None, one))
    assert not generation_changed(Event(one, status))
    assert generation_changed(Event(status, spec))
    assert generation_changed(Event(spec, None))
