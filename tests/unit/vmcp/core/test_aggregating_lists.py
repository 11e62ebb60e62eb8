"""Lists of many backends become one snapshot, and not a byte is lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.backend.interface import Item
from vmcp.core.rules import AggregationRules, Override, Strategy, WorkloadRules
from vmcp.core.snapshot import Offer, aggregate
from vmcp.core.templates import compile_template

BARE = AggregationRules(strategy=Strategy.PRIORITY)
PREFIX = AggregationRules(strategy=Strategy.PREFIX)


def tool(name: str, raw: bytes | None = None, **members) -> Item:
    return Item(name, raw or json.dumps({"name": name, **members}).encode())


def resource(uri: str) -> Item:
    return Item(uri, json.dumps({"uri": uri, "name": uri}).encode())


def template(text: str) -> Item:
    return Item(text, json.dumps({"uriTemplate": text, "name": text}).encode())


ODD = (
    b'{"title":"\\u00e9 t","name":"x","vendor/ext":[1.0,1e5,-0.0,12345678901234567890],"inputSchema":'
    b'{"type":"object","$defs":{"a":{"$anchor":"b"}},"x":0.10},"_meta":{"ui":{"uri":"ui://x"}},"icons":[{"src":"d"}]}'
)


def test_an_unchanged_item_keeps_every_byte():
    assert aggregate([Offer("a", (Item("x", ODD),))], BARE).tools["x"].raw == ODD


def test_a_renamed_item_changes_in_its_name_only():
    raw = aggregate([Offer("a", (Item("x", ODD),))], PREFIX).tools["a_x"].raw
    assert raw == ODD.replace(b'"name":"x"', b'"name":"a_x"')


names = st.text(min_size=1, max_size=10).filter(lambda text: "\x00" not in text)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names.filter(lambda key: key != "name"), values, max_size=6), names)
def test_any_other_member_arrives_with_its_own_bytes(members, name):
    raw = json.dumps({**members, "name": name}).encode()
    routes = aggregate([Offer("b", (Item(name, raw),))], PREFIX).tools
    (route,) = routes.values()
    assert json.loads(route.raw) == {**members, "name": f"b_{name}"}
    for key, value in members.items():
        assert json.dumps(key).encode() in route.raw or json.dumps(key, ensure_ascii=False).encode() in route.raw
        assert json.dumps(value).encode() in route.raw
    assert (route.backend, route.original) == ("b", name)


def test_overrides_rename_redescribe_and_merge_annotations_field_by_field():
    rules = AggregationRules(
        strategy=Strategy.PREFIX,
        workloads={"a": WorkloadRules(overrides={"x": Override("y", "better", {"readOnlyHint": True})})},
    )
    item = tool("x", description="worse", annotations={"title": "X", "readOnlyHint": False})
    route = aggregate([Offer("a", (item,))], rules).tools["a_y"]
    shown = json.loads(route.raw)
    assert shown["description"] == "better"
    assert shown["annotations"] == route.annotations == {"title": "X", "readOnlyHint": True}
    assert route.original == "x"


def test_two_tools_that_overrides_give_one_name_are_told_and_the_first_wins():
    rules = AggregationRules(workloads={"a": WorkloadRules(overrides={"y": Override("x")})})
    made = aggregate([Offer("a", (tool("x"), tool("y")))], rules)
    assert made.tools["a_x"].original == "x"
    assert any("second tool" in problem for problem in made.problems)


@pytest.mark.parametrize(
    ("rules", "visible"),
    [
        (AggregationRules(), {"a_x", "a_y", "b_x"}),
        (AggregationRules(exclude_all_tools=True), set()),
        (AggregationRules(deny_by_default=True, workloads={"b": WorkloadRules()}), {"b_x"}),
        (AggregationRules(workloads={"a": WorkloadRules(exclude_all=True)}), {"b_x"}),
        (AggregationRules(workloads={"a": WorkloadRules(filter=frozenset({"y"}))}), {"a_y", "b_x"}),
    ],
)
def test_visibility_hides_tools_without_forgetting_them(rules, visible):
    made = aggregate([Offer("a", (tool("x"), tool("y"))), Offer("b", (tool("x"),))], rules)
    assert {name for name in made.tools if made.tool(name) is not None} == visible
    assert set(made.tools) == {"a_x", "a_y", "b_x"}


def test_a_filter_compares_names_after_overrides_and_before_prefixes():
    workload = WorkloadRules(filter=frozenset({"new"}), overrides={"old": Override("new")})
    made = aggregate([Offer("a", (tool("old"), tool("x")))], AggregationRules(workloads={"a": workload}))
    assert made.tool("a_new") is not None
    assert made.tool("a_x") is None


def test_of_two_resources_with_one_uri_the_first_backend_serves_it():
    made = aggregate([Offer("b", resources=(resource("r:1"),)), Offer("a", resources=(resource("r:1"),))], BARE)
    assert made.resources["r:1"].backend == "a"
    assert any("a wins over b" in problem for problem in made.problems)


def test_a_uri_is_routed_by_resource_then_template_text_then_first_match():
    made = aggregate(
        [
            Offer("a", resources=(resource("t://1/x"),), templates=(template("t://{id}/x"),)),
            Offer("b", templates=(template("t://{id}/{part}"),)),
        ],
        BARE,
    )
    assert made.for_uri("t://1/x").backend == "a"
    assert made.for_uri("t://{id}/{part}").backend == "b"
    assert made.for_uri("t://2/x").backend == "a"
    assert made.for_uri("t://2/y").backend == "b"
    assert made.for_uri("t://2") is None


@pytest.mark.parametrize(
    ("text", "uri", "matches"),
    [
        ("a://{id}", "a://1", True),
        ("a://{id}", "a://1/2", False),
        ("a://{+path}", "a://1/2?x#y", True),
        ("a://{id}/data", "a://1/data", True),
        ("a://{id}/data", "a://1/datax", False),
        ("a://x{?q,r}", "a://x?q=1&r=2", True),
        ("a://x{?q,r}", "a://x", True),
        ("a://x{/p*}", "a://x/1/2", True),
        ("a://x{#f}", "a://x#frag/x", True),
        ("a://{a}{b}", "a://12", True),
        ("a://{a}{+b}", "a://1/2", True),
        ("a://x", "a://x", True),
        ("a://x", "a://xy", False),
    ],
)
def test_templates_match_as_rfc_6570_expands(text, uri, matches):
    assert compile_template(text).matches(uri) is matches


@pytest.mark.parametrize("text", ["{", "}", "a{b", "a}b", "{}", "{a{b}}"])
def test_a_template_with_broken_braces_is_none(text):
    assert compile_template(text) is None


def test_matching_time_does_not_explode_with_the_template():
    hostile = compile_template("a://" + "{x}-" * 200 + "end")
    assert not hostile.matches("a://" + "-" * 8000)
