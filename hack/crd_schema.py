"""Turn the models of `api` into structural OpenAPI schemas and CustomResourceDefinitions."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from api.common.limits import hints, peel
from api.common.markers import (
    ATOMIC_ATTRIBUTE,
    RULES_ATTRIBUTE,
    CelRule,
    Format,
    KeepUnknown,
    ListType,
    OneOf,
    Required,
    ValueBounds,
)
from api.common.model import GROUP, STORAGE_VERSION, CustomResource, Struct
from api.v1alpha1 import DEPRECATION_WARNING
from hack.field_docs import class_doc, field_doc

Schema = dict[str, Any]

MIGRATE_LABEL = "toolhive.stacklok.dev/auto-migrate-storage-version"
KEEP_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
UNSEEN = {"observedGeneration": -1}
"""Status of an object of a reconciled kind that the operator has not seen yet."""
_OPENAPI = {str: "string", int: "integer", bool: "boolean"}
_BOUNDS = {
    "pattern": "pattern",
    "min_length": "minLength",
    "max_length": "maxLength",
    "minimum": "minimum",
    "maximum": "maximum",
    "min_items": "minItems",
    "max_items": "maxItems",
    "max_properties": "maxProperties",
}


def schema_of(annotation: Any) -> Schema:
    """Return the schema of an annotation, markers included."""
    inner, markers = peel(annotation)
    keep = any(isinstance(m, KeepUnknown) for m in markers)
    schema = _type_schema(inner, keep=keep)
    if keep:
        schema[KEEP_UNKNOWN] = True
    for marker in markers:
        _add_marker(schema, marker)
    return schema


def _type_schema(inner: Any, *, keep: bool) -> Schema:
    if inner is Any:
        if not keep:
            raise TypeError("a field of any type must keep unknown fields")
        return {}
    if inner in _OPENAPI:
        return {"type": _OPENAPI[inner]}
    if get_origin(inner) is Literal:
        return {"type": "string", "enum": list(get_args(inner))}
    if get_origin(inner) is tuple:
        return {"type": "array", "items": _described(get_args(inner)[0])}
    if get_origin(inner) is dict:
        value = get_args(inner)[1]
        return {"type": "object"} if value is Any else {"type": "object", "additionalProperties": _described(value)}
    if isinstance(inner, type) and issubclass(inner, Struct):
        return struct_schema(inner)
    raise TypeError(f"no schema for {inner!r}")


def _described(annotation: Any) -> Schema:
    """Return the schema of items and values; objects among them carry the description of their class."""
    inner, _ = peel(annotation)
    schema = schema_of(annotation)
    if isinstance(inner, type) and issubclass(inner, Struct):
        schema["description"] = class_doc(inner)
    return schema


def _add_marker(schema: Schema, marker: Any) -> None:
    match marker:
        case ValueBounds():
            for attribute, name in _BOUNDS.items():
                bound = getattr(marker, attribute)
                if bound is not None:
                    schema[name] = bound
        case OneOf(values=values):
            schema["enum"] = list(values)
        case Format(name=name):
            schema["format"] = name
        case ListType(kind=kind, keys=keys):
            schema["x-kubernetes-list-type"] = kind
            if keys:
                schema["x-kubernetes-list-map-keys"] = list(keys)
        case CelRule():
            schema.setdefault("x-kubernetes-validations", []).append(_rule(marker))
        case FieldInfo() | KeepUnknown() | Required():
            pass
        case _:
            raise TypeError(f"unknown marker {marker!r}")


def _rule(rule: CelRule) -> Schema:
    return {"rule": rule.rule, "message": rule.message}


def struct_schema(cls: type[Struct]) -> Schema:
    """Return the schema of a model: properties with descriptions, defaults, required fields and rules."""
    properties: Schema = {}
    required: list[str] = []
    for name, annotation in hints(cls).items():
        info = cls.model_fields[name]
        wire = info.alias or name
        _, markers = peel(annotation)
        schema = schema_of(annotation) | {"description": field_doc(cls, name)}
        # Defaults of the schema are plain values; an absent or empty collection is Python's way to say "not there".
        if isinstance(info.default, str | int):
            schema["default"] = info.default
        if info.is_required() or any(isinstance(m, Required) for m in markers):
            required.append(wire)
        properties[wire] = schema
    out: Schema = {"type": "object", "properties": properties}
    if required:
        out["required"] = sorted(required)
    validations = [_rule(rule) for rule in getattr(cls, RULES_ATTRIBUTE, ())]
    if validations:
        out["x-kubernetes-validations"] = validations
    if getattr(cls, ATOMIC_ATTRIBUTE, False):
        out["x-kubernetes-map-type"] = "atomic"
    return out


def resource_schema(kind: type[CustomResource]) -> Schema:
    """Return the schema of a whole object of a kind."""
    schema = struct_schema(kind)
    properties = schema["properties"]
    for name in ("apiVersion", "kind"):
        properties[name] = {"type": "string", "description": properties[name]["description"]}
    properties["metadata"] = {"type": "object"}
    schema.pop("required", None)
    if kind.definition.reconciled:
        properties["status"]["default"] = dict(UNSEEN)
    if kind.definition.spec_required:
        schema["required"] = ["spec"]
    # A default_factory of the spec is for users of the models; the server never makes up a spec.
    return schema | {"description": class_doc(kind)}


def _version(kind: type[CustomResource], version: str) -> Schema:
    definition = kind.definition
    out: Schema = {
        "name": version,
        "served": True,
        "storage": version == STORAGE_VERSION,
        "additionalPrinterColumns": [{"name": c.name, "type": c.type, "jsonPath": c.path} for c in definition.columns],
        "schema": {"openAPIV3Schema": resource_schema(kind)},
        "subresources": {"status": {}},
    }
    if definition.selectable:
        out["selectableFields"] = [{"jsonPath": path} for path in definition.selectable]
    if version != STORAGE_VERSION:
        out |= {"deprecated": True, "deprecationWarning": DEPRECATION_WARNING}
    return out


def crd(kind: type[CustomResource]) -> Schema:
    """Return the CustomResourceDefinition of a kind with all its versions."""
    definition = kind.definition
    name: str = kind.model_fields["kind"].default
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{definition.plural}.{GROUP}", "labels": {MIGRATE_LABEL: "true"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": definition.plural,
                "singular": name.lower(),
                "shortNames": list(definition.short_names),
                "categories": ["toolhive"],
            },
            "scope": "Namespaced",
            "versions": [_version(kind, version) for version in definition.versions],
        },
    }
