"""Who gets which name when several backends offer the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.core.naming import NameClaim, name_prompts, name_tools, shortened
from vmcp.core.rules import AggregationRules, ConflictPolicy

A, B, C = NameClaim("a", "search", "search"), NameClaim("b", "search", "search"), NameClaim("c", "search", "search")
ALONE = NameClaim("a", "alone", "alone")


def names(naming):
    return {name: claim.backend for name, claim in naming.names.items()}


def test_prefix_prefixes_every_tool_even_without_conflict():
    naming = name_tools([A, ALONE, B], AggregationRules(strategy=ConflictPolicy.PREFIX))
    assert names(naming) == {"a_search": "a", "a_alone": "a", "b_search": "b"}
    assert naming.problems == ()


def test_a_prefix_format_without_the_workload_is_a_constant_and_the_first_backend_wins():
    naming = name_tools([B, A], AggregationRules(strategy=ConflictPolicy.PREFIX, prefix_format="x-"))
    assert names(naming) == {"x-search": "a"}
    assert naming.problems == ("'x-search': a wins over b",)


def test_every_workload_placeholder_is_replaced():
    rules = AggregationRules(strategy=ConflictPolicy.PREFIX, prefix_format="{workload}.{workload}/")
    assert names(name_tools([A], rules)) == {"a.a/search": "a"}


def test_priority_keeps_unique_names_and_gives_equal_ones_to_the_first_in_order():
    rules = AggregationRules(strategy=ConflictPolicy.PRIORITY, priority=("b", "a"))
    assert names(name_tools([A, B, C, ALONE], rules)) == {"search": "b", "alone": "a"}


def test_priority_prefixes_equal_names_of_which_none_is_in_the_order():
    rules = AggregationRules(strategy=ConflictPolicy.PRIORITY, priority=("z",), prefix_format="{workload}--")
    assert names(name_tools([A, B], rules)) == {"a--search": "a", "b--search": "b"}


def test_a_name_with_anothers_prefix_is_prefixed_itself_and_takes_nothing():
    taker = NameClaim("z", "a_search", "a_search")
    rules = AggregationRules(strategy=ConflictPolicy.PREFIX_ON_CONFLICT)
    assert names(name_tools([A, B, taker], rules)) == {"a_search": "a", "b_search": "b", "z_a_search": "z"}
    assert names(name_tools([taker], rules, ["a", "b"])) == {"z_a_search": "z"}, "also while a is silent"


DASHES = AggregationRules(strategy=ConflictPolicy.PREFIX, prefix_format="{workload}-")


@pytest.mark.parametrize("name", [name_tools, name_prompts])
def test_of_two_prefixes_of_which_one_begins_with_the_other_the_longer_one_owns_the_name(name):
    short, long = NameClaim("a", "b-pay", "b-pay"), NameClaim("a-b", "pay", "pay")
    assert names(name([short, long], DASHES)) == {"a-b-pay": "a-b"}
    naming = name([short, NameClaim("a", "see", "see")], DASHES, ["a-b"])
    assert names(naming) == {"a-see": "a"}
    assert naming.problems == ("'a-b-pay' of a is left out: names with that prefix are a-b's",)


def test_what_an_administrator_wrote_into_an_override_may_look_like_anything():
    said = NameClaim("a", "x", "b-pay", overridden=True)
    assert names(name_tools([said], DASHES, ["a-b"])) == {"a-b-pay": "a"}
    assert names(name_tools([said, NameClaim("a-b", "pay", "pay")], DASHES)) == {"a-b-pay": "a-b"}


@given(
    st.sampled_from([ConflictPolicy.PREFIX, ConflictPolicy.PREFIX_ON_CONFLICT]),
    st.sampled_from(["{workload}-", "{workload}_", "{workload}"]),
    st.sets(st.tuples(st.sampled_from(["a", "a-b", "a-b-c", "b"]), st.text("abc-_", min_size=1, max_size=5))),
)
def test_no_backend_ever_has_a_name_under_anothers_prefix(strategy, prefix_format, offered):
    rules = AggregationRules(strategy=strategy, prefix_format=prefix_format)
    claims = [NameClaim(backend, name, name) for backend, name in offered]
    given_names = names(name_tools(claims, rules, ["a", "a-b", "a-b-c", "b"]))
    for name, owner in given_names.items():
        rightful = max(
            (b for b in ["a", "a-b", "a-b-c", "b"] if name.startswith(rules.prefixed(b, ""))), key=len, default=owner
        )
        assert owner == rightful


def test_manual_offers_an_undecided_name_by_nobody_and_keeps_the_rest():
    naming = name_tools([A, B, ALONE], AggregationRules(strategy=ConflictPolicy.MANUAL))
    assert names(naming) == {"alone": "a"}
    assert "a, b" in naming.problems[0]


def test_prefix_on_conflict_prefixes_all_bearers_of_an_equal_name_and_nobody_else():
    naming = name_tools([A, B, ALONE], AggregationRules(strategy=ConflictPolicy.PREFIX_ON_CONFLICT))
    assert names(naming) == {"a_search": "a", "b_search": "b", "alone": "a"}


@pytest.mark.parametrize("strategy", [ConflictPolicy.PREFIX, ConflictPolicy.MANUAL])
def test_prompts_are_prefixed_under_prefix_and_manual(strategy):
    assert names(name_prompts([A, B], AggregationRules(strategy=strategy))) == {"a_search": "a", "b_search": "b"}


def test_prompts_of_ranked_backends_keep_their_names_and_the_best_rank_wins():
    rules = AggregationRules(strategy=ConflictPolicy.PRIORITY, priority=("b", "a"))
    assert names(name_prompts([A, B, C], rules)) == {"search": "b", "c_search": "c"}


def test_a_prompt_name_that_an_unranked_backend_shares_is_offered_by_nobody():
    ranked = NameClaim("b", "a_search", "a_search")
    rules = AggregationRules(strategy=ConflictPolicy.PRIORITY, priority=("b",))
    naming = name_prompts([ranked, A], rules)
    assert names(naming) == {}
    assert "none is advertised" in naming.problems[0]


claims = st.lists(
    st.builds(
        lambda backend, name: NameClaim(backend, name, name),
        st.sampled_from(["a", "b", "a_b", "c"]),
        st.sampled_from(["x", "b_x", "y", "a_b_x", "_x"]),
    ),
    max_size=12,
    unique_by=lambda claim: (claim.backend, claim.original),
)
rules = st.builds(
    AggregationRules,
    strategy=st.sampled_from(ConflictPolicy),
    prefix_format=st.sampled_from(["{workload}_", "{workload}", "p_"]),
    priority=st.permutations(["a", "b", "c"]).map(lambda order: tuple(order[:2])),
)


@given(claims, rules, st.randoms(use_true_random=False))
def test_names_do_not_depend_on_the_order_of_answers_and_belong_to_one_item_each(found, rule, rng: random.Random):
    shuffled = list(found)
    rng.shuffle(shuffled)
    for decide in (name_tools, name_prompts):
        once, again = decide(found, rule), decide(shuffled, rule)
        assert once.names == again.names
        assert once.problems == again.problems
        given_to = [(claim.backend, claim.original) for claim in once.names.values()]
        assert len(given_to) == len(set(given_to))
        assert set(given_to) <= {(claim.backend, claim.original) for claim in found}
        # Whatever is lost is said.
        assert len(given_to) == len(found) or once.problems


LONG = NameClaim("a", "x" * 100, "x" * 100)


def test_names_for_clients_that_take_64_characters_keep_their_beginning_and_stay_the_same():
    naming = name_tools([LONG, ALONE], AggregationRules(strategy=ConflictPolicy.PREFIX))
    assert shortened(naming, 0) is naming
    short = shortened(naming, 64)
    first, second = sorted(short.names)
    assert (first, len(second)) == ("a_alone", 64)
    assert second.startswith("a_" + "x" * 50)
    more = name_tools(
        [LONG, ALONE, NameClaim("b", "x" * 100, "x" * 100)], AggregationRules(strategy=ConflictPolicy.PREFIX)
    )
    assert short.names[second] is LONG
    assert shortened(more, 64).names[second] is LONG, "whatever else is offered"


@given(st.sets(st.text("ab", min_size=30, max_size=90), max_size=20), st.integers(32, 64))
def test_shortened_names_fit_and_none_is_lost(wanted, limit):
    naming = name_tools(
        [NameClaim("a", name, name) for name in wanted], AggregationRules(strategy=ConflictPolicy.PREFIX)
    )
    short = shortened(naming, limit)
    assert all(len(name) <= limit for name in short.names)
    assert {claim.original for claim in short.names.values()} == wanted
    assert all(name in short.names for name in naming.names if len(name) <= limit)


def test_a_long_name_never_takes_a_short_one_that_somebody_has():
    naming = name_tools([LONG], AggregationRules(strategy=ConflictPolicy.PRIORITY))
    (taken,) = shortened(naming, 64).names
    both = name_tools([LONG, NameClaim("b", taken, taken)], AggregationRules(strategy=ConflictPolicy.PRIORITY))
    kept = shortened(both, 64)
    assert {name: claim.backend for name, claim in kept.names.items()} == {taken: "b"}
    assert "is left out" in kept.problems[0]
