"""What `serve` does around the gateway itself: reload, signals, secrets of the redactor."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from api.contract.errors import ConfigError, ConfigErrors
from vmcp.auth.interface import BackendAuth
from vmcp.auth.outgoing.strategy import TokenEndpoints
from vmcp.backend.backend import McpBackend
from vmcp.backend.interface import Backend
from vmcp.backend.settings import BackendSettings, Resolve
from vmcp.collecting import Collector
from vmcp.config.load import Loaded, is_discovered, load, load_proxy
from vmcp.config.options import ServeOptions, is_loopback
from vmcp.config.reload import ConfigSource, ConfigStatus, FileSource, Reloader, report_left_out
from vmcp.config.settings import Settings
from vmcp.front.settings import FrontSettings
from vmcp.http.client import Reach
from vmcp.kube.identity import read_identity
from vmcp.observe import logs
from vmcp.observe.metrics import Metrics
from vmcp.observe.redact import Redactor
from vmcp.server import Server
from vmcp.serving import serve
from vmcp.version import VERSION

if TYPE_CHECKING:
    from vmcp.kube.source import ClusterSource

MAX_BODY_OF_PROXY = 8 * 1024 * 1024
"""Bytes of a request's body: what the stock proxy lets through."""

log = structlog.get_logger("vmcp")


