"""What the references of a proxy come to, each judged in the words of the kind that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from api.common.authz import AuthzConfigRef
from api.contract import OIDC, Authz, Dialect, Telemetry
from api.contract.identifiers import EnvInput, SecretPurpose
from api.contract.strategies import EnvSource, secret_sources
from api.contract.volumes import VolumeInput, VolumePurpose
from api.v1beta1 import (
    MCPAuthzConfig,
    MCPExternalAuthConfig,
    MCPOIDCConfig,
    MCPRemoteEndpointSpec,
    MCPRemoteProxySpec,
    MCPTelemetryConfig,
    MCPToolConfig,
    MCPToolConfigSpec,
)
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfigSpec
from api.v1beta1.mcpremoteendpoint import EndpointCABundleKey, RemoteEndpointProxyConfig
from controllers.shared.parts.learned import PolicyText
from controllers.shared.parts.oidc import resolve_oidc
from controllers.shared.parts.part import CaVolume, Need, Part, Words, secret_needs
from controllers.shared.parts.policies import PolicyProblem, own_policies, shared_policies
from controllers.shared.parts.telemetry import resolve_telemetry
from controllers.shared.proxy.names import service_name
from controllers.shared.resources import CONFIG_MAP, SECRET
from controllers.shared.verdicts import Unreadable, Verdict
from controllers.shared.workload.network import service_url
from controllers.shared.workload.pod import PodSettings, Variable
from membership import Failure, judge_auth_config

UNUSABLE = ("bearerToken", "embeddedAuthServer", "obo", "awsSts", "upstreamInject", "xaa")
"""Types of auth configs that this version's proxy cannot apply towards its remote."""

ProxySpec = MCPRemoteEndpointSpec | MCPRemoteProxySpec
"""What asks for a proxy. Of the same settings both kinds say the same; where they stand differs."""


@dataclass(frozen=True, kw_only=True)
class ProxySubject:
    """The proxy that is decided about.

    Attributes:
        name: of its object, and of its Deployment.
        namespace: its namespace.
        app: value of the label that tells the kinds of proxies apart.
        spec: what it shall be.
        cluster_domain: what names of Services end in.
        pods: settings of its pods.
        annotations: of its object.
    """

    name: str
    namespace: str
    app: str
    spec: ProxySpec
    cluster_domain: str
    pods: PodSettings
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def proxy(self) -> RemoteEndpointProxyConfig | MCPRemoteProxySpec:
        """Where the spec has the settings of the proxy itself."""
        return settings_of(self.spec)

    @property
    def group(self) -> str:
        """The group that the proxy is a member of; "" for none."""
        return self.spec.group_ref.name if self.spec.group_ref is not None else ""

    @property
    def bundle(self) -> EndpointCABundleKey | None:
        """Certificates for the remote; an MCPRemoteProxy knows none but the system's."""
        ref = self.spec.ca_bundle_ref if isinstance(self.spec, MCPRemoteEndpointSpec) else None
        return ref.config_map_ref if ref is not None else None

    @property
    def url(self) -> str:
        """Where clients inside the cluster reach it."""
        return service_url(service_name(self.name), self.namespace, self.cluster_domain, self.proxy.proxy_port)


def settings_of(spec: ProxySpec) -> RemoteEndpointProxyConfig | MCPRemoteProxySpec:
    """Return where a spec has the settings of the proxy itself."""
    if isinstance(spec, MCPRemoteProxySpec):
        return spec
    assert spec.proxy_config is not None, "the schema asks for it"
    return spec.proxy_config


@dataclass(frozen=True, kw_only=True)
class Referenced:
    """The objects that a proxy's spec names; None where it names none or it is missing.

    Attributes:
        policy_text: content of the ConfigMap with the policies; None where none is named.
    """

    auth_config: MCPExternalAuthConfig | Unreadable | None = None
    tool_config: MCPToolConfig | Unreadable | None = None
    oidc_config: MCPOIDCConfig | Unreadable | None = None
    authz_config: MCPAuthzConfig | Unreadable | None = None
    telemetry_config: MCPTelemetryConfig | Unreadable | None = None
    policy_text: str | PolicyText | None = None


@dataclass(frozen=True, kw_only=True)
class ProxyWords:
    """What a kind calls the checks of a proxy's references.

    Attributes:
        oidc: of the MCPOIDCConfig.
        authz: of the policies, wherever they are.
        telemetry: of the MCPTelemetryConfig.
        auth: of the MCPExternalAuthConfig.
        unread: reason of a check that could not be made for a passing reason.
    """

    oidc: Words
    authz: Words
    telemetry: Words
    auth: Words
    unread: str


@dataclass(frozen=True, kw_only=True)
class ProxyParts:
    """What the references of a proxy come to.

    Attributes:
        subject: the proxy.
        oidc: who callers are.
        authz: what they may do.
        telemetry: its signals.
        auth: how it authenticates towards the remote.
        auth_problem: why this version cannot authenticate like that; "" where it can.
        tools: which tools are shown; None for all as they are.
        tools_problem: why the MCPToolConfig cannot be read: without it, what shall be hidden would be shown.
        ca: certificates for the remote.
    """

    subject: ProxySubject
    oidc: Part[OIDC | None]
    authz: Part[Authz | None]
    telemetry: Part[Telemetry | None]
    auth: Part[MCPExternalAuthConfigSpec | None]
    auth_problem: str = ""
    tools: MCPToolConfigSpec | None = None
    tools_problem: str = ""
    ca: CaVolume | None = None

    @property
    def in_order(self) -> tuple[Part[object], ...]:
        """All parts; the first check that fails decides."""
        return self.oidc, self.authz, self.telemetry, self.auth

    @cached_property
    def sources(self) -> tuple[EnvSource, ...]:
        """The secrets of the strategy and of the headers, by the variables that they fill."""
        spec, ref = self.subject.spec, self.subject.spec.external_auth_config_ref
        strategy = secret_sources(ref.name, self.auth.section) if ref is not None and self.auth.section else ()
        forwarded = spec.header_forward.add_headers_from_secret if spec.header_forward is not None else ()
        headers = (
            EnvSource(
                EnvInput(SecretPurpose.HEADER_FORWARD, (header.header_name, self.subject.name)),
                header.value_secret_ref.name,
                header.value_secret_ref.key,
            )
            for header in forwarded
        )
        return (*strategy, *sorted(headers, key=lambda source: (source.input.natural_name, source.input.parts)))

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The Secrets of which keys and values matter, sorted."""
        names = {need.name for need in self._needs() if need.kind == SECRET}
        names |= {variable.secret for part in self.in_order for variable in part.variables}
        return tuple(sorted((names | {source.secret for source in self.sources}) - {""}))

    @cached_property
    def config_maps(self) -> tuple[str, ...]:
        """The ConfigMaps of which certificates matter, sorted."""
        names = {need.name for need in self._needs() if need.kind == CONFIG_MAP}
        return tuple(sorted(names | ({self.ca.config_map} if self.ca is not None else set())))

    def _needs(self) -> Iterator[Need]:
        return (check for part in self.in_order for check in part.checks if isinstance(check, Need))


def resolve(subject: ProxySubject, found: Referenced, words: ProxyWords) -> ProxyParts:
    """Resolve every reference. What Secrets and ConfigMaps hold is not asked here, only which of them matter."""
    proxy, bundle, tools = subject.proxy, subject.bundle, found.tool_config
    return ProxyParts(
        subject=subject,
        oidc=_with_client(resolve_oidc(proxy.oidc_config_ref, found.oidc_config, words.oidc, subject.url), words.oidc),
        authz=_policies(subject, found, words),
        telemetry=resolve_telemetry(
            proxy.telemetry_config_ref, found.telemetry_config, words.telemetry, subject.name, subject.namespace
        ),
        auth=_auth(subject, found.auth_config, words.auth),
        auth_problem=_auth_problem(found.auth_config),
        tools=tools.spec if isinstance(tools, MCPToolConfig) else None,
        tools_problem=f"MCPToolConfig: {tools.message}" if isinstance(tools, Unreadable) else "",
        ca=CaVolume(VolumeInput(VolumePurpose.BACKEND_CA, subject.name, bundle.name), bundle.name, bundle.key)
        if bundle is not None
        else None,
    )


def _with_client(part: Part[OIDC | None], words: Words) -> Part[OIDC | None]:
    """Let the Secret of the OIDC client count: a variable whose Secret is missing keeps a pod from starting."""
    needs = secret_needs(
        ((variable.secret, variable.key) for variable in part.variables),
        lambda what: Verdict(words.type, False, words.invalid, f"{what} of the OIDC client not found"),
    )
    return replace(part, checks=(*needs, *part.checks))


def _policies(subject: ProxySubject, found: Referenced, words: ProxyWords) -> Part[Authz | None]:
    proxy = subject.proxy
    if proxy.authz_config_ref is not None:
        outcome = shared_policies(proxy.authz_config_ref.name, found.authz_config)
    elif proxy.authz_config is not None:
        outcome = own_policies(proxy.authz_config, found.policy_text)
    else:
        return Part(section=None)
    return _judged_policies(outcome, words, _where(proxy.authz_config))


def _where(own: AuthzConfigRef | None) -> str:
    return "the policies can be used" if own is None else f"the policies of authzConfig ({own.type}) can be used"


def _judged_policies(outcome: Authz | PolicyProblem, words: ProxyWords, fine: str) -> Part[Authz | None]:
    type_ = words.authz.type
    if isinstance(outcome, Authz):
        return Part(section=outcome, checks=(Verdict(type_, True, words.authz.valid, fine),))
    if outcome.unread:
        return Part(section=None, checks=(Verdict(type_, None, words.unread, f"{outcome.message}; trying again"),))
    reason = words.authz.not_found if outcome.missing else words.authz.invalid
    return Part(section=None, checks=(Verdict(type_, False, reason, outcome.message),))


def _auth(
    subject: ProxySubject, config: MCPExternalAuthConfig | Unreadable | None, words: Words
) -> Part[MCPExternalAuthConfigSpec | None]:
    """Resolve how the proxy authenticates towards the remote; of `UNUSABLE` types see `_auth_problem`."""
    ref = subject.spec.external_auth_config_ref
    if ref is None:
        return Part(section=None)
    if config is None:
        message = f"MCPExternalAuthConfig '{ref.name}' not found"
        return Part(section=None, checks=(Verdict(words.type, False, words.not_found, message),))
    fine = Verdict(words.type, True, words.valid, f"MCPExternalAuthConfig '{ref.name}' is valid")
    if not isinstance(config, Unreadable) and config.spec.type in UNUSABLE:
        return Part(section=None, checks=(fine,))
    outcome = (
        Failure(words.invalid, f"MCPExternalAuthConfig {ref.name}: {config.message}")
        if isinstance(config, Unreadable)
        else judge_auth_config(ref.name, config, Dialect.NATIVE)
    )
    if isinstance(outcome, Failure):
        return Part(section=None, checks=(Verdict(words.type, False, words.invalid, outcome.message),))
    needs = secret_needs(
        ((source.secret, source.key) for source in secret_sources(ref.name, outcome)),
        lambda what: Verdict(
            words.type, False, words.invalid, f"{what} of MCPExternalAuthConfig '{ref.name}' not found"
        ),
    )
    return Part(section=outcome, checks=(*needs, fine))


def _auth_problem(config: MCPExternalAuthConfig | Unreadable | None) -> str:
    if config is None or isinstance(config, Unreadable) or config.spec.type not in UNUSABLE:
        return ""
    return f"an auth config of type {config.spec.type} is not supported by a proxy of this version"


def env_names(parts: ProxyParts, assigned: Mapping[EnvInput, str]) -> tuple[Variable, ...]:
    """Return the variables of `sources`, each filled from its Secret."""
    return tuple(Variable(assigned[s.input], secret=s.secret, key=s.key) for s in parts.sources)
