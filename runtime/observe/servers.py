"""The two small HTTP servers of a manager: metrics, and health probes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import structlog
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from runtime.observe.health import Checks, report
from runtime.observe.metrics import REGISTRY

log = structlog.get_logger("server")


class BindError(ValueError):
    """The address cannot be listened on: it is malformed, or taken."""


def parse_bind(address: str) -> tuple[str | None, int] | None:
    """Read controller-runtime's form of an address: `:8080`, `127.0.0.1:8080`, `[::1]:0`; `0` or empty for none.

    Raises:
        BindError: Not such an address.
    """
    if address in ("", "0"):
        return None
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BindError(f"{address!r} is not an address: expected HOST:PORT, :PORT, or 0 to switch it off")
    return host.strip("[]") or None, int(port)


class HttpServer:
    """Serves one aiohttp application from the manager's start to its very end."""

    def __init__(self, name: str, address: str, app: web.Application) -> None:
        self.name = name
        self.address = address
        self.port = 0
        """The port that is listened on, once started; tests bind to port 0."""
        self._app = app

    async def run(self, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Serve until `stop`. Raises BindError when the address is taken."""
        bind = parse_bind(self.address)
        if bind is None:
            started()
            return
        runner = web.AppRunner(self._app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, bind[0], bind[1])
            try:
                await site.start()
            except OSError as error:
                reason = os.strerror(error.errno).lower() if error.errno else str(error)
                raise BindError(f"{self.name} server cannot listen on {self.address}: {reason}") from error
            self.port = runner.addresses[0][1]
            log.info("serving", server=self.name, address=self.address, port=self.port)
            started()
            await stop.wait()
        finally:
            await runner.cleanup()


def metrics_server(address: str) -> HttpServer:
    """`GET /metrics` in the format that the scraper asks for."""

    async def scrape(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_get("/metrics", scrape)
    return HttpServer("metrics", address, app)


def probe_server(address: str, healthz: Checks, readyz: Checks) -> HttpServer:
    """`/healthz` and `/readyz` with `?verbose` and `?exclude=NAME`, and each check alone under its name."""
    app = web.Application()
    for checks in (healthz, readyz):
        _add_endpoint(app, checks)
    return HttpServer("health probe", address, app)


def _add_endpoint(app: web.Application, checks: Checks) -> None:
    async def all_checks(request: web.Request) -> web.Response:
        status, text = await report(
            checks, exclude=request.query.getall("exclude", []), verbose="verbose" in request.query
        )
        return web.Response(status=status, text=text, headers={"X-Content-Type-Options": "nosniff"})

    async def one_check(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in checks.names:
            return web.Response(status=404, text=f"no check {name!r}\n")
        good = (await checks.run([name]))[name]
        return web.Response(
            status=200 if good else 500, text="ok" if good else "internal server error: reason withheld\n"
        )

    for path in (f"/{checks.name}", f"/{checks.name}/"):
        app.router.add_get(path, all_checks)
    app.router.add_get(f"/{checks.name}/{{name}}", one_check)
