"""One remote server as seen from here: client, eras, health and catalogue. Knows nothing of the sessions with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from vmcp.auth.interface import BackendAuth, Principal
from vmcp.backend.breaker import Breaker
from vmcp.backend.endpoint import McpEndpoint
from vmcp.backend.era import Eras
from vmcp.backend.errors import BackendError, CircuitOpen
from vmcp.backend.health import HealthKeeper
from vmcp.backend.interface import BackendState, CallObserver, Catalogue, CatalogueChange, Kind
from vmcp.backend.model import Era
from vmcp.backend.modern.calls import ModernCaller
from vmcp.backend.modern.discover import ProbeVerdict, classify
from vmcp.backend.modern.mirrored import mirror_of
from vmcp.backend.settings import BackendSettings, HeaderList
from vmcp.backend.shelf import differences
from vmcp.http.client import ClientLimits, PooledHttpClient, Reach, Trust, parse_origin
from vmcp.http.client.under_way import UNDER_WAY

log = structlog.get_logger(__name__)


class Remote:
    """What sessions, the monitor and personal lists need of a backend.

    Attributes:
        settings: As configured.
        on_call: See `Backend`.
        state: See `BackendState`.
        breaker: Guards calls and probes.
        health: Where every call and probe reports to.
        endpoint: For the adapters of the eras.
        modern: Sends requests in the modern era.
        eras: Which era serves a request.
        refresh: Fetches lists now; set by who monitors the backend.
        look: Probes soon; set by who monitors the backend.
        heard: Takes the method of a notification that a list changed; set by who monitors the backend.
    """

    def __init__(
        self,
        settings: BackendSettings,
        auth: BackendAuth,
        *,
        resolve: Mapping[tuple[str, int], str] | None = None,
        reach: Reach | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            settings: As configured.
            auth: Towards this backend.
            resolve: (host, port) -> address.
            reach: Which addresses its name may lead to; None = no loopback, link-local and metadata addresses.

        Raises:
            ValueError: The URL or the CA bundle's path is unusable.
        """
        origin, target = parse_origin(settings.url)
        limits = ClientLimits(
            max_body=settings.max_response,
            connect_timeout=settings.connect_timeout,
            max_connections=settings.max_connections,
            answers=UNDER_WAY.share(settings.name, on_refused=self._answer_refused),
        )
        self._client = PooledHttpClient(
            origin, trust=Trust(settings.ca_bundle), limits=limits, resolve=resolve, reach=reach
        )
        self.settings = settings
        self.on_call: CallObserver | None = None
        self.state = BackendState()
        self.breaker = Breaker(settings.breaker)
        self.health = HealthKeeper(
            settings.name,
            self.state,
            self.breaker,
            threshold=settings.unhealthy_threshold,
            slow_after=settings.slow_after,
            on_change=lambda: self.tell(frozenset()),
            on_doubt=self._doubted,
        )
        self.endpoint = McpEndpoint(settings, self._client, auth, target)
        ask = None if settings.transport == "sse" else self._discover
        self.eras = Eras(settings.name, self.state, ask, probe_timeout=lambda: self.settings.health_timeout)
        self.modern = ModernCaller(self.endpoint, max_event=settings.max_response, on_suspicion=self.eras.suspect)
        self._catalogue = Catalogue()
        self._listeners: list[Callable[[CatalogueChange], None]] = []
        self.refresh: Callable[[tuple[Kind, ...]], Awaitable[None]] = _no_refresh
        self.look: Callable[[], None] = _no_look
        self.heard: Callable[[str, Principal], None] = _not_heard

    def _answer_refused(self) -> None:
        self.state.answers_refused += 1

    @property
    def name(self) -> str:
        """See `Backend`."""
        return self.settings.name

    @property
    def url(self) -> str:
        """See `Backend`."""
        return self.settings.url

    @property
    def transport(self) -> str:
        """See `Backend`."""
        return self.settings.transport

    @property
    def auth_method(self) -> str:
        """See `Backend`."""
        return self.endpoint.auth_method

    @property
    def catalogue(self) -> Catalogue:
        """See `Backend`."""
        return self._catalogue

    def reconfigure(self, settings: BackendSettings) -> None:
        """See `Backend`."""
        assert self.settings.same_connections(settings)
        self.settings = settings
        self.breaker.reconfigure(settings.breaker)
        self.health.reconfigure(threshold=settings.unhealthy_threshold, slow_after=settings.slow_after)
        self.state.circuit = self.breaker.state

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Ask the breaker for leave to send, and report what becomes of it.

        Raises:
            CircuitOpen: It does not give any now.
        """
        if not self.breaker.admit():
            raise CircuitOpen(self.name, "the circuit breaker is open", sent=False)
        try:
            yield
        except BackendError as err:
            self.health.failed(err)
            raise
        except BaseException:
            self.health.released()
            raise
        self.health.answered()

    def subscribe(self, listener: Callable[[CatalogueChange], None]) -> Callable[[], None]:
        """See `Backend`."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def publish(self, catalogue: Catalogue) -> None:
        """Put a new catalogue in place, and tell listeners if it differs."""
        changed = differences(self._catalogue, catalogue)
        first = catalogue.known and not self._catalogue.known
        other_era = catalogue.era is not self._catalogue.era
        self._catalogue = catalogue
        if Kind.TOOLS in changed or other_era:
            found = {item.key: mirror_of(item.raw) for item in catalogue.tools} if catalogue.era is Era.MODERN else {}
            self.modern.mirrors = {name: mirror for name, mirror in found.items() if mirror}
        if changed or first:
            self.tell(changed or frozenset(Kind))

    def tell(self, kinds: frozenset[Kind]) -> None:
        """Tell listeners that lists changed, or, without kinds, health or circuit."""
        change = CatalogueChange(self.name, kinds, self._catalogue)
        for listener in list(self._listeners):
            try:
                listener(change)
            except Exception:
                log.exception("a listener failed", backend=self.name)

    def _doubted(self) -> None:
        self.look()

    async def refresh_tools(self, deadline: float) -> None:
        """Fetch the list of tools now; failures are only logged."""
        try:
            async with asyncio.timeout_at(deadline):
                await self.refresh((Kind.TOOLS,))
        except TimeoutError:
            log.info("the tools were not fetched in time", backend=self.name)

    async def _discover(self, deadline: float, principal: Principal | None, headers: HeaderList) -> ProbeVerdict:
        return await classify(self.modern, deadline=deadline, principal=principal, passthrough=headers)

    async def disconnect(self) -> None:
        """Tell nobody anything any more, and close the connections."""
        self._listeners.clear()
        await self.eras.close()
        self._client.close()


async def _no_refresh(kinds: tuple[Kind, ...]) -> None:
    """Nobody monitors this backend."""


def _no_look() -> None:
    """Nobody monitors this backend."""


def _not_heard(method: str, principal: Principal) -> None:
    """Nobody monitors this backend."""
