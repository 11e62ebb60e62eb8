"""What a gateway's status says about pods that do not become ready, and when a generation counts as rolled out."""

from __future__ import annotations

from typing import Any

import pytest

from api.conditions import VirtualMCPServerReason as R
from controllers.shared.resources import DEPLOYMENT, POD
from controllers.shared.verdicts import Verdict
from controllers.shared.workload.rollout import MAX_WORDS, Rollout, count_pods, read_rollout, trimmed_deployment
from controllers.shared.workload.writing import sentence_of
from controllers.virtualmcpserver.decide import decide
from controllers.virtualmcpserver.report import sum_up
from controllers.virtualmcpserver.status import compute_health
from runtime import ApiError, Record, TransportError, parse_conditions
from runtime.wire.decode import record_from_body
from tests.unit.controllers.virtualmcpserver.test_gateway_decisions import entry, make

READY = {"type": "Ready", "status": "True"}
UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}


def pod(name: str = "p", *, deleting: bool = False, **status: Any) -> Record:
    metadata: dict[str, Any] = {"name": name, "namespace": "ns", "uid": name}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Pending"} | status}
    return record_from_body(POD, body)


def waits(reason: str, message: str = "", **container: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    found = {"name": "vmcp", "image": "r.example/vmcp:1", "ready": False, "restartCount": 0, "state": state}
    return {"containerStatuses": [found | container]}


CRASHED = {"terminated": {"exitCode": 3, "reason": "Error", "message": "a\n/c: invalid:\n  - no url\n"}}
KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
EXPLAINED: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "a crash loop": (
        waits("CrashLoopBackOff", "back-off 5m0s restarting", restartCount=7, lastState=CRASHED),
        ("exit code 3", "a / /c: invalid: / - no url"),
        "Failed",
    ),
    "a crash loop between two tries": (
        {"containerStatuses": [{"name": "vmcp", "restartCount": 4, "state": {"running": {}}, "lastState": CRASHED}]},
        ("exit code 3",),
        "Failed",
    ),
    "too little memory": (waits("CrashLoopBackOff", restartCount=2, lastState=KILLED), ("137", "OOMKilled"), "Failed"),
    "an image that is not there": (
        waits("ErrImagePull", 'failed to resolve reference "r.example/vmcp:1": not found'),
        ("r.example/vmcp:1 cannot be pulled", "not found"),
        "Failed",
    ),
    "an image that must not be pulled": (waits("ErrImageNeverPull"), ("cannot be pulled",), "Failed"),
    "a key that its Secret does not have": (
        waits("CreateContainerConfigError", "couldn't find key k in Secret ns/s"),
        ("cannot be started", "couldn't find key k"),
        "Failed",
    ),
    "an init container that fails": (
        {"initContainerStatuses": [{"name": "wait", "state": {"waiting": {"reason": "ErrImagePull"}}}]},
        ("container wait",),
        "Failed",
    ),
    "no node": ({"conditions": [UNSCHEDULED]}, ("no node accepts the pod: 0/3 nodes are available",), "Pending"),
    "nothing yet": (waits("ContainerCreating"), ("is starting",), "Pending"),
    "one crash, which may pass": (waits("", restartCount=1, lastState=CRASHED), ("is starting",), "Pending"),
}


@pytest.mark.parametrize(("status", "words", "phase"), EXPLAINED.values(), ids=EXPLAINED.keys())
def test_why_no_pod_is_ready_is_said(status: dict[str, Any], words: tuple[str, ...], phase: str):
    health = compute_health(count_pods([pod(**status)]), ())
    assert health.phase == phase
    for word in words:
        assert word in health.message


def test_an_image_that_cannot_be_pulled_is_one_problem_in_both_of_the_kubelets_words():
    back_off = waits("ImagePullBackOff", 'Back-off pulling image "r.e/vmcp:1": ErrImagePull: rpc error: not found')
    error = waits("ErrImagePull", "rpc error: not found")
    assert count_pods([pod(**back_off)]).problems == count_pods([pod(**error)]).problems


