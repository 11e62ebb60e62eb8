"""A coverage-guided search for inputs that any reader of outside bytes fails on, from a corpus that is kept.

Needs nothing but processor time: 6 s per target in `make test`, 3 minutes in `make test-long`. A finding's input is
printed; once mended, it goes into the corpus of its target (`python -m tests.fuzz` says how to run one).
"""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_is_found_that_a_reader_fails_on(name, scale, tmp_path):
    found = tmp_path / "found"
    found.mkdir()
    seconds = scale(6, 180)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={scale.seed}",
        f"-artifact_prefix={tmp_path}/",
        "-timeout=30",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz", name, str(found), str(CORPUS / name), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * seconds + 240, check=False)
    inputs = {path.name: base64.b64encode(path.read_bytes()) for path in tmp_path.iterdir() if path.is_file()}
    assert done.returncode == 0, f"{inputs}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "stat::number_of_executed_units" in done.stderr
