"""The store: indexes, and read-your-writes that never lies and never loses an event."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runtime.cache.cache import Cache
from runtime.cache.handlers import Change
from runtime.cache.index import SpecIndex, path_index
from runtime.cache.store import Effect, Shard, Store
from runtime.wire import Key, Record
from runtime.wire.decode import record_from_body
from tests.support.fake_collection import WIDGET


def made(name: str, version: int, *, uid: str = "u", namespace: str = "ns", **spec: Any) -> Record:
    meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return record_from_body(
        WIDGET, {"apiVersion": WIDGET.api_version, "kind": "Widget", "metadata": meta, "spec": spec}
    )


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that only ever yields to the loop."""
    try:
        while True:
            work.send(None)
    except StopIteration:
        return


class Fixture:
    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.store = Store(self.changes.append)
        self.shard = Shard(self.store, lambda _: True)

    def listed(self, version: int, *records: Record) -> None:
        finish(self.shard.replace({record.key: record for record in records}, version))
        self.changes.clear()

    def event(self, record: Record, *, gone: bool = False) -> Effect:
        return self.shard.apply(record, gone=gone)

    def wrote(self, record: Record) -> None:
        self.store.put_written(record, self.shard.version)

    def shown(self, name: str = "a") -> int | None:
        record = self.store.get(Key("ns", name))
        return record.version if record is not None else None

    def told(self) -> list[tuple[str, int, int]]:
        return [(c.type, c.old.version if c.old else 0, c.new.version if c.new else 0) for c in self.changes]


@pytest.fixture
def world() -> Fixture:
    return Fixture()


def test_an_answer_of_the_version_that_the_watch_told_counts_where_it_holds_more(world: Fixture) -> None:
    """While a CRD is replaced, a watch of before tells objects without the fields that the old schema did not have."""
    pruned, whole = made("a", 7), made("a", 7, url="x")
    assert pruned.raw != whole.raw
    world.listed(7, pruned)
    world.wrote(whole)
    found = world.store.get(Key("ns", "a"))
    assert found is not None
    assert found.path("spec.url") == "x"
    assert (world.store.pending, world.told()) == (0, []), (
        "nothing is awaited, and nobody is woken: it is the same version"
    )
    world.wrote(made("a", 6, url="y"))
    world.wrote(made("a", 7, uid="another"))
    assert world.store.get(Key("ns", "a")) is found
    world.event(made("a", 8))
    assert world.shown() == 8


def test_a_write_is_shown_before_the_watch_tells_it(world: Fixture) -> None:
    world.listed(5, made("a", 5))
    world.wrote(made("a", 7))
    assert world.shown() == 7
    assert world.told() == []
    world.event(made("a", 7))
    assert (world.shown(), world.store.pending) == (7, 0)
    assert world.told() == [("updated", 5, 7)]


def test_a_foreign_change_before_the_write_wakes_handlers_but_readers_keep_the_newer(world: Fixture) -> None:
    world.listed(5, made("a", 5))
    world.wrote(made("a", 7))
    world.event(made("a", 6))
    assert (world.shown(), world.told()) == (7, [("updated", 5, 6)])
    world.event(made("a", 7))
    assert world.told()[1:] == [("updated", 6, 7)]


def test_an_answer_slower_than_the_watch_is_not_put(world: Fixture) -> None:
    world.listed(5, made("a", 5))
    world.event(made("a", 8))
    world.wrote(made("a", 7))
    assert (world.shown(), world.store.pending) == (8, 0)
    # Created by us and already deleted by somebody else, both told before our answer came.
    world.event(made("b", 9))
    world.event(made("b", 10), gone=True)
    world.wrote(made("b", 9))
    assert world.shown("b") is None


def test_a_creation_is_shown_and_told_once(world: Fixture) -> None:
    world.listed(5)
    world.wrote(made("a", 6))
    assert world.shown() == 6
    world.event(made("a", 6))
    assert world.told() == [("added", 0, 6)]


def test_a_ghost_is_removed_and_told_when_a_list_lacks_it(world: Fixture) -> None:
    world.listed(5)
    world.wrote(made("a", 6))
    finish(world.shard.replace({}, 9))
    assert (world.shown(), world.store.pending) == (None, 0)
    assert [(c.type, c.stale) for c in world.changes] == [("deleted", True)]


