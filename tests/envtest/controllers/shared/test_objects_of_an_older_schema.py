"""Objects that are stored as no schema of today would let them in: each is judged, and costs nobody else anything."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from hack.controlplane.crds import documents
from hack.controlplane.handle import Handle
from hack.controlplane.plane import ControlPlane, Options
from hack.controlplane.rest import Kube
from runtime.transport.config import load_endpoint
from tests.conftest import Scale
from tests.envtest.controllers.kit import API, Cluster, certificate
from tests.envtest.controllers.virtualmcpserver.conftest import Gateways
from tests.support.eventually import eventually
from tests.support.operator import launch
from tests.support.process import ROOT
from tests.support.random_objects import ObjectGenerator

BASES = ROOT / "config" / "crd" / "bases"
JUDGED = ("MCPGroup", "MCPServerEntry", "MCPRemoteEndpoint", "MCPExternalAuthConfig", "VirtualMCPServer")
OTHERS = ("MCPServer", "MCPRemoteProxy", "MCPOIDCConfig", "MCPToolConfig", "MCPTelemetryConfig", "MCPAuthzConfig")
ODD: list[Any] = [
    *(None, 5, -1, 2**62, 1.5, True, "", "x", "a: b\n- c\u0001", "x" * 5000, "..", "UPPER", "a/b"),
    *([], [None], [[]], [5], ["x"], [{}], [{"type": {}}], [{"type": "Valid", "status": []}]),
    *({}, {"": ""}, {"name": None}, {"name": 5}, {"name": ["x"]}, {"name": "../../x"}, {"name": "x" * 3000}),
]
STATUS = {
    "phase": "Ready",
    "url": "http://x.ns.svc:80/mcp",
    "observedGeneration": 1,
    "entryCount": 1,
    "configHash": "x",
    "entries": ["a"],
    "conditions": [{"type": "Valid", "status": "True", "reason": "Fine", "message": "", "observedGeneration": 1}],
    "discoveredBackends": [{"name": "e", "status": "ready", "circuitBreakerState": "open"}],
    "lastReportTime": "2026-01-01T00:00:00Z",
}
GATEWAY = {"groupRef": {"name": "present"}, "incomingAuth": {"type": "anonymous"}, "outgoingAuth": {"source": "inline"}}
CRASHES = ("Reconciler error", "event handler failed")


def without_rules(definition: dict[str, Any]) -> dict[str, Any]:
    for version in definition["spec"]["versions"]:
        version["schema"]["openAPIV3Schema"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version.pop("additionalPrinterColumns", None)
        version.pop("selectableFields", None)
    return definition


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    """A control plane of this module's own, whose definitions let everything in."""
    crds = tmp_path_factory.mktemp("crds-without-rules")
    plurals = []
    for path in BASES.glob("*.yaml"):
        (definition,) = documents(path.read_text())
        plurals.append(definition["spec"]["names"]["plural"])
        (crds / path.with_suffix(".json").name).write_text(json.dumps(without_rules(definition)))
    with ControlPlane(Options(crds=(crds,))) as plane:
        plane.handle.kubectl("get", ",".join(plurals), "--all-namespaces")  # until every kind is served
        yield plane.handle


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


def damaged(value: Any, random: Random) -> Any:
    """Put something odd in one place of a value."""
    *above, last = random.choice([path for path in paths(value) if path])
    made = at = copy.deepcopy(value)
    for key in above:
        at = at[key]
    at[last] = random.choice(ODD)
    return made


class Stored:
    """Damaged objects of one namespace."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self.cluster, self.random = cluster, random
        self.count = 0

    async def add(self, kind: str, name: str = "") -> None:
        """Store an object; what others refer to is named."""
        self.count += 1
        plural = {"MCPServerEntry": "mcpserverentries", "MCPRemoteProxy": "mcpremoteproxies"}.get(kind)
        body = ObjectGenerator(plural or f"{kind.lower()}s", self.random.randrange(10**6)).generate()
        spec = damaged(body["spec"], self.random) if body.get("spec") else self.random.choice(ODD)
        name = name or f"odd-{self.count}"
        metadata = {"name": name, "namespace": self.cluster.namespace}
        await self.cluster.admin.create({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec})
        if self.random.random() < 0.6:
            status = damaged(STATUS, self.random) if self.random.random() < 0.9 else self.random.choice(ODD)
            await self.cluster.patch(kind, name, {"status": status}, status=True)

    async def judged(self, kind: str) -> bool:
        """Each object of a kind has a condition about its generation."""
        for found in await self.cluster.admin.list(API, kind, namespace=self.cluster.namespace):
            meta, status = found["metadata"], found.get("status")
            conditions = status.get("conditions") if isinstance(status, dict) else None
            assert isinstance(conditions, list), found
            about = [c.get("observedGeneration") for c in conditions if isinstance(c, dict)]
            assert meta["generation"] in about, found
        return True


@pytest.mark.timeout(300)
async def test_each_is_judged_and_what_is_in_order_is_served(
    admin: Kube, namespace: str, control_plane: Handle, scale: Scale
) -> None:
    cluster = Cluster(admin, namespace, control_plane)
    stored = Stored(cluster, Random(scale.seed))
    await cluster.secret("present", token="value")
    await cluster.config_map("present", **{"ca.crt": certificate()})
    await cluster.create("MCPGroup", "present", {})
    await cluster.entry("healthy", groupRef={"name": "present"})
    await cluster.create("VirtualMCPServer", "sane", GATEWAY)
    for kind in ("MCPExternalAuthConfig", *OTHERS[2:]):
        await stored.add(kind, "present")
    for kind in (*JUDGED, *OTHERS[:2]):
        for _ in range(scale(8, 150)):
            await stored.add(kind)
    with capture_logs() as logs:
        operator = await launch(await load_endpoint(str(control_plane.kubeconfig)), namespace, vmcp_dialect="native")
        try:
            for kind in JUDGED:
                await eventually(lambda kind=kind: stored.judged(kind), f"every {kind} is judged", within=90, every=0.5)
            found = await admin.wait_for(
                "v1", "ConfigMap", "sane-vmcp-config", namespace=namespace, until=lambda found: found is not None
            )
        finally:
            await operator.stop()
    assert found is not None
    assert "healthy" in {backend.name for backend in Gateways.parse(found).backends}
    assert [line for line in logs if line["event"] in CRASHES] == []
