"""The current snapshot, kept up to date with the backends, and who wants to know when it changes.

Lists are always answered from what is known now. A backend that is slow, dead or new changes the snapshot when it is
heard, and clients that see the difference are told; nobody waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

import structlog

from vmcp.auth.interface import Principal
from vmcp.backend.interface import BackendError, Catalogue, CatalogueChange, HeaderList, Kind, Provider
from vmcp.core.plan import Plan
from vmcp.core.snapshot import EMPTY, Offer, RoutingSnapshot, aggregate
from vmcp.core.views import ListViews

log = structlog.get_logger(__name__)

SETTLE = 0.05
"""Seconds between the first change of a burst and the new snapshot. After a rebuild four times what it took is left to
other work first: one backend whose lists never stop changing must not keep the gateway busy for everybody."""
PERSONAL_WAIT = 5.0
"""Seconds that a list waits for backends that show each caller a list of its own."""
MAX_PERSONAL = 1024
"""Callers whose own snapshot is kept."""
COMPLAIN_EVERY = 60.0
"""Seconds between two log lines, for each backend, that say why a caller is not shown its own lists."""


class Watcher:
    """Somebody who wants to know when a list changed as a principal sees it."""

    __slots__ = ("callback", "kinds", "principal", "seen")

    def __init__(
        self, principal: Principal, kinds: frozenset[Kind], callback: Callable[[frozenset[Kind]], None]
    ) -> None:
        """Take whose view counts, which lists, and what to call with those that changed. Must not block."""
        self.principal = principal
        self.kinds = kinds
        self.callback = callback
        self.seen: dict[Kind, bytes] = {}


class Offers:
    """The snapshot of the current plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._views = ListViews(EMPTY)
        self._unsubscribe: dict[Provider, Callable[[], None]] = {}
        self._personal: list[Provider] = []
        self._own: OrderedDict[tuple[object, ...], ListViews] = OrderedDict()
        self._watchers: set[Watcher] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._problems: frozenset[str] = frozenset()
        self._complained: dict[str, float] = {}
        self._rest_until = 0.0
        self.replace(plan)

    @property
    def snapshot(self) -> RoutingSnapshot:
        """What is offered to everybody."""
        return self._views.snapshot

    def replace(self, plan: Plan) -> None:
        """Take a new plan: listen to its backends, no longer to others, and build its snapshot at once."""
        self._plan = plan
        wanted = set(plan.providers.values())
        for backend in list(self._unsubscribe):
            if backend not in wanted:
                self._unsubscribe.pop(backend)()
        for backend in wanted - self._unsubscribe.keys():
            self._unsubscribe[backend] = backend.subscribe(self._changed)
        self._complained.clear()
        self.rebuild()

    def close(self) -> None:
        """Stop listening."""
        for unsubscribe in self._unsubscribe.values():
            unsubscribe()
        self._unsubscribe.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._watchers.clear()

    def rebuild(self) -> None:
        """Make a snapshot of what the backends offer now, put it in place, and tell those who see a difference."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        began = time.monotonic()
        self._personal = sorted(
            (backend for backend in self._plan.providers.values() if backend.personal), key=lambda backend: backend.name
        )
        catalogues = {name: backend.catalogue for name, backend in self._plan.providers.items()}
        self._views = ListViews(self._aggregate(catalogues), self._plan.mark)
        self._own.clear()
        self._report(self.snapshot.problems)
        for watcher in list(self._watchers):
            try:
                self._tell(watcher)
            except Exception:
                log.exception("a client could not be notified of changed lists")
        now = time.monotonic()
        self._rest_until = now + 4 * (now - began)

    def views_now(self) -> ListViews | None:
        """Return the views for everybody; None when some backend shows each caller its own list."""
        return None if self._personal else self._views

    async def views_for(self, principal: Principal, headers: HeaderList) -> ListViews:
        """Return the views for one caller. Waits a bounded time, and only for backends with personal lists."""
        if not self._personal:
            return self._views
        own = await self.personal_lists(principal, headers)
        found = tuple(own.values())
        key = (id(self._views), *(id(catalogue) for catalogue in found))
        views = self._own.get(key)
        if views is None:
            shared = {name: backend.catalogue for name, backend in self._plan.providers.items()}
            views = self._own[key] = ListViews(self._aggregate({**shared, **own}), self._plan.mark)
            # The catalogues are part of the key by identity: keep them alive as long as the key.
            views.pinned = (self._views, *found)
            if len(self._own) > MAX_PERSONAL:
                self._own.popitem(last=False)
        else:
            self._own.move_to_end(key)
        return views

    async def personal_lists(self, principal: Principal, headers: HeaderList) -> dict[str, Catalogue]:
        """Return what the backends that show each caller its own lists show to this one. Waits a bounded time."""
        personal = self._personal
        found = await asyncio.gather(*(self._fetch(backend, principal, headers) for backend in personal))
        return {backend.name: catalogue for backend, catalogue in zip(personal, found, strict=True)}

    def views_with(self, own: Mapping[str, Catalogue]) -> ListViews:
        """Return views in which some backends' catalogues are a client's own: personal ones, and of its sessions."""
        shared = {name: backend.catalogue for name, backend in self._plan.providers.items()}
        present = {name: catalogue for name, catalogue in own.items() if name in shared}
        return ListViews(self._aggregate({**shared, **present}), self._plan.mark)

    def watch(self, watcher: Watcher) -> None:
        """Start telling `watcher` about changes after now."""
        watcher.seen = self._etags(watcher)
        self._watchers.add(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Stop."""
        self._watchers.discard(watcher)

    def unknown(self) -> list[str]:
        """Return the names of backends that were never heard."""
        return sorted(
            name
            for name, backend in self._plan.providers.items()
            if not backend.catalogue.known and not backend.personal
        )

    @property
    def pending(self) -> bool:
        """Whether a backend told something that the snapshot does not hold yet."""
        return self._timer is not None

    def _changed(self, change: CatalogueChange) -> None:
        if change.kinds and self._timer is None:
            delay = max(SETTLE, self._rest_until - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self.rebuild)

    def _aggregate(self, catalogues: Mapping[str, Catalogue]) -> RoutingSnapshot:
        offers = [
            Offer(name, found.tools, found.resources, found.templates, found.prompts)
            for name, found in catalogues.items()
        ]
        return aggregate(offers, self._plan.rules)

    async def _fetch(self, backend: Provider, principal: Principal, headers: HeaderList) -> Catalogue:
        try:
            return await backend.catalogue_for(principal, headers=headers, timeout=PERSONAL_WAIT)
        except BackendError as error:
            self._complain(error)
            return backend.catalogue

    def _complain(self, error: BackendError) -> None:
        """Say why a caller sees no lists: the answer is an empty one, and probes, which need no token, succeed."""
        now = time.monotonic()
        if now - self._complained.get(error.backend, -COMPLAIN_EVERY) >= COMPLAIN_EVERY:
            self._complained[error.backend] = now
            log.info(
                "a caller's own lists could not be fetched",
                backend=error.backend,
                category=error.category,
                reason=error.reason,
            )

    def _etags(self, watcher: Watcher) -> dict[Kind, bytes]:
        authorizer = self._plan.authorizer
        return {kind: self._views.get(kind, watcher.principal, authorizer).etag for kind in watcher.kinds}

    def _tell(self, watcher: Watcher) -> None:
        now = self._etags(watcher)
        changed = frozenset(kind for kind, etag in now.items() if watcher.seen.get(kind) != etag)
        watcher.seen = now
        if changed:
            watcher.callback(changed)

    def _report(self, problems: Iterable[str]) -> None:
        """Log what is new among the problems: once, not with every snapshot."""
        current = frozenset(problems)
        for problem in sorted(current - self._problems):
            log.warning("problems in the merged lists", problem=problem)
        self._problems = current