def test_a_ghost_is_removed_and_told_when_a_bookmark_passes_it(world: Fixture) -> None:
    world.listed(5)
    world.wrote(made("a", 6))
    world.shard.progress(6)
    assert world.shown() is None
    assert world.told() == [("deleted", 6, 0)]


def test_a_write_newer_than_a_list_survives_it(world: Fixture) -> None:
    world.listed(5)
    world.wrote(made("a", 12))
    finish(world.shard.replace({}, 9))
    assert (world.shown(), world.told()) == (12, [])


def test_a_deletion_hides_the_object_until_the_watch_confirms(world: Fixture) -> None:
    world.listed(5, made("a", 5))
    world.store.put_deleted(Key("ns", "a"), "u")
    assert world.shown() is None
    world.event(made("a", 6))  # a last change before the deletion
    assert (world.shown(), world.told()) == (None, [("updated", 5, 6)])
    world.event(made("a", 7), gone=True)
    assert (world.shown(), world.store.pending) == (None, 0)
    assert world.told()[1:] == [("deleted", 7, 0)]


def test_a_new_object_of_a_deleted_name_is_not_hidden(world: Fixture) -> None:
    world.listed(5, made("a", 5))
    world.store.put_deleted(Key("ns", "a"), "u")
    world.wrote(made("a", 8, uid="v"))
    assert world.shown() == 8
    world.event(made("a", 7), gone=True)
    assert (world.shown(), world.told()) == (8, [("deleted", 7, 0)])
    world.event(made("a", 8, uid="v"))
    assert world.told()[1:] == [("added", 0, 8)]


def test_a_deletion_of_another_object_of_that_name_is_ignored(world: Fixture) -> None:
    world.listed(5, made("a", 5))
    world.store.put_deleted(Key("ns", "a"), "other")
    assert world.shown() == 5


def test_a_list_without_changes_keeps_the_records_and_their_models(world: Fixture) -> None:
    world.listed(5, made("a", 5))
    before = world.store.get(Key("ns", "a"))
    finish(world.shard.replace({Key("ns", "a"): made("a", 5)}, 9))
    assert world.store.get(Key("ns", "a")) is before
    assert world.told() == [("updated", 5, 5)]


def test_an_event_older_than_the_known_state_is_regressed_and_changes_nothing(world: Fixture) -> None:
    world.listed(9, made("a", 8))
    assert world.event(made("a", 7)) is Effect.REGRESSED
    assert world.event(made("a", 7), gone=True) is Effect.REGRESSED
    assert world.event(made("b", 7)) is Effect.REGRESSED  # might be a deleted object: a new list will tell
    assert world.event(made("a", 8)) is Effect.DUPLICATE
    assert (world.shown(), world.shown("b"), world.told()) == (8, None, [])


def test_versions_that_are_no_numbers_are_followed_without_comparison(world: Fixture) -> None:
    def odd(value: str) -> Record:
        body = {"kind": "Widget", "metadata": {"name": "a", "namespace": "ns", "resourceVersion": value}}
        return record_from_body(WIDGET, body)

    finish(world.shard.replace({Key("ns", "a"): odd("x")}, 0))
    assert world.event(odd("b")) is Effect.APPLIED
    assert world.store.get(Key("ns", "a")).meta.resource_version == "b"
    assert world.event(odd("c"), gone=True) is Effect.APPLIED
    assert len(world.store) == 0


def test_indexes_follow_changes_own_writes_and_deletions(world: Fixture) -> None:
    world.store.add_index("spec.group", path_index("spec.group"))
    world.listed(5, made("b", 4, group="g"), made("a", 5, group="g"), made("c", 3, group="g", namespace="other"))

    def found(value: str, namespace: str | None = "ns") -> list[str]:
        return [record.key.name for record in world.store.by_index("spec.group", value, namespace)]

    assert found("g") == ["a", "b"]
    assert found("g", None) == ["a", "b", "c"]
    assert [world.store.count("spec.group", "g", place) for place in ("ns", "other", "nowhere", None)] == [2, 1, 0, 3]
    world.wrote(made("a", 6, group="h"))
    assert (found("g"), found("h")) == (["b"], ["a"])
    world.event(made("a", 6, group="h"))
    world.event(made("a", 7), gone=True)
    assert (found("h"), found("nobody")) == ([], [])
    assert [record.key.name for record in world.store.all()] == ["b", "c"]
    assert [record.key.name for record in world.store.all("other")] == ["c"]


