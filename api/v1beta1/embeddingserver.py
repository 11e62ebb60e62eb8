"""EmbeddingServer: a text embedding service for the gateway's tool search."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from api.common.markers import AGE, Column, Definition, OneOf, ValueBounds
from api.common.model import AtomicList, Conditions, CustomResource, Int32, Int64, Struct
from api.common.references import SecretKeyRef
from api.common.workload import (
    EnvVars,
    PodTemplatePatch,
    Port,
    ResourceMetadataOverrides,
    ResourceRequirements,
)


class ModelCacheConfig(Struct):
    """A volume that keeps the downloaded model."""

    enabled: bool = True
    """Keep the model in a PersistentVolumeClaim."""
    storage_class_name: str | None = None
    """StorageClass of the claim; the cluster's default when empty."""
    size: str = "10Gi"
    """Size of the claim, a Kubernetes quantity."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"] = "ReadWriteOnce"
    """Access mode of the claim."""


class EmbeddingStatefulSetOverrides(ResourceMetadataOverrides):
    """Additions to the StatefulSet."""

    pod_template_metadata_overrides: ResourceMetadataOverrides | None = None
    """Labels and annotations added to the pods."""


class EmbeddingResourceOverrides(Struct):
    """Additions to the objects that are generated."""

    stateful_set: EmbeddingStatefulSetOverrides | None = None
    """Additions to the StatefulSet."""
    service: ResourceMetadataOverrides | None = None
    """Additions to the Service."""
    persistent_volume_claim: ResourceMetadataOverrides | None = None
    """Additions to the PersistentVolumeClaim."""


class EmbeddingServerSpec(Struct):
    """The model and how it is served."""

    model: str = "BAAI/bge-small-en-v1.5"
    """Model to serve, as named by its hub."""
    hf_token_secret_ref: SecretKeyRef | None = None
    """Token for downloading the model."""
    image: str = "ghcr.io/huggingface/text-embeddings-inference:cpu-latest"
    """Image of the service."""
    image_pull_policy: Literal["Always", "Never", "IfNotPresent"] = "IfNotPresent"
    """When the image is pulled."""
    port: Port = 8080
    """Port that the service listens on."""
    args: AtomicList[str] = ()
    """Further arguments of the service."""
    env: EnvVars = ()
    """Further environment variables of the service."""
    resources: ResourceRequirements | None = None
    """Compute resources of the container."""
    model_cache: ModelCacheConfig | None = None
    """Volume that keeps the downloaded model."""
    pod_template_spec: PodTemplatePatch | None = None
    """Strategic merge patch over the generated pod template."""
    resource_overrides: EmbeddingResourceOverrides | None = None
    """Additions to the generated objects."""
    replicas: Annotated[Int32, ValueBounds(minimum=1)] = 1
    """Number of pods."""


class EmbeddingServerStatus(Struct):
    """State of the service."""

    observed_generation: Int64 | None = None
    """Generation of the spec that this status was computed from."""
    phase: Annotated[str, OneOf("Pending", "Downloading", "Ready", "Failed", "Terminating")] | None = None
    """State of the service in one word."""
    message: str | None = None
    """State of the service in a sentence."""
    ready_replicas: Int32 | None = None
    """Number of pods that are ready."""
    url: str | None = None
    """URL of the service inside the cluster."""
    conditions: Conditions = ()
    """Aspects of the service's state."""


class EmbeddingServer(CustomResource):
    """A text embedding service for the gateway's tool search."""

    definition: ClassVar[Definition] = Definition(
        plural="embeddingservers",
        short_names=("emb", "embedding"),
        columns=(
            Column("Status", ".status.phase"),
            Column("Model", ".spec.model"),
            Column("Ready", ".status.readyReplicas", "integer"),
            Column("URL", ".status.url"),
            AGE,
        ),
    )

    kind: str = "EmbeddingServer"
    """Name of the kind."""
    spec: EmbeddingServerSpec = Field(default_factory=EmbeddingServerSpec)
    """The model and how it is served."""
    status: EmbeddingServerStatus | None = None
    """State of the service, written by the operator."""
