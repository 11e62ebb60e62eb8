"""`make vmcp-demo`: real servers, the operator's own configuration, real clients."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.vmcp.kit import ROOT


@pytest.mark.timeout(600)
def test_the_demo_s_checks_all_hold():
    done = subprocess.run(
        [sys.executable, str(ROOT / "hack" / "vmcp_demo.py")], capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    assert "all answers are as they should be" in done.stdout
    assert "Traceback" not in done.stderr
