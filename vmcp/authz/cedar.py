"""Authorization by Cedar policies.

Default deny; a `forbid` wins over every `permit`. An evaluation error denies (and hides in lists): Cedar itself would
skip the policy that failed, and a skipped `forbid` is an open door. Policies guard optional attributes with `has`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from cedarpy import AuthzResult, Entities, PolicySet, is_authorized, is_authorized_batch

from vmcp.auth.interface import Principal
from vmcp.authz.entities import (
    DEFAULT_GROUP_TYPE,
    HINTS,
    RESOURCE_TYPE,
    client_entity,
    item_entity,
    merge,
    prefixed,
    uid,
)
from vmcp.authz.interface import Action, Annotations, PolicyItem
from vmcp.authz.profile import Profile, profile

log = structlog.get_logger(__name__)

MAX_DECISIONS = 50_000
MAX_ARGUMENT_BYTES = 1 << 20
"""Longest arguments that a policy may look into; longer ones are denied, for their cost would be the caller's to
choose."""

_DYNAMIC_TYPES = frozenset({"Client", *RESOURCE_TYPE.values()})
_NOTHING: dict[str, Any] = {}


class PolicyError(ValueError):
    """Policies or entities that cannot be used; the text says where."""


@dataclass(frozen=True, slots=True)
class CedarSettings:
    """What incomingAuth.authz says.

    Attributes:
        server: The gateway's name: every item's parent is `MCP::"<server>"`.
        policies: Cedar text, one or more policies each.
        entities_json: JSON list of entities.
        group_entity_type: Type of groups and roles.
    """

    server: str
    policies: tuple[str, ...]
    entities_json: str = "[]"
    group_entity_type: str = DEFAULT_GROUP_TYPE


class CedarAuthorizer:
    """`Authorizer` by Cedar. Immutable but for its cache; a changed configuration makes a new one."""

    def __init__(self, settings: CedarSettings, *, max_decisions: int = MAX_DECISIONS) -> None:
        """Parse everything once.

        Args:
            settings: The policies and what they know.
            max_decisions: How many decisions are remembered.

        Raises:
            PolicyError: Policies or entities cannot be used.
        """
        self._server = settings.server
        self._group_type = settings.group_entity_type or DEFAULT_GROUP_TYPE
        self._policies, self._profile = _parse_policies(settings.policies)
        self._base, self._known = _parse_entities(settings.entities_json)
        self._max_decisions = max_decisions
        self._decisions: OrderedDict[Hashable, bool] = OrderedDict()

    @property
    def profile(self) -> Profile:
        """What the policies look at."""
        return self._profile

    @property
    def uses_arguments(self) -> bool:
        """See `Authorizer.uses_arguments`."""
        return self._profile.uses_arguments

    def allows(
        self,
        principal: Principal,
        action: Action,
        name: str,
        arguments: bytes | None = None,
        annotations: Annotations | None = None,
    ) -> bool:
        """See `Authorizer.allows`."""
        if not self._profile.uses_arguments or arguments is None:
            key = (self.view(principal), action, name, _hints(annotations))
            known = self._decisions.get(key)
            if known is None:
                known = self._decide(principal, action, name, _NOTHING, annotations)
                self._remember(key, allowed=known)
            else:
                self._decisions.move_to_end(key)
            return known
        parsed = _parse_arguments(arguments)
        return parsed is not None and self._decide(principal, action, name, parsed, annotations)

    def visible(self, principal: Principal, action: Action, items: Sequence[PolicyItem]) -> list[bool]:
        """See `Authorizer.visible`."""
        view = self.view(principal)
        keys = [(view, action, item.name, _hints(item.annotations)) for item in items]
        missing = [index for index, key in enumerate(keys) if key not in self._decisions]
        if missing:
            found = self._decide_many(principal, action, [items[index] for index in missing])
            fresh = dict(zip(missing, found, strict=True))
            for index, allowed in fresh.items():
                self._remember(keys[index], allowed=allowed)
            # The answer is made before the cache may have dropped its oldest entries again.
            return [
                fresh[index] if index in fresh else self._decisions.get(key, False) for index, key in enumerate(keys)
            ]
        return [self._decisions[key] for key in keys]

    def view(self, principal: Principal) -> Hashable:
        """See `Authorizer.view`: who it is, its groups and roles, and the claims that policies mention."""
        names = self._profile.attributes
        if names is None:
            return principal.fingerprint
        cached = principal.__dict__.get("_policy_view")
        if cached is not None and cached[0] is self:
            return cached[1]  # type: ignore[no-any-return]
        try:
            claims = prefixed("claim_", principal.claims, names)
            parts = [principal.issuer, principal.subject, principal.groups, principal.roles, claims]
            view: Hashable = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
        except (ValueError, TypeError, RecursionError):
            view = principal.fingerprint  # what cannot be written down is shared with nobody
        # Kept on the principal itself: it lives exactly as long as its token is remembered.
        principal.__dict__["_policy_view"] = (self, view)
        return view

    def _remember(self, key: Hashable, *, allowed: bool) -> None:
        self._decisions[key] = allowed
        if len(self._decisions) > self._max_decisions:
            self._decisions.popitem(last=False)

    def _decide(
        self,
        principal: Principal,
        action: Action,
        name: str,
        arguments: Mapping[str, Any],
        annotations: Annotations | None,
    ) -> bool:
        names = self._profile.attributes
        try:
            claims = prefixed("claim_", principal.claims, names)
            args = prefixed("arg_", arguments, names)
            client = self._merged(client_entity(principal, claims, self._group_type))
            item = self._merged(item_entity(self._server, action, name, annotations, args))
            entities = self._base.with_added_json_str(_dumps([client, item]))
            request = _request(principal, action, name, {**claims, **args})
            return _allowed(is_authorized(request, self._policies, entities))
        except Exception as error:  # noqa: BLE001  names, claims and arguments are anybody's; no decision is a denial
            log.info("policy evaluation failed, request denied", action=action.value, error=type(error).__name__)
            return False

    def _decide_many(self, principal: Principal, action: Action, items: Sequence[PolicyItem]) -> list[bool]:
        try:
            claims = prefixed("claim_", principal.claims, self._profile.attributes)
            added = {item.name: item_entity(self._server, action, item.name, item.annotations, {}) for item in items}
            everything = [client_entity(principal, claims, self._group_type), *added.values()]
            entities = self._base.with_added_json_str(_dumps([self._merged(entity) for entity in everything]))
            requests = [_request(principal, action, item.name, claims) for item in items]
            return [_allowed(result) for result in is_authorized_batch(requests, self._policies, entities)]
        except Exception:  # noqa: BLE001  see `_decide`
            # One item that Cedar cannot take must not hide the others.
            return [self._decide(principal, action, item.name, _NOTHING, item.annotations) for item in items]

    def _merged(self, entity: dict[str, Any]) -> dict[str, Any]:
        return merge(entity, self._known.get((entity["uid"]["type"], entity["uid"]["id"])))


class AllowAll:
    """`Authorizer` where no policy is configured."""

    uses_arguments = False

    def allows(
        self,
        principal: Principal,  # noqa: ARG002  the interface's signature
        action: Action,  # noqa: ARG002
        name: str,  # noqa: ARG002
        arguments: bytes | None = None,  # noqa: ARG002
        annotations: Annotations | None = None,  # noqa: ARG002
    ) -> bool:
        """See `Authorizer.allows`."""
        return True

    def visible(self, principal: Principal, action: Action, items: Sequence[PolicyItem]) -> list[bool]:  # noqa: ARG002
        """See `Authorizer.visible`."""
        return [True] * len(items)

    def view(self, principal: Principal) -> Hashable:  # noqa: ARG002
        """Everybody sees the same."""
        return None


def _request(principal: Principal, action: Action, name: str, context: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "principal": uid("Client", principal.subject),
        "action": uid("Action", action.value),
        "resource": uid(RESOURCE_TYPE[action], name),
        "context": dict(context),
    }


def _allowed(result: AuthzResult) -> bool:
    return bool(result.allowed) and not result.diagnostics.errors


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def _hints(annotations: Annotations | None) -> tuple[object, ...]:
    """Return the hints as a policy sees them: of another type than the specification's, a hint is not there."""
    if not annotations:
        return ()
    return tuple(value if isinstance(value := annotations.get(hint), bool) else None for hint in HINTS)


