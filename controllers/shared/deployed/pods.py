"""The pods of whatever this operator deploys: one watch finds them, so that a status says why they do not start."""

from __future__ import annotations

from collections.abc import Iterable

from controllers.shared import references
from controllers.shared.depends import Depends
from controllers.shared.resources import ENDPOINT, POD, PROXY, VMCP
from controllers.shared.workload.rollout import PodCounts, count_pods
from runtime import Key, Reader, Record, Resource
from runtime.util.rbac import WATCH
from runtime.wire.selectors import LabelSelector

_APP, _NAME = "app", "toolhive-name"
APPS = tuple(kind.kind.lower() for kind in (VMCP, ENDPOINT, PROXY))
"""Values of the label that tells whose pods they are."""
_SELECTOR = LabelSelector.parse(f"{_APP} in ({','.join(APPS)})")
POD_INDEX = "workload"
"""Name of the index of pods by the object that they belong to."""


def workload_of_pod(record: Record) -> Iterable[str]:
    """Index of pods: kind and name of the object that they belong to."""
    app, name = record.meta.labels.get(_APP), record.meta.labels.get(_NAME)
    return (f"{app}/{name}",) if name and app in APPS else ()


def pods_of(reader: Reader, kind: Resource, owner: Key) -> PodCounts:
    """Count the pods of an object and learn what is wrong with them."""
    where = f"{kind.kind.lower()}/{owner.name}"
    return count_pods(reader.by_index(POD, POD_INDEX, where, namespace=owner.namespace))


def pod_depends(why: str) -> Depends:
    """Return the row of the pods of the reconciled kind."""

    def by(_reader: Reader, kind: Resource) -> references.Mapping:
        prefix = f"{kind.kind.lower()}/"

        def owners(pod: Record) -> Iterable[Key]:
            found = workload_of_pod(pod)
            return [Key(pod.meta.namespace, one.removeprefix(prefix)) for one in found if one.startswith(prefix)]

        return owners

    return Depends(POD, verbs=WATCH, by=by, labels=_SELECTOR, indexes={POD_INDEX: workload_of_pod}, why=why)
