"""Durations are read and printed as Go's time.Duration does. The figures of the table are Go's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.contract import Duration

TABLE = [
    ("0", 0, "0s"),
    ("0s", 0, "0s"),
    ("-0", 0, "0s"),
    ("+5s", 5_000_000_000, "5s"),
    ("30s", 30_000_000_000, "30s"),
    ("60s", 60_000_000_000, "1m0s"),
    ("1m30s", 90_000_000_000, "1m30s"),
    ("1h", 3_600_000_000_000, "1h0m0s"),
    ("1h15m30.918s", 4_530_918_000_000, "1h15m30.918s"),
    ("1.5h", 5_400_000_000_000, "1h30m0s"),
    ("100ms", 100_000_000, "100ms"),
    ("1500ms", 1_500_000_000, "1.5s"),
    ("1us", 1_000, "1\u00b5s"),
    ("1\u00b5s", 1_000, "1\u00b5s"),
    ("1\u03bcs", 1_000, "1\u00b5s"),
    ("1.5us", 1_500, "1.5\u00b5s"),
    ("52763797000ns", 52_763_797_000, "52.763797s"),
    ("1ns", 1, "1ns"),
    ("999ns", 999, "999ns"),
    ("0.3333333333333333333h", 1_200_000_000_000, "20m0s"),
    ("0.9223372036854775807h", 3_320_413_933_267, "55m20.413933267s"),
    ("9007199254740993ns", 9_007_199_254_740_993, "2501h59m59.254740993s"),
    ("9223372036854775807ns", 9_223_372_036_854_775_807, "2562047h47m16.854775807s"),
    ("-9223372036854775808ns", -9_223_372_036_854_775_808, "-2562047h47m16.854775808s"),
    ("-2m3.4s", -123_400_000_000, "-2m3.4s"),
    ("0.100000000000000000000h", 360_000_000_000, "6m0s"),
    (".5s", 500_000_000, "500ms"),
    ("5.s", 5_000_000_000, "5s"),
    ("1s1s", 2_000_000_000, "2s"),
    ("0.830103483285477580700h", 2_988_372_539_827, "49m48.372539827s"),
]
REFUSED = ["", "3", "-", "s", ".", "-.", ".s", "+.s", "1d", "1 s", "1s ", "1e3s", "x", "1h1", "--1s", "\u0663s"]
TOO_LONG = [
    "9223372036854775808ns",
    "-9223372036854775809ns",
    "9223372036854776us",
    "3000000h",
    "1" * 40 + "s",
    "-" + "9" * 24 + "ns",
]


@pytest.mark.parametrize(("text", "nanoseconds", "printed"), TABLE)
def test_a_duration_is_read_and_printed_as_go_does(text: str, nanoseconds: int, printed: str):
    found = Duration.parse(text)
    assert found == nanoseconds
    assert str(found) == printed


@pytest.mark.parametrize("text", REFUSED + TOO_LONG)
def test_what_go_refuses_is_refused_with_a_sentence(text: str):
    with pytest.raises(ValueError, match=r"duration|unit|too long"):
        Duration.parse(text)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_printing_and_reading_gives_the_same_duration(nanoseconds: int):
    assert Duration.parse(str(Duration(nanoseconds))) == nanoseconds


@given(st.text(alphabet="0123456789.-+nsuµmh eE", max_size=24))
def test_any_text_is_either_a_duration_or_a_value_error(text: str):
    try:
        found = Duration.parse(text)
    except ValueError:
        return
    assert -(1 << 63) <= found < 1 << 63