def test_an_index_of_the_spec_is_not_computed_again_for_a_new_status(world: Fixture) -> None:
    looked: list[int] = []

    def group(record: Record) -> list[str]:
        looked.append(record.version)
        return [str(record.path("spec.group"))]

    def version(number: int, generation: int, value: str, uid: str = "u") -> Record:
        metadata = {"name": "a", "namespace": "ns", "uid": uid, "resourceVersion": str(number)}
        if generation:
            metadata |= {"generation": generation}
        return record_from_body(WIDGET, {"kind": "Widget", "metadata": metadata, "spec": {"group": value}})

    world.store.add_index("spec.group", group, of_spec=True)
    world.listed(1, version(1, 1, "g"))
    world.wrote(version(2, 1, "g"))
    world.event(version(3, 1, "g"))
    assert looked == [1]
    world.event(version(4, 2, "h"))
    assert [len(world.store.by_index("spec.group", value)) for value in "gh"] == [0, 1]
    world.event(version(5, 2, "i", uid="another"))
    world.event(version(6, 0, "j", uid="another"))
    world.event(version(7, 0, "k", uid="another"))
    assert looked == [1, 4, 5, 6, 7], "a kind without generations is always looked into"
    assert len(world.store.by_index("spec.group", "k")) == 1


def test_a_function_of_the_spec_is_not_asked_again_for_a_new_status() -> None:
    looked: list[int] = []

    def names(record: Record) -> list[str]:
        looked.append(record.version)
        return ["g"]

    store = (
        Cache(None, make_source=lambda *_: pytest.fail("nothing is watched"))
        .declare(WIDGET, indexes={"spec only": SpecIndex(names), "any": names})
        .store
    )
    for version in (1, 2):
        metadata = {"name": "a", "namespace": "ns", "uid": "u", "resourceVersion": str(version), "generation": 1}
        store.told(record_from_body(WIDGET, {"kind": "Widget", "metadata": metadata, "status": {"n": version}}))
    assert looked == [1, 1, 2]
    assert len(store.by_index("spec only", "g")) == 1


def test_an_index_function_that_raises_or_lies_leaves_nothing_behind(world: Fixture) -> None:
    answers = iter([["x"], ["y"], ZeroDivisionError])

    def unsteady(record: Record) -> list[str]:
        answer = next(answers)
        if isinstance(answer, list):
            return answer
        raise answer

    world.store.add_index("odd", unsteady)
    world.listed(5, made("a", 5))
    world.event(made("a", 6))
    assert (world.store.by_index("odd", "x"), len(world.store.by_index("odd", "y"))) == ([], 1)
    world.event(made("a", 7))
    assert world.store.by_index("odd", "y") == []
    assert world.store.indexes["odd"].errors == 1
    assert world.shown() == 7


def test_the_size_is_that_of_the_bodies(world: Fixture) -> None:
    world.listed(5, made("a", 5), made("b", 5, text="x" * 100))
    assert world.store.bytes == sum(len(record.raw) for record in world.store.all())
    world.event(made("b", 6), gone=True)
    assert world.store.bytes == len(world.store.all()[0].raw)