async def run(options: ServeOptions, loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT, then end in good order; SIGHUP looks at the file at once.

    Raises:
        OSError: The address cannot be had, or a file that the configuration names cannot be read.
        ConfigErrors: The gateway finds its backends itself, and how to reach the API server is not known.
    """
    metrics = Metrics()
    metrics.reloaded(accepted=True)
    report_left_out(loaded.settings, metrics)
    server = Server(
        loaded.settings,
        make_backend=_Backends(options),
        front=_front(options),
        resolve=options.resolve,
        overrides=options.resolve,
        token_endpoints=TokenEndpoints(
            resolve=options.resolve,
            reach=Reach(options.allowed_networks),
            allow_http=options.allow_http_tokens,
            opaque=options.opaque_tokens,
        ),
        metrics=metrics,
        secrets=() if loaded.settings.sealing is None else (loaded.settings.sealing,),
    )
    swap = _Swap(server, loaded.settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with (
        _reloading(options, loaded, environ, swap, metrics) as (reloader, cluster),
        _reporting(cluster, reloader, server),
    ):
        pending = (lambda: reloader.pending) if is_discovered(loaded.source) else None
        server.show_config(reloader.show, pending)
        loop.add_signal_handler(signal.SIGHUP, reloader.nudge)
        collector = Collector()
        collecting = asyncio.create_task(collector.run(), name="garbage collection")
        try:
            await serve(
                server,
                host=options.host,
                port=options.port,
                service_port=options.service_port,
                stop=stop,
                listening=_Announcement(options, loaded, collector),
                ending=options.ending,
            )
        finally:
            collecting.cancel()


def front_of_proxy(version: str) -> FrontSettings:
    """Return the front's settings where they are a proxy's own."""
    return FrontSettings(version=version, max_body=MAX_BODY_OF_PROXY)


def _front(options: ServeOptions) -> FrontSettings:
    return replace(
        front_of_proxy(VERSION) if options.proxy else FrontSettings(version=VERSION),
        loopback_only=is_loopback(options.host),
        allowed_origins=options.allowed_origins,
        separate_anonymous=options.separate_anonymous,
        service_apart=options.service_port is not None,
    )


@asynccontextmanager
async def _reloading(
    options: ServeOptions, loaded: Loaded, environ: Mapping[str, str], swap: _Swap, metrics: Metrics
) -> AsyncIterator[tuple[Reloader, ClusterSource | None]]:
    """Follow the configuration: by the API server where there is one to ask, else in the file."""
    found = is_discovered(loaded.source)
    status = ConfigStatus(loaded.digest, time.time(), left_out=loaded.settings.left_out)
    async with AsyncExitStack() as stack:
        cluster = await _cluster(stack, options, environ, needed=found)
        source: ConfigSource
        if cluster is not None:
            source = cluster
        else:
            assert options.config is not None, "without an API server there is a file"
            read = load_proxy if options.proxy else load
            source = FileSource(options.config, environ, debug=options.debug, root=options.root, read=read)
        pending = "api_server_pending" if found else ""
        reloader = Reloader(source, swap, metrics, status, loaded.settings, pending=pending)
        if cluster is not None:
            cluster.on_change(reloader.changed)
        watching = asyncio.create_task(reloader.run(), name="config-watch")
        try:
            yield reloader, cluster
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


@asynccontextmanager
async def _reporting(cluster: ClusterSource | None, reloader: Reloader, server: Server) -> AsyncIterator[None]:
    """Report on the backends while the context lasts, where there is an API server to tell."""
    if cluster is None:
        yield
        return

    def backends() -> Iterable[Backend]:
        return server.gateway.plan.backends.values()  # a reload brings another plan

    reporter = cluster.reporter(
        backends=backends,
        left_out=lambda: reloader.status.left_out,
        pending=lambda: reloader.pending,
    )
    reporting = asyncio.create_task(reporter.run(), name="reports")
    try:
        yield
    finally:
        reporting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporting


async def _cluster(
    stack: AsyncExitStack, options: ServeOptions, environ: Mapping[str, str], *, needed: bool
) -> ClusterSource | None:
    """Follow the API server until the stack is closed; None where there is none to ask.

    Raises:
        ConfigErrors: It is needed, and how to reach it is not known.
    """
    identity = read_identity(environ)
    if identity is None or options.proxy:
        return None
    from vmcp.kube.connection import ConfigurationError  # a Kubernetes client is for gateways that have a use for one
    from vmcp.kube.source import follow

    try:
        return await stack.enter_async_context(
            follow(identity, options.config, environ, debug=options.debug, root=options.root)
        )
    except ConfigurationError as error:
        if needed or options.config is None:
            raise ConfigErrors([ConfigError("", str(error))]) from None
        log.warning("no usable API server configuration, following the mounted file", reason=str(error))
        return None


class _Backends:
    """`BackendFactory`: what the command line says holds for every backend."""

    def __init__(self, options: ServeOptions) -> None:
        self._reach = Reach(options.allowed_networks)

    def __call__(self, settings: BackendSettings, auth: BackendAuth, resolve: Resolve) -> McpBackend:
        return McpBackend(settings, auth, resolve=resolve, reach=self._reach)


class _Swap:
    """`Apply` that keeps the redactor complete: old secrets are in flight until their last call has ended."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self._server = server
        self._current = settings.secrets

    async def __call__(self, settings: Settings) -> frozenset[str]:
        old = self._current
        logs.set_secrets(Redactor((*old, *settings.secrets)))
        try:
            standing = await self._server.apply(settings)
        except BaseException:
            logs.set_secrets(Redactor(old))
            raise
        # The secrets of the version before stay known until the next swap: its calls may still be under way. Those of a
        # backend that goes on as it stood are in no newer version: they stay known until nothing of the kind is left.
        self._current = tuple(dict.fromkeys((*old, *settings.secrets))) if standing else settings.secrets
        return standing


class _Announcement:
    """Called once, when the port is open."""

    def __init__(self, options: ServeOptions, loaded: Loaded, collector: Collector) -> None:
        self._options = options
        self._loaded = loaded
        self._collector = collector

    def __call__(self, port: int) -> None:
        self._collector.begin()
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        settings = self._loaded.settings
        log.info(
            "listening",
            url=f"http://{host}:{port}/mcp",
            port=port,
            backends=len(settings.backends),
            auth=settings.incoming.mode,
            sealing="process" if settings.sealing is None else "shared",
            digest=self._loaded.digest,
        )
