"""Which objects an object refers to: the indexes that answer "who must hear of this change".

Every index is declared by whoever needs it; the same name always stands for the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Mapping as MappingOf

from controllers.shared.resources import ENDPOINT, ENTRY, PROXY, SERVER, VMCP
from runtime import Event, Key, Reader, Record, Resource
from runtime.cache.index import SpecIndex

Mapping = Callable[[Record], Iterable[Key]]
"""Which objects must hear of a change of another one."""

GROUP_REF = "spec.groupRef.name"
TOOL_CONFIG_REF = "spec.toolConfigRef.name"
CA_BUNDLE_REF = "spec.caBundleRef.configMapRef.name"
HEADER_SECRETS = "spec.headerForward.addHeadersFromSecret[].valueSecretRef.name"
AUTH_CONFIGS = "externalAuthConfigs"
"""Names of all MCPExternalAuthConfigs that an object refers to, by whatever field."""

AUTH_CONFIG_USERS = (SERVER, PROXY, ENTRY, ENDPOINT, VMCP)
"""Kinds that can refer to an MCPExternalAuthConfig."""

_AUTH_PATHS: MappingOf[Resource, tuple[str, ...]] = {
    SERVER: ("spec.externalAuthConfigRef.name", "spec.authServerRef.name"),
    PROXY: ("spec.externalAuthConfigRef.name", "spec.authServerRef.name"),
    ENTRY: ("spec.externalAuthConfigRef.name",),
    ENDPOINT: ("spec.externalAuthConfigRef.name", "spec.proxyConfig.authServerRef.name"),
    VMCP: ("spec.outgoingAuth.default.externalAuthConfigRef.name",),
}


def auth_configs_of(record: Record) -> list[str]:
    """Return the names of the MCPExternalAuthConfigs that an object refers to, without repetitions."""
    found = [record.path(path) for path in _AUTH_PATHS[record.resource]]
    if record.resource == VMCP:
        backends = record.path("spec.outgoingAuth.backends")
        if isinstance(backends, dict):
            found += [_nested(backend, "externalAuthConfigRef", "name") for backend in backends.values()]
    return list(dict.fromkeys(name for name in found if isinstance(name, str) and name))


def _nested(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


INDEXES: MappingOf[str, Callable[[Record], Iterable[str]]] = {AUTH_CONFIGS: SpecIndex(auth_configs_of)}
"""Indexes that are no path."""


def users(reader: Reader, kind: Resource, index: str) -> Mapping:
    """Return the mapping from an object to the objects of `kind` in its namespace that name it."""

    def mapping(record: Record) -> Iterable[Key]:
        found = reader.by_index(kind, index, record.meta.name, namespace=record.meta.namespace)
        return [user.key for user in found]

    return mapping


def members_of_group(reader: Reader, kind: Resource) -> Mapping:
    """Return the mapping from a member to the objects of `kind` in its namespace that name its group."""

    def mapping(record: Record) -> Iterable[Key]:
        group = record.path(GROUP_REF)
        if not isinstance(group, str):
            return ()
        return [user.key for user in reader.by_index(kind, GROUP_REF, group, namespace=record.meta.namespace)]

    return mapping


def same_name(reader: Reader, kind: Resource) -> Mapping:
    """Return the mapping from an object to the object of `kind` that has its name, if there is one."""

    def mapping(record: Record) -> Iterable[Key]:
        return (record.key,) if reader.get(kind, record.key) is not None else ()

    return mapping


def came_or_went(event: Event) -> bool:
    """Predicate: the object is new or gone."""
    return event.old is None or event.new is None


def auth_config_changed(event: Event) -> bool:
    """Predicate: what an auth config's users say of it changed: its existence, its spec, its own verdict."""
    old, new = event.old, event.new
    if old is None or new is None or old.meta.generation != new.meta.generation:
        return True
    return bool(old.path("status.conditions") != new.path("status.conditions"))
