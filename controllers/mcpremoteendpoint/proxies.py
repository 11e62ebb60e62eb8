"""The proxies of endpoints: what their specs refer to, in the words of an endpoint's conditions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from api import v1beta1
from api.conditions import MCPRemoteEndpointCondition as Type
from api.conditions import MCPRemoteEndpointReason as Reason
from api.contract import Dialect
from api.v1beta1 import MCPRemoteEndpointSpec
from controllers.mcpremoteendpoint.decide import ProxyState
from controllers.options import OperatorOptions
from controllers.shared.content import Unknown
from controllers.shared.dependencies import Dependencies
from controllers.shared.depends import Depends, generates
from controllers.shared.parts.learning import Learning
from controllers.shared.parts.part import Words, judged
from controllers.shared.proxy.names import generated
from controllers.shared.proxy.publish import ProxyPublisher
from controllers.shared.proxy.render import ProxyObjects, render
from controllers.shared.proxy.resolve import ProxySubject, ProxyWords, Referenced, resolve
from controllers.shared.remote import ContentReads
from controllers.shared.resources import (
    AUTH_CONFIG,
    AUTHZ_CONFIG,
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT,
    OIDC_CONFIG,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    TELEMETRY_CONFIG,
    TOOL_CONFIG,
)
from controllers.shared.verdicts import Unreadable, Verdict, one_per_type, read_model
from controllers.shared.workload.pod import PodSettings
from controllers.shared.workload.rollout import Rollout, trimmed_deployment
from controllers.shared.workload.writing import WriteOutcome
from runtime import Key, Manager, PolicyRule, Record, Resource
from runtime.control.predicates import always
from runtime.util.rbac import WATCH

M = TypeVar("M", bound=BaseModel)

APP = "mcpremoteendpoint"
WORDS = ProxyWords(
    oidc=Words(
        Type.OIDC_CONFIG_VALID, Reason.OIDC_CONFIG_VALID, Reason.OIDC_CONFIG_NOT_FOUND, Reason.OIDC_CONFIG_INVALID
    ),
    authz=Words(
        Type.AUTHZ_CONFIG_VALID, Reason.AUTHZ_CONFIG_VALID, Reason.AUTHZ_CONFIG_NOT_FOUND, Reason.AUTHZ_CONFIG_INVALID
    ),
    telemetry=Words(
        Type.TELEMETRY_CONFIG_VALID,
        Reason.TELEMETRY_CONFIG_VALID,
        Reason.TELEMETRY_CONFIG_NOT_FOUND,
        Reason.TELEMETRY_CONFIG_INVALID,
    ),
    auth=Words(
        Type.AUTH_CONFIG_VALID, Reason.AUTH_CONFIG_VALID, Reason.AUTH_CONFIG_NOT_FOUND, Reason.AUTH_CONFIG_INVALID
    ),
    unread=Reason.READ_FAILED,
)
_ELSEWHERE = ("remote.url", "remote.headerForward")
"""Places of the document that the spec's own checks answer for, in proxies and direct endpoints alike."""
_PLACES = {
    str(Type.OIDC_CONFIG_VALID): "incomingAuth",
    str(Type.AUTHZ_CONFIG_VALID): "incomingAuth.authz",
    str(Type.TELEMETRY_CONFIG_VALID): "telemetry",
    str(Type.AUTH_CONFIG_VALID): "remote.auth",
}
"""Check -> the part of the document that lacks what failed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedProxy:
    """One look at a proxy.

    Attributes:
        state: for the decision.
        material: of the checks that direct endpoints have, too.
        objects: what shall be there; None where there are problems, or a reference came to nothing.
        unread: a Secret or the policies could not be read for a passing reason, so there are no objects to write.
    """

    state: ProxyState
    material: ContentReads
    objects: ProxyObjects | None
    unread: bool


class Proxies:
    """Looks at what proxies refer to, notes it, and has their objects written.

    Attributes:
        dependencies: who looked at what.
    """

    def __init__(self, manager: Manager, options: OperatorOptions) -> None:
        self._reader, self._options = manager.reader, options
        self.dependencies = Dependencies()
        self._learning = Learning(manager, self.dependencies)
        self._publisher = ProxyPublisher(manager, manager.recorder("mcpremoteendpoint-controller"))

    async def look(self, record: Record, spec: MCPRemoteEndpointSpec) -> ObservedProxy:
        """Look up everything that the spec names, and make what is to be written of it."""
        key, proxy = record.key, spec.proxy_config
        assert proxy is not None, "the schema asks for it"
        self.dependencies.forget(key)
        for kind, name in generated(key.name):
            self._note(key, kind, name)  # one that belongs to somebody else wakes the endpoint when it goes
        text, text_error = await self._learning.policy_text(key, proxy.authz_config)
        found = Referenced(
            auth_config=self._named(key, AUTH_CONFIG, v1beta1.MCPExternalAuthConfig, spec.external_auth_config_ref),
            tool_config=self._named(key, TOOL_CONFIG, v1beta1.MCPToolConfig, spec.tool_config_ref),
            oidc_config=self._named(key, OIDC_CONFIG, v1beta1.MCPOIDCConfig, proxy.oidc_config_ref),
            authz_config=self._named(key, AUTHZ_CONFIG, v1beta1.MCPAuthzConfig, proxy.authz_config_ref),
            telemetry_config=self._named(key, TELEMETRY_CONFIG, v1beta1.MCPTelemetryConfig, proxy.telemetry_config_ref),
            policy_text=text,
        )
        subject = self._subject(key, spec)
        parts = resolve(subject, found, WORDS)
        learned, error = await self._learning.learn(key, parts.secrets, parts.config_maps)
        verdicts = one_per_type(judged(parts.in_order, learned))
        rendered = render(parts, learned, said=(*_ELSEWHERE, *_failed(verdicts)))
        bundle = parts.ca.config_map if parts.ca is not None else ""
        state = ProxyState(
            url=subject.url,
            native=Dialect(self._options.vmcp_dialect) is Dialect.NATIVE,
            verdicts=verdicts,
            problems=rendered.problems,
        )
        material = ContentReads(
            secrets=learned.secrets,
            bundle=learned.config_maps.get(bundle, Unknown.MISSING),
            error=error or text_error,
        )
        return ObservedProxy(
            state=state,
            material=material,
            objects=rendered.objects if all(verdict.ok for verdict in verdicts) else None,
            unread=learned.unread or any(verdict.ok is None for verdict in verdicts),
        )

    async def publish(self, record: Record, objects: ProxyObjects) -> WriteOutcome:
        """Write the objects."""
        return await self._publisher.publish(record, objects)

    def rollout(self, record: Record) -> Rollout | None:
        """Return how far the pods are; None when there is no Deployment of the proxy."""
        return self._publisher.rollout(record)

    def forget(self, key: Key) -> None:
        """The endpoint is gone."""
        self.dependencies.forget(key)
        self._publisher.forget(key)

    def _subject(self, key: Key, spec: MCPRemoteEndpointSpec) -> ProxySubject:
        proxy, options = spec.proxy_config, self._options
        assert proxy is not None
        overrides = proxy.resource_overrides.proxy_deployment if proxy.resource_overrides is not None else None
        own = [ref.name for ref in (overrides.image_pull_secrets if overrides is not None else ()) if ref.name]
        return ProxySubject(
            name=key.name,
            namespace=key.namespace,
            app=APP,
            spec=spec,
            cluster_domain=options.cluster_domain,
            pods=PodSettings(
                image=options.vmcp_image,
                account=proxy.service_account or "",
                pull_secrets=tuple(dict.fromkeys((*own, *options.image_pull_secrets))),
                fixed_ids=not options.openshift,
                restricted=options.restrict_pod_templates,
                template=proxy.pod_template_spec,
                replicas=proxy.replicas,
            ),
        )

    def _named(self, user: Key, kind: Resource, model: type[M], reference: object) -> M | Unreadable | None:
        name = getattr(reference, "name", "")
        if not name:
            return None
        self._note(user, kind, name)
        record = self._reader.get(kind, Key(user.namespace, name))
        return read_model(record, model) if record is not None else None

    def _note(self, user: Key, kind: Resource, name: str) -> None:
        self.dependencies.note(user, kind, Key(user.namespace, name))


def _failed(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the places of the document that are empty because a check failed."""
    return [_PLACES[str(verdict.type)] for verdict in verdicts if not verdict.ok]


_WHY = "generated for proxies: applied when something differs"

PROXY_DEPENDS = (
    *(
        Depends(kind, verbs=WATCH, noted=always, why="referenced by proxies")
        for kind in (OIDC_CONFIG, AUTHZ_CONFIG, TELEMETRY_CONFIG)
    ),
    generates(DEPLOYMENT, why=_WHY, transform=trimmed_deployment),
    generates(SERVICE, why=_WHY),
    generates(SERVICE_ACCOUNT, why=_WHY),
)
PROXY_RULES = (
    PolicyRule.of(ENDPOINT, "update", subresource="finalizers", why="owner references that block the owner's deletion"),
    PolicyRule.of(CONFIG_MAP, "create", "patch", why="the proxy's configuration"),
    PolicyRule.of(SERVICE_ACCOUNT, "delete", why="removed when the user names an account"),
    PolicyRule.of(SECRET, "create", why="the key for hashes of Secrets is made once"),
)
