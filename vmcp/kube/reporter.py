"""Reports on the backends in the status of the gateway's VirtualMCPServer, for all of its replicas.

Looks once a second at what the backends' monitors know, and writes when something changed, else every 5 minutes. Calls
never wait for it, and without an API server the gateway goes on serving.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from api.common.model import GROUP
from api.contract.reports import FIELD_MANAGER, REPORT_EVERY, reporter_lease_name
from runtime.client.client import Client
from runtime.transport.session import Transport
from runtime.util.conditions import Conditions, parse_conditions
from runtime.util.owner import owner_reference
from runtime.wire.errors import ApiError, TransportError
from runtime.wire.gvk import Key, Resource
from vmcp.backend.interface import Backend
from vmcp.config.settings import LeftOut
from vmcp.kube.identity import Identity
from vmcp.kube.leadership import Leadership
from vmcp.kube.report import ObservedBackend, compose, look, sign
from vmcp.observe.logs import current_redactor

log = structlog.get_logger(__name__)

VMCP = Resource(GROUP, "v1beta1", "VirtualMCPServer", "virtualmcpservers")
"""Named here as well as in `kinds`, which brings the models of the API along."""

TICK = 1.0
"""Seconds between two looks: what changes within one of them is one report."""
FIRST_WAIT = 10.0
"""Seconds that a first report waits for backends that were not checked yet."""
BURST = 5
"""Reports of changes without rest."""
REFILL = 10.0
"""Seconds for each further one: a backend that comes and goes all the time must not make a write a second."""
LONGEST_BACKOFF = 60.0
"""Seconds between two tries of a report that cannot be written."""
_ADDED = ("readyBackends", "lastReportTime")
"""Fields that ToolHive's description of the kind does not have."""
_UNDECLARED = "field not declared in schema"


class ReportPace:
    """When a report is due. Times are steady seconds."""

    def __init__(self) -> None:
        self._tokens = float(BURST)
        self._at = 0.0
        self._regular = float("-inf")
        self._not_before = float("-inf")
        self._backoff = 0.0

    def due(self, now: float, *, changed: bool) -> bool:
        """Whether to report now."""
        if now < self._not_before:
            return False
        self._tokens = min(float(BURST), self._tokens + (now - self._at) / REFILL)
        self._at = now
        return now >= self._regular or (changed and self._tokens >= 1)

    def reported(self, now: float) -> None:
        """A report was written."""
        self._tokens = max(0.0, self._tokens - 1)
        self._regular, self._not_before, self._backoff = now + REPORT_EVERY, float("-inf"), 0.0

    def failed(self, now: float) -> None:
        """A report could not be written."""
        self._backoff = min(LONGEST_BACKOFF, max(1.0, self._backoff * 2))
        self._not_before = now + self._backoff

    def restart(self) -> None:
        """Whatever was reported is not ours any more: the next report is due at once."""
        self._regular = float("-inf")


class StatusReporter:
    """See the module.

    Args:
        transport: The connections.
        identity: Whose gateway this is.
        backends: Returns the backends that are served.
        left_out: Returns those that cannot be.
        auth_configs: Returns backend -> MCPExternalAuthConfig, as far as known.
        pending: Says why the backends are not known yet; "" = they are.
    """

    def __init__(
        self,
        transport: Transport,
        identity: Identity,
        *,
        backends: Callable[[], Iterable[Backend]],
        left_out: Callable[[], Iterable[LeftOut]],
        auth_configs: Callable[[], Mapping[str, str]],
        pending: Callable[[], str],
    ) -> None:
        self._client = Client(transport, None, field_manager=FIELD_MANAGER)
        self._key = Key(identity.namespace, identity.name)
        lease = Key(identity.namespace, reporter_lease_name(identity.name))
        self._leadership = Leadership(transport, lease, self._owner)
        self._backends = backends
        self._left_out = left_out
        self._auth_configs = auth_configs
        self._pending = pending
        self._pace = ReportPace()
        self._conditions: Conditions | None = None
        self._said: object = None
        self._began: float | None = None
        self._plain = False
        self._problem = ""

    async def _owner(self) -> dict[str, Any]:
        return owner_reference(await self._client.get_live(VMCP, self._key))

    async def run(self) -> None:
        """Report until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._leadership.run(), name="reporter-lease")
            group.create_task(self._report(), name="reporter")

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            try:
                await self._once(asyncio.get_running_loop().time())
            except Exception:
                log.exception("a report could not be made")
                self._pace.failed(asyncio.get_running_loop().time())

    async def _once(self, now: float) -> None:
        if not self._leadership.held:
            self._conditions = self._said = None
            self._pace.restart()
            return
        if self._pending() or self._must_wait(now):
            return
        backends, left_out, auth_configs = list(self._backends()), list(self._left_out()), self._auth_configs()
        signature = sign(backends, left_out, auth_configs)
        if not self._pace.due(now, changed=signature != self._said):
            return
        seen = look(backends, left_out, auth_configs, current_redactor().text)
        try:
            await self._write(seen)
        except (ApiError, TransportError) as error:
            self._say(str(error))
            self._pace.failed(now)
        else:
            self._say("")
            self._said = signature
            self._pace.reported(now)

    def _must_wait(self, now: float) -> bool:
        """Whether this is the start, and backends are about to be checked for the first time."""
        self._began = now if self._began is None else self._began
        if self._said is not None or now - self._began >= FIRST_WAIT:
            return False
        return any(backend.state.last_check is None and not backend.personal for backend in self._backends())

    async def _write(self, seen: tuple[ObservedBackend, ...]) -> None:
        if self._conditions is None:
            # Another replica may have reported until now: times of transitions go on.
            record = await self._client.get_live(VMCP, self._key)
            self._conditions = parse_conditions(record.path("status.conditions"))
        status = compose(seen, self._conditions, datetime.now(UTC))
        try:
            record = await self._apply(status)
        except ApiError as error:
            if self._plain or _UNDECLARED not in error.message:
                raise
            self._plain = True
            log.info("the installed CRD of VirtualMCPServer is older than this gateway", without=_ADDED)
            record = await self._apply(status)
        self._conditions = parse_conditions(record.path("status.conditions"))

    async def _apply(self, status: dict[str, Any]) -> Any:
        body = {
            "apiVersion": VMCP.api_version,
            "kind": VMCP.kind,
            "metadata": {"name": self._key.name, "namespace": self._key.namespace},
            "status": {key: value for key, value in status.items() if not (self._plain and key in _ADDED)},
        }
        return await self._client.apply(VMCP, body, field_manager=FIELD_MANAGER, subresource="status")

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            if problem:
                log.warning("cannot report on backends", gateway=str(self._key), reason=problem)
            else:
                log.info("reporting on backends again", gateway=str(self._key))
