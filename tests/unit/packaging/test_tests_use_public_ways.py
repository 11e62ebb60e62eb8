"""Tests turn knobs that users or callers have; constants that are patched are counted, and the count only falls."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
MOST = 26
"""Lines that patch a constant or a function of a module: mostly limits that nobody needs to set, but that a test must
reach in its time. Make a new one an option instead, and lower this when one goes. Environment variables (`setenv`) do
not count: they are an interface."""


def test_no_more_constants_are_patched_than_before():
    lines = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"monkeypatch\.(setattr|setitem|delattr)\(", line)
    ]
    assert len(lines) <= MOST, "\n".join(lines)
