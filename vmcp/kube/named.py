"""Single objects, followed by name: Secrets, ConfigMaps and the gateway's own VirtualMCPServer.

The gateway's Role names them one by one, for `get` and `watch` alone, so none of them can be listed. Each object is an
informer of its own whose first look is a `get`; the watch after it starts at the most recent state.

A name may be wanted before the operator has put it into the Role. Then it is refused for a moment and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from runtime import ApiError, Key, NotFoundError, Record, Resource
from runtime.cache.informer import Informer
from runtime.cache.options import InformerOptions, Scope
from runtime.cache.reflector import StreamingMemory
from runtime.cache.source import ApiSource
from runtime.cache.states import ReflectorSettings
from runtime.transport.session import Transport
from runtime.wire.errors import ExpiredError
from runtime.wire.selectors import FieldSelector, LabelSelector

_DEFAULTS = ReflectorSettings()
FOLLOWING = replace(_DEFAULTS, backoff=replace(_DEFAULTS.backoff, base=0.2, cap=5.0))
"""A change must be served within seconds, also after an API server that came and went several times in two minutes."""
SETTINGS = replace(FOLLOWING, backoff=replace(FOLLOWING.backoff, base=0.1), streaming=False)
"""Quicker still at first: a Role is usually a fraction of a second behind the member that needs it."""

SECRET = Resource("", "v1", "Secret", "secrets")
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")

Name = tuple[Resource, str]
"""Kind and name of an object in the gateway's namespace."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of an object.

    Attributes:
        known: It was read; a passing failure since then changes nothing.
        record: The object; None = there is none, or it was never read.
        error: The last failure; None once something worked again.
    """

    known: bool
    record: Record | None = None
    error: Exception | None = None


class _ByName:
    """One object as a collection of at most one, without the right to list."""

    def __init__(self, transport: Transport, resource: Resource, key: Key) -> None:
        self._transport = transport
        self._resource = resource
        self._key = key
        fields = FieldSelector.parse(f"metadata.name={key.name}")
        self._watch = ApiSource(
            transport, resource, namespace=key.namespace, labels=LabelSelector(), fields=fields, metadata_only=False
        )
        self._read = False

    async def fetch(self, query: Mapping[str, str], timeout: float) -> bytes:  # noqa: ARG002  pages of one object
        """Read the object; its version is no version of the collection, so none is told."""
        items = b""
        try:
            answer = await self._transport.request(
                "GET", self._resource.object_path(self._key), timeout=timeout, retry=False
            )
            items = answer.body
        except NotFoundError:
            pass
        self._read = True
        return b'{"kind":"List","metadata":{},"items":[' + items + b"]}"

    def watch(
        self, query: Mapping[str, str], silence: Callable[[], float]
    ) -> AbstractAsyncContextManager[AsyncGenerator[list[bytes], None]]:
        """Open a watch. From the most recent state only right after a read: later it would not tell of a deletion."""
        if not query.get("resourceVersion"):
            if not self._read:
                raise ExpiredError(410, "Expired", "the object must be read again")
            self._read = False
        return self._watch.watch(query, silence)


@dataclass(slots=True)
class _Followed:
    informer: Informer
    task: asyncio.Task[None]


class NamedObjects:
    """The objects that are followed by name.

    Args:
        transport: The connections.
        namespace: Of all objects.
        changed: Called after each change of one of them, and when one was read for the first time.
    """

    def __init__(self, transport: Transport, namespace: str, changed: Callable[[], None]) -> None:
        self._transport = transport
        self._namespace = namespace
        self._changed = changed
        self._memory = StreamingMemory(SETTINGS)
        self._followed: dict[Name, _Followed] = {}

    def state(self, name: Name) -> State:
        """Return what is known of an object, and follow it from now on."""
        followed = self._followed.get(name)
        if followed is None:
            self._followed[name] = followed = self._follow(*name)
        informer = followed.informer
        if not informer.has_synced:
            return State(known=False, error=informer.error)
        return State(True, informer.store.get(Key(self._namespace, name[1])), informer.error)

    def keep(self, names: AbstractSet[Name]) -> None:
        """Follow nothing else any more."""
        for name in self._followed.keys() - names:
            self._followed.pop(name).task.cancel()

    async def close(self) -> None:
        """Follow nothing any more."""
        tasks = [followed.task for followed in self._followed.values()]
        self._followed.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _follow(self, resource: Resource, name: str) -> _Followed:
        key = Key(self._namespace, name)

        def source(_resource: Resource, _options: InformerOptions, _scope: Scope) -> _ByName:
            return _ByName(self._transport, resource, key)

        informer = Informer(
            resource,
            InformerOptions(namespaces={self._namespace: None}, read_your_writes=False, resync=0.0),
            settings=SETTINGS,
            memory=self._memory,
            make_source=source,
        )
        informer.add_handler(lambda _change: self._changed(), name=f"{resource} {name}")
        return _Followed(informer, asyncio.create_task(self._run(informer), name=f"{resource} {name}"))

    async def _run(self, informer: Informer) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(informer.run())
            await informer.wait_synced()
            self._changed()


def explain(error: Exception | None) -> str:
    """Say in a few words why something could not be read."""
    if isinstance(error, ApiError):
        return f"the API server says {error.status} {error.reason}".rstrip()
    return "the API server has not answered yet" if error is None else "the API server cannot be reached"
