"""hack/e2e_steps.sh, which hack/kind_e2e.sh runs elsewhere: a script that nobody runs is wrong sooner or later."""

from __future__ import annotations

import os
import subprocess

from hack.cluster.layout import GATEWAY_IMAGE, OPERATOR_IMAGE, REPOSITORY
from hack.controlplane.binaries import ensure
from hack.controlplane.programs import KUBECTL
from tests.cluster.conftest import KUBECONFIG


def test_every_step_passes(deployed: None) -> None:
    environ = os.environ | {"KUBECONFIG": KUBECONFIG, "KUBECTL": str(ensure().path(KUBECTL))}
    done = subprocess.run(
        [str(REPOSITORY / "hack" / "e2e_steps.sh"), OPERATOR_IMAGE, GATEWAY_IMAGE],
        env=environ,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
