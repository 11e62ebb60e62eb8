"""Groups list their members, with few writes, and let go of nothing that they do not own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from controllers.mcpgroup.decide import LATEST
from tests.envtest.controllers.kit import API, Cluster, Object, conditions_of
from tests.envtest.controllers.lifecycles import shows

KIND = "MCPGroup"
FINALIZER = "toolhive.stacklok.dev/mcpgroup-finalizer"


async def listed(cluster: Cluster, name: str = "g", timeout: float = 10.0, **status: Any) -> Object:
    def holds(found: Object | None) -> bool:
        said = (found or {}).get("status", {})
        return found is not None and all(said.get(key) == value for key, value in status.items())

    found = await cluster.admin.wait_for(API, KIND, name, namespace=cluster.namespace, until=holds, timeout=timeout)
    assert found is not None
    return found


async def test_an_empty_group_is_ready(cluster: Cluster) -> None:
    await cluster.group()
    found = await cluster.until(KIND, "g", phase="Ready", MCPServersChecked="True/ListMCPServersCheckSucceeded")
    assert "finalizers" not in found["metadata"], "the end of a namespace would wait for it"
    status = found["status"]
    counts = {key: value for key, value in status.items() if key.endswith("Count")}
    kinds = ("server", "remoteProxy", "entry", "remoteEndpoint", "member", "served")
    assert counts == {f"{kind}Count": 0 for kind in kinds}
    assert not status.keys() & {"servers", "remoteProxies", "entries", "remoteEndpoints"}
    assert status["observedGeneration"] == 1
    assert conditions_of(found)["MCPServersChecked"][1] == (
        "Successfully listed 0 MCPServers, 0 MCPRemoteProxies, 0 MCPServerEntries, "
        "and 0 MCPRemoteEndpoints in namespace"
    )


async def test_a_finalizer_that_another_operator_left_is_taken_off_and_no_other_one(cluster: Cluster) -> None:
    await cluster.create(KIND, "g", metadata={"finalizers": [FINALIZER, "example.com/held"]})
    await cluster.until(KIND, "g", phase="Ready")
    assert (await cluster.get(KIND, "g"))["metadata"]["finalizers"] == ["example.com/held"]
    await cluster.patch(KIND, "g", {"metadata": {"finalizers": []}})
    await cluster.create(KIND, "alone", metadata={"finalizers": [FINALIZER]})
    await cluster.delete(KIND, "alone")
    await cluster.until(KIND, "alone", gone=True)


async def test_members_of_all_four_kinds_are_listed_by_name(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry("b")
    await cluster.entry("a")
    await cluster.endpoint("d")
    await cluster.create("MCPServer", "s", {"image": "i", "groupRef": {"name": "g"}})
    await cluster.create("MCPRemoteProxy", "p", {"remoteUrl": "https://p.example", "groupRef": {"name": "g"}})
    await cluster.entry("stranger", groupRef={"name": "other"})
    await listed(
        cluster,
        servers=["s"],
        serverCount=1,
        remoteProxies=["p"],
        remoteProxyCount=1,
        entries=["a", "b"],
        entryCount=2,
        remoteEndpoints=["d"],
        remoteEndpointCount=1,
        memberCount=5,
        servedCount=3,
    )


async def test_a_member_that_changes_its_group_leaves_the_old_one(cluster: Cluster) -> None:
    await cluster.group("g")
    await cluster.group("h")
    await cluster.entry("e")
    await listed(cluster, "g", entries=["e"])
    await cluster.patch("MCPServerEntry", "e", {"spec": {"groupRef": {"name": "h"}}})
    await listed(cluster, "h", entries=["e"])
    assert "entries" not in (await listed(cluster, "g", entryCount=0))["status"]


async def test_a_deleted_member_leaves_the_group(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry("e")
    await listed(cluster, entryCount=1)
    await cluster.delete("MCPServerEntry", "e")
    await listed(cluster, entryCount=0)


async def test_the_health_of_members_changes_one_number_of_the_group_and_nothing_else(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry("e", remoteUrl="http://localhost")
    before = await listed(cluster, memberCount=1, servedCount=0, phase="Ready")
    await cluster.patch("MCPServerEntry", "e", {"spec": {"remoteUrl": "https://a.example"}})
    after = await listed(cluster, memberCount=1, servedCount=1, phase="Ready")
    assert after["status"] == before["status"] | {"servedCount": 1}
    await cluster.assert_idle(1.0)


@shows(KIND, "MCPServersChecked=True/ListMCPServersCheckSucceeded", "Ready=True/GroupReady", gone=True)
async def test_deleting_a_group_is_not_held_up_by_members(cluster: Cluster) -> None:
    await cluster.group()
    await cluster.entry("e")
    await listed(cluster, entryCount=1)
    await cluster.delete(KIND, "g")
    await cluster.until(KIND, "g", gone=True)


async def test_a_burst_of_members_costs_a_handful_of_group_writes_and_one_write_per_member(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members have more patience than usual here, for machines that are too busy to make five groups Ready in time."""
    monkeypatch.setattr("controllers.shared.remote.GRACE", 60.0)
    names = [f"g{number}" for number in range(5)]
    started = time.monotonic()
    for name in names:
        await cluster.create(KIND, name)
    await asyncio.gather(
        *(cluster.entry(f"e-{g}-{number}", groupRef={"name": g}) for number in range(40) for g in names)
    )
    for name in names:
        await listed(cluster, name, entryCount=40)
    unrest = time.monotonic() - started
    for entry in await cluster.admin.list(API, "MCPServerEntry", namespace=cluster.namespace):
        if entry.get("status", {}).get("phase") != "Valid":
            await cluster.until("MCPServerEntry", entry["metadata"]["name"], phase="Valid")
    # The first status, the last one, and one for every few seconds in which members kept coming.
    assert len(cluster.status_writes("mcpgroups")) <= len(names) * (2 + unrest / LATEST)
    writes = cluster.status_writes("mcpserverentries")
    assert len(writes) == len(set(writes)) == 200


