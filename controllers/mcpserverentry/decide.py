"""What an MCPServerEntry's status must say: a pure function of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api.conditions import MCPServerEntryCondition as Type
from api.conditions import MCPServerEntryPhase as Phase
from api.conditions import MCPServerEntryReason as Reason
from api.contract.urls import validate_remote_url
from api.v1beta1 import MCPServerEntrySpec
from controllers.shared.groups import judge_group
from controllers.shared.judging import Decision, MemberObservation, with_kept
from controllers.shared.remote import (
    Bundle,
    header_problems,
    judge_bundle,
    missing_secrets,
    must_wait,
    unread_bundle,
    unread_secrets,
)
from controllers.shared.verdicts import Unreadable, Verdict, conditions_json, fold, sum_up

CA_KEY = "ca.crt"
"""Key of a CA bundle whose reference names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(MemberObservation):
    """Everything that the decision depends on.

    Attributes:
        spec: of the entry.
        auth_config_exists: whether the MCPExternalAuthConfig that it names is there; meaningless without a reference.
        older_namesake: kind of an older workload of its name.
    """

    spec: MCPServerEntrySpec | Unreadable
    auth_config_exists: bool = False
    older_namesake: str | None = None


def decide(snapshot: Snapshot) -> Decision:
    """Decide on an entry.

    A check whose material could not be read for a passing reason keeps its last verdict. Where there never was one it
    is Unknown, and so is the sum unless another check failed.
    """
    spec = snapshot.spec
    if isinstance(spec, Unreadable):
        failed = list(_all_failed(spec.message))
        failed += sum_up(failed, fine=_READY, passing=PASSING)
        return Decision(_status(snapshot, failed, drop=_OPTIONAL[:2]))
    wait = must_wait(snapshot.group, judged=bool(snapshot.previous), waited=snapshot.waited)
    if wait is not None:
        return Decision(wait=wait)
    verdicts = with_kept(snapshot, _verdicts(snapshot, spec), none={Reason.CA_BUNDLE_REF_NOT_CONFIGURED})
    if verdicts is None:
        return Decision()
    verdicts += _sums(snapshot, verdicts)
    said = {verdict.type for verdict in verdicts}
    return Decision(_status(snapshot, verdicts, drop=[type_ for type_ in _OPTIONAL if type_ not in said]))


PASSING = frozenset((Reason.GROUP_REF_NOT_READY,))
"""Something is only not there yet; every other failure is for the user to mend."""

_OPTIONAL = (Type.HEADERS_VALIDATED, Type.HEADER_SECRET_REFS_VALIDATED, Type.STALLED)
_READY = Verdict(Type.READY, True, Reason.ENTRY_READY, "All checks passed")


def _verdicts(snapshot: Snapshot, spec: MCPServerEntrySpec) -> Iterator[Verdict]:
    """Yield the checks in the order of the reference."""
    yield _check_url(spec)
    yield judge_group(
        snapshot.group,
        spec.group_ref.name,
        Type.GROUP_REF_VALIDATED,
        valid=Reason.GROUP_REF_IS_VALID,
        not_ready=Reason.GROUP_REF_NOT_READY,
        not_found=Reason.GROUP_REF_NOT_FOUND,
    )
    yield _check_auth_config(snapshot, spec)
    yield _check_bundle(snapshot, spec)
    forward = spec.header_forward
    if forward is None:
        return
    yield _check_headers(snapshot, spec)
    if forward.add_headers_from_secret:
        yield _check_secrets(snapshot, missing_secrets(forward, snapshot.secrets))


def _check_secrets(snapshot: Snapshot, problems: list[str] | None) -> Verdict:
    type_ = Type.HEADER_SECRET_REFS_VALIDATED
    if problems is None:
        return Verdict(type_, None, Reason.READ_FAILED, unread_secrets(snapshot.secrets, snapshot.unread))
    if problems:
        return Verdict(type_, False, Reason.HEADER_SECRET_NOT_FOUND, "; ".join(problems))
    return Verdict(type_, True, Reason.HEADER_SECRETS_VALID, "All header Secrets and their keys exist")


def _check_url(spec: MCPServerEntrySpec) -> Verdict:
    problem = validate_remote_url(spec.remote_url, allow_private=spec.allow_private_endpoint)
    if problem is not None:
        return Verdict(Type.REMOTE_URL_VALIDATED, False, Reason.REMOTE_URL_INVALID, problem)
    return Verdict(Type.REMOTE_URL_VALIDATED, True, Reason.REMOTE_URL_VALID, "Remote URL is valid")


