"""What is known of a backend: its era, health and circuit, and its catalogue."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

from vmcp.wire import protocol
from vmcp.wire.jsonrpc import fields

EMPTY_OBJECT: Final = b"{}"


class Era(enum.StrEnum):
    """The two families of the protocol; a property of the server."""

    LEGACY = "legacy"
    """Up to 2025-11-25: `initialize`, sessions, GET stream."""
    MODERN = "modern"
    """2026-07-28: stateless, every request describes itself."""


class Health(enum.StrEnum):
    """What the monitor and the traffic know of a backend."""

    UNKNOWN = "unknown"
    """Not checked yet, or failing but below the threshold."""
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Answers, but slowly, in part, without its GET stream, or for the first time after failures."""
    UNHEALTHY = "unhealthy"
    """Failed `unhealthyThreshold` times in a row."""
    UNAUTHENTICATED = "unauthenticated"
    """Refuses us (401, 403) and we have no credentials for it."""


class Circuit(enum.StrEnum):
    """The circuit breaker's state; guards calls as well as probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Push(enum.Enum):
    """The standing GET stream of a legacy session, by which a server says that its lists changed."""

    NONE = "none"
    """The server offers none, or it was not asked for one."""
    OPEN = "open"
    DOWN = "down"
    """It was asked for and could not be established; tried again with back-off."""


class Kind(enum.StrEnum):
    """The four lists that a backend may offer."""

    TOOLS = "tools"
    RESOURCES = "resources"
    TEMPLATES = "templates"
    PROMPTS = "prompts"


@dataclass(slots=True, frozen=True)
class ListKind:
    """What the protocol calls the parts of one of the four lists, the same in both eras.

    Attributes:
        method: Asks for it.
        member: Of the result; holds the entries.
        key: The member that identifies an entry.
        capability: The server capability that announces it.
        changed: The notification that it changed; templates have none of their own.
        filter: The member of a `subscriptions/listen` filter that asks for that notification.
    """

    method: str
    member: str
    key: str
    capability: str
    changed: str
    filter: str


LIST_KINDS: Final[Mapping[Kind, ListKind]] = MappingProxyType(
    {
        Kind.TOOLS: ListKind(protocol.TOOLS_LIST, "tools", "name", "tools", protocol.TOOLS_CHANGED, "toolsListChanged"),
        Kind.RESOURCES: ListKind(
            protocol.RESOURCES_LIST, "resources", "uri", "resources", protocol.RESOURCES_CHANGED, "resourcesListChanged"
        ),
        Kind.TEMPLATES: ListKind(
            protocol.TEMPLATES_LIST,
            "resourceTemplates",
            "uriTemplate",
            "resources",
            protocol.RESOURCES_CHANGED,
            "resourcesListChanged",
        ),
        Kind.PROMPTS: ListKind(
            protocol.PROMPTS_LIST, "prompts", "name", "prompts", protocol.PROMPTS_CHANGED, "promptsListChanged"
        ),
    }
)


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


@dataclass(slots=True, frozen=True)
class Item:
    """One entry of a list.

    Attributes:
        key: A tool's or prompt's name, a resource's URI, a template's URI template.
        raw: The entry as it came, byte for byte.
        via: Marks of the gateways that it came through, the nearest first (`vmcp.wire.lineage`).
    """

    key: str
    raw: bytes
    via: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalogue:
    """What a backend offers, as it was last heard of it. Immutable; a change makes a new one.

    Attributes:
        tools, resources, templates, prompts: In the backend's order, keys unique (the first wins).
        capabilities: Raw JSON object that the server announced.
        server_info: Raw JSON object, None when it said none.
        instructions: For the model; None when there are none.
        era: Which protocol the server spoke.
        version: The negotiated protocol version.
        fetched_at: `time.monotonic()` of the last full or partial fetch; 0 = never: the catalogue is empty.
        generation: Grows with every change of content.
        gateway: Mark of the gateway that the backend is; "" = it is none of ours.
    """

    tools: tuple[Item, ...] = ()
    resources: tuple[Item, ...] = ()
    templates: tuple[Item, ...] = ()
    prompts: tuple[Item, ...] = ()
    capabilities: bytes = EMPTY_OBJECT
    server_info: bytes | None = None
    instructions: str | None = None
    era: Era | None = None
    version: str = ""
    fetched_at: float = 0.0
    generation: int = 0
    gateway: str = ""

    @property
    def known(self) -> bool:
        """Whether the backend was ever heard."""
        return self.fetched_at > 0

    @property
    def age(self) -> float:
        """Seconds since the last fetch; infinite when there was none."""
        return time.monotonic() - self.fetched_at if self.known else float("inf")

    def items(self, kind: Kind) -> tuple[Item, ...]:
        """Return one of the four lists."""
        match kind:
            case Kind.TOOLS:
                return self.tools
            case Kind.RESOURCES:
                return self.resources
            case Kind.TEMPLATES:
                return self.templates
            case Kind.PROMPTS:
                return self.prompts


class BackendLink(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session with a legacy backend, as far as another process has to know it to go on with it.

    Attributes:
        id: As the server issued it.
        version: The negotiated protocol version.
        capabilities: Names of what the server announced.
        cookie: Value of the `cookie` header that leads to the instance that knows the session; "" = none.
        subscriptions: The backend's own URIs that the session is subscribed to, sorted.
    """

    id: str
    version: str
    capabilities: tuple[str, ...] = ()
    cookie: str = ""
    subscriptions: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class CatalogueChange:
    """Sent to `Backend.subscribe` listeners.

    Attributes:
        backend: Its name.
        kinds: Lists whose content differs; empty when only health or circuit changed.
        catalogue: The new one.
    """

    backend: str
    kinds: frozenset[Kind]
    catalogue: Catalogue


@dataclass(slots=True)
class BackendState:
    """What is known of a backend's health; changed in place by its owner, read by everybody.

    Attributes:
        era: In which the gateway speaks for itself: the modern one where the backend has it. None until that is known.
        eras: All that the backend is known to speak; a client's calls go in the client's era where it is among them.
        version: Negotiated protocol version, "" until then.
        health: See Health.
        circuit: See Circuit.
        failures: In a row, of probes and traffic alike.
        last_check: Unix seconds of the last probe or call that decided something; None = never.
        last_error: A sentence, safe to show; "" = none since the last success.
        last_error_category: `BackendError.category`; "" = none.
        circuit_changed: Unix seconds of the circuit's last change; None = never.
        failing: Lists that could not be fetched, and why; what was known of them stays.
        left_out: Sentences on entries of its lists that clients could not take, by list.
        answers_refused: Large answers that there was no room for, since the start.
    """

    era: Era | None = None
    eras: frozenset[Era] = frozenset()
    version: str = ""
    health: Health = Health.UNKNOWN
    circuit: Circuit = Circuit.CLOSED
    failures: int = 0
    last_check: float | None = None
    last_error: str = ""
    last_error_category: str = ""
    circuit_changed: float | None = None
    failing: dict[Kind, str] = field(default_factory=dict)
    left_out: dict[Kind, tuple[str, ...]] = field(default_factory=dict)
    answers_refused: int = 0

    @property
    def has_sessions(self) -> bool:
        """Whether legacy clients have sessions with the backend; the modern era has none."""
        return self.era is Era.LEGACY or Era.LEGACY in self.eras

    @property
    def usable(self) -> bool:
        """Whether a call is worth trying now."""
        return self.circuit is not Circuit.OPEN
