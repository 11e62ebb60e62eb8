"""The seam between the core and the backends: what the core hands over, what it gets back, what it may ask.

The core speaks one vocabulary whatever the backend's era: the methods of the legacy protocol (`tools/call`,
`resources/subscribe`, `logging/setLevel`, `ping` ...). The adapters behind this seam translate. Params and results are
the bytes of JSON objects.

Who answers what a backend asks for (elicitation, sampling, roots):

| bridge | relay_input | legacy backend asks mid-call | modern backend answers `input_required` |
|---|---|---|---|
| None | any | refused with -32601 | returned in `Reply.input_required` |
| set | False (legacy client) | `bridge(...)` while the call stays open | each through `bridge`, then the call again |
| set | True (modern client) | `bridge(...)` while the call stays open | returned in `Reply.input_required` |

While a bridge is at work the call's clock stands still: people are slower than backends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from api.contract.defaults import DEFAULT_TIMEOUT
from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.backend.errors import (
    BackendAuthFailed,
    BackendError,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
    CircuitOpen,
)
from vmcp.backend.model import (
    EMPTY_OBJECT,
    LIST_KINDS,
    BackendLink,
    BackendState,
    Catalogue,
    CatalogueChange,
    Circuit,
    Era,
    Handshake,
    Health,
    Item,
    Kind,
)
from vmcp.backend.settings import BackendSettings, BreakerSettings, HeaderList
from vmcp.trace import TraceContext
from vmcp.wire.jsonrpc import RpcError

__all__ = [
    "EMPTY_OBJECT",
    "LIST_KINDS",
    "Backend",
    "BackendAuthFailed",
    "BackendError",
    "BackendLink",
    "BackendProtocolError",
    "BackendSession",
    "BackendSettings",
    "BackendState",
    "BackendTimeout",
    "BackendUnavailable",
    "BreakerSettings",
    "Call",
    "Catalogue",
    "CatalogueChange",
    "Circuit",
    "CircuitOpen",
    "Era",
    "Handshake",
    "HeaderList",
    "Health",
    "InputRequired",
    "Item",
    "Kind",
    "LinkKeeper",
    "NotificationSink",
    "Provider",
    "Reply",
    "RpcFault",
    "ServerRequestBridge",
    "SessionEvents",
    "SessionSpec",
]


# --- calls ------------------------------------------------------------------------------------------------------------


class NotificationSink(Protocol):
    """Takes notifications that belong to one call, in order. Must not block; params are raw JSON."""

    def __call__(self, method: str, params: bytes) -> None:
        """Take one notification."""
        ...


class ServerRequestBridge(Protocol):
    """Asks the client on behalf of the backend.

    Raises:
        RpcFault: The client refused, or cannot do it; passed on to the backend as it is.
    """

    async def __call__(self, method: str, params: bytes) -> bytes:
        """Return the client's raw result."""
        ...


class RpcFault(Exception):  # noqa: N818  carries a JSON-RPC error, is none of ours
    """A JSON-RPC error as an exception.

    Attributes:
        error: What to answer.
    """

    def __init__(self, error: RpcError) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


