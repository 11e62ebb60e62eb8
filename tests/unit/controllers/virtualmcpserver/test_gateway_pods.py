"""What the operator decides about the life of a gateway's pods: probes, grace period, scratch space, disruptions."""

from __future__ import annotations

from typing import Any

import pytest

from api.contract import Dialect
from controllers.virtualmcpserver.decide import decide
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import entry, env_of, make
from vmcp.ending import divide


def pod_of(spec: dict[str, Any] | None = None, dialect: Dialect = Dialect.NATIVE) -> dict[str, Any]:
    deployment = decide(make(spec, entry(), dialect=dialect)).intents.deployment
    assert deployment is not None
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def test_our_gateway_is_asked_from_its_start_on_and_has_time_to_start() -> None:
    (container,) = pod_of()["containers"]
    probes = [container[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert all("initialDelaySeconds" not in probe for probe in probes)
    startup, _, readiness = probes
    assert readiness["periodSeconds"] == 1
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60
    assert readiness["periodSeconds"] * readiness["failureThreshold"] >= 10, "a short pause is no end"


def test_the_stock_gateway_has_the_probes_that_its_own_operator_gives_it() -> None:
    (container,) = pod_of(dialect=Dialect.TOOLHIVE)["containers"]
    assert "startupProbe" not in container
    assert [container[name]["initialDelaySeconds"] for name in ("livenessProbe", "readinessProbe")] == [30, 15]


@pytest.mark.parametrize(
    ("template", "seconds"),
    [(None, "30"), ({"spec": {"terminationGracePeriodSeconds": 90}}, "90")],
    ids=["default", "podTemplateSpec"],
)
def test_our_gateway_is_told_the_grace_period_that_its_pod_has(template: dict[str, Any] | None, seconds: str) -> None:
    decision = decide(make({"podTemplateSpec": template} if template else {}, entry()))
    told = env_of(decision)["VMCP_TERMINATION_GRACE_PERIOD_SECONDS"]["value"]
    assert told == seconds
    assert divide(told, balanced=True).grace >= int(seconds) - 8


def test_a_grace_period_that_a_user_sets_in_the_environment_is_left_to_him() -> None:
    variable = {"name": "VMCP_TERMINATION_GRACE_PERIOD_SECONDS", "value": "7"}
    template = {"spec": {"containers": [{"name": "vmcp", "env": [variable]}, {"name": "sidecar", "image": "x"}]}}
    decision = decide(make({"podTemplateSpec": template}, entry()))
    assert env_of(decision)[variable["name"]] == variable
    assert decision.intents.deployment is not None
    containers = decision.intents.deployment["spec"]["template"]["spec"]["containers"]
    assert [len([v for v in c.get("env", ()) if v["name"] == variable["name"]]) for c in containers] == [1, 0]


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_only_writable_place_of_a_pod_can_be_written(dialect: Dialect) -> None:
    pod = pod_of(dialect=dialect)
    (container,) = pod["containers"]
    home = next(variable["value"] for variable in container["env"] if variable["name"] == "HOME")
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == home]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    assert "emptyDir" in volume
    assert not mount.get("readOnly")
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_a_volume_of_the_user_at_the_same_place_wins() -> None:
    volume = {"name": "tmp", "emptyDir": {"medium": "Memory"}}
    mount = {"name": "tmp", "mountPath": "/tmp"}
    template = {"spec": {"volumes": [volume], "containers": [{"name": "vmcp", "volumeMounts": [mount]}]}}
    (container,) = pod_of({"podTemplateSpec": template})["containers"]
    assert [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/tmp"] == ["tmp"]


@pytest.mark.parametrize("replicas", [None, 1, 3, 4, 10])
def test_no_pod_goes_before_its_successor_is_ready(replicas: int | None) -> None:
    """Of four pods and more, Kubernetes' default takes one before."""
    deployment = decide(make({"replicas": replicas} if replicas else {}, entry())).intents.deployment
    assert deployment is not None
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize(
    ("replicas", "dialect", "wanted"),
    [
        (None, Dialect.NATIVE, False),
        (1, Dialect.NATIVE, False),
        (2, Dialect.NATIVE, True),
        (2, Dialect.TOOLHIVE, False),
    ],
)
def test_several_replicas_are_evicted_one_after_the_other(replicas: int | None, dialect: Dialect, wanted: bool) -> None:
    intents = decide(make({"replicas": replicas} if replicas else {}, entry(), dialect=dialect)).intents
    budget, deployment = intents.disruption_budget, intents.deployment
    assert (budget is not None) is wanted
    if budget is not None and deployment is not None:
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["selector"] == deployment["spec"]["selector"]
