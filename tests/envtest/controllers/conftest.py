"""Fixtures of the controllers' tests."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube
from tests.envtest.controllers.kit import Cluster
from tests.envtest.controllers.lifecycles import MARK, Ledger, claims_of, follow, version_of

MINE = ("mcpgroup", "mcpserverentry", "mcpexternalauthconfig", "mcpremoteendpoint", "mcpremoteproxy")
CLAIMS_FILE = "LIFECYCLE_CLAIMS"
"""Environment variable: where to write all claims of the collected tests, for the test that counts them."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", f"{MARK}(kind, *conditions, gone=False): each of them appears and goes away")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down what the collected tests claim, when asked to."""
    if target := os.environ.get(CLAIMS_FILE):
        claims = {item.nodeid: sorted(claims_of(item)) for item in session.items}
        Path(target).write_text(json.dumps(claims), encoding="utf-8")


@pytest.fixture
async def cluster(admin: Kube, namespace: str, control_plane: Handle, start_operator) -> Cluster:
    """A namespace in which the operator runs, under its generated role."""
    await start_operator(only=MINE)
    return Cluster(admin, namespace, control_plane)


@pytest.fixture(autouse=True)
async def lifecycles(request: pytest.FixtureRequest, admin: Kube, namespace: str) -> AsyncIterator[Ledger]:
    """Check what the test claims with `shows` against what the server saw."""
    claims, failed = claims_of(request.node), request.session.testsfailed
    ledger = Ledger()
    versions = {kind: await version_of(admin, namespace, kind) for kind in {claim.kind for claim in claims}}
    watches = [asyncio.create_task(follow(admin, namespace, *place, ledger)) for place in versions.items()]
    try:
        yield ledger
        if request.session.testsfailed == failed:  # else the failure itself says more
            await ledger.holds(claims)
    finally:
        for watch in watches:
            watch.cancel()
        for outcome in await asyncio.gather(*watches, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome
