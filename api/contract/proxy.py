"""The configuration of a proxy, proxy.yaml: one remote server, and what stands between it and its clients.

A proxy is a gateway with one backend, so it has no rules of its own where a gateway has some: `as_gateway` says the
same as a gateway's configuration, the gateway's rules judge that, and what they find is told in the words of this
document. Operator and program call `validate_proxy`, so that no pod starts in vain.

Native only: the stock proxy reads another file (`runconfig.json`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from pydantic import Field

from api.contract.auth import IncomingAuth, OutgoingAuth, Strategy
from api.contract.config import (
    Aggregation,
    ConflictResolutionConfig,
    Dialect,
    HeaderForward,
    StaticBackend,
    ToolOverride,
    VmcpConfig,
    WorkloadTools,
)
from api.contract.defaults import with_defaults
from api.contract.document import to_document
from api.contract.errors import ConfigError, join
from api.contract.loader import parse_document
from api.contract.operations import Audit, Operational, RateLimiting, SessionStorage, Telemetry
from api.contract.secrets import SecretSource
from api.contract.section import Flag, Section, Text
from api.contract.support import unsupported
from api.contract.validation import validate_config
from api.contract.yaml_writer import write_yaml

_NAMELESS: Final = "proxy"
"""What the one backend is called while the document lacks a name, which is reported by itself."""


class ProxyRemote(Section):
    """`remote`: the server behind the proxy, and how the proxy speaks to it."""

    url: Text = ""
    """URL of the MCP endpoint; its path and query are used as they stand, whatever clients ask for."""
    transport: Text = ""
    """`streamable-http`, or `sse` (2024-11-05)."""
    ca_bundle_path: Text = ""
    """File with certificates to trust in addition to the system's."""
    header_forward: HeaderForward | None = None
    """Headers added to every request to the remote."""
    auth: Strategy | None = None
    """How the proxy authenticates to the remote; if absent, it does not. A client's token is never passed on."""


class ProxyTools(Section):
    """`tools`: which tools of the remote are shown, and how; a resolved MCPToolConfig."""

    filter: tuple[Text, ...] = ()
    """Names of the tools to show, after overrides; empty: all."""
    overrides: dict[Text, ToolOverride] = Field(default_factory=dict)
    """The remote's name of a tool -> what clients see instead."""


class ProxyConfig(Section):
    """The whole document."""

    name: Text = ""
    """Name of the proxy; `MCP::"<name>"` of policies, and what `/status` and the audit log call the remote."""
    group_ref: Text = ""
    """The MCPGroup that it is a member of; only shown."""
    remote: ProxyRemote | None = None
    """The server behind the proxy."""
    incoming_auth: IncomingAuth | None = None
    """Who may call, and what: OIDC or anonymous, and policies."""
    tools: ProxyTools | None = None
    """Filter and overrides of tools; absent: all as they are."""
    operational: Operational | None = None
    """Time-outs, health checks, circuit breaker, logging."""
    telemetry: Telemetry | None = None
    audit: Audit | None = None
    session_storage: SessionStorage | None = None
    rate_limiting: RateLimiting | None = None
    passthrough_headers: tuple[Text, ...] = ()
    """Headers of clients that are passed on to the remote."""
    trust_proxy_headers: Flag = False
    """Believe the last address in `X-Forwarded-For`: the audit log names it instead of the connection's peer."""
    endpoint_prefix: Text = ""
    """Path below which an ingress that strips it serves this proxy, such as `/notion`; for 2024-11-05 clients."""


def as_gateway(proxy: ProxyConfig) -> VmcpConfig:
    """Say the same as a gateway's configuration: one backend, named like the proxy."""
    name = proxy.name or _NAMELESS
    remote = proxy.remote or ProxyRemote()
    tools = proxy.tools
    return VmcpConfig(
        name=proxy.name,
        group_ref=proxy.group_ref or name,
        backends=(
            StaticBackend(
                name=name,
                url=remote.url,
                transport=remote.transport,
                type="direct",
                ca_bundle_path=remote.ca_bundle_path,
                header_forward=remote.header_forward,
            ),
        ),
        incoming_auth=proxy.incoming_auth,
        outgoing_auth=OutgoingAuth(source="inline", backends={} if remote.auth is None else {name: remote.auth}),
        aggregation=Aggregation(
            # There is nothing that a name could be in conflict with.
            conflict_resolution="priority",
            conflict_resolution_config=ConflictResolutionConfig(priority_order=(name,)),
            tools=()
            if tools is None
            else (WorkloadTools(workload=name, filter=tools.filter, overrides=tools.overrides),),
        ),
        operational=proxy.operational,
        telemetry=proxy.telemetry,
        audit=proxy.audit,
        session_storage=proxy.session_storage,
        rate_limiting=proxy.rate_limiting,
        passthrough_headers=proxy.passthrough_headers,
    )


def validate_proxy(proxy: ProxyConfig, *, env: SecretSource | None = None) -> tuple[ConfigError, ...]:
    """Return every mistake of a configuration that has the right shape, and what this version cannot do yet.

    Args:
        proxy: as parsed.
        env: where strategies look up their secrets; None where it is not known (the operator).
    """
    config = with_defaults(as_gateway(proxy))
    wrong = validate_config(config, env=env)
    places = {error.path for error in wrong}
    later = (error for error in unsupported(config) if error.path not in places)
    return (*_own(proxy), *told_of_proxy(proxy, (*wrong, *later)))


def told_of_proxy(proxy: ProxyConfig, errors: Iterable[ConfigError]) -> Iterator[ConfigError]:
    """Give what was found in `as_gateway(proxy)` its place in the proxy's own document; each costs the whole of it."""
    for error in errors:
        path = error.path
        for there, here in (
            ("backends[0]", "remote"),
            (join("outgoingAuth", "backends", proxy.name or _NAMELESS), "remote.auth"),
            ("aggregation.tools[0]", "tools"),
        ):
            if path == there or path.startswith((f"{there}.", f"{there}[")):
                path = here + path.removeprefix(there)
                break
        yield replace(error, path=path, backends=None)


def parse_proxy(data: bytes | str) -> ProxyConfig:
    """Read a configuration without checking its meaning: only keys and types.

    Raises:
        ConfigErrors: every unknown key (with the nearest known one) and wrong type at once.
    """
    return parse_document(data, ProxyConfig)


def dump_proxy(proxy: ProxyConfig) -> bytes:
    """Write a configuration: keys in the order of the model, maps sorted, nothing that is zero; same bytes always."""
    return write_yaml(to_document(proxy, Dialect.NATIVE)).encode()


def _own(proxy: ProxyConfig) -> Iterator[ConfigError]:
    """What only a proxy's document can say, and what a gateway's can but has no meaning here."""
    if proxy.remote is None:
        yield ConfigError("remote", "is required")
    if proxy.endpoint_prefix:
        message = "serving clients of the 2024-11-05 transport is not supported by this version; nothing else uses it"
        yield ConfigError("endpointPrefix", message)
    if proxy.session_storage is not None and proxy.session_storage.provider == "redis":
        yield ConfigError(
            "sessionStorage.provider", "sharing a proxy's sessions through Redis is not supported by this version"
        )
    operational = proxy.operational
    if operational is None:
        return
    if operational.timeouts is not None and operational.timeouts.per_workload:
        yield ConfigError(
            "operational.timeouts.perWorkload", "a proxy has one remote: use operational.timeouts.default"
        )
    failure = operational.failure_handling
    if failure is not None and failure.partial_failure_mode:
        message = "does not apply to a proxy, which has only one remote"
        yield ConfigError("operational.failureHandling.partialFailureMode", message)
