"""The names that controllers may use."""

from __future__ import annotations

import subprocess
import sys

import runtime


def test_the_facade_has_at_most_forty_names_and_each_can_be_loaded():
    assert len(runtime.__all__) <= 40
    for name in runtime.__all__:
        assert getattr(runtime, name) is not None


def test_a_program_that_wants_only_the_metrics_does_not_load_a_kubernetes_client():
    code = "import sys, runtime.observe.metrics; print(any(m.startswith('kubernetes_asyncio') for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