def _check_auth_config(snapshot: Snapshot, spec: MCPServerEntrySpec) -> Verdict:
    type_, ref = Type.EXTERNAL_AUTH_CONFIG_VALIDATED, spec.external_auth_config_ref
    if ref is None:
        return Verdict(type_, True, Reason.AUTH_CONFIG_NOT_CONFIGURED, "No external auth config is referenced")
    if snapshot.auth_config_exists:
        return Verdict(type_, True, Reason.AUTH_CONFIG_VALID, f"MCPExternalAuthConfig '{ref.name}' exists")
    return Verdict(type_, False, Reason.AUTH_CONFIG_NOT_FOUND, f"MCPExternalAuthConfig '{ref.name}' not found")


def _check_bundle(snapshot: Snapshot, spec: MCPServerEntrySpec) -> Verdict:
    type_ = Type.CA_BUNDLE_REF_VALIDATED
    ref = spec.ca_bundle_ref.config_map_ref if spec.ca_bundle_ref is not None else None
    if ref is None:
        return Verdict(type_, True, Reason.CA_BUNDLE_REF_NOT_CONFIGURED, "No CA bundle is referenced")
    key = ref.key or CA_KEY
    match judge_bundle(snapshot.bundle, key):
        case Bundle.UNREAD:
            return Verdict(type_, None, Reason.READ_FAILED, unread_bundle(ref.name, snapshot.unread))
        case Bundle.NO_CONFIG_MAP:
            message = f"ConfigMap '{ref.name}' of the CA bundle not found"
            return Verdict(type_, False, Reason.CA_BUNDLE_REF_NOT_FOUND, message)
        case Bundle.NO_KEY:
            message = f"ConfigMap '{ref.name}' of the CA bundle has no key '{key}'"
            return Verdict(type_, False, Reason.CA_BUNDLE_REF_NOT_FOUND, message)
        case Bundle.NO_CERTIFICATE:
            message = f"key '{key}' of ConfigMap '{ref.name}' contains no PEM certificate"
            return Verdict(type_, False, Reason.CA_BUNDLE_REF_INVALID, message)
        case Bundle.GOOD:
            return Verdict(type_, True, Reason.CA_BUNDLE_REF_VALID, f"CA bundle '{ref.name}' is valid")


def _check_headers(snapshot: Snapshot, spec: MCPServerEntrySpec) -> Verdict:
    assert spec.header_forward is not None
    restricted, illegal = header_problems(spec.header_forward, snapshot.secrets)
    message = "; ".join(restricted + illegal)
    if restricted:
        return Verdict(Type.HEADERS_VALIDATED, False, Reason.RESTRICTED_HEADER, message)
    if illegal:
        return Verdict(Type.HEADERS_VALIDATED, False, Reason.HEADER_INVALID, message)
    return Verdict(Type.HEADERS_VALIDATED, True, Reason.HEADERS_VALID, "All headers may be forwarded")


def _sums(snapshot: Snapshot, verdicts: list[Verdict]) -> list[Verdict]:
    """Valid, as ToolHive says it, and Ready and Stalled, as tools that know no kind ask for them."""
    overall = _overall(snapshot, verdicts)
    first = [overall] if overall.reason == Reason.NAME_COLLISION else []
    return [overall, *sum_up([*first, *verdicts], fine=_READY, passing=PASSING)]


def _overall(snapshot: Snapshot, verdicts: list[Verdict]) -> Verdict:
    if snapshot.older_namesake is not None:
        message = f"An older {snapshot.older_namesake} has the same name; this entry waits until it is gone"
        return Verdict(Type.VALID, False, Reason.NAME_COLLISION, message)
    outcomes = {verdict.ok for verdict in verdicts}
    if outcomes == {True}:
        return Verdict(Type.VALID, True, Reason.CONFIG_VALID, "All referenced resources are valid")
    if False not in outcomes:
        unread = next(verdict for verdict in verdicts if verdict.ok is None)
        return Verdict(Type.VALID, None, unread.reason, unread.message)
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
        "phase": str({True: Phase.VALID, False: Phase.FAILED, None: Phase.PENDING}[valid]),
        "conditions": conditions_json(conditions),
    }