def test_the_same_problem_of_several_pods_is_said_once_and_without_their_names():
    found = count_pods([pod(f"gate-{i}", **waits("ErrImagePull", "not found")) for i in range(5)])
    assert (found.pending, found.broken, len(found.problems)) == (5, 5, 1)
    assert "gate-" not in found.problems[0]


def test_one_pod_that_somebody_must_help_does_not_fail_a_gateway_whose_other_pod_just_starts():
    found = count_pods([pod("a", **waits("ErrImagePull")), pod("b", **waits("ContainerCreating"))])
    assert compute_health(found, ()).phase == "Pending"


EVICTED = pod("old", phase="Failed", reason="Evicted", message="The node was low on resource: memory.")


def test_an_evicted_pod_whose_successor_starts_is_no_failure_and_one_without_is_explained():
    assert compute_health(count_pods([EVICTED, pod("new")]), ()).phase == "Pending"
    alone = compute_health(count_pods([EVICTED]), ())
    assert alone.phase == "Failed"
    assert "Evicted" in alone.message
    assert "low on resource: memory" in alone.message


def test_a_pod_that_is_being_deleted_serves_nobody_any_more():
    found = count_pods([pod("old", deleting=True, conditions=[READY]), pod("new")])
    assert (found.ready, found.pending) == (0, 1)


def test_the_words_of_others_are_cut_and_stay_in_one_line():
    (problem,) = count_pods([pod(**waits("CreateContainerError", "x\n\x1b[31m" * 1000))]).problems
    assert len(problem) == MAX_WORDS
    assert problem.isprintable()


# --- rollouts ------------------------------------------------------------------------------------------------------


def deployment(generation: int, wanted: int, **status: Any) -> Record:
    spec = {"template": {"metadata": {"annotations": {"a": "b"}}}, "replicas": wanted}
    metadata = {"name": "v", "namespace": "ns", "uid": "u", "generation": generation, "labels": {"x": "y"}}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec, "status": status}
    return trimmed_deployment(record_from_body(DEPLOYMENT, body))


def counts(observed: int, total: int, updated: int, available: int) -> dict[str, int]:
    return {
        "observedGeneration": observed,
        "replicas": total,
        "updatedReplicas": updated,
        "availableReplicas": available,
        "readyReplicas": available,
    }


@pytest.mark.parametrize(
    ("replicas", "status", "serving", "complete"),
    [
        (1, {}, False, False),
        (1, counts(1, 1, 1, 1), False, False),
        (1, counts(2, 2, 1, 1), False, False),
        (1, counts(2, 1, 1, 0), False, False),
        (1, counts(2, 1, 1, 1), True, True),
        (3, counts(2, 3, 3, 2), True, False),
        (3, counts(2, 4, 2, 3), False, False),
        (3, counts(9, 3, 3, 3), True, True),
    ],
    ids=["unseen", "old", "old pod left", "not ready", "done", "one down", "half way", "newer"],
)
def test_a_rollout_serves_when_the_new_pods_alone_do_and_is_complete_when_all_are_there(
    replicas: int, status: dict[str, Any], serving: bool, complete: bool
):
    rollout = read_rollout(deployment(2, replicas, **status), 2)
    assert (rollout.serving, rollout.complete) == (serving, complete)


def test_scaling_is_no_new_template():
    scaled = read_rollout(deployment(3, 4, **counts(2, 2, 2, 2)), 2)
    assert scaled.serving
    assert not scaled.complete


def test_a_quota_is_named_without_the_name_of_the_pod_which_is_another_one_each_time():
    def refused(name: str) -> Rollout:
        message = f'pods "{name}" is forbidden: exceeded quota: q, requested: cpu=1, used: cpu=2, limited: cpu=2'
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
        return read_rollout(deployment(2, 1, observedGeneration=2, conditions=[failure]), 2)

    assert refused("v-1-a") == refused("v-1-b")
    assert "exceeded quota: q" in refused("v-1-a").problem