@dataclass(slots=True, kw_only=True)
class Call:
    """One request towards a backend.

    Attributes:
        method: From the era-free vocabulary, such as "tools/call".
        params: Raw JSON object, names and URIs already the backend's own.
        principal: Who asks.
        timeout: Seconds for the whole call, waiting for people excluded.
        name: `params.name` or `params.uri` of methods that have one; saves the modern adapter a parse. None = look.
        headers: Passthrough headers of this request. A name that the backend's own headers use already is dropped.
        trace: Continued in headers and `_meta`; None = none.
        log_level: The client's level, None = it wants no log messages (modern: no `logLevel`).
        client_capabilities: Raw JSON object: exactly what the client declared.
        client_info: Raw JSON object of the client, None = the gateway's.
        enveloped: `params._meta` holds the modern client's own envelope, checked by the front: a modern backend gets
            the bytes as they are.
        sink: Progress and log notifications of this call; None = dropped.
        bridge: See the module's table.
        relay_input: See the module's table.
        input_responses: Raw JSON object: the client's answers to an earlier `input_required` of this backend.
        request_state: The backend's opaque state that came with that `input_required`.
        verbatim: The client's era, where `sink` gets every notification of the call that a backend of that era sends,
            known or not, and judges log messages itself; None = those that are known.
        held: See `Reply`: set with the answer.
    """

    method: str
    params: bytes = EMPTY_OBJECT
    principal: Principal = ANONYMOUS
    timeout: float = DEFAULT_TIMEOUT.seconds
    name: str | None = None
    headers: HeaderList = ()
    trace: TraceContext | None = None
    log_level: str | None = None
    client_capabilities: bytes = EMPTY_OBJECT
    client_info: bytes | None = None
    enveloped: bool = False
    sink: NotificationSink | None = None
    bridge: ServerRequestBridge | None = None
    relay_input: bool = False
    input_responses: bytes | None = None
    request_state: str | None = None
    verbatim: Era | None = None
    held: object | None = None


@dataclass(slots=True, frozen=True)
class InputRequired:
    """A modern backend wants something from the client before it goes on.

    Attributes:
        requests: Raw JSON object, key -> {method, params}; None when only a state came.
        state: To be returned verbatim in `Call.request_state`; None when there is none. Opaque, untrusted.
        result: The whole result, raw and untouched, for relaying.
    """

    requests: bytes | None
    state: str | None
    result: bytes


@dataclass(slots=True)
class Reply:
    """What the backend answered: exactly one of `result`, `error`, `input_required`.

    Attributes:
        result: Raw JSON object, untouched. A modern one holds `resultType` and perhaps `ttlMs`, `cacheScope`.
        error: The backend's own error, untouched (legacy: unknown resource is -32002, modern: -32602).
        input_required: See the module's table.
        era: Of the backend that answered.
        status: HTTP status of the answer, for the audit line.
        held: What counts the bytes of a large result: to be kept as long as they are; None = it is not large.
    """

    result: bytes | None = None
    error: RpcError | None = None
    input_required: InputRequired | None = None
    era: Era = Era.LEGACY
    status: int = 200
    held: object | None = None


CallObserver = Callable[[str, str, float, Reply | None], None]
"""Told of every call that ended: backend, method, seconds, and the reply; None = no answer came.

Seconds are those of the backend: from the decision to send until its answer is there, with what that takes (a token,
a connection, a session), and the time in which a person answers a question of the backend. Must not block.
"""


# --- sessions and backends --------------------------------------------------------------------------------------------


class SessionEvents(Protocol):
    """What a backend session tells its client session outside of any call. Must not block."""

    def notification(self, backend: str, method: str, params: bytes) -> None:
        """Take `resources/updated`, a log message, progress without a call, or a list_changed of this session."""
        ...

    async def request(self, backend: str, method: str, params: bytes) -> bytes:
        """Ask the client for something that belongs to no call that is under way; raises RpcFault."""
        ...


class LinkKeeper(Protocol):
    """Knows the sessions with legacy backends that belong to a client session, whichever process opened them."""

    async def link(self, backend: str) -> BackendLink | None:
        """Return the session with a backend that is to be used, as it is known everywhere now; None = open one."""
        ...

    def linked(self, backend: str, link: BackendLink) -> None:
        """Take what a session with a backend is from now on. Must not block."""
        ...


