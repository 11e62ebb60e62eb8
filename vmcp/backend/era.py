"""Which eras a backend speaks, and in which one a request goes.

The verdict is a set. A server may speak both, and what it can ask and say differs by era even then: in one SDK, the
elicitation of the older era fails on a modern request. So a client's request goes in the client's era where the backend
has it, and is bridged only where it has not. What the gateway asks for itself (health, lists, changes) goes in the
modern era where there is one: there is one catalogue, not two.

`server/discover` tells whether there is a modern era. A server that answers it need not say whether it has the other
one, so that is tried with the `initialize` of the first legacy client. A verdict needs an answer: a time-out, a closed
connection, 429 or 5xx is none, and may mean a legacy server that stays silent about what it does not know. Then
`initialize` is tried, whose success is a verdict.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from vmcp.auth.interface import Principal
from vmcp.backend.errors import BackendAuthFailed, BackendError
from vmcp.backend.model import BackendState, Era, Handshake
from vmcp.backend.modern.discover import ProbeVerdict
from vmcp.backend.settings import HeaderList
from vmcp.tasks import SingleFlight, loop_time

log = structlog.get_logger(__name__)

REPROBE_EVERY = 5.0
"""Seconds between two looks at the eras of a backend that contradicts itself."""

DISCOVER_TIMEOUT = 5.0
"""Seconds for `server/discover`, at most half of the time for a probe: what is left belongs to `initialize`."""

_FORBIDDEN = 403
TRY_AGAIN = 300.0
"""Seconds after which an era that a backend did not seem to have is tried again."""

Ask = Callable[[float, Principal | None, HeaderList], Awaitable[ProbeVerdict]]
"""(deadline, principal, passthrough headers) -> what `server/discover` says."""


class Eras:
    """What is known of one backend's eras.

    Attributes:
        modern, legacy: Whether it speaks them; None = not known.
        handshake: What it announces in the modern era; None = not known, or there is none.
    """

    def __init__(
        self, backend: str, state: BackendState, ask: Ask | None, *, probe_timeout: Callable[[], float]
    ) -> None:
        """Know nothing yet.

        Args:
            backend: Its name.
            state: `era` and `version` in it are kept true.
            ask: Asks the backend; None = its transport has no modern era.
            probe_timeout: Seconds for a probe, asked each time.
        """
        self._backend = backend
        self._state = state
        self._ask = ask
        self._probe_timeout = probe_timeout
        self._asking = SingleFlight[None, None](f"{backend}: server/discover", expected=(BackendError,))
        self._asked_at: float | None = None
        self._refused_until = 0.0
        self._inferred = False
        self.modern: bool | None = None
        self.legacy: bool | None = None
        self.handshake: Handshake | None = None
        if ask is None:
            self.judged(ProbeVerdict(Era.LEGACY, legacy=True))

    @property
    def spoken(self) -> frozenset[Era]:
        """The eras that the backend is known to speak."""
        return frozenset(era for era, known in ((Era.LEGACY, self.legacy), (Era.MODERN, self.modern)) if known)

    @property
    def on_trial(self) -> bool:
        """Whether the legacy era is not known of a backend that has the modern one."""
        return self.legacy is None and self.modern is True

    # --- choosing ---

    def settled(self, wanted: Era | None) -> Era | None:
        """Return the era of a request where that needs no thought, None where `choose` must tell."""
        if wanted is Era.LEGACY:
            return Era.LEGACY if self.legacy else None
        return Era.MODERN if self.modern else None

    async def choose(
        self, wanted: Era | None, deadline: float, principal: Principal | None, headers: HeaderList
    ) -> Era:
        """Return the era of a request, asking the backend where that is not known.

        Args:
            wanted: The client's; None = the gateway's own request.
            deadline: Loop time. Half of what is left is the most that finding out may take.
            principal: Whose credentials asking needs; None = the gateway's own.
            headers: Passthrough headers for asking.

        Raises:
            BackendError: The backend cannot be asked.
        """
        now = loop_time()
        if wanted is Era.LEGACY and (known := self._for_legacy()) is not None:
            return known
        if self._inferred and self._asked_at is not None and now - self._asked_at > TRY_AGAIN:
            self.ask_again(principal, headers)
        if self.modern is None:
            await self._look(now + (deadline - now) / 2, principal, headers)
            if wanted is Era.LEGACY and (known := self._for_legacy()) is not None:
                return known
        return Era.MODERN if self.modern else Era.LEGACY

    def _for_legacy(self) -> Era | None:
        """Return the era of a legacy client's request, None when it is not known."""
        if self.legacy is False and loop_time() > self._refused_until:
            self.legacy = None
        if self.legacy or self.on_trial:
            return Era.LEGACY
        return Era.MODERN if self.modern else None

    # --- finding out ---

    def ask_again(self, principal: Principal | None = None, headers: HeaderList = ()) -> None:
        """Ask in the background whether a backend that did not seem to have the modern era has it now."""
        if self._ask is not None and not self.modern:
            ask = self._ask
            self._asking.start(None, lambda: self._discover(ask, principal, headers))

    async def _look(self, deadline: float, principal: Principal | None, headers: HeaderList) -> None:
        """Ask `server/discover` now; one request at a time.

        Raises:
            BackendError: The backend cannot be asked.
        """
        ask = self._ask
        if ask is None:
            return
        try:
            await self._asking.wait(None, lambda: self._discover(ask, principal, headers), deadline=deadline)
        except TimeoutError:
            log.debug("server/discover is not answered yet", backend=self._backend)

    async def _discover(self, ask: Ask, principal: Principal | None, headers: HeaderList) -> None:
        deadline = loop_time() + min(self._probe_timeout() / 2, DISCOVER_TIMEOUT)
        try:
            verdict = await ask(deadline, principal, headers)
        except BackendAuthFailed as err:
            # Who polices methods answers an unknown one with 403, and takes the handshake.
            if err.status != _FORBIDDEN:
                raise
            verdict = ProbeVerdict(None)
        except BackendError as err:
            if not err.sent:
                raise
            log.info("no answer to server/discover", backend=self._backend, reason=err.reason)
            verdict = ProbeVerdict(None)
        self._asked_at = loop_time()
        if verdict.era is not None:
            self.judged(verdict)

    def judged(self, verdict: ProbeVerdict) -> None:
        """Take a verdict of `server/discover`."""
        assert verdict.era is not None
        self._inferred = False
        self.modern = verdict.era is Era.MODERN
        self.handshake = verdict.handshake if self.modern else None
        if verdict.legacy:
            self.legacy = True
        self._tell("" if self.handshake is None else self.handshake.version)

    def confirm(self) -> None:
        """A legacy session works: a verdict on that era, and, where `server/discover` got no answer, on the other."""
        if self.legacy and self.modern is not None:
            return
        self.legacy = True
        if self.modern is None and self._asking.get(None) is None:
            self.modern, self._inferred = False, True
        self._tell()

    def refused(self, *, again_in: float = TRY_AGAIN) -> None:
        """The backend refused `initialize`: take it that it has no legacy era, for some seconds."""
        self.legacy = False
        self._refused_until = loop_time() + again_in
        self._tell()

    async def contradicted(self, era: Era, deadline: float, principal: Principal | None, headers: HeaderList) -> bool:
        """The backend behaved as if it did not speak `era`: ask again, but not more than every few seconds.

        Returns:
            Whether the verdict is another one now, so that the request may go another way.

        Raises:
            BackendError: The backend cannot be asked.
        """
        if era is Era.LEGACY:
            self.refused()
            if self.modern:
                return True
        recent = self._asked_at is not None and loop_time() - self._asked_at < REPROBE_EVERY
        if not recent or self.modern is None:
            await self._look(deadline, principal, headers)
        if era is Era.LEGACY:
            return self.modern is True
        if self.modern:
            return False
        self.legacy = self.legacy or None
        return True

    def suspect(self) -> None:
        """A modern answer lacked what every modern result has: look again before the next request, at leisure."""
        now = loop_time()
        if self._asked_at is None or now - self._asked_at >= REPROBE_EVERY:
            self._asked_at = now
            self.forget()

    def forget(self) -> None:
        """Look again before the next request: the backend is another one, or behaves like one."""
        self.modern = None
        self.legacy = self.legacy or None
        self._tell()

    async def discovered(self, deadline: float, principal: Principal | None, headers: HeaderList) -> Handshake:
        """Return what the backend announces in the modern era.

        Raises:
            BackendError: It cannot be had.
        """
        if self.handshake is None:
            await self._look(deadline, principal, headers)
        return self.handshake or Handshake("", frozenset())

    def _tell(self, version: str = "") -> None:
        era = Era.MODERN if self.modern else Era.LEGACY if self.legacy or self.modern is False else None
        if era is not self._state.era and era is not None:
            log.info("detected the backend's protocol", backend=self._backend, era=era.value)
        if version or era is not self._state.era:
            self._state.version = version
        self._state.era = era
        self._state.eras = self.spoken

    async def close(self) -> None:
        """Give up what is under way."""
        await self._asking.close()
