"""What a legacy server said when a session was opened."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET

from vmcp.backend.errors import BackendAuthFailed, BackendProtocolError
from vmcp.backend.meta import OWN_INFO
from vmcp.wire.jsonrpc import Message, RpcError, dumps, fields, join, loads_str
from vmcp.wire.protocol import LATEST_LEGACY, LEGACY_VERSIONS, MODERN, MODERN_CODES


class WrongEra(Exception):  # noqa: N818
    """The server speaks the other era. Nothing was executed."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The server's part of an `initialize`, or of a `server/discover`.

    Attributes:
        version: The agreed protocol version.
        capabilities: Raw members of the server's capabilities.
        raw_capabilities: The same, as they came.
        server_info: Raw, None when it said none.
        instructions: None when there are none.
        ttl: Seconds that lists stay fresh (modern); None = not said.
    """

    version: str
    capabilities: frozenset[str]
    raw_capabilities: bytes = b"{}"
    server_info: bytes | None = None
    instructions: str | None = None
    ttl: float | None = None

    def offers(self, name: str) -> bool:
        """Tell whether a capability was announced: `tools`, `resources`, `prompts`, `logging`, `completions`."""
        return name in self.capabilities

    def announces(self, name: str, member: str = "listChanged") -> bool:
        """Tell whether a capability was announced with a member that is true."""
        raw = fields(self.raw_capabilities).get(name)
        return raw is not None and bytes(fields(raw).get(member) or b"") == b"true"


def initialize_params(capabilities: bytes, info: bytes | None) -> bytes:
    """Return the params of `initialize`."""
    return join(
        {"protocolVersion": dumps(LATEST_LEGACY), "capabilities": capabilities, "clientInfo": info or OWN_INFO},
    )


def read_initialize(backend: str, message: Message, status: int) -> Handshake:
    """Return what the answer to `initialize` says.

    Raises:
        WrongEra: It is a modern server's refusal, or agrees on the modern version.
        BackendAuthFailed: It refuses us.
        BackendProtocolError: It is neither.
    """
    if isinstance(message.error, RpcError):
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
        raise BackendProtocolError(backend, f"wants an unknown protocol version {str(version)[:32]!r}", status=status)
    capabilities = bytes(result.get("capabilities") or b"{}")
    info = result.get("serverInfo")
    return Handshake(
        version,
        frozenset(fields(capabilities)),
        capabilities,
        None if info is None else bytes(info),
        loads_str(result.get("instructions")),
    )
