"""The requests of the Kubernetes API as data: path, query, body. Pure, so their forms are tested without a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.wire.gvk import Key, Resource
from runtime.wire.patch import encode

Propagation = Literal["Background", "Foreground", "Orphan"]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
# JSON is YAML but for a few characters (`_as_yaml`), and the server takes it as such; the CBOR and the plain YAML forms
# are no faster.
APPLY_PATCH = "application/apply-patch+yaml"
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON may hold as it is, and YAML may not (YAML 1.2, 5.1) or takes for the end of a line (YAML 1.1, 4.2)."""


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One write, ready to be sent."""

    verb: Literal["create", "update", "patch", "apply", "delete"]
    method: str
    path: str
    body: bytes
    content_type: str = JSON
    query: Mapping[str, str] = field(default_factory=dict)


def key_of(resource: Resource, body: Mapping[str, Any]) -> Key:
    """Return the key in a body's metadata.

    Raises:
        ValueError: no name, no namespace for a namespaced kind, or another kind than `resource`.
    """
    kind = (body.get("apiVersion", resource.api_version), body.get("kind", resource.kind))
    if kind != (resource.api_version, resource.kind):
        raise ValueError(f"body is a {' '.join(map(str, kind))}, not a {resource.api_version} {resource.kind}")
    metadata = body.get("metadata") or {}
    key = Key(metadata.get("namespace") or "" if resource.namespaced else "", metadata.get("name") or "")
    if resource.namespaced and not key.namespace:
        raise ValueError(f"{resource} {key.name!r}: metadata.namespace is missing")
    return key


def create(resource: Resource, body: Mapping[str, Any], query: Mapping[str, str]) -> WriteRequest:
    """Return the POST of a new object; `metadata.generateName` may stand for the name."""
    path = resource.collection_path(key_of(resource, body).namespace)
    return WriteRequest("create", "POST", path, encode(_typed(resource, body)), JSON, query)


def update(
    resource: Resource, body: Mapping[str, Any], subresource: str | None, query: Mapping[str, str]
) -> WriteRequest:
    """Return the PUT of a whole object."""
    path = resource.object_path(key_of(resource, body), subresource)
    return WriteRequest("update", "PUT", path, encode(_typed(resource, body)), JSON, query)


def merge_patch(
    resource: Resource,
    key: Key,
    patch: Mapping[str, Any],
    *,
    resource_version: str | None,
    subresource: str | None,
    query: Mapping[str, str],
) -> WriteRequest:
    """Return the merge patch (RFC 7386); with a resourceVersion it fails when the object has changed since."""
    if resource_version is not None:
        patch = {**patch, "metadata": {**(patch.get("metadata") or {}), "resourceVersion": resource_version}}
    return WriteRequest("patch", "PATCH", resource.object_path(key, subresource), encode(patch), MERGE_PATCH, query)


def apply(
    resource: Resource, body: Mapping[str, Any], *, force: bool, subresource: str | None, query: Mapping[str, str]
) -> WriteRequest:
    """Return the server-side apply of a partial object."""
    path = resource.object_path(key_of(resource, body), subresource)
    full = {"force": "true", **query} if force else query
    return WriteRequest("apply", "PATCH", path, _as_yaml(encode(_typed(resource, body))), APPLY_PATCH, full)


def _as_yaml(body: bytes) -> bytes:
    """Escape what is not the same in YAML: one such character anywhere would have the whole object refused."""
    if body.isascii() and b"\x7f" not in body:
        return body
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", body.decode()).encode()


def delete(
    resource: Resource,
    key: Key,
    *,
    uid: str | None,
    resource_version: str | None,
    propagation: Propagation | None,
    grace_seconds: int | None,
    query: Mapping[str, str],
) -> WriteRequest:
    """Return the DELETE with its preconditions."""
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    conditions = {
        name: value for name, value in (("uid", uid), ("resourceVersion", resource_version)) if value is not None
    }
    if conditions:
        options["preconditions"] = conditions
    if propagation is not None:
        options["propagationPolicy"] = propagation
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    return WriteRequest("delete", "DELETE", resource.object_path(key), encode(options), JSON, query)


def _typed(resource: Resource, body: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}
