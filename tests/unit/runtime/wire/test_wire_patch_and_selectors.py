"""Merge patches, selectors and errors."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire import AlreadyExistsError, ApiError, ConflictError, ExpiredError, NotFoundError, ServerError
from runtime.wire.errors import TooManyRequestsError, error_from_answer
from runtime.wire.patch import merge_apply, merge_diff
from runtime.wire.selectors import FieldSelector, LabelSelector

scalars = st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, width=16) | st.text("ab", max_size=2)
documents = st.dictionaries(
    st.text("abc", min_size=1, max_size=2),
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def strict(value: object) -> object:
    """JSON equality: in Python True == 1."""
    if isinstance(value, dict):
        return {name: strict(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [strict(inner) for inner in value]
    return (type(value) is bool, value)


@given(documents, documents)
def test_the_difference_applied_to_the_old_gives_the_new(old: dict, new: dict) -> None:
    before = copy.deepcopy((old, new))
    assert strict(merge_apply(old, merge_diff(old, new))) == strict(new)
    assert (old, new) == before


@given(documents)
def test_equal_documents_have_no_difference(document: dict) -> None:
    assert merge_diff(document, copy.deepcopy(document)) == {}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(target: object, patch: object, result: object) -> None:
    assert merge_apply(target, patch) == result


def test_a_null_counts_as_absent() -> None:
    assert merge_diff({"a": None}, {}) == {}
    assert merge_diff({"a": 1}, {"a": None}) == {"a": None}
    assert merge_diff({}, {"a": {"b": None, "c": 1}}) == {"a": {"c": 1}}


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a in (b, c),d", {"a": "c", "d": ""}, True),
        ("a in (b,c),d", {"a": "c"}, False),
        ("a notin (b)", {"a": "b"}, False),
        ("a notin (b)", {}, True),
        ("!a", {"a": ""}, False),
        ("!a", {}, True),
        ("", {"x": "y"}, True),
        ("example.com/in-use=yes", {"example.com/in-use": "yes"}, True),
    ],
)
def test_label_selectors_match_as_on_the_server(selector: str, labels: dict[str, str], matches: bool) -> None:
    parsed = LabelSelector.parse(selector)
    assert parsed.matches(labels) is matches
    assert LabelSelector.parse(str(parsed)) == parsed


def test_label_selector_objects_are_read() -> None:
    selector = LabelSelector.from_object(
        {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]}
    )
    assert selector.matches({"a": "b", "c": "d"})
    assert not selector.matches({"a": "b"})
    with pytest.raises(ValueError, match="unknown selector operator"):
        LabelSelector.from_object({"matchExpressions": [{"key": "c", "operator": "Near"}]})


def test_field_selectors_read_paths() -> None:
    selector = FieldSelector.parse("metadata.namespace!=kube-system,spec.on=true,spec.none=")
    values = {"metadata.namespace": "default", "spec.on": True}
    assert selector.matches(values.get)
    assert not selector.matches({**values, "metadata.namespace": "kube-system"}.get)
    assert str(FieldSelector.all_but_namespaces(["b", "a"])) == "metadata.namespace!=a,metadata.namespace!=b"


@pytest.mark.parametrize("text", ["a b", "in (x)", "a in x", "=,"])
def test_nonsense_is_no_selector(text: str) -> None:
    with pytest.raises(ValueError, match="not a label selector"):
        LabelSelector.parse(text)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (404, "NotFound", NotFoundError),
        (410, "Expired", ExpiredError),
        (410, "Gone", ExpiredError),
        (500, "InternalError", ServerError),
        (418, "", ApiError),
    ],
)
def test_errors_have_the_type_of_their_reason(status: int, reason: str, kind: type[ApiError]) -> None:
    body = f'{{"kind":"Status","reason":"{reason}","message":"m","code":{status}}}'.encode()
    error = error_from_answer(status, body)
    assert type(error) is kind
    assert (error.status, error.message) == (status, "m")
    # An ERROR event has no HTTP status of its own.
    assert type(error_from_answer(0, body)) is kind


def test_the_header_wins_over_the_details() -> None:
    body = b'{"kind":"Status","reason":"TooManyRequests","code":429,"details":{"retryAfterSeconds":9}}'
    assert error_from_answer(429, body).retry_after == 9
    error = error_from_answer(429, body, 2.0)
    assert isinstance(error, TooManyRequestsError)
    assert error.retry_after == 2


def test_a_page_of_a_proxy_is_cut_to_one_line() -> None:
    error = error_from_answer(502, b"<html>\n<body>" + b"bad gateway " * 100)
    assert isinstance(error, ServerError)
    assert len(error.message) <= 200
    assert "\n" not in error.message
