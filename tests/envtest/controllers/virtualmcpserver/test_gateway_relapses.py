"""Conditions of a VirtualMCPServer that was in order, and of one whose status other programs write, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hack.controlplane.rest import KubeError
from tests.envtest.controllers.kit import API, Object, conditions_of
from tests.envtest.controllers.lifecycles import shows
from tests.envtest.controllers.virtualmcpserver.conftest import KIND, Gateways

Start = Callable[..., Awaitable[Gateways]]


async def _in_order(cluster: Gateways, **spec: Any) -> None:
    await cluster.group()
    await cluster.entry()
    await cluster.until("MCPServerEntry", "e", phase="Valid")
    await cluster.gateway(**spec)
    await cluster.until(KIND, "v", phase="Pending", ObjectsApplied="True/ObjectsApplied")


@shows(
    KIND,
    "Valid=True/ValidationSucceeded",
    "CompositeToolRefsValidated=True/CompositeToolRefsValid",
    "GroupRefValidated=True/GroupRefValid",
    "Ready=False/GroupRefNotFound",
    "Ready=False/ValidationFailed",
    "Stalled=True/GroupRefNotFound",
    "Stalled=True/ValidationFailed",
)
async def test_a_gateway_in_order_says_what_breaks_and_recovers(cluster: Gateways) -> None:
    await _in_order(cluster)
    await cluster.patch(KIND, "v", {"spec": {"config": {"aggregation": {"conflictResolution": "priority"}}}})
    await cluster.until(KIND, "v", phase="Failed", Valid="False/ValidationFailed", Ready="False/ValidationFailed")
    await cluster.patch(KIND, "v", {"spec": {"config": {"aggregation": None, "compositeToolRefs": [{"name": "no"}]}}})
    await cluster.until(
        KIND,
        "v",
        phase="Failed",
        Valid="True/ValidationSucceeded",
        CompositeToolRefsValidated="False/CompositeToolRefNotFound",
    )
    await cluster.patch(KIND, "v", {"spec": {"config": {"compositeToolRefs": []}}})
    await cluster.until(KIND, "v", phase="Pending", CompositeToolRefsValidated="True/CompositeToolRefsValid")
    await cluster.delete("MCPGroup", "g")
    await cluster.until(
        KIND, "v", phase="Failed", GroupRefValidated="False/GroupRefNotFound", Ready="False/GroupRefNotFound"
    )
    await cluster.group()
    await cluster.until(KIND, "v", phase="Pending", GroupRefValidated="True/GroupRefValid", Stalled="")


REFERENCES = ("DefaultAuthConfig", "BackendAuthConfig", "DiscoveredAuthConfig")
OUTCOMES = ("False/InvalidExternalAuthConfig", "True/ConversionSucceeded", "False/EnterpriseRequired")


@shows(KIND, *(f"{type_}={state}" for type_ in REFERENCES for state in OUTCOMES))
async def test_an_auth_config_without_a_controller_of_its_own_is_judged_by_the_rules_of_the_gateway(
    start: Start,
) -> None:
    """Without its own controller nothing writes the auth config's Valid condition, so no reason can be copied."""
    cluster = await start(only=("mcpgroup", "mcpserverentry", "virtualmcpserver"))
    reference = {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "a"}}
    await cluster.auth("a", type="tokenExchange", tokenExchange={"tokenUrl": "nonsense", "audience": "x"})
    await cluster.group()
    await cluster.entry("e", externalAuthConfigRef={"name": "a"})
    await cluster.gateway(outgoingAuth={"source": "inline", "default": reference, "backends": {"b": reference}})

    async def all_say(state: str) -> Object:
        types = ("DefaultAuthConfig", "BackendAuthConfig-b", "DiscoveredAuthConfig-e")
        return await cluster.until(KIND, "v", phase="Pending", **dict.fromkeys(types, state))

    invalid = await all_say("False/InvalidExternalAuthConfig")
    assert "tokenUrl" in conditions_of(invalid)["DefaultAuthConfig"][1]
    assert conditions_of(invalid)["BackendsIncluded"][0] == "False/MembersSkipped", "no member without its auth"
    await cluster.patch("MCPExternalAuthConfig", "a", {"spec": {"tokenExchange": {"tokenUrl": "https://a.example"}}})
    await all_say("True/ConversionSucceeded")
    await cluster.patch("MCPExternalAuthConfig", "a", {"spec": {"type": "obo", "tokenExchange": None, "obo": {}}})
    await all_say("False/EnterpriseRequired")
    await cluster.patch("MCPExternalAuthConfig", "a", {"spec": {"type": "unauthenticated", "obo": None}})
    await all_say("True/ConversionSucceeded")
    await cluster.delete("MCPExternalAuthConfig", "a")
    await all_say("False/ConversionFailed")


