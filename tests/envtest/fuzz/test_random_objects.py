"""Random objects that the API server admits: no traceback, no endless retry, a condition that says what is wrong."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hack.controlplane.handle import Handle
from hack.controlplane.rest import Kube, KubeError
from tests.envtest.controllers.kit import API, Cluster, certificate
from tests.support.eventually import eventually
from tests.support.operator import OPERATOR_USER, controller_names
from tests.support.process import Program
from tests.support.random_objects import ObjectGenerator

KINDS = {
    "mcpgroup": "mcpgroups",
    "mcpserverentry": "mcpserverentries",
    "mcpexternalauthconfig": "mcpexternalauthconfigs",
    "mcpremoteendpoint": "mcpremoteendpoints",
    "mcpremoteproxy": "mcpremoteproxies",
    "virtualmcpserver": "virtualmcpservers",
}
ALLOW_ALL = "permit(principal, action, resource);"
QUIET = 3.0  # seconds without a request of the operator: longer than its shortest retries


async def surroundings(cluster: Cluster) -> None:
    """What the names "present" of the generator refer to."""
    for kind, spec in {
        "MCPGroup": {},
        "MCPExternalAuthConfig": {
            "type": "headerInjection",
            "headerInjection": {"headerName": "X-Key", "valueSecretRef": {"name": "present", "key": "token"}},
        },
        "MCPOIDCConfig": {"type": "inline", "inline": {"issuer": "https://idp.example.com", "clientId": "c"}},
        "MCPToolConfig": {"toolsFilter": ["a"]},
        "MCPTelemetryConfig": {"prometheus": {"enabled": True}},
        "MCPAuthzConfig": {
            "type": "cedarv1",
            "config": {
                "version": "1.0",
                "type": "cedarv1",
                "cedar": {"policies": ["permit(principal, action, resource);"]},
            },
        },
    }.items():
        await cluster.create(kind, "present", spec)
    await cluster.entry("member", groupRef={"name": "present"})
    await cluster.secret("present", token="sentinel")
    await cluster.config_map("present", **{"ca.crt": certificate(), "authz.json": "{}"})


async def create_random(cluster: Cluster, generator: ObjectGenerator, count: int) -> tuple[list[str], Counter[str]]:
    """Create `count` objects; returns the names of those that were admitted, and why others were not."""
    admitted: list[str] = []
    refused: Counter[str] = Counter()
    bodies = [(f"fuzz-{n}", generator.generate()) for n in range(count)]
    waiting = iter(bodies)

    async def worker() -> None:
        for name, body in waiting:
            try:
                await cluster.admin.create({**body, "metadata": {"name": name, "namespace": cluster.namespace}})
            except KubeError as error:
                refused[str(error)[:300]] += 1
            else:
                admitted.append(name)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(worker())
    return admitted, refused


class Requests:
    """The operator's requests in a namespace since this was made, read from the audit log as it grows."""

    def __init__(self, cluster: Cluster) -> None:
        assert cluster.control_plane.audit_log is not None
        self.file = cluster.control_plane.audit_log.open("rb")
        self.file.seek(0, 2)
        self.mark = b'"namespace":"%s"' % cluster.namespace.encode()
        self.rest = b""
        self.seen: list[dict[str, Any]] = []

    def count(self) -> int:
        """How many there were so far, watches left out."""
        *lines, self.rest = (self.rest + self.file.read()).split(b"\n")
        events = (json.loads(line) for line in lines if self.mark in line)
        self.seen += [e for e in events if e["user"]["username"] == OPERATOR_USER and e["verb"] != "watch"]
        return len(self.seen)


async def wait_quiet(requests: Requests, timeout: float) -> None:
    """Return when the operator has asked nothing for `QUIET` seconds: what retries for ever never gets here."""
    deadline = time.monotonic() + timeout
    last, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET:
        if (count := requests.count()) != last:
            last, since = count, time.monotonic()
        if time.monotonic() > deadline:
            targets = ((e["verb"], e["objectRef"]) for e in requests.seen[-200:])
            recent = Counter((verb, target["resource"], target.get("name")) for verb, target in targets)
            raise AssertionError(f"still busy after {timeout:.0f} s with {recent.most_common(5)}")
        await asyncio.sleep(0.25)


def complaints(body: dict[str, Any]) -> list[str]:
    """What is wrong with the status of one object."""
    name, status = body["metadata"]["name"], body.get("status", {})
    conditions = status.get("conditions", [])
    found = [f"{name}: no conditions"] if not conditions else []
    for condition in conditions:
        if condition["observedGeneration"] != body["metadata"]["generation"]:
            found.append(f"{name}: {condition['type']} is about an old generation")
        if condition["status"] == "False" and not condition["message"]:
            found.append(f"{name}: {condition['type']} says no reason")
    if status.get("phase") == "Failed" and all(c["status"] != "False" for c in conditions):
        found.append(f"{name}: Failed, and no condition says why")
    return found


async def judged(cluster: Cluster, program: Program, kind: str, count: int) -> bool:
    """All random objects have a status that nothing is wrong with, or an AssertionError says which has not."""
    items = await cluster.admin.list(API, kind, namespace=cluster.namespace)
    fuzzed = [item for item in items if item["metadata"]["name"].startswith("fuzz-")]
    found = [complaint for item in fuzzed for complaint in complaints(item)]
    assert not found, "\n".join([*found, *said_about(program, found[0].partition(":")[0])])
    assert len(fuzzed) == count
    return True


def said_about(program: Program, name: str) -> list[str]:
    """The last that the program logged about an object."""
    return [line[:1500] for line in program.raw if f'"{name}"' in line][-5:]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("controller", KINDS)
async def test_every_admitted_object_ends_in_conditions(
    controller: str,
    admin: Kube,
    namespace: str,
    control_plane: Handle,
    operator_program: Callable[..., Program],
    scale: Any,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert controller in controller_names()
    cluster = Cluster(admin, namespace, control_plane)
    generator = ObjectGenerator(KINDS[controller], scale.seed)
    count, requests = scale(200, 2000), Requests(cluster)
    async with operator_program() as program:
        await surroundings(cluster)
        admitted, refused = await create_random(cluster, generator, count)
        rate = len(admitted) / count
        record_property("admission rate", rate)
        assert rate >= 0.9, refused.most_common(5)
        await program.log("manager started", timeout=60)
        # both: all judged, and at rest; a starved machine may pause longer than QUIET in between
        all_judged = partial(judged, cluster, program, generator.kind, len(admitted))
        await eventually(all_judged, "every object is judged", within=60 + count * 0.1, every=0.5)
        await wait_quiet(requests, timeout=60 + count * 0.1)
        assert await all_judged()
        assert program.running, "\n".join(program.raw[-20:])
        for line in program.raw:
            assert "Traceback" not in line, line[:3000]
            assert "sentinel" not in line
    if scale.long:
        rare = generator.rare_fields()
        assert len(rare) <= 0.05 * len(generator.fields), rare
        assert min(generator.enums.values(), default=20) >= 20
    with capsys.disabled():
        print(f" [{generator.kind}: {len(admitted)} of {count} admitted]", end="")
