"""A coverage-guided search for inputs that any reader of outside bytes fails on, from a corpus that is kept.

Fixed seed and counts in `make test` (half a minute), 3 minutes per target in `make test-long`. A finding's input is
printed; once mended, it goes into the corpus of its target (`python -m tests.fuzz` says how to run one).
"""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from tests.fuzz.targets import TARGETS


@pytest.mark.timeout(5400)
def test_no_input_is_found_that_a_reader_fails_on(scale, tmp_path):
    seconds = scale(0, 180)
    options = [f"-seed={scale.seed}", "-timeout=30", "-rss_limit_mb=1024", "-print_final_stats=1"]
    command = [sys.executable, "-m", "tests.fuzz", "all", str(tmp_path / "found"), str(seconds), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5000, check=False)
    inputs = {
        path.name: base64.b64encode(path.read_bytes()) for path in (tmp_path / "found").iterdir() if path.is_file()
    }
    assert (done.returncode, inputs) == (0, {}), f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert done.stderr.count("stat::number_of_executed_units") == len(TARGETS)
