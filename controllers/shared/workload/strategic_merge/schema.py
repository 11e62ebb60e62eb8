"""Which lists of a pod template merge, and by which key.

The source is the `patchStrategy` and `patchMergeKey` tags of core/v1 and meta/v1 in Kubernetes 1.36. What is not
listed here is a map that merges field by field, or a list that is replaced whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ListRule:
    """How one list field merges.

    Attributes:
        merge_key: the field that identifies an element; `None` for a list of scalars that merges as a set.
        element: the schema of an element.
    """

    merge_key: str | None
    element: PatchSchema


@dataclass(frozen=True)
class PatchSchema:
    """The merging fields of one object type.

    Attributes:
        fields: nested objects that hold merging lists somewhere below, by field name.
        lists: lists that merge, by field name. Any other list is atomic.
    """

    fields: Mapping[str, PatchSchema] = field(default_factory=dict)
    lists: Mapping[str, ListRule] = field(default_factory=dict)

    def child(self, name: str) -> PatchSchema:
        """Return the schema of the nested object `name`; plain when it holds nothing special."""
        return self.fields.get(name, PLAIN)


PLAIN = PatchSchema()


def _by(merge_key: str, element: PatchSchema = PLAIN) -> ListRule:
    return ListRule(merge_key=merge_key, element=element)


OBJECT_META = PatchSchema(lists={"finalizers": ListRule(None, PLAIN), "ownerReferences": _by("uid")})

CONTAINER = PatchSchema(
    lists={
        "ports": _by("containerPort"),
        "env": _by("name"),
        "volumeMounts": _by("mountPath"),
        "volumeDevices": _by("devicePath"),
    }
)

# An ephemeral volume carries a claim template, whose metadata merges like any other.
_CLAIM_TEMPLATE = PatchSchema(fields={"metadata": OBJECT_META})
VOLUME = PatchSchema(fields={"ephemeral": PatchSchema(fields={"volumeClaimTemplate": _CLAIM_TEMPLATE})})

POD_SPEC = PatchSchema(
    lists={
        "volumes": _by("name", VOLUME),
        "initContainers": _by("name", CONTAINER),
        "containers": _by("name", CONTAINER),
        "ephemeralContainers": _by("name", CONTAINER),
        "imagePullSecrets": _by("name"),
        "hostAliases": _by("ip"),
        "topologySpreadConstraints": _by("topologyKey"),
        "schedulingGates": _by("name"),
        "resourceClaims": _by("name"),
    }
)

POD_TEMPLATE_SPEC = PatchSchema(fields={"metadata": OBJECT_META, "spec": POD_SPEC})
"""Schema of a PodTemplateSpec: `metadata` and `spec`."""
