"""Fixtures of the controllers' tests."""

from __future__ import annotations

import pytest

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.envtest.controllers.kit import Cluster

MINE = ("mcpgroup", "mcpserverentry", "mcpexternalauthconfig", "mcpremoteendpoint")


@pytest.fixture
async def cluster(admin: Kube, namespace: str, control_plane: Handle, start_operator) -> Cluster:
    """A namespace in which the operator runs, under its generated role."""
    await start_operator(only=MINE)
    return Cluster(admin, namespace, control_plane)