async def test_a_group_says_once_that_its_entries_are_deprecated_and_how_many_they_are(cluster: Cluster) -> None:
    def told() -> list[str]:
        return [e["verb"] for e in cluster.requests() if e["objectRef"]["resource"] == "events"]

    await cluster.group()
    for number in range(20):
        await cluster.entry(f"e{number}")
    event = await cluster.event("g", "Warning", "Deprecated")
    assert "20 members of the deprecated kind MCPServerEntry" in event["note"]
    assert "MCPRemoteEndpoint" in event["note"]
    await cluster.entry("late")
    await listed(cluster, entryCount=21)
    await cluster.come_to_rest()
    assert told() == ["create"], "no event per entry, and none within the hour"


@shows(KIND, "StatusTruncated=True/TooManyMembers")
async def test_a_group_with_more_names_than_fit_lists_what_fits_and_counts_all(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is lowered for this test; that it is 256 KiB is checked without a server."""
    monkeypatch.setattr("controllers.mcpgroup.decide.MAX_NAMES", 2048)
    names = [f"s{number:04}-".ljust(240, "x") for number in range(10)]
    for name in names:
        await cluster.create("MCPServer", name, {"image": "i", "groupRef": {"name": "g"}})
    await cluster.create(KIND, "g")
    found = await listed(cluster, serverCount=10)
    assert conditions_of(found)["StatusTruncated"][0] == "True/TooManyMembers"
    assert found["status"]["servers"] == names[:8]
    for name in names[8:]:
        await cluster.delete("MCPServer", name)
    mended = await listed(cluster, serverCount=8)
    assert "StatusTruncated" not in conditions_of(mended)
    assert mended["status"]["servers"] == names[:8]
