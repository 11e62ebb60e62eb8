"""`python -m hack.cluster` as shells use it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hack.cluster.layout import REPOSITORY
from hack.cluster.requirements import problem


@pytest.mark.skipif(bool(problem()), reason="this machine cannot run a cluster, and the command line says so")
def test_a_reader_that_has_enough_is_no_error() -> None:
    """`status | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "hack.cluster", "status"]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
