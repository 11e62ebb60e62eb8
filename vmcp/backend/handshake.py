"""What a legacy server said when a session was opened."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from vmcp.backend.errors import BackendAuthFailed, BackendError, BackendProtocolError
from vmcp.backend.interface import Reply
from vmcp.backend.meta import OWN_INFO
from vmcp.backend.model import Handshake
from vmcp.wire.jsonrpc import Message, RpcError, dumps, fields, join, loads_str
from vmcp.wire.protocol import LATEST_LEGACY, LEGACY_VERSIONS, MODERN, MODERN_CODES


class WrongEra(Exception):  # noqa: N818
    """The server seems to speak the other era. If it does, nothing was executed.

    Attributes:
        otherwise: What its answer means if it does not; None = nothing.
    """

    def __init__(self, otherwise: Reply | BackendError | None = None) -> None:
        super().__init__()
        self.otherwise = otherwise


class VersionRefused(Exception):  # noqa: N818
    """The server does not speak the version that we proposed, and names one that we speak too.

    Attributes:
        version: The newest of those.
    """

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version = version


def initialize_params(capabilities: bytes, info: bytes | None, version: str = LATEST_LEGACY) -> bytes:
    """Return the params of `initialize`."""
    return join(
        {"protocolVersion": dumps(version), "capabilities": capabilities, "clientInfo": info or OWN_INFO},
    )


def supported_versions(error: RpcError) -> tuple[str, ...]:
    """Return `data.supported` of an error about versions."""
    if error.data is UNSET:
        return ()
    try:
        listed = msgspec.json.decode(fields(bytes(error.data)).get("supported") or b"[]")
    except (msgspec.DecodeError, RecursionError):
        return ()
    return tuple(item for item in listed if isinstance(item, str)) if isinstance(listed, list) else ()


def _other_version(error: RpcError, proposed: str) -> str | None:
    """Return the newest version that both sides speak, named in the error's data or in its message."""
    named = supported_versions(error)
    if not named and "version" in error.message[:512].lower():
        named = tuple(version for version in LEGACY_VERSIONS if version in error.message[:512])
    return next((version for version in LEGACY_VERSIONS if version in named and version != proposed), None)


def read_initialize(backend: str, message: Message, status: int, proposed: str = LATEST_LEGACY) -> Handshake:
    """Return what the answer to `initialize` says.

    Args:
        backend: Its name.
        message: The answer.
        status: HTTP status.
        proposed: The version that we asked for.

    Raises:
        VersionRefused: The server wants another version of this era.
        WrongEra: It is a modern server's refusal, or agrees on the modern version.
        BackendAuthFailed: It refuses us.
        BackendProtocolError: It is neither.
    """
    if isinstance(message.error, RpcError):
        other = _other_version(message.error, proposed)
        if other is not None:
            raise VersionRefused(other)
        if message.error.code in MODERN_CODES:
            raise WrongEra
        if status in {401, 403}:
            raise BackendAuthFailed(backend, f"refused our credentials (HTTP {status})", status=status)
        raise BackendProtocolError(backend, f"refused to open a session (error {message.error.code})", status=status)
    if message.result is UNSET:
        raise BackendProtocolError(backend, "answered initialize with neither result nor error", status=status)
    result = fields(bytes(message.result))
    version = loads_str(result.get("protocolVersion"))
    if version == MODERN:
        raise WrongEra
    if version not in LEGACY_VERSIONS:
        raise BackendProtocolError(backend, f"wants the unknown protocol version {str(version)[:32]!r}", status=status)
    capabilities = bytes(result.get("capabilities") or b"{}")
    info = result.get("serverInfo")
    return Handshake(
        version,
        frozenset(fields(capabilities)),
        capabilities,
        None if info is None else bytes(info),
        loads_str(result.get("instructions")),
    )
