"""The session that the core holds: picks the era's way for each call, and asks the circuit breaker first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog

from vmcp.auth.interface import ANONYMOUS, Principal
from vmcp.backend.errors import BackendError, BackendProtocolError, BackendTimeout, BackendUnavailable, CircuitOpen
from vmcp.backend.handshake import WrongEra
from vmcp.backend.interface import Call, Reply, SessionSpec
from vmcp.backend.legacy.session import LegacyOptions, LegacySession
from vmcp.backend.model import Era, Handshake, Push
from vmcp.backend.modern.subscription import BackendSubscription
from vmcp.backend.remote import Remote
from vmcp.backend.settings import HeaderList
from vmcp.tasks import loop_time
from vmcp.wire.jsonrpc import RpcError, dumps, fields, loads_str
from vmcp.wire.protocol import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    PING,
    RESOURCE_UPDATED,
    RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE,
    SET_LEVEL,
    TOOLS_CALL,
)

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT = 5.0
ATTEMPTS = 3
"""Ways that one request may be tried: each of the two eras, and the first again after the other."""
TRIAL_TIMEOUT = 5.0
"""Seconds for finding out, while a call waits, whether a backend has the legacy era besides the modern one."""
NO_ANSWER = 30.0
"""Seconds after which that is tried again when there was no answer."""
CONTRADICTION = "contradicts itself about the protocol that it speaks"
_DONE = Reply(result=b"{}", era=Era.MODERN)


class Session:
    """Implements `BackendSession`."""

    def __init__(
        self,
        backend: Remote,
        spec: SessionSpec,
        *,
        probe: bool = False,
        on_handshake: Callable[[Handshake], None] | None = None,
        on_notification: Callable[[str, bytes], None] | None = None,
        on_push: Callable[[Push, bool], None] | None = None,
    ) -> None:
        """Make a session; opens nothing.

        Args:
            backend: Its owner.
            spec: On whose behalf.
            probe: The gateway's own: probe credentials, and the stream is always kept.
            on_handshake: See LegacyOptions.
            on_notification: See LegacyOptions.
            on_push: See LegacyOptions.
        """
        self._loop = asyncio.get_running_loop()
        self._backend = backend
        self._spec = spec
        self._probe = probe
        self._options = LegacyOptions(
            sse=backend.transport == "sse",
            max_event=backend.settings.max_response,
            listen=probe or spec.events is not None,
            probe=probe,
            on_handshake=on_handshake,
            on_notification=on_notification or self._heard,
            on_push=on_push,
        )
        self._legacy: LegacySession | None = None
        self._level: str | None = None
        self._uris: set[str] = set()
        self._listener: BackendSubscription | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    @property
    def principal(self) -> Principal | None:
        """Whose credentials requests carry; None = the gateway's own."""
        return None if self._probe else self._spec.principal

    # --- BackendSession ---

    async def call(self, call: Call) -> Reply:
        """Send a request; see `BackendSession.call`."""
        backend = self._backend
        if self._closed:
            raise BackendUnavailable(backend.name, "the session is closed", sent=False)
        if not backend.breaker.admit():
            raise CircuitOpen(backend.name, "the circuit breaker is open", sent=False)
        started, deadline = monotonic(), self._loop.time() + call.timeout
        try:
            reply = await self.dispatch(call, deadline)
        except BackendError as err:
            if isinstance(err, BackendTimeout) and loop_time() >= deadline:
                err.reason = f"{err.reason} (the limit of the call is {call.timeout:g} s)"
            backend.health.failed(err)
            if backend.on_call is not None:
                backend.on_call(backend.name, call.method, monotonic() - started, None)
            raise
        except BaseException:
            backend.health.released()
            raise
        backend.health.answered()
        if call.held is not None:
            reply.held, call.held = call.held, None
        if backend.on_call is not None:
            backend.on_call(backend.name, call.method, monotonic() - started, reply)
        return reply

    async def dispatch(self, call: Call, deadline: float) -> Reply:
        """Send a request without asking the breaker.

        Raises:
            BackendError: No answer.
        """
        eras = self._backend.eras
        certain = False
        for _ in range(ATTEMPTS):
            wanted = self._spec.era
            era = eras.settled(wanted) or await eras.choose(wanted, deadline, self.principal, call.headers)
            try:
                if era is Era.MODERN:
                    return await self._to_modern(call, deadline, final=certain)
                if eras.on_trial and not await self._has_legacy(deadline):
                    return await self._to_modern(call, deadline, final=certain)
                reply = await self._session().call(call, deadline)
            except WrongEra as wrong:
                if not await eras.contradicted(era, deadline, self.principal, call.headers):
                    # The backend speaks this era after all, so this was its answer: it is not asked twice.
                    return self._otherwise(wrong)
                certain = True
            else:
                eras.confirm()
                return reply
        raise BackendProtocolError(self._backend.name, CONTRADICTION)

    def _otherwise(self, wrong: WrongEra) -> Reply:
        if isinstance(wrong.otherwise, BackendError):
            raise wrong.otherwise
        if wrong.otherwise is None:
            raise BackendProtocolError(self._backend.name, CONTRADICTION)
        return wrong.otherwise

    async def _has_legacy(self, deadline: float) -> bool:
        """Try a handshake with a backend that has the modern era; what becomes of it harms no call."""
        now = loop_time()
        try:
            await self._session().open(min(now + TRIAL_TIMEOUT, now + (deadline - now) / 2))
        except WrongEra:
            self._backend.eras.refused()
        except BackendProtocolError as err:
            log.info("initialize was refused", backend=self._backend.name, reason=err.reason)
            self._backend.eras.refused()
        except BackendError as err:
            log.info("no answer to initialize", backend=self._backend.name, reason=err.reason)
            if err.sent or isinstance(err, BackendTimeout):
                self._backend.eras.refused(again_in=NO_ANSWER)
        else:
            self._backend.eras.confirm()
            return True
        return False

    async def announced(self, timeout: float) -> Handshake:
        """See `BackendSession.announced`."""
        backend = self._backend
        if self._closed:
            raise BackendUnavailable(backend.name, "the session is closed", sent=False)
        with backend.attempt():
            return await self.handshake(self._loop.time() + timeout)

    async def handshake(self, deadline: float) -> Handshake:
        """Return what the backend announces in the era of this session, asking it where that is not known.

        Raises:
            BackendError: It cannot be had.
        """
        eras = self._backend.eras
        headers = self._spec.headers
        for _ in range(ATTEMPTS):
            era = await eras.choose(self._spec.era, deadline, self.principal, headers)
            if era is Era.LEGACY and eras.on_trial and not await self._has_legacy(deadline):
                era = Era.MODERN
            if era is Era.MODERN:
                return await eras.discovered(deadline, self.principal, headers)
            try:
                found = await self._session().open(deadline)
            except WrongEra:
                if not await eras.contradicted(era, deadline, self.principal, headers):
                    break
            else:
                eras.confirm()
                return found
        raise BackendProtocolError(self._backend.name, CONTRADICTION)

    async def notify(self, method: str, params: bytes) -> None:
        """Send a notification; the modern era has none of a client."""
        if self._legacy is not None:
            await self._legacy.notify(method, params)

    async def close(self, *, leave: bool = False) -> None:
        """See `BackendSession.close`."""
        self._closed = True
        legacy, self._legacy = self._legacy, None
        listener, self._listener = self._listener, None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                if legacy is not None:
                    await legacy.close(leave=leave)
                if listener is not None:
                    await listener.close()
        except TimeoutError:
            log.info("a session did not end in time", backend=self._backend.name)

    # --- the two ways ---

    def _session(self) -> LegacySession:
        if self._legacy is None:
            self._legacy = LegacySession(self._backend.endpoint, self._spec, self._options)
        return self._legacy

    async def _to_modern(self, call: Call, deadline: float, *, final: bool) -> Reply:
        match call.method:
            case method if method == PING and not self._probe:
                return _DONE
            case method if method == SET_LEVEL:
                self._level = loads_str(fields(call.params).get("level"))
                return _DONE
            case method if method in {RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE}:
                return await self._subscribe(call, deadline)
        caller = self._backend.modern
        reply = await caller.call(call, deadline, final=final, probe=self._probe)
        if reply.error is not None and reply.error.code == HEADER_MISMATCH and call.method == TOOLS_CALL:
            # Refused before execution: our idea of the tool's schema is old.
            before = caller.mirrors
            await self._backend.refresh_tools(deadline)
            if caller.mirrors != before:
                return await caller.call(call, deadline, final=True, probe=self._probe)
        return reply

    async def _subscribe(self, call: Call, deadline: float) -> Reply:
        """Open the listen stream again with another set of resources: the new one first, then the old one ends."""
        uri = loads_str(fields(call.params).get("uri"))
        if uri is None:
            return Reply(error=RpcError(INVALID_PARAMS, "params.uri must be a string"), era=Era.MODERN, status=400)
        async with self._lock:
            wanted = set(self._uris)
            (wanted.add if call.method == RESOURCES_SUBSCRIBE else wanted.discard)(uri)
            if wanted == self._uris:
                return _DONE
            new = await self._acknowledged(sorted(wanted), call, deadline) if wanted else None
            if wanted and new is None:
                refusal = RpcError(INVALID_PARAMS, "the server does not support resource subscriptions")
                return Reply(error=refusal, era=Era.MODERN)
            old, self._listener, self._uris = self._listener, new, wanted
            if old is not None:
                await old.close()
            return _DONE

    async def _acknowledged(self, uris: list[str], call: Call, deadline: float) -> BackendSubscription | None:
        """Open a listen stream; None = the backend does not honour it. Whoever gives up meanwhile leaves none behind.

        Raises:
            BackendUnavailable: The session was closed meanwhile.
        """
        listener, honoured = self._listen(uris, call), False
        try:
            honoured = "resourceSubscriptions" in await listener.acknowledged(deadline) and not self._closed
        finally:
            if not honoured:
                await listener.close()
        if self._closed:
            raise BackendUnavailable(self._backend.name, "the session is closed")
        return listener if honoured else None

    def _listen(self, uris: list[str], call: Call) -> BackendSubscription:
        backend = self._backend
        listener = BackendSubscription(
            backend.endpoint,
            backend.modern,
            {"resourceSubscriptions": uris},
            on_notification=self._updated,
            on_gap=self._after_gap,
            principal=None if self._probe else call.principal,
            passthrough=call.headers,
            max_event=backend.settings.max_response,
        )
        listener.start()
        return listener

    def _heard(self, method: str, _params: bytes) -> None:
        if method.endswith("/list_changed"):
            self._backend.heard(method, self._spec.principal)

    def _updated(self, method: str, params: bytes) -> None:
        if self._spec.events is not None and method == RESOURCE_UPDATED:
            self._spec.events.notification(self._backend.name, method, params)

    def _after_gap(self) -> None:
        """Nothing is replayed, so each resource may have changed meanwhile."""
        for uri in sorted(self._uris):
            self._updated(RESOURCE_UPDATED, dumps({"uri": uri}))


async def ask_once(session: Session, method: str, params: bytes, timeout: float, *, headers: HeaderList = ()) -> Reply:
    """Send one of the gateway's own requests in a session, past the breaker.

    Raises:
        BackendError: No answer.
    """
    call = Call(
        method=method, params=params, timeout=timeout, principal=session.principal or ANONYMOUS, headers=headers
    )
    return await session.dispatch(call, loop_time() + timeout)
