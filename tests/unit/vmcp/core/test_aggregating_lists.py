"""Lists of many backends become one snapshot, and not a byte is lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.backend.interface import Item
from vmcp.core.rules import AggregationRules, ConflictPolicy, Override, WorkloadRules
from vmcp.core.snapshot import Offer, aggregate
from vmcp.core.templates import compile_template

BARE = AggregationRules(strategy=ConflictPolicy.PRIORITY)
PREFIX = AggregationRules(strategy=ConflictPolicy.PREFIX)


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
        strategy=ConflictPolicy.PREFIX,
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


@pytest.mark.parametrize("made_of", [resource, template])
def test_a_uri_of_several_backends_is_nobodys_unless_one_stands_first_in_the_order(made_of):
    def offers(*names):
        kind = "resources" if made_of is resource else "templates"
        return [Offer(name, **{kind: (made_of("r:1"),)}) for name in names]

    nobody = aggregate(offers("a", "b"), PREFIX)
    assert nobody.for_uri("r:1") is None
    assert nobody.resources == nobody.templates == {}
    assert any("'r:1' is offered by a, b: none is advertised" in problem for problem in nobody.problems)
    ranked = AggregationRules(strategy=ConflictPolicy.PRIORITY, priority=("b",))
    made = aggregate(offers("a", "b", "c"), ranked)
    assert made.for_uri("r:1").backend == "b"
    assert any("b wins over a, c" in problem for problem in made.problems)


def test_a_template_that_takes_everything_takes_nothing_from_one_that_says_more():
    greedy, bank = Offer("aaa", templates=(template("{+any}"),)), Offer("bank", templates=(template("bank://{id}"),))
    made = aggregate([greedy, bank], PREFIX)
    assert made.for_uri("bank://7").backend == "bank"
    assert made.for_uri("other://7").backend == "aaa"
    assert made.vague("other://7")
    assert not made.vague("bank://7")


def test_templates_that_say_equally_much_are_nobodys():
    taker, bank = Offer("aaa", templates=(template("bank://{x}"),)), Offer("bank", templates=(template("bank://{id}"),))
    assert aggregate([taker, bank], PREFIX).for_uri("bank://7") is None
    ranked = AggregationRules(strategy=ConflictPolicy.PRIORITY, priority=("bank",))
    assert aggregate([taker, bank], ranked).for_uri("bank://7").backend == "bank"


# --- pages of tools ---


def app(name: str, uri: str, **meta) -> Item:
    return tool(name, inputSchema={"type": "object"}, _meta={"ui": {"resourceUri": uri, "x": 1}, **meta})


def page_of(raw: bytes) -> str:
    return json.loads(raw)["_meta"]["ui"]["resourceUri"]


def test_a_page_that_two_backends_share_is_each_ones_own():
    offers = [Offer(name, (app("show", "ui://w/p"),), (resource("ui://w/p"),)) for name in ("a", "b")]
    made = aggregate(offers, PREFIX)
    for backend in ("a", "b"):
        uri = page_of(made.tools[f"{backend}_show"].raw)
        assert (made.for_uri(uri).backend, made.for_uri(uri).original) == (backend, "ui://w/p")
        assert json.loads(made.resources[uri].raw)["uri"] == uri
    assert made.for_uri("ui://w/p") is None
    assert len(made.resources) == 2


def test_a_page_of_one_backend_keeps_its_name_and_is_read_though_no_list_has_it():
    one = app("show", "ui://w/p", **{"openai/outputTemplate": "ui://w/q"})
    made = aggregate([Offer("a", (one,)), Offer("b", (tool("x"),))], BARE)
    assert made.tools["show"].raw == one.raw
    assert made.for_uri("ui://w/p").backend == made.for_uri("ui://w/q").backend == "a"
    assert made.resources["ui://w/p"].hidden


def test_no_backend_can_name_a_page_as_anothers_is_called_here():
    offers = [Offer(name, (app("show", "ui://w"),)) for name in ("a", "b")]
    evil = Offer("evil", resources=(resource("ui://a.vmcp/w"),))
    made = aggregate([*offers, evil], PREFIX)
    assert made.for_uri(page_of(made.tools["a_show"].raw)).backend == "a"
    assert [route.backend for name, route in made.resources.items() if not route.hidden] == ["evil"]


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
        ("a://{path*}", "a://1/2", True),
        ("a://x/{path*}/y", "a://x/1/2/y", True),
        ("a://x/{path*}", "a://x/1?q", False),
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


# --- names for clients with limits ---


def test_long_names_are_warned_of_and_shortened_on_demand_and_called_by_their_own_name():
    long = tool("x" * 80)
    warned = aggregate([Offer("a", (long,))], PREFIX)
    assert any("1 names are longer than 64 characters" in problem for problem in warned.problems)
    short = aggregate([Offer("a", (long,))], AggregationRules(max_name=64))
    (name,) = short.tools
    assert len(name) == 64
    assert json.loads(short.tools[name].raw)["name"] == name
    assert short.tools[name].original == "x" * 80
    assert short.problems == ()