class Convergence(RuleBasedStateMachine):
    """A server, its stream of events, our own writes, lost connections, lists, replayed and reordered events.

    Whatever the order: what readers see is never older than what was written by us and is still there, the handlers'
    view follows from the changes they were told, and both end at the server's truth.
    """

    names = st.sampled_from("ab")

    def __init__(self) -> None:
        super().__init__()
        self.version = 1
        self.server: dict[Key, Record] = {}
        self.history: list[tuple[Record, bool]] = []
        self.told = 0  # events of the history that were delivered
        self.answers: list[tuple[Record, bool]] = []  # of own writes, on their way
        self.view: dict[Key, Record] = {}
        self.store = Store(self._handle)
        self.shard = Shard(self.store, lambda _: True)
        self.floor: dict[Key, tuple[str, int]] = {}  # what reads must at least show, by own writes
        finish(self.shard.replace({}, 1))

    def _handle(self, change: Change) -> None:
        match change.type:
            case "added":
                assert change.new.key not in self.view
                self.view[change.new.key] = change.new
            case "updated":
                assert self.view[change.new.key].raw == change.old.raw
                self.view[change.new.key] = change.new
            case "deleted":
                self.view.pop(change.old.key, None)

    def _change(self, name: str, remove: bool) -> tuple[Record, bool]:
        self.version += 1
        key = Key("ns", name)
        old = self.server.get(key)
        uid = old.meta.uid if old is not None else f"u{self.version}"
        record = made(name, self.version, uid=uid)
        if remove:
            del self.server[key]
        else:
            self.server[key] = record
        self.history.append((record, remove))
        return record, remove

    @rule(name=names)
    def somebody_writes(self, name: str) -> None:
        self._change(name, remove=False)

    @rule(name=names)
    def somebody_deletes(self, name: str) -> None:
        if Key("ns", name) in self.server:
            self._change(name, remove=True)

    @rule(name=names)
    def we_write(self, name: str) -> None:
        self.answers.append(self._change(name, remove=False))

    @rule(name=names)
    def we_delete(self, name: str) -> None:
        if Key("ns", name) in self.server:
            self.answers.append(self._change(name, remove=True))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def an_answer_arrives(self, data: st.DataObject) -> None:
        record, removed = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        if removed:
            shown = self.store.get(record.key)
            self.store.put_deleted(record.key, record.meta.uid)
            if shown is not None and shown.meta.uid == record.meta.uid:
                assert self.store.get(record.key) is None
        else:
            self.store.put_written(record, self.shard.version)
            shown = self.store.get(record.key)
            if shown is not None:
                assert shown.version >= record.version or shown.meta.uid != record.meta.uid

    @precondition(lambda self: self.told < len(self.history))
    @rule(count=st.integers(1, 4))
    def the_watch_tells(self, count: int) -> None:
        for record, gone in self.history[self.told : self.told + count]:
            assert self.shard.apply(record, gone=gone) is not Effect.REGRESSED
        self.told = min(len(self.history), self.told + count)

    @precondition(lambda self: self.told == len(self.history))
    @rule()
    def a_bookmark_comes(self) -> None:
        assert self.shard.progress(self.version) is Effect.APPLIED

    @rule()
    def everything_is_listed_again(self) -> None:
        finish(self.shard.replace(dict(self.server), self.version))
        self.told = len(self.history)

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def old_events_are_replayed(self, data: st.DataObject) -> None:
        indexes = data.draw(st.lists(st.integers(0, len(self.history) - 1), max_size=4))
        effects = [self.shard.apply(self.history[at][0], gone=self.history[at][1]) for at in indexes]
        # A replay from beyond what was told skips events in between: only a new list helps, and the reflector makes it.
        if Effect.REGRESSED in effects or any(at >= self.told for at in indexes):
            self.everything_is_listed_again()

    @invariant()
    def handlers_know_what_the_watch_told(self) -> None:
        assert self.view == {record.key: record for record in self.store.bases()}

    @invariant()
    def what_was_told_and_written_is_what_is_read(self) -> None:
        if self.told < len(self.history) or self.answers:
            return
        shown = {record.key: record for record in self.store.all()}
        for key, record in shown.items():
            assert self.server.get(key) == record

    def teardown(self) -> None:
        for record, removed in self.answers:
            if removed:
                self.store.put_deleted(record.key, record.meta.uid)
            else:
                self.store.put_written(record, self.shard.version)
        for record, gone in self.history[self.told :]:
            self.shard.apply(record, gone=gone)
        self.shard.progress(self.version)
        assert {record.key: record for record in self.store.all()} == self.server
        assert self.view == self.server
        assert self.store.pending == 0


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(max_examples=settings.default.max_examples, stateful_step_count=30)
