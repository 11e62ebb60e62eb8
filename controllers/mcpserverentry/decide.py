"""What an MCPServerEntry's status must say: a pure function of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from api.conditions import MCPServerEntryCondition as Type
from api.conditions import MCPServerEntryPhase as Phase
from api.conditions import MCPServerEntryReason as Reason
from api.contract.urls import validate_remote_url
from api.v1beta1 import MCPServerEntrySpec
from controllers.shared.content import Content, Unknown
from controllers.shared.groups import GroupState
from controllers.shared.remote import Bundle, header_problems, judge_bundle, missing_secrets, must_wait
from controllers.shared.verdicts import Conditions, Unreadable, Verdict, conditions_json, fold

CA_KEY = "ca.crt"
"""Key of a CA bundle whose reference names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the decision depends on.

    Attributes:
        spec: of the entry.
        generation: of that spec.
        now: time of the decision.
        group: the group that it names.
        auth_config_exists: whether the MCPExternalAuthConfig that it names is there; meaningless without a reference.
        bundle: the ConfigMap of the CA bundle; meaningless without a reference.
        secrets: the Secrets of its headers by name.
        older_endpoint: an older MCPRemoteEndpoint has its name.
        previous: conditions so far.
        waited: seconds that it has waited for a verdict.
    """

    spec: MCPServerEntrySpec | Unreadable
    generation: int
    now: datetime
    group: GroupState = GroupState.MISSING
    auth_config_exists: bool = False
    bundle: Content = Unknown.MISSING
    secrets: Mapping[str, Content] = field(default_factory=dict)
    older_endpoint: bool = False
    previous: Conditions = ()
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do.

    Attributes:
        status: fields of the status; None to leave it alone.
        wait: seconds until the entry must be looked at again; None to wait for events.
    """

    status: Mapping[str, Any] | None = None
    wait: float | None = None


def decide(snapshot: Snapshot) -> Decision:
    """Decide on an entry.

    A check whose material could not be read for a passing reason keeps its last verdict. When there is none for this
    generation of the spec, nothing is said at all.
    """
    spec = snapshot.spec
    if isinstance(spec, Unreadable):
        return Decision(_status(snapshot, list(_all_failed(spec.message)), drop=_OPTIONAL))
    wait = must_wait(snapshot.group, judged=bool(snapshot.previous), waited=snapshot.waited)
    if wait is not None:
        return Decision(wait=wait)
    verdicts = list(_verdicts(snapshot, spec))
    unread = _unread_checks(snapshot, spec)
    kept = {c.type: c for c in snapshot.previous if c.observed_generation == snapshot.generation}
    if any(type_ not in kept for type_ in unread):
        return Decision()
    said = {verdict.type for verdict in verdicts} | unread
    sound = all(verdict.ok for verdict in verdicts) and all(kept[type_].status == "True" for type_ in unread)
    verdicts.append(_overall(snapshot, sound=sound))
    return Decision(_status(snapshot, verdicts, drop=[type_ for type_ in _OPTIONAL if type_ not in said]))


_OPTIONAL = (Type.HEADERS_VALIDATED, Type.HEADER_SECRET_REFS_VALIDATED)


def _verdicts(snapshot: Snapshot, spec: MCPServerEntrySpec) -> Iterator[Verdict]:
    """Yield the checks in the order of the reference, those that could not be made left out."""
    yield _check_url(spec)
    yield _check_group(snapshot.group, spec.group_ref.name)
    yield _check_auth_config(snapshot, spec)
    if (bundle := _check_bundle(snapshot, spec)) is not None:
        yield bundle
    forward = spec.header_forward
    if forward is None:
        return
    yield _check_headers(spec)
    if forward.add_headers_from_secret:
        problems = missing_secrets(forward, snapshot.secrets)
        if problems:
            yield Verdict(Type.HEADER_SECRET_REFS_VALIDATED, False, Reason.HEADER_SECRET_NOT_FOUND, "; ".join(problems))
        elif problems is not None:
            message = "All header Secrets and their keys exist"
            yield Verdict(Type.HEADER_SECRET_REFS_VALIDATED, True, Reason.HEADER_SECRETS_VALID, message)


def _unread_checks(snapshot: Snapshot, spec: MCPServerEntrySpec) -> set[str]:
    unread: set[str] = set()
    if spec.ca_bundle_ref is not None and snapshot.bundle is Unknown.UNREAD:
        unread.add(Type.CA_BUNDLE_REF_VALIDATED)
    if Unknown.UNREAD in snapshot.secrets.values():
        unread.add(Type.HEADER_SECRET_REFS_VALIDATED)
    return unread


def _check_url(spec: MCPServerEntrySpec) -> Verdict:
    problem = validate_remote_url(spec.remote_url, allow_private=spec.allow_private_endpoint)
    if problem is not None:
        return Verdict(Type.REMOTE_URL_VALIDATED, False, Reason.REMOTE_URL_INVALID, problem)
    return Verdict(Type.REMOTE_URL_VALIDATED, True, Reason.REMOTE_URL_VALID, "Remote URL is valid")


