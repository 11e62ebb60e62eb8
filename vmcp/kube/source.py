"""The two sources of configurations that ask the API server: the own ConfigMap alone, and the group besides it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from api.contract.config import VmcpConfig
from api.contract.defaults import with_defaults
from api.contract.errors import ConfigError, join
from api.contract.identifiers import HEADER_FORWARD_ENV
from api.contract.loader import dump_config, parse_config
from vmcp.config.load import Loaded, digest_of, is_discovered, load, settle
from vmcp.config.reload import PendingError
from vmcp.config.resolve import Surroundings
from vmcp.config.secrets import EnvironmentSecrets, NamedSecrets
from vmcp.config.settings import LeftOut
from vmcp.kube.bundles import Bundles
from vmcp.kube.connection import ClusterConnection
from vmcp.kube.document import Document
from vmcp.kube.identity import Identity

if TYPE_CHECKING:
    from membership import Skipped
    from vmcp.backend.interface import Backend
    from vmcp.kube.compose import Composed
    from vmcp.kube.look import GroupObserver
    from vmcp.kube.reporter import StatusReporter
    from vmcp.kube.view import GroupView

log = structlog.get_logger(__name__)

GATHER = 0.02
"""Seconds to wait after a change for those that belong to it: an object and its status, a member and its Secret."""
SAY_EVERY = 10.0
"""Seconds between two log lines about what a start waits for."""
FIRST_WAIT = 5.0
"""Seconds that a start waits for Secrets and CA bundles of members; afterwards it goes on without those members."""


@asynccontextmanager
async def follow(
    identity: Identity, path: Path | None, environ: Mapping[str, str], *, debug: bool = False, root: str = ""
) -> AsyncIterator[ClusterSource]:
    """Follow the API server while the context lasts; it need not be there yet.

    Args:
        identity: Whose gateway this is.
        path: The mounted file; None = there is none.
        environ: Of the process.
        debug: See `load`.
        root: See `load`.

    Raises:
        ConfigurationError: There is no usable configuration of an API server.
    """
    connection = await ClusterConnection.open(identity, environ)
    document = Document(connection.named, identity, path)
    source = ClusterSource(connection, document, environ, debug=debug, root=root)
    running = asyncio.create_task(connection.run(), name="api-server")
    await asyncio.sleep(0)  # it runs, so that the group can be watched
    try:
        yield source
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await connection.close()
        source.close()


async def first_document(identity: Identity, environ: Mapping[str, str]) -> bytes:
    """Wait for the gateway's ConfigMap, for as long as it takes, and return the configuration in it.

    Raises:
        ConfigurationError: There is no usable configuration of an API server.
        ConfigErrors: The ConfigMap holds none.
    """
    connection = await ClusterConnection.open(identity, environ)
    changed = asyncio.Event()
    connection.on_change = changed.set
    document = Document(connection.named, identity, None)
    try:
        while True:
            changed.clear()
            document.stamp()
            try:
                return await document.read()
            except PendingError:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SAY_EVERY):
                        await changed.wait()
                        continue
                log.warning("waiting for the ConfigMap", gateway=str(identity), config_map=document.name[1])
    finally:
        await connection.close()


class ClusterSource:
    """`Source` for a gateway that has an API server. Whether it finds its backends itself, its configuration says.

    Attributes:
        auth_configs: Backend -> MCPExternalAuthConfig; empty where the operator lists backends and strategies.
    """

    def __init__(
        self,
        connection: ClusterConnection,
        document: Document,
        environ: Mapping[str, str],
        *,
        debug: bool = False,
        root: str = "",
    ) -> None:
        """Take where to look; the rest is as `load` takes it."""
        self._connection = connection
        self._document = document
        self._environ = environ
        self._debug = debug
        self._root = root
        self._observer: GroupObserver | None = None
        self._bundles = Bundles()
        self.auth_configs: Mapping[str, str] = {}
        self._known: tuple[bytes, GroupView | None, Loaded] | None = None
        self._parsed: tuple[bytes, VmcpConfig] | None = None
        self._began: float | None = None
        self._refused: tuple[str, ...] = ()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever the API server has told something."""
        self._connection.on_change = changed

    def reporter(
        self,
        backends: Callable[[], Iterable[Backend]],
        left_out: Callable[[], Iterable[LeftOut]],
        pending: Callable[[], str],
    ) -> StatusReporter:
        """Return what reports on the backends; the parameters are as `StatusReporter` takes them."""
        from vmcp.kube.reporter import (
            StatusReporter,  # a report needs a client that a look-up of the ConfigMap does not
        )

        return StatusReporter(
            self._connection.transport,
            self._connection.identity,
            backends=backends,
            left_out=left_out,
            auth_configs=lambda: self.auth_configs,
            pending=pending,
        )

    def stamp(self) -> Hashable | None:
        """Return what changes when the configuration may have changed."""
        return self._connection.version, self._document.stamp()

    async def load(self) -> Loaded:
        """Take a look and make a configuration of it."""
        await asyncio.sleep(GATHER)
        data = await self._document.read()
        base = await self._parse(data)
        if not is_discovered(base):
            return await self._inline(data)
        if self._observer is None:
            from vmcp.kube.look import GroupObserver  # membership and the models of the API: only for who needs them

            self._observer = GroupObserver(connection=self._connection)
        view = self._observer.look(base.group_ref, frozenset({self._document.name}))
        self._say_refused()
        if self._must_wait(view):
            raise PendingError("secrets_pending")
        if self._known is not None and self._known[:2] == (data, view):
            return self._known[2]
        loaded = await asyncio.to_thread(self._settle, base, data, view)
        self._known = data, view, loaded
        return loaded

    def close(self) -> None:
        """Remove what was written."""
        self._bundles.close()

    async def _parse(self, data: bytes) -> VmcpConfig:
        if self._parsed is None or self._parsed[0] != data:
            self._parsed = data, await asyncio.to_thread(parse_config, data)
        return self._parsed[1]

    async def _inline(self, data: bytes) -> Loaded:
        loaded = await asyncio.to_thread(load, data, self._environ, debug=self._debug, root=self._root)
        self._connection.named.keep({self._document.name})
        self.auth_configs = {}
        return loaded

    def _must_wait(self, view: GroupView) -> bool:
        """Whether this is the start, and something is being read that will be there in a moment."""
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        reading = any(not why for why in view.unread.values())
        return self._known is None and reading and now - self._began < FIRST_WAIT

    def _settle(self, base: VmcpConfig, data: bytes, view: GroupView) -> Loaded:
        from vmcp.kube.compose import compose

        composed = compose(base, view, self._connection.identity.namespace)
        files = self._bundles.write(composed.bundles)
        # In its form of variables header forwarding is for gateways that do not read it from the members.
        environ = {key: value for key, value in self._environ.items() if not key.startswith(HEADER_FORWARD_ENV)}
        surroundings = Surroundings(
            environ,
            NamedSecrets(composed.values, EnvironmentSecrets(environ)),
            root=self._root,
            bundles=files,
            debug=self._debug,
        )
        loaded = settle(composed.config, _digest(data, composed), surroundings)
        self._bundles.keep(files)
        self.auth_configs = composed.auth_configs
        left_out = (*map(_left_out, composed.skipped), *loaded.settings.left_out)
        return replace(loaded, settings=replace(loaded.settings, left_out=left_out))

    def _say_refused(self) -> None:
        """Say once which kinds may not be read."""
        refused = tuple(str(kind) for kind in self._connection.refused())
        if refused != self._refused:
            self._refused = refused
            if refused:
                log.warning("treating kinds that cannot be read or are not installed as empty", kinds=refused)


def _digest(data: bytes, composed: Composed) -> str:
    """Return what tells people which version runs: of the document and of what was made of it, never of a Secret."""
    return digest_of(hashlib.sha256(data).digest() + dump_config(with_defaults(composed.config)))


def _left_out(skipped: Skipped) -> LeftOut:
    message = f"{skipped.reason}: {skipped.detail}" if skipped.detail else str(skipped.reason)
    return LeftOut(skipped.name, (ConfigError(join("members", skipped.name), message),), str(skipped.reason))
