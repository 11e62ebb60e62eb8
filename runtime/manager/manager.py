"""The manager: what controllers share, and the order in which it lives and dies.

manager = Manager(connect, ManagerOptions(...))
Builder(manager, "mcpgroup").for_(GROUP).complete(reconciler)
await manager.run()
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from runtime.cache import Cache, Informer, Reader, UndeclaredInformerError
from runtime.cache.index import IndexFunction
from runtime.cache.options import Transform
from runtime.client import Client
from runtime.control.controller import Controller, ControllerOptions
from runtime.election.elector import LeaseLostError
from runtime.election.thread import ElectorThread
from runtime.events.recorder import EventBroadcaster, Recorder
from runtime.manager.caches import CacheRunnable, CacheSamples
from runtime.manager.groups import Group, Runnable, RunnableError, RunnableGroup
from runtime.manager.options import ManagerOptions
from runtime.observe.health import Check, Checks
from runtime.observe.loopwatch import LoopWatch
from runtime.observe.metrics import CACHES, REST_REQUESTS
from runtime.observe.servers import HttpServer, metrics_server, probe_server
from runtime.transport.config import Endpoint
from runtime.transport.session import RequestDone, Transport
from runtime.wire.gvk import Resource
from runtime.wire.selectors import LabelSelector

log = structlog.get_logger("manager")

Connect = Callable[[], Awaitable[Endpoint]]

_NEVER_IMPLICIT = frozenset({("", "Secret"), ("", "ConfigMap")})


class GracefulShutdownError(Exception):
    """Something did not finish within `graceful_timeout` and was cancelled."""


class Manager:
    """Owns connections, cache, client, events, election and the runnables of one process.

    Args:
        endpoint: The API server.
        options: See there.
        connect: Makes the endpoint again for the elector's thread, because credentials belong to an event loop;
            None: `endpoint` serves there too, which is right for credentials that never change.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        options: ManagerOptions,
        *,
        connect: Connect | None = None,
    ) -> None:
        self.options = options
        self.healthz, self.readyz = Checks("healthz"), Checks("readyz")
        self.elector = self._make_elector(options, endpoint, connect)
        self.transport = Transport(
            endpoint,
            user_agent=options.user_agent,
            settings=options.transport,
            on_request=_count_request,
            may_write=self.elector.fence.allows if self.elector else None,
        )
        self.cache = Cache(self.transport, settings=options.reflector, namespaces=options.namespaces)
        self.client = Client(self.transport, self.cache, field_manager=options.field_manager)
        self.elected = asyncio.Event()
        """Set when this process leads, or at once without election. Readiness does not depend on it."""
        self.started = asyncio.Event()
        """Set when every controller runs; with election, on the leader only."""
        self.metrics_server: HttpServer = metrics_server(options.metrics_bind)
        self.probe_server: HttpServer = probe_server(options.probe_bind, self.healthz, self.readyz)
        self._events = EventBroadcaster(self.client, socket.gethostname())
        self._controllers: dict[str, Controller] = {}
        self._errors: list[Exception] = []
        self._failed, self._stop = asyncio.Event(), asyncio.Event()
        self._groups = {group: RunnableGroup(group, self._on_error) for group in Group}
        self._ran = False
        self._samples = CacheSamples(self.cache)
        CACHES.add(self._samples)
        self._add_own_runnables()

    # --- what controllers use --------------------------------------------------------------------------------------

    @property
    def reader(self) -> Reader:
        """Cached reads."""
        return self.cache.reader

    def informer(
        self,
        resource: Resource,
        *,
        metadata_only: bool = False,
        namespaces: Iterable[str] | None = None,
        read_your_writes: bool = True,
        indexes: Mapping[str, IndexFunction | None] | None = None,
        labels: Mapping[str, str] | LabelSelector | None = None,
        transform: Transform | None = None,
    ) -> Informer:
        """Declare that `resource` is read from the cache. Again for the same kind: one informer, the indexes merged.

        Args:
            resource: The kind.
            metadata_only: Keep names, labels and owners, not bodies. Right for Secrets and ConfigMaps.
            namespaces: Watch these only; None for the manager's.
            read_your_writes: Show an own write before the watch does.
            indexes: Functions by name; None stands for the value at the path that the name is.
            labels: Watch only what carries these labels, or what a selector matches.
            transform: Cuts each object down to what is needed of it before it is kept; see `InformerOptions`.
        """
        return self.cache.declare(
            resource,
            metadata_only=metadata_only,
            namespaces=namespaces,
            read_your_writes=read_your_writes and self.options.read_your_writes,
            indexes=indexes,
            labels=labels,
            transform=transform,
        )

    def recorder(self, controller: str) -> Recorder:
        """Events in the name of `controller`, for example `mcpgroup-controller`."""
        return self._events.recorder(controller)

    def add(self, runnable: Runnable, group: Group = Group.LEADER) -> None:
        """Run something beside the controllers. After the start it is started at once."""
        self._groups[group].add(runnable)

    def add_healthz(self, name: str, check: Check) -> None:
        """Add a check that asks for a restart when it is red."""
        self.healthz.add(name, check)

    def add_readyz(self, name: str, check: Check) -> None:
        """Add a check that says: do not count on me."""
        self.readyz.add(name, check)

    # --- what the builder uses -------------------------------------------------------------------------------------

    def informer_of(self, resource: Resource) -> Informer:
        """The declared informer; a watch of a kind that nobody declared declares it, except for Secrets and ConfigMaps.

        Raises:
            UndeclaredInformerError: Bodies of all Secrets or ConfigMaps would be kept without anybody asking for it.
        """
        informer = self.cache.declared(resource)
        if informer is not None:
            return informer
        if resource.group_kind in _NEVER_IMPLICIT:
            raise UndeclaredInformerError(
                f"{resource} must be declared before it is watched, with metadata_only=True unless bodies are needed"
            )
        return self.informer(resource)

    def controller_options(self, name: str) -> ControllerOptions:
        """Options for the controller of this name."""
        return self.options.controllers.get(name, self.options.controller)

    def add_controller(self, controller: Controller) -> None:
        """Run a controller while this process leads.

        Raises:
            ValueError: There is a controller of this name, and two would share their metrics.
        """
        if controller.name in self._controllers:
            raise ValueError(f"there already is a controller named {controller.name}")
        controller.serves = self.cache.serves
        self._controllers[controller.name] = controller
        self.add(controller, Group.LEADER)

    @property
    def controllers(self) -> Mapping[str, Controller]:
        """Controllers by name."""
        return self._controllers

    # --- life ------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask for a graceful shutdown. May be called from a signal handler of the loop, more than once."""
        self._stop.set()

    async def run(self) -> None:
        """Start everything in order, work until `stop` or a failure, stop everything in reverse.

        Raises:
            LeaseLostError: Leadership was lost; nothing was drained, and the process must end now.
            RunnableError: One runnable failed.
            ExceptionGroup: Several failures, those of the shutdown included.
            RuntimeError: It ran before: a manager lives once.
        """
        if self._ran:
            raise RuntimeError("a manager runs once")
        self._ran = True
        starting = asyncio.create_task(self._start(), name="manager-start")
        watching = [asyncio.create_task(event.wait()) for event in (self._stop, self._failed)]
        try:
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (starting, *watching):
                task.cancel()
            await asyncio.gather(starting, *watching, return_exceptions=True)
            await self._shut_down()
        self._raise_errors()

    async def _start(self) -> None:
        try:
            for group in (Group.SERVERS, Group.CACHES, Group.OTHERS):
                await self._groups[group].start()
            if self.elector is not None:
                self._election = asyncio.create_task(self._elect(self.elector), name="election")
                await self.elector.elected.wait()
            self.elected.set()
            await self._groups[Group.LEADER].start()
            self.started.set()
            log.info("manager started", controllers=sorted(self._controllers))
        except Exception as error:  # noqa: BLE001  a bug in the start must end the manager as any failure does
            self._on_error(RunnableError("start", error))

    async def _elect(self, elector: ElectorThread) -> None:
        try:
            await elector.run()
        except LeaseLostError as error:
            self._errors.append(error)
            self._failed.set()
        except Exception as error:  # noqa: BLE001  whatever it is, there is no election any more
            self._on_error(RunnableError("leader election", error))

    async def _shut_down(self) -> None:
        """Others, then the leader's work, then its events, then the lease, then what all of these stood on."""
        lost = any(isinstance(error, LeaseLostError) for error in self._errors)
        clock = asyncio.get_running_loop().time
        grace = 0.0 if lost else self.options.graceful_timeout
        deadline = None if grace is None else clock() + grace
        log.info("stopping", seconds=grace)
        overdue: list[str] = []
        for group in (Group.OTHERS, Group.LEADER):
            overdue += await self._groups[group].stop(deadline)
        await self._events.flush(0.0 if lost else 2.0 if deadline is None else max(0.0, min(2.0, deadline - clock())))
        if self.elector is not None:
            # Cancelled work may have a request under way: then the lease runs out by itself.
            await self.elector.stop(release=self.elector.options.release_on_stop and not overdue and not lost)
        for group in (Group.CACHES, Group.SERVERS):
            # They finish in milliseconds, and are not to blame for the time that others took.
            overdue += await self._groups[group].stop(None if deadline is None else max(deadline, clock() + 1.0))
        await self.transport.close()
        if overdue and not lost and grace != 0.0:
            self._errors.append(GracefulShutdownError(f"not finished {grace:g} s after the stop: {', '.join(overdue)}"))

    def _on_error(self, error: RunnableError) -> None:
        log.error("a part of the manager failed", part=error.name, error=str(error.__cause__))
        self._errors.append(error)
        self._failed.set()

    def _raise_errors(self) -> None:
        for error in self._errors:
            if isinstance(error, LeaseLostError):
                raise error
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise ExceptionGroup("the manager failed", self._errors)

    # --- parts -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _make_elector(options: ManagerOptions, endpoint: Endpoint, connect: Connect | None) -> ElectorThread | None:
        if options.election is None:
            return None

        async def same() -> Endpoint:
            return endpoint

        return ElectorThread(options.election, connect or same, user_agent=options.user_agent)

    def _add_own_runnables(self) -> None:
        loop_watch = LoopWatch()
        self.add(self.metrics_server, Group.SERVERS)
        self.add(self.probe_server, Group.SERVERS)
        self.add(loop_watch, Group.SERVERS)
        self.add(CacheRunnable(self.cache, self.options.sync_timeout), Group.CACHES)
        self.add_healthz("ping", lambda: None)
        self.add_readyz("event-loop", loop_watch.check)
        self.add_readyz("caches", self._check_caches)
        if self.elector is not None:
            self.add_healthz("leader-election", self.elector.check)

    def _check_caches(self) -> str | None:
        return "; ".join(self.cache.problems()) or None


def _count_request(done: RequestDone) -> None:
    REST_REQUESTS.labels(done.code, done.method, done.host).inc()
