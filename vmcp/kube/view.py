"""One look at a group: an immutable value, from which `compose` makes a configuration without asking anybody."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from api.contract.secrets import decode_secret, secret_header_problem, secret_problem, secret_text
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfig
from api.v1beta1.mcptoolconfig import MCPToolConfigSpec
from membership import Member, References
from runtime import Record
from vmcp.config.load import pem_problem


@dataclass(frozen=True, slots=True)
class UnreadableObject:
    """An object that does not fit its kind."""

    message: str


Data = Mapping[str, bytes]
"""Key -> value of a Secret or ConfigMap."""


@dataclass(frozen=True, kw_only=True)
class GroupView:
    """What is known of a group. Secrets and ConfigMaps that do not exist are absent, as are those in `unread`.

    Attributes:
        group_exists: Whether there is such an MCPGroup.
        members: Those that name the group; each from one generation of its object.
        auth_configs: Those that a member or the gateway names.
        tool_configs: Specs of those that a member names.
        references: What the VirtualMCPServer says about the auth of its backends; None = there is no such object, and
            what the configuration says counts.
        secrets: Secret -> its values.
        config_maps: ConfigMap -> its values.
        unread: Kind and name of what could not be read, with the reason; "" = it is being read for the first time.
    """

    group_exists: bool
    members: tuple[Member, ...] = ()
    auth_configs: Mapping[str, MCPExternalAuthConfig | UnreadableObject] = field(default_factory=dict)
    tool_configs: Mapping[str, MCPToolConfigSpec] = field(default_factory=dict)
    references: References | None = None
    secrets: Mapping[str, Data] = field(default_factory=dict, repr=False)
    config_maps: Mapping[str, Data] = field(default_factory=dict)
    unread: Mapping[tuple[str, str], str] = field(default_factory=dict)

    # `membership.Material`

    def has_key(self, secret: str, key: str) -> bool:
        """Whether a Secret has a key with a value."""
        return bool(self.value(secret, key))

    def unfit(self, secret: str, key: str, *, header: bool) -> str:
        """Say why the gateway cannot use the value of a Secret's key; "" = it can."""
        judge = secret_header_problem if header else secret_problem
        return judge(secret_text(self.value(secret, key))) or ""

    def has_certificate(self, config_map: str, key: str) -> bool:
        """Whether a ConfigMap has certificates under a key, all of which can be read."""
        content = self.config_maps.get(config_map, {}).get(key, b"")
        return b"-----BEGIN CERTIFICATE-----" in content and not pem_problem(content)

    def value(self, secret: str, key: str) -> str:
        """Return the value of a Secret's key as an environment variable would hold it; "" where there is none."""
        return decode_secret(self.secrets.get(secret, {}).get(key, b""))


def data_of(record: Record) -> dict[str, bytes]:
    """Return the values of a Secret or ConfigMap; what is not base64 where it has to be counts as empty."""
    body = record.as_dict()
    plain = body.get("data") or {}
    if record.resource.kind == "Secret":
        return {key: _decoded(text) for key, text in plain.items()}
    values = {key: text.encode(errors="replace") for key, text in plain.items()}
    return values | {key: _decoded(text) for key, text in (body.get("binaryData") or {}).items()}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
