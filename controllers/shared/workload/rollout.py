"""How far a gateway's pods have come: what the Deployment says of a rollout, and why pods do not become ready.

A gateway is not Ready for a generation of its spec before a pod runs what that generation asks for: the pods of the
generation before are ready, too, and say nothing about the new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from runtime import Record, parse_conditions
from runtime.wire.decode import decode_record

MAX_WORDS = 400
"""Characters of a container's last words, and of a sentence of the platform's, that are repeated in a status."""

_KEPT_STATUS = ("observedGeneration", "replicas", "updatedReplicas", "availableReplicas", "conditions")
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_FORBIDDEN_POD = re.compile(r'^pods "[^"]*" is ')
_PULL = re.compile(r'^Back-off pulling image "[^"]*"(: ErrImagePull)?:? ?')


def trimmed_deployment(record: Record) -> Record:
    """Return a Deployment as the cache keeps it: metadata, replicas and status, which is a fifth of its bytes."""
    body = record.as_dict()
    status = body.get("status") or {}
    kept = {
        "apiVersion": body.get("apiVersion"),
        "kind": body.get("kind"),
        "metadata": body.get("metadata"),
        "spec": {"replicas": (body.get("spec") or {}).get("replicas")},
        "status": {key: status[key] for key in _KEPT_STATUS if key in status},
    }
    return decode_record(record.resource, orjson.dumps(kept))


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a Deployment says about its pods.

    Attributes:
        wanted: pods that shall run.
        seen: whether the Deployment controller has seen the present pod template.
        total: pods there are, of every template.
        updated: pods of the present template.
        available: pods that are ready, of every template.
        waiting: a change of the template waits until a burst of changes is over.
        problem: the controller's own words about why it does not get on; "" for none.
        stalled: it has given up, or may not make pods.
    """

    wanted: int = 1
    seen: bool = False
    total: int = 0
    updated: int = 0
    available: int = 0
    waiting: bool = False
    problem: str = ""
    stalled: bool = False

    @property
    def serving(self) -> bool:
        """Whether the present template is what serves: a pod of it is ready, and none of another is left."""
        return self.seen and self.total == self.updated and self.available > 0

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to do; as `kubectl rollout status` has it."""
        counts = self.updated >= self.wanted and self.total <= self.updated and self.available >= self.wanted
        return self.seen and counts and not self.waiting

    def __str__(self) -> str:
        """Return a sentence."""
        if self.complete:
            return f"{self.wanted} of {self.wanted} pods run the current template"
        if self.waiting:
            return "a change to the pod template is being held back in case more follow"
        if not self.seen:
            return "the Deployment controller has not seen the current pod template yet"
        if self.updated < self.wanted:
            return f"{self.updated} of {self.wanted} pods were started from the current template"
        if self.total > self.updated:
            return f"new pods are not ready yet, and {self.total - self.updated} with the previous template still run"
        return f"{self.available} of {self.wanted} pods are available"


def read_rollout(record: Record, template_since: int, *, waiting: bool = False) -> Rollout:
    """Read a Deployment.

    Args:
        record: the Deployment, with its status.
        template_since: its generation from which on its pod template is the present one.
        waiting: whether another template is about to be written.
    """
    status = record.path("status")
    status = status if isinstance(status, dict) else {}
    wanted = record.path("spec.replicas")
    problem, stalled = "", False
    for condition in parse_conditions(status.get("conditions")):
        if condition.type == "ReplicaFailure" and condition.status == "True":
            # The name of the pod that could not be made is another one each time.
            problem, stalled = cut(_FORBIDDEN_POD.sub("pods are ", condition.message)), True
        elif condition.type == "Progressing" and condition.status == "False":
            problem, stalled = problem or cut(condition.message), True
    return Rollout(
        wanted=wanted if isinstance(wanted, int) else 1,
        seen=_count(status, "observedGeneration") >= template_since > 0,
        total=_count(status, "replicas"),
        updated=_count(status, "updatedReplicas"),
        available=_count(status, "availableReplicas"),
        waiting=waiting,
        problem=problem,
        stalled=stalled,
    )


def _count(status: Mapping[str, Any], key: str) -> int:
    value = status.get(key)
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class PodCounts:
    """The gateway's pods by what they are worth.

    Attributes:
        ready: serve.
        pending: start, or cannot.
        failed: ended for good: evicted, or lost with their node.
        broken: pending ones that somebody must help.
        problems: why pods are not ready, each once, sorted; without names of pods, which change with each try.
    """

    ready: int = 0
    pending: int = 0
    failed: int = 0
    broken: int = 0
    problems: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All pods."""
        return self.ready + self.pending + self.failed