def _check_group(group: GroupState, name: str) -> Verdict:
    type_ = Type.GROUP_REF_VALIDATED
    match group:
        case GroupState.READY:
            return Verdict(type_, True, Reason.GROUP_REF_IS_VALID, f"MCPGroup '{name}' is valid and ready")
        case GroupState.NOT_READY:
            return Verdict(type_, False, Reason.GROUP_REF_NOT_READY, f"MCPGroup '{name}' is not ready")
        case GroupState.DELETING:
            return Verdict(type_, False, Reason.GROUP_REF_NOT_FOUND, "Referenced MCPGroup is being deleted")
        case GroupState.MISSING:
            return Verdict(type_, False, Reason.GROUP_REF_NOT_FOUND, f"MCPGroup '{name}' not found")


def _check_auth_config(snapshot: Snapshot, spec: MCPServerEntrySpec) -> Verdict:
    type_, ref = Type.EXTERNAL_AUTH_CONFIG_VALIDATED, spec.external_auth_config_ref
    if ref is None:
        return Verdict(type_, True, Reason.AUTH_CONFIG_NOT_CONFIGURED, "No external auth config is referenced")
    if snapshot.auth_config_exists:
        return Verdict(type_, True, Reason.AUTH_CONFIG_VALID, f"MCPExternalAuthConfig '{ref.name}' exists")
    return Verdict(type_, False, Reason.AUTH_CONFIG_NOT_FOUND, f"MCPExternalAuthConfig '{ref.name}' not found")


def _check_bundle(snapshot: Snapshot, spec: MCPServerEntrySpec) -> Verdict | None:
    type_ = Type.CA_BUNDLE_REF_VALIDATED
    ref = spec.ca_bundle_ref.config_map_ref if spec.ca_bundle_ref is not None else None
    if ref is None:
        return Verdict(type_, True, Reason.CA_BUNDLE_REF_NOT_CONFIGURED, "No CA bundle is referenced")
    key = ref.key or CA_KEY
    match judge_bundle(snapshot.bundle, key):
        case Bundle.UNREAD:
            return None
        case Bundle.NO_CONFIG_MAP:
            message = f"ConfigMap '{ref.name}' of the CA bundle not found"
            return Verdict(type_, False, Reason.CA_BUNDLE_REF_NOT_FOUND, message)
        case Bundle.NO_KEY:
            message = f"ConfigMap '{ref.name}' of the CA bundle has no key '{key}'"
            return Verdict(type_, False, Reason.CA_BUNDLE_REF_NOT_FOUND, message)
        case Bundle.NO_CERTIFICATE:
            message = f"key '{key}' of ConfigMap '{ref.name}' holds no PEM certificate"
            return Verdict(type_, False, Reason.CA_BUNDLE_REF_INVALID, message)
        case Bundle.GOOD:
            return Verdict(type_, True, Reason.CA_BUNDLE_REF_VALID, f"CA bundle '{ref.name}' is valid")


def _check_headers(spec: MCPServerEntrySpec) -> Verdict:
    assert spec.header_forward is not None
    restricted, illegal = header_problems(spec.header_forward)
    message = "; ".join(restricted + illegal)
    if restricted:
        return Verdict(Type.HEADERS_VALIDATED, False, Reason.RESTRICTED_HEADER, message)
    if illegal:
        return Verdict(Type.HEADERS_VALIDATED, False, Reason.HEADER_INVALID, message)
    return Verdict(Type.HEADERS_VALIDATED, True, Reason.HEADERS_VALID, "All headers may be forwarded")


def _overall(snapshot: Snapshot, *, sound: bool) -> Verdict:
    if snapshot.older_endpoint:
        message = "An older MCPRemoteEndpoint has the same name; this entry waits until it is gone"
        return Verdict(Type.VALID, False, Reason.NAME_COLLISION, message)
    if sound:
        return Verdict(Type.VALID, True, Reason.CONFIG_VALID, "All referenced resources are valid")
    message = "One or more referenced resources are missing or invalid"
    return Verdict(Type.VALID, False, Reason.CONFIG_INVALID, message)


def _all_failed(message: str) -> Iterator[Verdict]:
    yield Verdict(Type.REMOTE_URL_VALIDATED, False, Reason.REMOTE_URL_INVALID, message)
    yield Verdict(Type.GROUP_REF_VALIDATED, False, Reason.GROUP_REF_NOT_FOUND, message)
    yield Verdict(Type.EXTERNAL_AUTH_CONFIG_VALIDATED, False, Reason.AUTH_CONFIG_NOT_FOUND, message)
    yield Verdict(Type.CA_BUNDLE_REF_VALIDATED, False, Reason.CA_BUNDLE_REF_NOT_FOUND, message)
    yield Verdict(Type.VALID, False, Reason.CONFIG_INVALID, message)


def _status(snapshot: Snapshot, verdicts: list[Verdict], drop: tuple[Type, ...] | list[Type]) -> Mapping[str, Any]:
    conditions = fold(snapshot.previous, verdicts, drop=drop, generation=snapshot.generation, now=snapshot.now)
    valid = next(verdict.ok for verdict in verdicts if verdict.type == Type.VALID)
    return {
        "observedGeneration": snapshot.generation,
        "phase": str(Phase.VALID if valid else Phase.FAILED),
        "conditions": conditions_json(conditions),
    }