@dataclass(slots=True, frozen=True, kw_only=True)
class SessionSpec:
    """On whose behalf a session is kept.

    Attributes:
        principal: Whose credentials the session's own requests (handshake, GET stream, DELETE) carry.
        client_capabilities: Raw JSON object: a legacy backend is told exactly these.
        client_info: Raw JSON object, None = the gateway's.
        headers: Passthrough headers for the session's own requests.
        events: Where to tell what belongs to no call; None = dropped, and no GET stream is opened.
        timeout: Seconds for a handshake.
        links: Where a session with a legacy backend is looked up before one is opened; None = each opens its own.
        era: The client's: its calls go in this era where the backend has it; None = the gateway's own session.
    """

    principal: Principal = ANONYMOUS
    client_capabilities: bytes = EMPTY_OBJECT
    client_info: bytes | None = None
    headers: HeaderList = ()
    events: SessionEvents | None = None
    links: LinkKeeper | None = None
    timeout: float = DEFAULT_TIMEOUT.seconds
    era: Era | None = None


class BackendSession(Protocol):
    """One per (client session, backend). Survives the backend's restarts and changes of era.

    Opens nothing before it is needed. Safe for concurrent calls.
    Cancelling a task that awaits `call` tells the backend.
    """

    async def call(self, call: Call) -> Reply:
        """Send a request and return the answer.

        Raises:
            BackendError: There is no answer. Never raised for a JSON-RPC error of the backend: that is a Reply.
        """
        ...

    async def announced(self, timeout: float) -> Handshake:
        """Return what the backend says of itself in the client's era, opening the session where that era has one.

        Raises:
            BackendError: It cannot be had within `timeout` seconds.
        """
        ...

    async def notify(self, method: str, params: bytes) -> None:
        """Send a notification of the client; dropped where the backend's era has no place for it."""
        ...

    async def close(self, *, leave: bool = False) -> None:
        """Stop the session's streams, and end it at the backend (DELETE). Never raises; bounded to a few seconds.

        Args:
            leave: Do not end it at the backend: another process may go on with it.
        """
        ...


class Provider(Protocol):
    """Something that offers tools, resources and prompts: a remote backend, or something that the gateway makes itself.

    This is all that the core knows of those whose lists it merges and whose items it calls.
    """

    @property
    def name(self) -> str:
        """The id everywhere; unique among the providers of a gateway."""
        ...

    @property
    def state(self) -> BackendState:
        """Health, era, circuit."""
        ...

    @property
    def catalogue(self) -> Catalogue:
        """The last good lists, as everybody may see them; kept while the provider does not answer."""
        ...

    @property
    def personal(self) -> bool:
        """Whether each caller has lists of its own (no probe credentials exist): then use `catalogue_for`."""
        ...

    async def catalogue_for(self, principal: Principal, *, headers: HeaderList = (), timeout: float) -> Catalogue:
        """Return the lists as `principal` sees them, cached per (token, headers); single-flight.

        Raises:
            BackendError: There is none, not even an old one.
        """
        ...

    def subscribe(self, listener: Callable[[CatalogueChange], None]) -> Callable[[], None]:
        """Call `listener` after every change of catalogue, health or circuit; return the function that ends that."""
        ...

    def open(self, spec: SessionSpec) -> BackendSession:
        """Return a session. Does no IO."""
        ...


class Backend(Provider, Protocol):
    """A provider that is configured, runs in the background, and is reached over the network.

    Attributes:
        on_call: Set by whoever wants to know of calls; not told of the gateway's own requests, nor of what was not sent
            because the circuit is open, nor of what its caller cancelled.
    """

    on_call: CallObserver | None

    @property
    def url(self) -> str:
        """The remote URL, for the audit line."""
        ...

    @property
    def transport(self) -> str:
        """`streamable-http` or `sse`."""
        ...

    @property
    def auth_method(self) -> str:
        """The outgoing strategy's name, for the audit line."""
        ...

    async def start(self) -> None:
        """Start the monitor and the first fetch, in the background. Returns at once."""
        ...

    def reconfigure(self, settings: BackendSettings) -> None:
        """Go on with settings that mean the same connections (`BackendSettings.same_connections`)."""
        ...

    async def wait_known(self, timeout: float) -> bool:
        """Wait until the first fetch ended, well or badly; return whether it ended in time."""
        ...

    async def close(self) -> None:
        """Stop monitor and streams, end sessions, close connections. Bounded to a few seconds."""
        ...
