"""The order in which workers get tests: tried by a run of its own, whose tests say which worker ran them and when."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import schedule

ROOT = Path(__file__).parents[3]


def test_every_file_of_the_tables_is_there():
    named = {*schedule.SECONDS, *schedule.APART}
    assert [file for file in sorted(named) if not (ROOT / file).is_file()] == []


def test_a_free_worker_gets_the_longest_and_one_that_is_busy_for_long_the_shortest():
    queue = {"middle": 20.0, "long": 30.0, "short": 1.0}
    assert schedule.chosen(queue, pending=0.1) == "long"
    assert schedule.chosen(queue, pending=60.0) == "short"


def test_a_run_starts_with_its_longest_files_one_on_each_worker(tmp_path):
    for name in ("unit/test_a.py", "unit/test_b.py", "e2e/test_c.py", "e2e/test_d.py"):
        file = tmp_path / "tests" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        count = 5 if "e2e" in name else 3
        file.write_text(f"import pytest\n\n@pytest.mark.parametrize('n', range({count}))\ndef test_it(n): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.support.schedule", "-p", "no:cacheprovider"]
    command += ["--import-mode=importlib", "-v", "-n", "2", "--dist=loadfile", f"--rootdir={tmp_path}", str(tmp_path)]
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [line.split() for line in done.stdout.splitlines() if line.startswith("[gw")]
    files = {}
    for worker, *_, test in ran:
        files.setdefault(worker, []).append(test.partition("::")[0].rpartition("/")[2])
    assert sorted(order[0] for order in files.values()) == ["test_c.py", "test_d.py"]
