"""Names and mount paths of the volumes that carry certificates.

The names are the stock operator's wherever it has legal ones. It has none for names with dots (a legal object name, no
legal volume name) and refuses ConfigMap names longer than 48; both get a shortened name and a hash here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from api.contract.identifiers import assign_names

MAX_LABEL = 63
DEFAULT_CA_KEY = "ca.crt"
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_KEPT_OF_ENTRY = 44
"""Characters of a long entry name that the stock operator keeps."""


class VolumePurpose(Enum):
    """What a volume of certificates is for; the value is the prefix of its name."""

    BACKEND_CA = "ca-bundle-"
    """(member,): certificates for one remote backend."""
    OIDC_CA = "oidc-ca-bundle-"
    """(ConfigMap,): certificates for the token issuer."""
    TELEMETRY_CA = "otel-ca-bundle-"
    """(ConfigMap,): certificates for the telemetry endpoint."""


_MOUNTS = {
    VolumePurpose.BACKEND_CA: "/etc/toolhive/ca-bundles",
    VolumePurpose.OIDC_CA: "/config/certs",
    VolumePurpose.TELEMETRY_CA: "/config/certs/otel",
}


@dataclass(frozen=True)
class VolumeInput:
    """One thing that needs a volume: what for, and the member or ConfigMap that it is named after.

    Attributes:
        purpose: What for.
        name: Of the member or ConfigMap.
        source: Where the path has to change with the object that fills the volume: that object's name.
    """

    purpose: VolumePurpose
    name: str
    source: str = ""

    @property
    def natural_name(self) -> str:
        """The stock operator's name, or a legal one where that is none."""
        text = f"{self.purpose.value}{self.name}"
        if len(text) <= MAX_LABEL and _LABEL.fullmatch(text):
            return text
        return self._shortened(_KEPT_OF_ENTRY, 8)

    @property
    def directory(self) -> str:
        """Where the volume is mounted; distinct for distinct inputs."""
        base = f"{_MOUNTS[self.purpose]}/{self.name}"
        return f"{base}/{self.source}" if self.source else base

    def path(self, key: str) -> str:
        """Return the path of the certificate file."""
        return f"{self.directory}/{key}"

    def distinct_name(self, length: int) -> str:
        """Return a name with so many hex digits of a hash of the name."""
        return self._shortened(min(_KEPT_OF_ENTRY, MAX_LABEL - len(self.purpose.value) - 1 - length), length)

    def _shortened(self, keep: int, length: int) -> str:
        room = max(0, min(keep, MAX_LABEL - len(self.purpose.value) - 1 - length))
        legal = re.sub(r"[^-a-z0-9]", "-", self.name)[:room].strip("-")
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:length]
        return f"{self.purpose.value}{legal}-{digest}" if legal else f"{self.purpose.value}{digest}"


def assign_volume_names(inputs: Iterable[VolumeInput]) -> dict[VolumeInput, str]:
    """Give every input of one Deployment its own volume name, a DNS label of at most 63 characters."""
    return assign_names(
        inputs,
        natural=lambda item: item.natural_name,
        distinct=lambda item, length: item.distinct_name(min(length, 40)),
    )
