"""The requests as data, what a deletion leaves, and refusals of Secrets."""

from __future__ import annotations

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runtime.client import requests
from runtime.client.client import _remaining
from runtime.client.secrecy import withheld
from runtime.wire import Key, Resource
from runtime.wire.errors import error_from_answer

WIDGET = Resource("test.example.com", "v1", "Widget", "widgets")
SECRET = Resource("", "v1", "Secret", "secrets")
NODE = Resource("", "v1", "Node", "nodes", namespaced=False)
KEY = Key("n", "a")


def test_a_creation_adds_its_type_and_takes_generated_names() -> None:
    write = requests.create(WIDGET, {"metadata": {"generateName": "x-", "namespace": "n"}}, {"fieldManager": "m"})
    assert (write.method, write.path) == ("POST", "/apis/test.example.com/v1/namespaces/n/widgets")
    body = orjson.loads(write.body)
    assert (body["apiVersion"], body["kind"]) == ("test.example.com/v1", "Widget")


def test_a_body_of_another_kind_or_without_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match="not a test"):
        requests.create(WIDGET, {"kind": "Gadget", "metadata": {"namespace": "n"}}, {})
    with pytest.raises(ValueError, match="is missing"):
        requests.update(WIDGET, {"metadata": {"name": "a"}}, None, {})
    assert requests.key_of(NODE, {"metadata": {"name": "a"}}) == Key("", "a")


def test_a_merge_patch_with_lock_carries_the_version() -> None:
    patch = {"metadata": {"labels": {"a": "b"}}, "status": {"x": 1}}
    write = requests.merge_patch(WIDGET, KEY, patch, resource_version="7", subresource="status", query={})
    assert write.path.endswith("/widgets/a/status")
    assert write.content_type == "application/merge-patch+json"
    assert orjson.loads(write.body) == {
        "metadata": {"labels": {"a": "b"}, "resourceVersion": "7"},
        "status": {"x": 1},
    }
    assert "resourceVersion" not in patch["metadata"]


def test_an_apply_forces_only_when_told() -> None:
    body = {"metadata": {"name": "a", "namespace": "n"}}
    forced = requests.apply(WIDGET, body, force=True, subresource=None, query={"fieldManager": "m"})
    assert (forced.content_type, forced.query) == (
        "application/apply-patch+yaml",
        {"force": "true", "fieldManager": "m"},
    )
    assert "force" not in requests.apply(WIDGET, body, force=False, subresource=None, query={}).query


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x7f\x85\x9f\u2028\u2029\ufeff\ufffe\uffff")
)


@given(st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=3), max_size=4))
def test_an_apply_says_the_same_as_yaml_and_as_json(spec: dict[str, object]) -> None:
    """The server reads it as YAML, where some characters are not allowed and others end a line."""
    body = {"metadata": {"name": "a", "namespace": "n"}, "spec": spec}
    sent = requests.apply(WIDGET, body, force=True, subresource=None, query={}).body
    assert yaml.safe_load(sent)["spec"] == orjson.loads(sent)["spec"] == spec


def test_a_deletion_carries_preconditions_and_policy() -> None:
    write = requests.delete(
        WIDGET, KEY, uid="u", resource_version="7", propagation="Foreground", grace_seconds=0, query={}
    )
    assert orjson.loads(write.body) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u", "resourceVersion": "7"},
        "propagationPolicy": "Foreground",
        "gracePeriodSeconds": 0,
    }


@pytest.mark.parametrize(
    ("metadata", "remains"),
    [
        ({}, False),  # a Service is answered with itself, gone
        ({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["f"]}, True),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}, True),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}, False),
    ],
)
def test_what_a_deletion_leaves(metadata: dict, remains: bool) -> None:
    body = orjson.dumps({"kind": "Widget", "apiVersion": "test.example.com/v1", "metadata": {"name": "a", **metadata}})
    assert (_remaining(WIDGET, body) is not None) is remains


def test_a_status_means_that_the_object_is_gone() -> None:
    assert _remaining(WIDGET, b'{"kind":"Status","apiVersion":"v1","status":"Success","metadata":{}}') is None


def test_refusals_of_secrets_keep_fields_and_lose_values() -> None:
    status = {
        "kind": "Status",
        "code": 422,
        "reason": "Invalid",
        "message": 'Secret "s" is invalid: data[k]: Invalid value: "hunter2"',
        "details": {"name": "s", "causes": [{"reason": "FieldValueInvalid", "message": "hunter2", "field": "data[k]"}]},
    }
    error = error_from_answer(422, orjson.dumps(status))
    safe = withheld(error, SECRET)
    assert type(safe) is type(error)
    assert "hunter2" not in f"{safe} {safe.details}"
    assert "data[k]" in str(safe)
    assert withheld(error, WIDGET) is error
