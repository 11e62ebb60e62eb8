"""Memory that was freed goes back to the system, whatever was freed before."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from vmcp import allocator

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "settled":
    allocator.settle()
before = resident()
for size in (8, 16, 24):
    lesson = b"x" * (size << 20)
    del lesson
messages, records = [], []
for number in range(40):
    messages.append(b"x" * (2 << 20))
    records.append(b"x" * (20_000 + number))  # what is kept of each
messages.clear()
print(resident() - before)
"""


def growth(how: str) -> int:
    found = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60)
    return int(found.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="another C library than glibc")
def test_large_messages_that_are_over_leave_no_memory_behind() -> None:
    assert growth("left as it is") > 40 << 20, "the fault that is cured: 80 MiB of messages"
    assert growth("settled") < 8 << 20
