"""Records: what the cache keeps of an object, and how it is read."""

from __future__ import annotations

import json

import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire import Key, Resource
from runtime.wire.decode import (
    DecodeError,
    UnexpectedKindError,
    decode_list,
    decode_record,
    metadata_only,
    parse_version,
    record_from_body,
)

WIDGET = Resource("test.example.com", "v1", "Widget", "widgets")
SECRET = Resource("", "v1", "Secret", "secrets")
NODE = Resource("", "v1", "Node", "nodes", namespaced=False)
MANAGED = [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:a": {}}}}]


def widget(spec: object = None, **metadata: object) -> dict:
    meta = {"name": "w", "namespace": "ns", "uid": "u1", "resourceVersion": "12", **metadata}
    return {"apiVersion": "test.example.com/v1", "kind": "Widget", "metadata": meta, "spec": spec or {"a": 1}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def test_managed_fields_are_cut_and_everything_else_is_kept() -> None:
    body = widget({"x": [1, {"y": None}]}, managedFields=MANAGED, labels={"app": "x"})
    record = decode_record(WIDGET, orjson.dumps(body))
    assert b"f:spec" not in record.raw
    assert record.as_dict() == {**body, "metadata": {**body["metadata"], "managedFields": []}}


def test_an_object_without_managed_fields_keeps_its_bytes() -> None:
    raw = orjson.dumps(widget())
    assert decode_record(WIDGET, raw).raw == raw


@given(json_values, st.sampled_from(["spec", "aaa"]), st.booleans())
def test_the_cut_hits_the_metadata_only_whatever_else_the_object_holds(value: object, where: str, spaced: bool) -> None:
    # The same text in another place, before or after the metadata, must stay.
    body = {where: {"managedFields": MANAGED, "value": value}, **widget(managedFields=MANAGED)}
    body.setdefault("spec", {})
    raw = json.dumps(body, separators=(", ", ": ") if spaced else (",", ":")).encode()
    parsed = decode_record(WIDGET, raw).as_dict()
    assert parsed.pop("metadata")["managedFields"] == []
    body.pop("metadata")
    assert parsed == body


def test_the_metadata_is_decoded_once_and_last_applied_is_left_out_of_it() -> None:
    last = "kubectl.kubernetes.io/last-applied-configuration"
    record = record_from_body(
        WIDGET,
        widget(
            generation=3,
            annotations={last: "{}", "note": "n"},
            labels={"a": "b"},
            finalizers=["f"],
            deletionTimestamp="2026-01-01T00:00:00Z",
            ownerReferences=[
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "o", "controller": True}
            ],
        ),
    )
    meta = record.meta
    assert (record.key, record.version, meta.generation) == (Key("ns", "w"), 12, 3)
    assert (meta.labels, meta.annotations, meta.finalizers) == ({"a": "b"}, {"note": "n"}, ("f",))
    assert meta.deleting
    assert meta.controller is not None
    assert meta.controller.group_kind == ("apps", "Deployment")
    assert last in record.as_dict()["metadata"]["annotations"]


def test_items_of_typed_lists_get_their_type_back() -> None:
    page = {
        "kind": "SecretList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "7", "continue": "tok"},
        "items": [
            {"metadata": {"name": "s", "namespace": "n"}},
            {"metadata": {"name": "t", "namespace": "n"}, "kind": "Secret"},
        ],
    }
    meta, items = decode_list(orjson.dumps(page))
    assert (meta.resource_version, meta.continue_) == ("7", "tok")
    for item in items:
        parsed = decode_record(SECRET, item).as_dict()
        assert (parsed["apiVersion"], parsed["kind"]) == ("v1", "Secret")


def test_a_partial_object_becomes_an_object_of_its_kind_without_body() -> None:
    partial = {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": "s", "namespace": "n"},
    }
    record = decode_record(SECRET, orjson.dumps(partial))
    assert record.as_dict() == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}}


def test_projection_drops_the_body() -> None:
    record = record_from_body(
        SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "djE="}}
    )
    projected = metadata_only(record)
    assert b"djE=" not in projected.raw
    assert projected.key == record.key


def test_an_object_of_another_kind_is_refused() -> None:
    with pytest.raises(UnexpectedKindError):
        decode_record(WIDGET, b'{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{}}')


@pytest.mark.parametrize("garbage", [b"", b"<html>", b"[]", b'{"metadata":3}', b'{"kind":'])
def test_garbage_is_a_decode_error(garbage: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_record(WIDGET, garbage)


def test_a_status_is_not_a_list() -> None:
    with pytest.raises(DecodeError):
        decode_list(b'{"kind":"Status","apiVersion":"v1"}')


def test_paths_read_without_parsing_the_rest() -> None:
    record = record_from_body(
        WIDGET,
        widget(
            {"group": {"name": "g"}, "headers": [{"ref": {"n": "a"}}, {}, {"ref": {"n": "b"}}], "odd": 3, "no": None}
        ),
    )
    assert record.path("spec.group.name") == "g"
    assert record.path("spec.group") == {"name": "g"}
    assert record.path("spec.headers[].ref.n") == ["a", "b"]
    assert record.path("spec.headers[]") == [{"ref": {"n": "a"}}, {}, {"ref": {"n": "b"}}]
    assert record.path("spec.absent.deeper") is None
    assert record.path("spec.absent[].deeper") == []
    assert record.path("spec.no") is None
    # Another shape than the path expects is absence, not an exception.
    assert record.path("spec.odd.name") is None
    assert record.path("spec.group[].name") == []
    with pytest.raises(ValueError, match="empty step"):
        record.path("spec..x")


@given(json_values, st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=4))
def test_a_path_never_raises_and_agrees_with_a_walk(value: object, steps: list[str]) -> None:
    record = record_from_body(WIDGET, widget({"a": value, "b": {"a": value, "b": {"c": value}}}))
    expected: object = record.as_dict()["spec"]
    for step in steps:
        expected = expected.get(step) if isinstance(expected, dict) else None
    assert record.path("spec." + ".".join(steps)) == expected


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")
    spec: dict[str, int]


def test_a_model_is_made_once_per_record() -> None:
    record = record_from_body(WIDGET, widget({"a": 1}))
    assert record.as_model(Model) is record.as_model(Model)
    assert record.as_model(Model).spec == {"a": 1}


def test_a_reader_cannot_damage_the_record() -> None:
    record = record_from_body(WIDGET, widget({"a": 1}))
    record.as_dict()["spec"]["a"] = 2
    assert record.as_dict()["spec"] == {"a": 1}
    with pytest.raises(AttributeError):
        record.raw = b""  # type: ignore[misc]


def test_paths_of_urls() -> None:
    assert WIDGET.collection_path() == "/apis/test.example.com/v1/widgets"
    assert WIDGET.object_path(Key("n", "a"), "status") == "/apis/test.example.com/v1/namespaces/n/widgets/a/status"
    assert NODE.object_path(Key("", "x")) == "/api/v1/nodes/x"
    for key in (Key("", "a"), Key("n", "")):
        with pytest.raises(ValueError, match="needs a namespace and a name"):
            WIDGET.object_path(key)


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("", 0), ("a1", 0), ("-3", 0), ("²", 0)])
def test_versions_that_are_no_numbers_count_as_zero(text: str, number: int) -> None:
    assert parse_version(text) == number
