"""The base of every model: strict towards users, tolerant towards the server.

* Constructing a model in Python (`MCPServerEntry(spec=...)`) refuses unknown names and values outside the schema's
  bounds, all at once, as a pydantic `ValidationError`.
* Reading (`model_validate`, `model_validate_json`) accepts and keeps fields that this version does not know, and does
  not check bounds: what is stored has passed the server's schema, maybe a newer one. What is kept is written back.

Attributes are snake_case, names on the wire camelCase; irregular wire names are stated as an alias beside the field.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from api.common.limits import violations
from api.common.markers import Definition, Format, ListType, ValueBounds

GROUP = "toolhive.stacklok.dev"
STORAGE_VERSION = "v1beta1"

T = TypeVar("T")
AtomicList = Annotated[tuple[T, ...], ListType("atomic")]
SetList = Annotated[tuple[T, ...], ListType("set")]

Int32 = Annotated[int, Format("int32")]
Int64 = Annotated[int, Format("int64")]
# RFC 3339 text. Kept as text: parsing and printing would lose the writer's precision.
Timestamp = Annotated[str, Format("date-time")]

GO_DURATION = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"
# A Go duration such as 30s or 1m30s, as the schema admits it (no sign, no bare number).
Duration = Annotated[str, ValueBounds(pattern=GO_DURATION)]


class Struct(BaseModel):
    """A frozen object of the API."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        protected_namespaces=(),
        defer_build=True,
    )

    def __init__(self, **data: Any) -> None:
        self.__pydantic_validator__.validate_python(data, self_instance=self, extra="forbid")
        found = list(violations(self))
        if found:
            raise ValidationError.from_exception_data(
                type(self).__name__,
                [
                    InitErrorDetails(
                        type=PydanticCustomError("limit", "{reason}", {"reason": reason}), loc=where, input=value
                    )
                    for where, reason, value in found
                ],
            )

    # Says that reading may go past __init__: only what users construct is checked strictly.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object to send: wire names, without what was never set and without nulls."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


class OwnerReference(Struct):
    """An object that owns this one; when all owners are gone the garbage collector removes it."""

    api_version: str
    """API version of the owner."""
    kind: str
    """Kind of the owner."""
    name: str
    """Name of the owner."""
    uid: str
    """UID of the owner; an owner of the same name with another UID does not count."""
    controller: bool | None = None
    """Whether the owner is the managing controller."""
    block_owner_deletion: bool | None = None
    """Whether foreground deletion of the owner waits for this object."""


class ObjectMeta(Struct):
    """The parts of Kubernetes' object metadata that users of this API meet; others are kept as they came."""

    name: str | None = None
    """Name, unique per namespace and kind."""
    generate_name: str | None = None
    """Prefix from which the server makes a name."""
    namespace: str | None = None
    """Namespace of the object."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations."""
    uid: str | None = None
    """Identity of this very object, given by the server."""
    resource_version: str | None = None
    """Version of the stored object, for optimistic locking; opaque."""
    generation: int | None = None
    """Counts changes of the spec."""
    creation_timestamp: Timestamp | None = None
    """When the object was created."""
    deletion_timestamp: Timestamp | None = None
    """When deletion was asked for, if it was."""
    finalizers: tuple[str, ...] = ()
    """Names that hold back the removal of a deleted object."""
    owner_references: tuple[OwnerReference, ...] = ()
    """Owners of this object."""


class CustomResource(Struct):
    """A kind of the API; subclasses add `spec` and `status` and describe their CRD in `definition`."""

    definition: ClassVar[Definition]

    api_version: str = f"{GROUP}/{STORAGE_VERSION}"
    """Group and version of the schema that this object is written in."""
    kind: str = ""
    """Name of the kind."""
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    """Standard object metadata."""

    @classmethod
    def coordinates(cls) -> tuple[str, str, str, str]:
        """Return what a client needs to find it at an API server: group, stored version, kind, plural."""
        return GROUP, STORAGE_VERSION, str(cls.model_fields["kind"].default), cls.definition.plural

    @classmethod
    def version(cls) -> str:
        """Return the API version of this class, such as `v1beta1`."""
        return str(cls.model_fields["api_version"].default).partition("/")[2]

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object to send, with apiVersion and kind."""
        return {"apiVersion": self.api_version, "kind": self.kind} | super().to_wire()


class Condition(Struct):
    """One aspect of an object's state, in the form that all of Kubernetes uses."""

    type: Annotated[
        str,
        ValueBounds(
            pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            max_length=316,
        ),
    ]
    """What the condition is about, in CamelCase."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[
        str, ValueBounds(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", min_length=1, max_length=1024)
    ]
    """Why, as one CamelCase word for programs."""
    message: Annotated[str, ValueBounds(max_length=32768)]
    """Why, as a sentence for people; may be empty."""
    last_transition_time: Timestamp
    """When `status` last changed."""
    observed_generation: Annotated[Int64, ValueBounds(minimum=0)] | None = None
    """Generation of the spec that this condition was computed from."""


Conditions = Annotated[tuple[Condition, ...], ListType("map", ("type",))]
