"""The configuration as the ConfigMap holds it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from api.contract import Dialect, dump_config, pack_config
from api.contract.config import VmcpConfig
from controllers.virtualmcpserver.names import CONFIG_KEY

MAX_PLAIN = 900 * 1024
"""Bytes of YAML beyond which the native dialect packs; a ConfigMap holds 1 MiB with everything around it."""
MAX_PACKED = 700 * 1024
"""Bytes of gzip: base64 makes four thirds of them."""

_PASSING = b"workload_status: "


@dataclass(frozen=True, kw_only=True)
class ConfigDocument:
    """A configuration as the ConfigMap holds it.

    Attributes:
        data: `data` or `binaryData`.
        checksum: of the content.
        packed: it is compressed.
    """

    data: Mapping[str, Mapping[str, str]]
    checksum: str
    packed: bool


class ConfigTooLargeError(ValueError):
    """The configuration does not fit into a ConfigMap.

    Attributes:
        excess: Bytes of YAML that are too many, as far as can be told.
    """

    def __init__(self, message: str, excess: int) -> None:
        super().__init__(message)
        self.excess = excess


def write(config: VmcpConfig, dialect: Dialect) -> ConfigDocument:
    """Write the configuration.

    Packed or not, it stands under `CONFIG_KEY`: that is the one file that the pod's command line names, and the
    gateway tells by the content which of the two it is.

    Raises:
        ConfigTooLargeError: it does not fit.
        ConfigErrors: the dialect cannot say it.
    """
    document = dump_config(config, dialect)
    checksum = content_checksum(document)
    if len(document) <= MAX_PLAIN:
        return ConfigDocument(data={"data": {CONFIG_KEY: document.decode()}}, checksum=checksum, packed=False)
    if dialect is Dialect.TOOLHIVE:
        raise ConfigTooLargeError(
            f"{len(document) >> 10} KiB of YAML; the stock gateway reads at most {MAX_PLAIN >> 10}",
            excess=len(document) - MAX_PLAIN,
        )
    packed = pack_config(document)
    if len(packed) > MAX_PACKED:
        excess = len(document) - len(document) * MAX_PACKED // len(packed)
        raise ConfigTooLargeError(f"{len(document) >> 10} KiB of YAML, {len(packed) >> 10} KiB packed", excess)
    data = {"binaryData": {CONFIG_KEY: base64.b64encode(packed).decode()}}
    return ConfigDocument(data=data, checksum=checksum, packed=True)


def content_checksum(document: bytes) -> str:
    """Return the hash that rolls the stock gateway's pods.

    A member's passing phase stands in the metadata but changes nothing that the gateway does: it does not count.
    """
    return hashlib.sha256(b"".join(_lasting(document))).hexdigest()


def _lasting(document: bytes) -> Iterator[bytes]:
    """Yield the document without the lines of `_PASSING`. A search, no expression: it was a third of writing it."""
    start = at = 0
    while (at := document.find(_PASSING, at)) >= 0:
        line, end = document.rfind(b"\n", 0, at) + 1, document.find(b"\n", at)
        if end < 0:
            break
        if 0 < at - line == document.count(b" ", line, at):
            yield document[start:line]
            start = end + 1
        at = end  # only the first of a line can stand behind nothing but spaces
    yield document[start:]
