"""Records: one object as the cache keeps it.

A record is the object's JSON without `metadata.managedFields`, plus its metadata decoded once into a struct. The body
is parsed on read, so what a reader gets is always its own copy: nobody can damage the cache, and no deep copy is paid.
Structs and bytes are invisible to the cyclic garbage collector, which keeps its pauses at milliseconds with many
thousands of objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import orjson

from runtime.wire.gvk import Key, Resource
from runtime.wire.paths import read_path

if TYPE_CHECKING:
    # Its import is a tenth of the runtime's, and only `as_model` needs a model, which the caller brings.
    import pydantic

M = TypeVar("M", bound="pydantic.BaseModel")

NO_BYTES = msgspec.Raw(b"[]")


class OwnerReference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One entry of `metadata.ownerReferences`."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False

    @property
    def group_kind(self) -> tuple[str, str]:
        """Group and kind, to compare owners whatever version they were written with."""
        group, slash, _ = self.api_version.rpartition("/")
        return (group if slash else ""), self.kind


class Meta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An object's metadata. Predicates, owner mapping, label selectors and most indexes need nothing else.

    The mappings belong to the cache: read them, never write to them.
    """

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    annotations: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Without `kubectl.kubernetes.io/last-applied-configuration`, which is a second copy of the object."""
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    generate_name: str = ""
    managed_fields: msgspec.Raw = NO_BYTES
    """Always `[]`: cut while decoding."""

    @property
    def deleting(self) -> bool:
        """Whether deletion was asked for and finalizers hold the object."""
        return self.deletion_timestamp is not None

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that manages this object, None when there is none."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class Record(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One immutable object of the cache, or of an answer of the server."""

    resource: Resource
    meta: Meta
    raw: bytes
    """The object's JSON with apiVersion and kind, without managedFields."""
    key: Key
    version: int
    """resourceVersion as a number, to tell newer from older within one resource; 0 when it is none."""
    _models: dict[type[pydantic.BaseModel], pydantic.BaseModel] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.resource == other.resource and self.raw == other.raw

    def __hash__(self) -> int:
        return hash((self.meta.uid, self.meta.resource_version))

    def __repr__(self) -> str:
        return f"<Record {self.resource} {self.key} {self.meta.resource_version}>"

    def path(self, path: str) -> Any | None:
        """Read one value without parsing the rest.

        Args:
            path: dotted, for example `spec.groupRef.name`; `[]` walks a list and gives a flat list of what was found,
                as in `spec.headerForward.addHeadersFromSecret[].valueSecretRef.name`.

        Returns:
            The value as plain Python, fresh each time; None when it is absent or null (with `[]`: an empty list).
        """
        return read_path(self.raw, path)

    def same_spec(self, other: Record) -> bool:
        """Whether another version of the object surely has the same spec, judged without looking into either.

        The server raises the generation with each change of the spec. Kinds that have no generation are never sure.
        """
        mine, theirs = self.meta, other.meta
        return mine.generation == theirs.generation != 0 and mine.uid == theirs.uid

    def as_dict(self) -> dict[str, Any]:
        """Parse the whole object; the caller owns the result."""
        parsed: dict[str, Any] = orjson.loads(self.raw)
        return parsed

    def as_model(self, model: type[M]) -> M:
        """Parse and validate the object as a pydantic model.

        The model must be frozen: it is made once per record and shared by all readers. A record that is replaced takes
        its models with it.

        Raises:
            pydantic.ValidationError: the object does not fit the model.
        """
        models = self._models
        if models is None:
            models = {}
            msgspec.structs.force_setattr(self, "_models", models)
        known = models.get(model)
        if known is None:
            known = models[model] = model.model_validate_json(self.raw)
        assert isinstance(known, model)
        return known