def ready_for(generation: int) -> dict[str, Any]:
    words = {"reason": "DeploymentReady", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    condition = {"type": "Ready", "status": "True", "observedGeneration": generation}
    return {"phase": "Ready", "conditions": [condition | words]}


SERVED = ready_for(3)
APPLIED = Verdict("ObjectsApplied", True, "ObjectsApplied", "m")
HALF = Rollout(wanted=1, seen=True, total=2, updated=1, available=1)


def said(
    rollout: Rollout | None, verdict: Verdict = APPLIED, status: Any = None, pods: tuple[Record, ...] = ()
) -> tuple[str, dict[str, str]]:
    counted = count_pods([pod("ready", conditions=[READY]), *pods])
    previous = parse_conditions((status or {}).get("conditions"))
    seen = make(None, entry(), pods=counted, status=status or {}, previous=previous)
    health, conditions, _ = sum_up(seen.present, decide(seen), verdict, rollout)
    assert len({c.type for c in conditions}) == len(conditions)
    return str(health.phase), {c.type: f"{c.status}/{c.reason}" for c in conditions}


def test_a_gateway_is_not_ready_for_a_generation_that_no_pod_runs():
    phase, found = said(HALF)
    assert (phase, found["Ready"], found["RolledOut"]) == (
        "Pending",
        "False/RolloutInProgress",
        "False/RolloutInProgress",
    )
    typo = pod("new", **waits("ErrImagePull", "not found"))
    phase, found = said(HALF, pods=(typo,))
    assert (phase, found["Ready"], found["RolledOut"]) == ("Degraded", "False/RolloutStalled", "False/RolloutStalled")


def test_one_that_was_ready_for_this_generation_stays_so_while_a_rotated_secret_rolls_its_pods():
    phase, found = said(HALF, status=SERVED)
    assert (phase, found["Ready"], found["RolledOut"]) == (
        "Ready",
        "True/DeploymentReady",
        "False/RolloutInProgress",
    )


DONE = Rollout(wanted=1, seen=True, total=1, updated=1, available=1)


def test_the_last_pod_of_a_rollout_makes_the_gateway_ready():
    phase, found = said(DONE)
    assert (phase, found["Ready"], found["RolledOut"]) == ("Ready", "True/DeploymentReady", "True/RolloutComplete")


@pytest.mark.parametrize("reason", [R.APPLY_FAILED, R.CONTESTED])
def test_what_could_not_be_written_for_a_passing_reason_takes_nothing_from_a_gateway_that_serves(reason: str):
    failed = Verdict("ObjectsApplied", False, reason, "m")
    phase, found = said(DONE, failed, status=SERVED)
    assert (phase, found["Ready"], found["ObjectsApplied"]) == ("Ready", "True/DeploymentReady", f"False/{reason}")
    assert "Stalled" not in found


def test_and_keeps_a_new_generation_from_being_ready():
    failed = Verdict("ObjectsApplied", False, R.APPLY_FAILED, "m")
    phase, found = said(DONE, failed, status=ready_for(2))
    assert (phase, found["Ready"]) == ("Pending", "False/ApplyFailed")
    assert "Stalled" not in found, "it passes without the user"


def test_what_differs_from_try_to_try_is_not_part_of_the_words_for_it():
    reset = TransportError("ClientOSError: read tcp 10.0.0.1:50412->10.0.0.2:443: reset")
    again = TransportError("ClientOSError: read tcp 10.0.0.1:50999->10.0.0.2:443: reset")
    assert sentence_of(reset) == sentence_of(again)
    assert sentence_of(ApiError(500, "InternalError", "failed calling webhook; request id: 17ab-2")) == sentence_of(
        ApiError(500, "InternalError", "failed calling webhook; request id: 99cd-3")
    )
