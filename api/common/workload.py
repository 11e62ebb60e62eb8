"""What workloads let a user say about the Kubernetes objects made for them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.common.markers import KeepUnknown, ListType, ValueBounds
from api.common.model import AtomicList, Int32, Struct
from api.common.references import LocalObjectReference

Port = Annotated[Int32, ValueBounds(minimum=1, maximum=65535)]
SessionAffinity = Literal["ClientIP", "None"]
# A PodTemplateSpec, checked by the API server only when the Deployment is written.
PodTemplatePatch = Annotated[dict[str, Any], KeepUnknown()]


class ResourceList(Struct):
    """Amounts of compute resources, as Kubernetes quantities."""

    cpu: str | None = None
    """CPU, such as 500m."""
    memory: str | None = None
    """Memory, such as 128Mi."""


class ResourceRequirements(Struct):
    """Compute resources of a container."""

    limits: ResourceList | None = None
    """What the container may use at most."""
    requests: ResourceList | None = None
    """What the container is guaranteed."""


class EnvVar(Struct):
    """An environment variable with a plain value."""

    name: str
    """Name of the variable."""
    value: str
    """Value of the variable."""


EnvVars = Annotated[tuple[EnvVar, ...], ListType("map", ("name",))]


class ResourceMetadataOverrides(Struct):
    """Labels and annotations added to a generated object; keys of the operator keep the operator's value."""

    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations to add."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels to add."""


class ProxyDeploymentOverrides(ResourceMetadataOverrides):
    """Additions to the proxy's Deployment."""

    pod_template_metadata_overrides: ResourceMetadataOverrides | None = None
    """Labels and annotations added to the pods."""
    env: EnvVars = ()
    """Environment variables added to the proxy container."""
    image_pull_secrets: AtomicList[LocalObjectReference] = ()
    """Secrets for pulling the proxy's image."""


class ResourceOverrides(Struct):
    """Additions to the objects that are generated for a proxy."""

    proxy_deployment: ProxyDeploymentOverrides | None = None
    """Additions to the Deployment."""
    proxy_service: ResourceMetadataOverrides | None = None
    """Additions to the Service."""


class AuditConfig(Struct):
    """Whether requests are written to the audit log."""

    enabled: bool = False
    """Write an audit event for every MCP request."""
