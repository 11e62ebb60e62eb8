"""The proxies of one kind: what their specs refer to, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from api import v1beta1
from api.contract import Dialect
from controllers.options import OperatorOptions
from controllers.shared.content import Unknown
from controllers.shared.dependencies import Dependencies
from controllers.shared.depends import Depends, generates
from controllers.shared.deployed.isolation import isolation_changed
from controllers.shared.deployed.pods import pod_depends, pods_of
from controllers.shared.parts.learned import Learned
from controllers.shared.parts.learning import Learning
from controllers.shared.parts.part import judged
from controllers.shared.proxy.names import generated
from controllers.shared.proxy.publish import ProxyPublisher
from controllers.shared.proxy.render import ProxyObjects, render
from controllers.shared.proxy.resolve import (
    ProxyParts,
    ProxySpec,
    ProxySubject,
    ProxyWords,
    Referenced,
    resolve,
    settings_of,
)
from controllers.shared.proxy.standing import ProxyState, Settled
from controllers.shared.remote import ContentReads
from controllers.shared.resources import (
    AUTH_CONFIG,
    AUTHZ_CONFIG,
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    OIDC_CONFIG,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    TELEMETRY_CONFIG,
    TOOL_CONFIG,
)
from controllers.shared.verdicts import StatusWriter, Unreadable, one_per_type, read_model
from controllers.shared.workload.pod import PodSettings
from controllers.shared.workload.rollout import trimmed_deployment
from runtime import Key, Manager, PolicyRule, Record, Resource
from runtime.control.predicates import Predicate, always
from runtime.util.rbac import WATCH

M = TypeVar("M", bound=BaseModel)

CHECKED_BY_KIND = ("remote.url", "remote.headerForward")
"""Places of the document that a kind's own checks answer for, in its own words."""
PLACES = ("incomingAuth", "incomingAuth.authz", "telemetry", "remote.auth")
"""The part of the document that lacks what failed each of `ProxyParts.in_order`."""


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

    Args:
        manager: for the client and the cache.
        options: of the installation.
        kind: of the objects that ask for proxies.
        words: what that kind calls the checks of a spec's references.

    Attributes:
        dependencies: who looked at what.
    """

    def __init__(
        self, manager: Manager, options: OperatorOptions, kind: Resource, words: Callable[[ProxySpec], ProxyWords]
    ) -> None:
        self._reader, self._options = manager.reader, options
        self._kind, self._app, self._words = kind, kind.kind.lower(), words
        self.dependencies = Dependencies()
        self._learning = Learning(manager, self.dependencies)
        self._publisher = ProxyPublisher(manager, manager.recorder(f"{self._app}-controller"), options.timing)

    async def look(self, record: Record, spec: ProxySpec) -> ObservedProxy:
        """Look up everything that the spec names, and make what is to be written of it."""
        key, proxy = record.key, settings_of(spec)
        self.dependencies.forget(key)
        for kind, name in generated(key.name):
            self._note(key, kind, name)  # one that belongs to somebody else wakes the owner when it goes
        text, text_error = await self._learning.policy_text(key, proxy.authz_config)
        found = Referenced(
            auth_config=self._named(key, AUTH_CONFIG, v1beta1.MCPExternalAuthConfig, spec.external_auth_config_ref),
            tool_config=self._named(key, TOOL_CONFIG, v1beta1.MCPToolConfig, spec.tool_config_ref),
            oidc_config=self._named(key, OIDC_CONFIG, v1beta1.MCPOIDCConfig, proxy.oidc_config_ref),
            authz_config=self._named(key, AUTHZ_CONFIG, v1beta1.MCPAuthzConfig, proxy.authz_config_ref),
            telemetry_config=self._named(key, TELEMETRY_CONFIG, v1beta1.MCPTelemetryConfig, proxy.telemetry_config_ref),
            policy_text=text,
        )
        subject = self._subject(record, spec)
        parts = resolve(subject, found, self._words(spec))
        learned, error = await self._learning.learn(key, parts.secrets, parts.config_maps)
        verdicts = one_per_type(judged(parts.in_order, learned))
        rendered = render(parts, learned, said=(*CHECKED_BY_KIND, *_failed(parts, learned)))
        bundle = parts.ca.config_map if parts.ca is not None else ""
        state = ProxyState(
            url=subject.url,
            native=Dialect(self._options.vmcp_dialect) is Dialect.NATIVE,
            verdicts=verdicts,
            problems=rendered.problems,
            template_problem=rendered.template_problem,
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

    async def settle(self, record: Record, seen: ObservedProxy, *, fine: bool) -> Settled | None:
        """Write the proxy's objects if every check passes.

        Returns:
            What came of it. None where what stands must stay, the verdicts included: without the hash of a Secret's
            value there would be a template that rolls the pods for nothing, and without its policies a proxy would let
            everybody in.
        """
        if fine and seen.unread:
            return None
        objects = seen.objects if fine else None
        outcome = await self._publisher.publish(record, objects) if objects is not None else None
        pods = pods_of(self._reader, self._kind, record.key)
        return Settled(outcome, self._publisher.rollout(record), pods.problems)

    def forget(self, key: Key) -> None:
        """The owner is gone."""
        self.dependencies.forget(key)
        self._publisher.forget(key)

    def _subject(self, record: Record, spec: ProxySpec) -> ProxySubject:
        key, proxy, options = record.key, settings_of(spec), self._options
        overrides = proxy.resource_overrides.proxy_deployment if proxy.resource_overrides is not None else None
        own = [ref.name for ref in (overrides.image_pull_secrets if overrides is not None else ()) if ref.name]
        return ProxySubject(
            name=key.name,
            namespace=key.namespace,
            app=self._app,
            spec=spec,
            cluster_domain=options.cluster_domain,
            annotations=record.meta.annotations,
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


def _failed(parts: ProxyParts, learned: Learned) -> list[str]:
    """Return the places of the document that are empty because a check failed."""
    failed = (any(not verdict.ok for verdict in judged([part], learned)) for part in parts.in_order)
    return [place for place, empty in zip(PLACES, failed, strict=True) if empty]


_WHY = "generated for proxies: applied when something differs"

PROXY_DEPENDS = (
    *(
        Depends(kind, verbs=WATCH, noted=always, why="referenced by proxies")
        for kind in (OIDC_CONFIG, AUTHZ_CONFIG, TELEMETRY_CONFIG)
    ),
    generates(DEPLOYMENT, why=_WHY, transform=trimmed_deployment),
    *(generates(kind, why=_WHY) for kind in (SERVICE, SERVICE_ACCOUNT, POD_DISRUPTION_BUDGET, NETWORK_POLICY)),
    pod_depends("a proxy's status says why its pods do not start"),
)


def matters_to_proxies(status: StatusWriter) -> Predicate:
    """Return the predicate for a kind that runs proxies: an annotation asks for a NetworkPolicy."""
    return lambda event: status.matters(event) or isolation_changed(event)


def proxy_rules(kind: Resource) -> tuple[PolicyRule, ...]:
    """Return the permissions that proxies of a kind take, besides those of `PROXY_DEPENDS`."""
    return (
        PolicyRule.of(kind, "update", subresource="finalizers", why="owner references that block the owner's deletion"),
        PolicyRule.of(CONFIG_MAP, "create", "patch", why="the proxy's configuration"),
        PolicyRule.of(SERVICE_ACCOUNT, "delete", why="removed when the user names an account"),
        PolicyRule.of(POD_DISRUPTION_BUDGET, "delete", why="removed when one replica is left"),
        PolicyRule.of(NETWORK_POLICY, "delete", why="removed when a proxy no longer asks for it"),
        PolicyRule.of(SECRET, "create", why="the key for hashes of Secrets is made once"),
    )
