"""Looks at the group again and again, and remembers what must not change by halves.

A member is taken anew when its controller has judged it and everything that it names was read at least once; until
then it stays whole as it was (`membership.Standing`). So do auth configs. A URL of one generation never meets a
credential of another.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from api.contract import Dialect
from api.contract.strategies import secret_sources
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfig
from api.v1beta1.mcptoolconfig import MCPToolConfig, MCPToolConfigSpec
from api.v1beta1.virtualmcpserver import VirtualMCPServer
from membership import (
    Failure,
    Member,
    References,
    Standing,
    disowned,
    has_ca,
    is_claimed,
    is_judged,
    is_settled,
    judge_auth_config,
    read_member,
    references_of,
)
from runtime import Key, Record, Resource
from vmcp.config.reload import PendingError
from vmcp.kube.connection import GROUP_REF, ClusterConnection
from vmcp.kube.kinds import AUTH_CONFIG, GROUP, MEMBER_KINDS, TOOL_CONFIG, VMCP
from vmcp.kube.named import CONFIG_MAP, SECRET, Name, NamedObjects, explain
from vmcp.kube.view import Data, GroupView, UnreadableObject, data_of

AuthConfig = MCPExternalAuthConfig | UnreadableObject


class GroupObserver:
    """Takes looks at the group of one gateway."""

    def __init__(self, connection: ClusterConnection) -> None:
        self._connection = connection
        self._namespace = connection.identity.namespace
        self._standing: Standing[tuple[Resource, Key], Record] = Standing()
        self._auth_configs: dict[str, AuthConfig] = {}
        self._data: dict[Name, tuple[Record, Data]] = {}
        self._references: References | None = None

    def look(self, group: str, also: frozenset[Name]) -> GroupView:
        """Take a look.

        Args:
            group: Name of the MCPGroup.
            also: Objects that are followed for other reasons.

        Raises:
            PendingError: Something without which nothing can be decided was not read yet.
        """
        self._connection.watch_group()
        if self._connection.waiting_for():
            raise PendingError("api_server_pending")
        look = _Look(self._connection.named, self._auth_configs, self._connection)
        references = self._read_references(look)
        members = self._members(group, look)
        for name in _auth_config_names(members, references):
            look.auth_config(name)
        # What is served needs its objects, whichever generation it is of.
        for member in members:
            for needed in look.needs(member):
                look.state(needed)
        self._auth_configs = look.auth_configs
        self._connection.named.keep(look.wanted | also)
        return GroupView(
            group_exists=self._connection.reader.get(GROUP, Key(self._namespace, group)) is not None,
            members=members,
            auth_configs=look.auth_configs,
            tool_configs=dict(self._tool_configs(members)),
            references=references,
            secrets=self._contents(SECRET, look),
            config_maps=self._contents(CONFIG_MAP, look),
            unread=look.unread,
        )

    def _read_references(self, look: _Look) -> References | None:
        """Read what the gateway's own object says about the auth of its backends.

        What it said last counts while it cannot be understood, while the auth configs that it names now were not read
        with their Secrets, and after it is gone: a gateway on its way out must not drop the authentication first.
        """
        own = (VMCP, self._connection.identity.name)
        state = self._connection.named.state(own)
        look.wanted.add(own)
        if not state.known:
            raise PendingError("virtualmcpserver_pending")
        if state.record is None:
            return self._references
        try:
            references = references_of(state.record.as_model(VirtualMCPServer).spec.outgoing_auth)
        except ValidationError:
            if self._references is None:
                raise PendingError("virtualmcpserver_unreadable") from None
            return self._references
        known = [look.is_known(name) for name in references.names]  # all of them are asked for, without a short cut
        if self._references is None or all(known):
            self._references = references
        return self._references

    def _members(self, group: str, look: _Look) -> tuple[Member, ...]:
        found = (
            ((kind, record.key), record)
            for kind in MEMBER_KINDS
            for record in self._connection.reader.by_index(kind, GROUP_REF, group, namespace=self._namespace)
        )
        members = self._standing.look(found, _read, settled=look.is_complete)
        return tuple(
            disowned(member, self._rivals(kind, key)) if is_claimed(member) else member
            for (kind, key), member in members
        )

    def _rivals(self, kind: Resource, key: Key) -> Iterator[tuple[str, tuple[str, str]]]:
        for rival in MEMBER_KINDS:
            other = self._connection.reader.get(rival, key) if rival != kind else None
            if other is not None:
                yield rival.kind, (other.meta.creation_timestamp or "", other.meta.uid)

    def _tool_configs(self, members: tuple[Member, ...]) -> Iterator[tuple[str, MCPToolConfigSpec]]:
        for name in sorted({member.tool_config for member in members} - {""}):
            record = self._connection.reader.get(TOOL_CONFIG, Key(self._namespace, name))
            if record is not None:
                try:
                    yield name, record.as_model(MCPToolConfig).spec
                except ValidationError:
                    continue  # its tools keep their own words, as in a configuration that the operator writes

    def _contents(self, kind: Resource, look: _Look) -> dict[str, Data]:
        found: dict[str, Data] = {}
        for name in look.wanted:
            record = self._connection.named.state(name).record if name[0] == kind else None
            if record is not None:
                known = self._data.get(name)
                if known is None or known[0] is not record:
                    known = self._data[name] = record, data_of(record)
                found[name[1]] = known[1]
        for gone in [name for name in self._data if name[0] == kind and name[1] not in found]:
            del self._data[gone]
        return found


class _Look:
    """What one look has found out so far.

    Attributes:
        wanted: Every object that is needed by name.
        unread: Those that could not be read, with the reason; "" = being read for the first time.
        auth_configs: Each that was asked for, as it counts now.
    """

    def __init__(self, named: NamedObjects, before: dict[str, AuthConfig], connection: ClusterConnection) -> None:
        self.wanted: set[Name] = set()
        self.unread: dict[tuple[str, str], str] = {}
        self.auth_configs: dict[str, AuthConfig] = {}
        self._named = named
        self._before = before
        self._connection = connection

    def state(self, name: Name) -> bool:
        """Want an object, and say whether it is known to exist or not to exist."""
        self.wanted.add(name)
        state = self._named.state(name)
        if not state.known:
            self.unread[name[0].kind, name[1]] = explain(state.error) if state.error is not None else ""
        return state.known

    def needs(self, member: Member) -> list[Name]:
        """Return what a member needs by name."""
        names: list[Name] = [(SECRET, header.secret) for header in member.secret_headers if header.secret]
        if has_ca(member):
            names.append((CONFIG_MAP, member.ca_config_map))
        return names

    def is_complete(self, member: Member) -> bool:
        """Whether a member replaces what was known of it: it is settled, and everything that it names was read."""
        # All of them are asked for at once, so no short cut.
        known = [self.state(name) for name in self.needs(member)]
        known.append(not member.auth_config or self.is_known(member.auth_config))
        return is_settled(member) and (all(known) or bool(member.problem))

    def is_known(self, auth_config: str) -> bool:
        """Whether the Secrets of an auth config were read; all are asked for."""
        known = [self.state(name) for name in _secrets_of(auth_config, self.auth_config(auth_config))]
        return all(known)

    def auth_config(self, name: str) -> AuthConfig | None:
        """Return an auth config as it counts: anew once it is judged and its Secrets were read, else as it was."""
        if name in self.auth_configs:
            return self.auth_configs[name]
        record = self._connection.reader.get(AUTH_CONFIG, Key(self._connection.identity.namespace, name))
        if record is None:
            return None
        config = _read_auth_config(record)
        known = [self.state(secret) for secret in _secrets_of(name, config)]
        before = self._before.get(name)
        if (
            isinstance(before, MCPExternalAuthConfig)
            and before.metadata.uid == record.meta.uid
            and isinstance(config, MCPExternalAuthConfig)
            and not (is_judged(config) and all(known))
        ):
            config = before
            for secret in _secrets_of(name, config):
                self.state(secret)
        self.auth_configs[name] = config
        return config


def _read(record: Record) -> Member:
    return read_member(record.resource.kind, record.meta, record.raw)


def _read_auth_config(record: Record) -> AuthConfig:
    try:
        return record.as_model(MCPExternalAuthConfig)
    except ValidationError:
        return UnreadableObject("the object does not fit its kind")


def _secrets_of(name: str, config: AuthConfig | None) -> list[Name]:
    """Return the Secrets of an auth config; none for one that becomes no strategy whatever they say."""
    if not isinstance(config, MCPExternalAuthConfig) or isinstance(
        judge_auth_config(name, config, Dialect.NATIVE), Failure
    ):
        return []
    return [(SECRET, source.secret) for source in secret_sources(name, config.spec) if source.secret]


def _auth_config_names(members: tuple[Member, ...], references: References | None) -> list[str]:
    names = {member.auth_config for member in members} - {""}
    return sorted(names | (references.names if references is not None else set()))
