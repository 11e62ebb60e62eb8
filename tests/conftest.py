"""What every suite shares: the two sizes of a run, and seeds that are fixed in the short one."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["hack.controlplane.pytest_plugin", "tests.support.operator", "tests.support.schedule"]

LONG = os.environ.get("TEST_LONG", "") not in ("", "0")
SEED = int(os.environ.get("TEST_SEED", "20260728"))

settings.register_profile(
    "short", max_examples=50, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("long" if LONG else "short")


class Scale:
    """Picks a count: `scale(short, long)`; `scale.seed` is the run's random seed."""

    seed = SEED
    long = LONG

    def __call__(self, short: int, long: int) -> int:
        """Return `short` in `make test`, `long` in `make test-long`."""
        return long if LONG else short


@pytest.fixture(scope="session")
def scale() -> Scale:
    return Scale()


def pytest_report_header() -> str:
    return f"seed {SEED}, {'full' if LONG else 'reduced'} counts"
