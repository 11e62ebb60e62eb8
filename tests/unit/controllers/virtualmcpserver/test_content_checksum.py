"""The checksum that rolls the stock gateway's pods leaves out what changes nothing for it, and only that."""

from __future__ import annotations

import hashlib
import re

from hypothesis import example, given
from hypothesis import strategies as st

from controllers.virtualmcpserver.document import content_checksum
from tests.unit.vmcp.test_linear_time import assert_linear

PASSING = re.compile(rb"^ +workload_status: .*\n", re.MULTILINE)
PIECES = ["workload_status: ", "workload_status:", " ", "  ", "\n", "\r", "Ready", "a: ", "'"]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@example("workload_status: a\n  workload_status: b\n  workload_status: c")
@example("  workload_status: workload_status: \n")
def test_exactly_the_lines_of_passing_phases_are_left_out(text: str) -> None:
    document = text.encode()
    assert content_checksum(document) == hashlib.sha256(PASSING.sub(b"", document)).hexdigest()


def test_a_description_that_repeats_the_key_takes_no_longer_than_another_text() -> None:
    assert_linear(content_checksum, lambda n: b"d: " + b"workload_status: " * (n // 17) + b"\n", 1 << 18)