@shows(KIND, "StatusTruncated=True/StatusTooLarge")
async def test_a_status_with_more_conditions_than_fit_says_so_and_keeps_what_is_wrong(
    cluster: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is lowered for this test; that it is 256 KiB is checked without a server."""
    monkeypatch.setattr("controllers.virtualmcpserver.status.MAX_STATUS", 6 * 1024)
    reference = {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "a"}}
    missing = {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "missing"}}
    await cluster.auth("a")
    backends = {f"b{number:02}": reference for number in range(30)} | {"z": missing}
    await _in_order(cluster, outgoingAuth={"source": "inline", "backends": backends})
    cut = await cluster.until(KIND, "v", StatusTruncated="True/StatusTooLarge")
    said = conditions_of(cut)
    assert said["BackendAuthConfig-z"][0] == "False/ConversionFailed"
    assert 0 < sum(type_.startswith("BackendAuthConfig-b") for type_ in said) < 30
    await cluster.patch(KIND, "v", {"spec": {"outgoingAuth": {"backends": None}}})
    await cluster.until(KIND, "v", StatusTruncated="", Valid="True/ValidationSucceeded")


REPORTS = [
    ("Ready", "True", "AllBackendsRoutable", "ready"),
    ("Degraded", "False", "SomeBackendsUnhealthy", "degraded"),
    ("Failed", "False", "NoRoutableBackends", "unavailable"),
    ("Pending", "False", "BackendsPending", "unknown"),
    ("Degraded", "False", "BackendsUnhealthy", "unavailable"),
]


@shows(KIND, *(f"Ready={status}/{reason}" for _, status, reason, _ in REPORTS))
@shows(KIND, "BackendsDiscovered=True/BackendsDiscovered", "Degraded=True/BackendsDegraded")
async def test_the_words_of_a_stock_gateway_stay_while_it_reports_and_go_when_it_is_silent(start: Start) -> None:
    """The reports are written here as the stock gateway writes them: the whole status, read, changed and put back."""
    cluster = await start(vmcp_dialect="toolhive")
    await _in_order(cluster)
    await cluster.pod("p")
    await cluster.until(KIND, "v", phase="Ready", Ready="True/DeploymentReady")
    for turn, (phase, status, reason, backend) in enumerate(REPORTS):
        degraded = reason in ("SomeBackendsUnhealthy", "BackendsUnhealthy")
        await _report(cluster, phase, status, reason, backend, degraded=degraded)
        # A change makes the operator look and write; it must leave what is the gateway's.
        await cluster.patch(KIND, "v", {"spec": {"replicas": 2 + turn}})
        found = await cluster.admin.wait_for(
            API, KIND, "v", namespace=cluster.namespace, until=lambda found, n=2 + turn: _warned(found, n), timeout=20
        )
        said = conditions_of(found)
        assert found["status"]["phase"] == phase
        assert (said["Ready"][0], said["BackendsDiscovered"][0]) == (f"{status}/{reason}", "True/BackendsDiscovered")
        assert ("Degraded" in said) == degraded
    await _report(cluster, "Ready", "True", "AllBackendsRoutable", "ready", age=timedelta(minutes=10), discovered=False)
    await cluster.until(KIND, "v", phase="Ready", Ready="True/DeploymentReady", BackendsDiscovered="", Degraded="")


def _warned(found: Object | None, replicas: int) -> bool:
    said = conditions_of(found or {}).get("SessionStorageWarning", ("", ""))
    return said[1].startswith(f"{replicas} replicas")


async def _report(
    cluster: Gateways,
    phase: str,
    status: str,
    reason: str,
    backend: str,
    *,
    degraded: bool = False,
    discovered: bool = True,
    age: timedelta = timedelta(0),
) -> None:
    now = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    words = [("Ready", status, reason)]
    words += [("BackendsDiscovered", "True", "BackendsDiscovered")] if discovered else []
    words += [("Degraded", "True", "BackendsDegraded")] if degraded else []
    own = [{"type": t, "status": s, "reason": r, "message": "m", "lastTransitionTime": now} for t, s, r in words]
    while True:
        found = await cluster.get(KIND, "v")
        said = found["status"]
        others = [c for c in said["conditions"] if c["type"] not in ("Ready", "BackendsDiscovered", "Degraded")]
        said |= {"phase": phase, "message": "as reported", "conditions": [*others, *own]}
        said["discoveredBackends"] = [{"name": "e", "status": backend, "lastHealthCheck": now}]
        try:
            await cluster.admin.update(found, subresource="status")
        except KubeError as error:
            if error.status != 409:
                raise
        else:
            return


async def test_a_deployment_that_was_deleted_after_changes_is_rolled_out_again(cluster: Gateways) -> None:
    await _in_order(cluster)
    for seconds in (41, 42):
        template = {"spec": {"terminationGracePeriodSeconds": seconds}}
        await cluster.patch(KIND, "v", {"spec": {"podTemplateSpec": template}})
        await cluster.deployment(
            until=lambda d, s=seconds: d["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == s
        )
        await cluster.until(KIND, "v", RolledOut="True/RolloutComplete")
    uid = (await cluster.deployment())["metadata"]["uid"]
    await cluster.admin.delete("apps/v1", "Deployment", "v", namespace=cluster.namespace)
    await cluster.deployment(until=lambda d: d["metadata"]["uid"] != uid)
    await cluster.come_to_rest()
    await cluster.until(KIND, "v", RolledOut="True/RolloutComplete")
