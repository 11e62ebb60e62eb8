"""W3C trace context: continued where it is good, none where it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcp.trace import parse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_context_is_read_and_passed_on_as_it_came():
    """The gateway reports no spans: one of its own would be a parent that no trace holds."""
    sent = {"traceparent": GOOD, "tracestate": "a=1,b=2", "baggage": "k=v"}
    found = parse(sent)
    assert (found.trace_id, found.span_id, found.flags) == (TRACE, SPAN, "01")
    assert dict(found.fields()) == sent


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "-extra",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        GOOD + "\r\nX-Evil: 1",
        "0" * 5000,
    ],
)
def test_a_malformed_parent_is_no_context(value):
    assert parse({"traceparent": value, "tracestate": "a=1"}) is None


def test_a_newer_version_is_read_as_the_first_and_written_as_such():
    assert parse({"traceparent": f"01-{TRACE}-{SPAN}-01-more"}).traceparent == GOOD


@pytest.mark.parametrize("state", ["a" * 600, "a=1\r\nX: y", "a=1\n", "a=ü"])
def test_a_state_that_could_break_a_line_is_dropped_alone(state):
    assert parse({"traceparent": GOOD, "tracestate": state}).fields() == (("traceparent", GOOD),)


@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate", "baggage"]), st.text(max_size=80)))
def test_whatever_comes_what_goes_out_is_good(fields):
    found = parse({**fields, "traceparent": GOOD})
    assert parse(dict(found.fields())) == found
    assert all("\n" not in value and "\r" not in value for _, value in found.fields())
    odd = parse(fields)
    assert odd is None or parse(dict(odd.fields())) == odd
