"""What an informer watches: namespaces, selectors, projection; and that own writes keep within it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime.cache import Cache, InformerOptions, UndeclaredInformerError
from runtime.cache.options import Scope, Selection, scopes
from runtime.wire import Key, Resource
from runtime.wire.decode import record_from_body
from runtime.wire.selectors import FieldSelector, LabelSelector
from tests.support.fake_collection import WIDGET, FakeCollection
from tests.support.virtual_time import settle, virtual_time

NODE = Resource("", "v1", "Node", "nodes", namespaced=False)


def widget(name: str, version: int, *, namespace: str = "ns", labels: dict[str, str] | None = None, **spec: Any) -> Any:
    meta = {"name": name, "namespace": namespace, "uid": name, "resourceVersion": str(version), "labels": labels or {}}
    return record_from_body(
        WIDGET, {"apiVersion": WIDGET.api_version, "kind": "Widget", "metadata": meta, "spec": spec}
    )


def test_each_namespace_has_its_reflector_and_the_empty_name_stands_for_all_others() -> None:
    special = Selection(labels=LabelSelector.parse("a=b"))
    options = InformerOptions(namespaces={"one": None, "two": special, "": None}, labels=LabelSelector.parse("x=y"))
    one, two, rest = scopes(WIDGET, options)
    assert (one.namespace, str(one.selection.labels)) == ("one", "x=y")
    assert (two.namespace, str(two.selection.labels)) == ("two", "a=b")
    assert (rest.namespace, str(rest.fields)) == ("", "metadata.namespace!=one,metadata.namespace!=two")
    assert [scope.owns(Key("two", "w")) for scope in (one, two, rest)] == [False, True, False]
    assert [scope.owns(Key("three", "w")) for scope in (one, two, rest)] == [False, False, True]


def test_a_selector_of_one_namespace_becomes_a_request_to_it() -> None:
    (scope,) = scopes(WIDGET, InformerOptions(fields=FieldSelector.parse("metadata.namespace=one,spec.a=b")))
    assert (scope.namespace, str(scope.fields)) == ("one", "spec.a=b")


@pytest.mark.parametrize(("resource", "namespaces"), [(NODE, {"one": None}), (WIDGET, {})])
def test_impossible_scopes_are_refused(resource: Resource, namespaces: dict[str, None]) -> None:
    with pytest.raises(ValueError, match=r"cluster-scoped|watches nothing"):
        scopes(resource, InformerOptions(namespaces=namespaces))


def test_a_scope_shows_what_the_server_would_show() -> None:
    scope = Scope("ns", Selection(LabelSelector.parse("app=a"), FieldSelector.parse("spec.kind=x")))
    assert scope.shows(widget("w", 1, labels={"app": "a"}, kind="x"))
    assert not scope.shows(widget("w", 1, labels={"app": "b"}, kind="x"))
    assert not scope.shows(widget("w", 1, labels={"app": "a"}, kind="y"))
    assert not scope.shows(widget("w", 1, labels={"app": "a"}, kind="x", namespace="other"))


def cache_over(collection: FakeCollection) -> Cache:
    return Cache(None, make_source=lambda *_: collection)


def test_a_second_declaration_shares_the_informer_and_adds_its_indexes() -> None:
    cache = cache_over(FakeCollection())
    first = cache.declare(WIDGET, metadata_only=True, indexes={"spec.a": None})
    assert cache.declare(WIDGET, indexes={"spec.b": None}) is first
    assert set(first.store.indexes) == {"spec.a", "spec.b"}
    assert not first.options.metadata_only  # somebody wants bodies
    with pytest.raises(ValueError, match="declared twice"):
        cache.declare(WIDGET, labels={"a": "b"})


def test_reading_what_was_not_declared_is_an_error_and_not_a_new_informer() -> None:
    cache = cache_over(FakeCollection())
    with pytest.raises(UndeclaredInformerError, match="nodes was not declared"):
        cache.reader.get(NODE, Key("", "n"))
    cache.declare(WIDGET)
    with pytest.raises(UndeclaredInformerError, match="no index"):
        cache.reader.by_index(WIDGET, "spec.a", "x", namespace=None)


@virtual_time
async def test_own_writes_are_shown_projected_and_only_within_the_informers_scope() -> None:
    collection = FakeCollection()
    cache = cache_over(collection)
    informer = cache.declare(WIDGET, metadata_only=True, namespaces=["ns"], labels={"app": "a"}, resync=0)
    running = asyncio.create_task(cache.run())
    await cache.wait_synced()
    informer.written(widget("mine", 10, labels={"app": "a"}, secret="s3cret"))
    informer.written(widget("unlabelled", 11))
    informer.written(widget("elsewhere", 12, labels={"app": "a"}, namespace="other"))
    assert [record.key.name for record in cache.reader.list(WIDGET)] == ["mine"]
    shown = cache.reader.get(WIDGET, Key("ns", "mine"))
    assert shown is not None
    assert b"s3cret" not in shown.raw
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@virtual_time
async def test_read_your_writes_can_be_switched_off_for_a_kind() -> None:
    cache = cache_over(FakeCollection())
    informer = cache.declare(WIDGET, read_your_writes=False, resync=0)
    running = asyncio.create_task(cache.run())
    await cache.wait_synced()
    informer.written(widget("mine", 10))
    assert cache.reader.list(WIDGET) == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@virtual_time
async def test_an_informer_that_is_declared_while_the_cache_runs_starts_at_once() -> None:
    collection = FakeCollection()
    collection.put("a")
    cache = cache_over(collection)
    running = asyncio.create_task(cache.run())
    await settle()
    informer = cache.declare(WIDGET, resync=0)
    await informer.wait_synced()
    assert [record.key.name for record in cache.reader.list(WIDGET, labels={})] == ["a"]
    assert cache.reader.list(WIDGET, namespace="other") == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@virtual_time
async def test_a_transform_shapes_what_is_kept_and_a_broken_one_does_not_end_the_informer() -> None:
    collection = FakeCollection()
    collection.put("a", text="long")
    cache = cache_over(collection)
    broken = True

    def shorten(record: Any) -> Any:
        if broken and record.path("spec.bad"):
            raise ZeroDivisionError
        return widget(record.key.name, record.version, text="short")

    cache.declare(WIDGET, transform=shorten, resync=0)
    running = asyncio.create_task(cache.run())
    await cache.wait_synced()
    collection.put("b", bad=True)
    await asyncio.sleep(20)
    assert not running.done()
    assert [record.key.name for record in cache.reader.list(WIDGET)] == ["a"]
    broken = False
    await asyncio.sleep(61)
    assert [record.path("spec.text") for record in cache.reader.list(WIDGET)] == ["short", "short"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@virtual_time
async def test_bodies_cannot_be_asked_for_once_a_metadata_informer_runs() -> None:
    cache = cache_over(FakeCollection())
    cache.declare(WIDGET, metadata_only=True, resync=0)
    running = asyncio.create_task(cache.run())
    await cache.wait_synced()
    with pytest.raises(ValueError, match="bodies are asked for"):
        cache.declare(WIDGET, resync=0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
