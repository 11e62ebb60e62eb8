"""References to other objects, all in the namespace of the object that holds them."""

from __future__ import annotations

from typing import Annotated, Literal

from api.common.markers import Required, ValueBounds, atomic
from api.common.model import AtomicList, Struct

NonEmpty = Annotated[str, ValueBounds(min_length=1)]


class SecretKeyRef(Struct):
    """One key of a Secret."""

    name: str
    """Name of the Secret."""
    key: str
    """Key within the Secret's data."""


class MCPGroupRef(Struct):
    """The MCPGroup that the object is a member of."""

    name: NonEmpty
    """Name of the MCPGroup."""


class ExternalAuthConfigRef(Struct):
    """An MCPExternalAuthConfig."""

    name: str
    """Name of the MCPExternalAuthConfig."""


class ToolConfigRef(Struct):
    """An MCPToolConfig."""

    name: str
    """Name of the MCPToolConfig."""


class WebhookConfigRef(Struct):
    """An MCPWebhookConfig."""

    name: str
    """Name of the MCPWebhookConfig."""


class EmbeddingServerRef(Struct):
    """An EmbeddingServer."""

    name: str
    """Name of the EmbeddingServer."""


class AuthServerRef(Struct):
    """The object that configures an embedded OAuth authorization server."""

    kind: Annotated[Literal["MCPExternalAuthConfig"], Required()] = "MCPExternalAuthConfig"
    """Kind of the object."""
    name: NonEmpty
    """Name of the object; its type must be embeddedAuthServer."""


class MCPAuthzConfigReference(Struct):
    """An MCPAuthzConfig."""

    name: NonEmpty
    """Name of the MCPAuthzConfig."""


class MCPOIDCConfigReference(Struct):
    """An MCPOIDCConfig, and what differs per workload that uses it."""

    name: NonEmpty
    """Name of the MCPOIDCConfig."""
    audience: NonEmpty
    """Audience that incoming tokens must carry. Give each server its own, or a token for one is good for all."""
    scopes: AtomicList[str] = ()
    """Scopes published in the protected resource metadata (RFC 9728)."""
    resource_url: str | None = None
    """Public URL of this resource in the OAuth metadata; the in-cluster URL of the Service when empty."""


class MCPTelemetryConfigReference(Struct):
    """An MCPTelemetryConfig, and what differs per workload that uses it."""

    name: NonEmpty
    """Name of the MCPTelemetryConfig."""
    service_name: str | None = None
    """OpenTelemetry service name; the name of the workload when empty."""


class LocalObjectReference(Struct):
    """An object of the same namespace by name."""

    name: str = ""
    """Name of the object."""


@atomic
class ConfigMapKeySelector(Struct):
    """One key of a ConfigMap."""

    name: str = ""
    """Name of the ConfigMap."""
    key: str
    """Key within the ConfigMap's data."""
    optional: bool | None = None
    """Whether the ConfigMap or its key may be missing."""


class CABundleSource(Struct):
    """Where certificate authorities come from that are trusted in addition to the system's."""

    config_map_ref: ConfigMapKeySelector | None = None
    """Key of a ConfigMap with PEM certificates. Whoever may write it can intercept the connection."""