def count_pods(pods: Iterable[Record]) -> PodCounts:
    """Count pods and learn what is wrong with them.

    A pod that is being deleted counts no more: its successor does. One that failed counts only where there is no other,
    because its ReplicaSet replaces it.
    """
    ready = pending = broken = 0
    problems: set[str] = set()
    lost: list[str] = []
    for pod in pods:
        if pod.meta.deleting:
            continue
        status = pod.path("status")
        status = status if isinstance(status, dict) else {}
        if status.get("phase") in ("Failed", "Succeeded"):
            lost.append(_end_of(status))
        elif any(c.type == "Ready" and c.status == "True" for c in parse_conditions(status.get("conditions"))):
            ready += 1
        else:
            pending += 1
            found = list(_problems(status))
            problems |= {problem for problem, _ in found}
            broken += any(helpless for _, helpless in found)
    if lost and not ready and not pending:
        return PodCounts(failed=len(lost), problems=tuple(sorted(set(filter(None, lost)))))
    return PodCounts(ready, pending, 0, broken, tuple(sorted(problems)))


def _end_of(status: Mapping[str, Any]) -> str:
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    return cut(": ".join(filter(None, (f"the pod was terminated ({reason})" if reason else "", message))))


def _problems(status: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield why a pod is not ready, and whether it stays so unless somebody helps."""
    for condition in parse_conditions(status.get("conditions")):
        if condition.type == "PodScheduled" and condition.status == "False":
            yield cut(f"no node accepts the pod: {condition.message or condition.reason}"), False
    for group in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(group) or []:
            if isinstance(container, dict):
                yield from _container_problems(container)


def _container_problems(container: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    name = container.get("name")
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    last = ended or (container.get("lastState") or {}).get("terminated") or {}
    if reason in _IMAGE:
        # The kubelet turns from ErrImagePull to ImagePullBackOff and back: one problem, in the same words.
        detail = _PULL.sub("", message)
        image = container.get("image") or "?"
        yield cut(f"container {name}: the image {image} cannot be pulled (ImagePull){_after(detail)}"), True
    elif reason in _CONFIG:
        yield cut(f"container {name} cannot be started ({reason}){_after(message)}"), True
    elif reason == "CrashLoopBackOff" or (last and container.get("restartCount", 0) > 1 and not container.get("ready")):
        words = last_words(str(last.get("message") or ""))
        how = f"exit code {last['exitCode']}" if "exitCode" in last else "no exit code"
        why = f", {last['reason']}" if last.get("reason") not in (None, "", "Error", "Completed") else ""
        again = f"container {name} keeps crashing"
        yield cut(f"{again} (CrashLoop: {how}{why}){_after(words)}"), True


def _after(detail: str) -> str:
    return f": {detail}" if detail else ""


def last_words(message: str) -> str:
    """Return the end of a container's termination message in one line: the last lines say most about why it ended."""
    lines = [" ".join(line.split()) for line in message.splitlines()]
    return " / ".join([line for line in lines if line][-3:])


def cut(text: str) -> str:
    """Return a text of others in one line that is not too long for a status."""
    text = "".join(char if char.isprintable() else " " for char in text).strip()
    return text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 1]}…"