def _parse_arguments(arguments: bytes) -> Mapping[str, Any] | None:
    if len(arguments) > MAX_ARGUMENT_BYTES:
        return None
    try:
        parsed = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _parse_policies(texts: Sequence[str]) -> tuple[PolicySet, Profile]:
    for number, text in enumerate(texts):
        try:
            profile(text)
        except ValueError as error:
            raise PolicyError(f"policies[{number}]: {error}") from None
    whole = "\n".join(texts)
    try:
        return PolicySet.from_str(whole), profile(whole)
    except ValueError as error:
        raise PolicyError(f"policies: {error}") from None


def _parse_entities(text: str) -> tuple[Entities, dict[tuple[str, str], dict[str, Any]]]:
    """Split the configured entities into those that only stand there and those that requests bring as well."""
    try:
        listed = orjson.loads(text or "[]")
        if not isinstance(listed, list):
            raise PolicyError("entitiesJson: must be a JSON list")
        Entities.from_json_str(_dumps(listed))
        fixed: list[Any] = []
        known: dict[tuple[str, str], dict[str, Any]] = {}
        for entity in listed:
            who = _plain_uid(entity["uid"])
            if who["type"] in _DYNAMIC_TYPES:
                parents = [_plain_uid(parent) for parent in entity.get("parents", ())]
                known[who["type"], who["id"]] = {"attrs": entity.get("attrs", {}), "parents": parents}
            else:
                fixed.append(entity)
        return Entities.from_json_str(_dumps(fixed)), known
    except (ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"entitiesJson: {error}") from None


def _plain_uid(value: Any) -> dict[str, str]:
    inner = value.get("__entity", value)
    return uid(inner["type"], inner["id"])
