"""`server/discover`: whether a backend has the modern era, and what it announces there.

A verdict needs an answer that only one era gives. A timeout, a refused connection, 401, 403, 429 or 5xx is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from vmcp.auth.interface import Principal
from vmcp.backend.answers import message_of
from vmcp.backend.endpoint import POST_HEADERS
from vmcp.backend.errors import BackendProtocolError, BackendUnavailable
from vmcp.backend.handshake import supported_versions
from vmcp.backend.interface import Call
from vmcp.backend.meta import modern_params
from vmcp.backend.model import Era, Handshake
from vmcp.backend.modern.calls import ModernCaller
from vmcp.backend.settings import HeaderList
from vmcp.wire import jsonrpc
from vmcp.wire.jsonrpc import Message, RpcError, fields, loads_str
from vmcp.wire.protocol import (
    DISCOVER,
    H_METHOD,
    H_VERSION,
    LEGACY_VERSIONS,
    META_SERVER_INFO,
    MODERN,
    MODERN_CODES,
    UNSUPPORTED_VERSION,
)

_HEADERS = (*POST_HEADERS, (H_VERSION, MODERN), (H_METHOD, DISCOVER))


@dataclass(frozen=True, slots=True)
class ProbeVerdict:
    """What a probe found.

    Attributes:
        era: MODERN = it has the modern era, LEGACY = it has not; None = inconclusive: the caller may try `initialize`,
            whose success is a verdict.
        handshake: Of a modern server; None where its refusal gave it away.
        status: HTTP status of an inconclusive answer.
        legacy: It names versions of the legacy era. That it names none means nothing: servers list here what they speak
            in this era.
    """

    era: Era | None
    handshake: Handshake | None = None
    status: int = 200
    legacy: bool = False


async def classify(
    caller: ModernCaller, *, deadline: float, principal: Principal | None, passthrough: HeaderList = ()
) -> ProbeVerdict:
    """Probe a streamable HTTP endpoint.

    Raises:
        BackendAuthFailed: 401 or 403.
        BackendError: No answer: not reachable, too slow.
    """
    call = Call(method=DISCOVER, headers=passthrough)
    response = await caller.send(
        jsonrpc.request(0, DISCOVER, modern_params(call)), _HEADERS, call=call, deadline=deadline, principal=principal
    )
    if response.stream is not None:
        message = await caller.first_response(response, 0, deadline)
    else:
        try:
            message = message_of(caller.backend, response)
        except BackendUnavailable:
            return ProbeVerdict(None, status=response.status)
        except BackendProtocolError:
            return ProbeVerdict(Era.LEGACY, status=response.status)
    return _judge(message, response.status)


def _judge(message: Message, status: int) -> ProbeVerdict:
    if isinstance(message.error, RpcError):
        if message.error.code == UNSUPPORTED_VERSION:
            named = supported_versions(message.error)
            era = Era.MODERN if MODERN in named else Era.LEGACY
            return ProbeVerdict(era, status=status, legacy=_names_legacy(named))
        if message.error.code in MODERN_CODES:
            return ProbeVerdict(Era.MODERN, status=status)
        return ProbeVerdict(None if status >= 500 else Era.LEGACY, status=status)
    if message.result is UNSET:
        return ProbeVerdict(Era.LEGACY, status=status)
    result = fields(bytes(message.result))
    if "supportedVersions" not in result:
        return ProbeVerdict(Era.MODERN if "resultType" in result else Era.LEGACY, _handshake(result), status)
    try:
        versions = msgspec.json.decode(result["supportedVersions"])
    except msgspec.DecodeError:
        versions = []
    if not isinstance(versions, list) or MODERN not in versions:
        return ProbeVerdict(Era.LEGACY, status=status)
    return ProbeVerdict(Era.MODERN, _handshake(result), status, _names_legacy(versions))


def _names_legacy(versions: Iterable[object]) -> bool:
    return any(version in LEGACY_VERSIONS for version in versions)


def _handshake(result: dict[str, msgspec.Raw]) -> Handshake:
    capabilities = bytes(result.get("capabilities") or b"{}")
    info = fields(result.get("_meta")).get(META_SERVER_INFO) or result.get("serverInfo")
    return Handshake(
        MODERN,
        frozenset(fields(capabilities)),
        capabilities,
        None if info is None else bytes(info),
        loads_str(result.get("instructions")),
        ttl_of(result),
    )


def ttl_of(result: dict[str, msgspec.Raw]) -> float | None:
    """Return `ttlMs` of a result in seconds, None when it says none."""
    raw = result.get("ttlMs")
    if raw is None:
        return None
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None
    return max(0.0, value / 1000) if isinstance(value, int | float) and not isinstance(value, bool) else None
