"""Names of kinds and objects, and the URL paths that they have on an API server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Key(NamedTuple):
    """What identifies an object within its kind; also the request of a reconcile.

    A reconcile gets nothing but the key: no event and no object. It looks at the state that is, so a lost, merged or
    repeated event changes nothing.
    """

    namespace: str
    """Empty for cluster-scoped kinds."""
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


Request = Key


@dataclass(frozen=True)
class Resource:
    """A kind as the API server serves it.

    Kinds are declared in code and not discovered: an operator knows the kinds it works on, and discovery costs two
    requests and a failure mode at every start.
    """

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str
    """The name in URLs, lower case."""
    namespaced: bool = True

    @cached_property
    def api_version(self) -> str:
        """`group/version`, or `version` alone in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def group_kind(self) -> tuple[str, str]:
        """What owner references are compared by: the version may differ between writer and reader."""
        return self.group, self.kind

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def collection_path(self, namespace: str = "") -> str:
        """URL path of the objects of one namespace, or of all namespaces when `namespace` is empty.

        Args:
            namespace: ignored for cluster-scoped kinds.
        """
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            return f"{base}/namespaces/{namespace}/{self.plural}"
        return f"{base}/{self.plural}"

    def object_path(self, key: Key, subresource: str | None = None) -> str:
        """URL path of one object or of one of its subresources (`status`, `scale`).

        Raises:
            ValueError: a namespaced kind without namespace, or an empty name: such a path would address a collection.
        """
        if not key.name or (self.namespaced and not key.namespace):
            raise ValueError(f"{self} {key!r}: a namespaced object needs a namespace and a name")
        path = f"{self.collection_path(key.namespace)}/{key.name}"
        return f"{path}/{subresource}" if subresource else path
