"""Permissions as controllers declare them: beside the code that needs them, and nowhere else.

The generator collects the rules of all controllers into one role, so a permission appears and disappears together with
its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.wire.gvk import Resource

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]

READ: tuple[Verb, ...] = ("get", "list", "watch")
WATCH: tuple[Verb, ...] = ("list", "watch")


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One permission of a controller.

    Attributes:
        group: API group, "" for the core group.
        resources: Plural names, with subresources as `mcpgroups/status`.
        verbs: What is done.
        why: One sentence for the reader of the role; required.
        granted: The operator does not use this itself: it needs it to put it into a Role that it makes, because nobody
            may grant what they do not have. Left out of the report of unused permissions.
        namespaced: False for cluster-scoped resources, which a namespaced installation cannot get by a Role.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[Verb, ...]
    why: str
    granted: bool = False
    namespaced: bool = True

    def __post_init__(self) -> None:
        if not self.resources or not self.verbs or not self.why:
            raise ValueError("a rule needs resources, verbs and a reason")

    @classmethod
    def of(cls, resource: Resource, *verbs: Verb, why: str, subresource: str = "", granted: bool = False) -> PolicyRule:
        """Return the rule for one kind, or for one of its subresources.

        Args:
            resource: the kind.
            verbs: what may be done with it.
            why: what the controller needs it for; shown in the documentation of the role.
            subresource: such as `status`; "" for the objects themselves.
            granted: not used by the operator itself, but granted to what it deploys.
        """
        name = f"{resource.plural}/{subresource}" if subresource else resource.plural
        return cls(resource.group, (name,), verbs, why, granted=granted, namespaced=resource.namespaced)
