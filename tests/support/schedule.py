"""Which tests run beside which, and in which order, when several workers run them (`--dist=loadfile`).

A file's tests stay on one worker, because they share what its fixtures started; where they share nothing, each goes to
whichever worker is free. The longest come first, so that no run ends with one worker at work and the others idle, and
nothing is queued behind something long but what is brief: xdist sends a worker its next tests while one still runs.

The times are those of a machine with two cores that does nothing else. They decide nothing but the order, so they may
be rough; the slowest tests that a run prints at its end show what has grown.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

LONG = os.environ.get("TEST_LONG", "") not in ("", "0")

SECONDS: Mapping[str, tuple[float, float]] = {
    "tests/fuzz/test_fuzz.py": (35, 1900),
    "tests/e2e/vmcp/test_soak_and_reload.py": (40, 750),
    "tests/matrix/test_releases.py": (50, 900),
    "tests/envtest/controllers/virtualmcpserver/test_gateway_reports.py": (90, 200),
    "tests/envtest/controllers/virtualmcpserver/test_gateway_finds_its_members.py": (50, 200),
    "tests/envtest/controllers/shared/test_kubectl_and_gitops_loops.py": (45, 800),
    "tests/envtest/fuzz/test_random_objects.py": (33, 600),
    "tests/faults/test_crash_points.py": (34, 350),
    "tests/faults/test_faults_server.py": (40, 280),
    "tests/e2e/vmcp/test_hostile_matrix.py": (27, 600),
    "tests/unit/contract/test_config_round_trip.py": (15, 240),
    "tests/conformance/test_conformance_suite.py": (40, 250),
    "tests/conformance/test_other_sdks.py": (30, 30),
    "tests/envtest/manager/test_leader_election.py": (35, 90),
    "tests/envtest/manager/test_idle_means_idle.py": (20, 70),
    "tests/e2e/demo/test_make_undeploy.py": (50, 50),
    "tests/envtest/controllers/virtualmcpserver/test_gateway_among_others.py": (25, 25),
    "tests/envtest/controllers/virtualmcpserver/test_gateway_conditions.py": (25, 25),
    "tests/envtest/controllers/virtualmcpserver/test_gateway_at_rest.py": (12, 120),
    "tests/envtest/controllers/mcpremoteendpoint/test_proxy_conditions.py": (30, 30),
    "tests/envtest/controllers/mcpremoteendpoint/test_proxy_members.py": (12, 12),
    "tests/envtest/controllers/mcpremoteendpoint/test_proxy_workload.py": (20, 20),
    "tests/envtest/controllers/mcpremoteproxy/test_remote_proxy_conditions.py": (35, 35),
    "tests/envtest/controllers/mcpremoteproxy/test_remote_proxy_pods.py": (12, 12),
    "tests/envtest/controllers/shared/test_crds_of_another_version.py": (19, 19),
    "tests/envtest/config/test_manifests.py": (15, 15),
    "tests/envtest/manager/test_manager_starts_and_stops.py": (20, 20),
    "tests/envtest/controlplane/test_nothing_is_left_behind.py": (20, 20),
    "tests/envtest/controlplane/test_shared_control_plane.py": (18, 18),
    "tests/e2e/vmcp/test_demo.py": (27, 27),
    "tests/e2e/vmcp/test_hostile_requests.py": (20, 20),
    "tests/e2e/vmcp/test_proxy_security.py": (14, 50),
    "tests/e2e/vmcp/test_secrets_stay_secret.py": (13, 13),
    "tests/e2e/demo/test_limited_to_namespaces.py": (10, 10),
    "tests/e2e/demo/test_make_run.py": (15, 15),
}
"""File -> seconds in the short and in the long run, of files that take more than others of their folder."""

USUAL: Mapping[str, float] = {"unit": 0.03, "envtest": 1.0, "faults": 2.0, "conformance": 1.0, "e2e": 2.0}
"""Folder -> seconds of a test in any other file."""

APART = frozenset(
    {
        "tests/e2e/demo/test_make_undeploy.py",
        "tests/e2e/vmcp/test_soak_and_reload.py",
        "tests/envtest/controllers/virtualmcpserver/test_gateway_finds_its_members.py",
        "tests/envtest/controllers/virtualmcpserver/test_gateway_reports.py",
        "tests/envtest/controllers/shared/test_kubectl_and_gitops_loops.py",
        "tests/envtest/fuzz/test_random_objects.py",
        "tests/faults/test_faults_server.py",
        "tests/matrix/test_releases.py",
    }
)
"""Files whose tests share nothing but what all workers share."""

BRIEF = 5.0
"""Seconds of pending tests behind which any others may be queued."""


class LongestFirst(LoadScopeScheduling):
    """xdist's scheduling by file, the longest first."""

    _tests: Counter[str]

    def schedule(self) -> None:
        if self.collection is None:
            collected = next(iter(self.registered_collections.values()))
            self._tests = Counter(file_of(name) for name in collected)
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if file_of(nodeid) in APART else file_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        pending = sum(
            self._seconds(scope, sum(not done for done in unit.values()))
            for scope, unit in self.assigned_work[node].items()
        )
        queue = {scope: self._seconds(scope, len(unit)) for scope, unit in self.workqueue.items()}
        self.workqueue.move_to_end(chosen(queue, pending), last=False)
        super()._assign_work_unit(node)

    def _seconds(self, scope: str, tests: int) -> float:
        """How long so many tests of a file take, about."""
        file = file_of(scope)
        if file in SECONDS:
            return SECONDS[file][LONG] * tests / self._tests[file]
        return USUAL.get(file.split("/")[1], 1.0) * tests


def chosen(queue: Mapping[str, float], pending: float) -> str:
    """What of a queue (name -> seconds) comes next on a worker that has so many seconds of tests before it."""
    return (max if pending < BRIEF else min)(queue, key=queue.__getitem__)


def file_of(nodeid: str) -> str:
    """The file of a test, relative to the repository."""
    return nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongestFirst | None:
    """Take the place of `--dist=loadfile`; other ways to distribute stay xdist's."""
    return LongestFirst(config, log) if config.getvalue("dist") == "loadfile" else None
