"""What was learned of Secrets and ConfigMaps: `membership.Material` as a controller knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from controllers.shared.content import Content, Facts, Unknown


class PolicyText(Enum):
    """Why a ConfigMap gives no policy document."""

    MISSING = "there is no such ConfigMap"
    NO_KEY = "the ConfigMap has no such key"
    UNREAD = "it cannot be read at the moment"


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What is known of the Secrets and ConfigMaps that the parts name: `membership.Material`.

    Attributes:
        secrets: by name; what is absent does not exist.
        config_maps: by name.
        secret_versions: Secret -> uid and resourceVersion, never content; counts only where there are no hashes.
        hashed: whether keyed hashes of the Secrets' values are known.
    """

    secrets: Mapping[str, Content] = field(default_factory=dict)
    config_maps: Mapping[str, Content] = field(default_factory=dict)
    secret_versions: Mapping[str, str] = field(default_factory=dict)
    hashed: bool = False

    def has_key(self, secret: str, key: str) -> bool:
        """Whether a Secret has a key. What could not be read for a passing reason counts as there."""
        content = self.secrets.get(secret, Unknown.MISSING)
        return content is Unknown.UNREAD or (isinstance(content, Facts) and key in content.keys)

    def unfit(self, secret: str, key: str, *, header: bool) -> str:
        """Say why the gateway cannot use the value of a Secret's key, in a header or as a credential; "" = it can."""
        content = self.secrets.get(secret)
        if not isinstance(content, Facts):
            return ""
        return (content.unfit_headers if header else content.unfit).get(key, "")

    def has_certificate(self, config_map: str, key: str) -> bool:
        """Whether a ConfigMap has a certificate under a key."""
        content = self.config_maps.get(config_map, Unknown.MISSING)
        return content is Unknown.UNREAD or (isinstance(content, Facts) and key in content.certificates)

    def stamp(self, secret: str, key: str) -> str:
        """Return what changes with the value of a Secret's key: its keyed hash, or else the Secret's version."""
        content = self.secrets.get(secret, Unknown.MISSING)
        if self.hashed and content is not Unknown.UNREAD:
            return content.digests.get(key, "") if isinstance(content, Facts) else ""
        return self.secret_versions.get(secret, "")

    @property
    def unread(self) -> bool:
        """Whether a Secret could not be read for a passing reason, and never was before."""
        return any(content is Unknown.UNREAD for content in self.secrets.values())
