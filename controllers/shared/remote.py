"""The checks that MCPServerEntry and MCPRemoteEndpoint have in common; each gives them its own words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from api.common.headers import HeaderForwardConfig
from api.contract import headers
from controllers.shared.content import Content, Contents, Facts, Look, Unknown
from controllers.shared.groups import GRACE, GroupState
from controllers.shared.resources import MEMBER_KINDS
from runtime import ApiError, Key, Reader, Record, Resource


class Bundle(Enum):
    """A CA bundle as far as it is known."""

    GOOD = "good"
    NO_CONFIG_MAP = "no ConfigMap"
    NO_KEY = "no key"
    NO_CERTIFICATE = "no certificate"
    UNREAD = "unread"


def judge_bundle(content: Content, key: str) -> Bundle:
    """Say what a key of a ConfigMap is good for."""
    if content is Unknown.UNREAD:
        return Bundle.UNREAD
    if not isinstance(content, Facts):
        return Bundle.NO_CONFIG_MAP
    if key not in content.keys:
        return Bundle.NO_KEY
    return Bundle.GOOD if key in content.certificates else Bundle.NO_CERTIFICATE


def secret_names(forward: HeaderForwardConfig | None) -> list[str]:
    """Return the Secrets of forwarded headers, without repetitions."""
    return list(dict.fromkeys(h.value_secret_ref.name for h in (forward.add_headers_from_secret if forward else ())))


def missing_secrets(forward: HeaderForwardConfig, secrets: Mapping[str, Content]) -> list[str] | None:
    """Return a sentence for each header whose Secret or key is not there; None when a Secret could not be read."""
    problems = []
    for header in forward.add_headers_from_secret:
        ref, content = header.value_secret_ref, secrets[header.value_secret_ref.name]
        if content is Unknown.UNREAD:
            return None
        if not isinstance(content, Facts):
            problems.append(f'Secret "{ref.name}" of header "{header.header_name}" not found')
        elif ref.key not in content.keys:
            problems.append(f'Secret "{ref.name}" has no key "{ref.key}" for header "{header.header_name}"')
    return problems


def unread_secrets(secrets: Mapping[str, Content], why: str) -> str:
    """Return the sentence about Secrets that could not be read."""
    names = ", ".join(f'"{name}"' for name, content in sorted(secrets.items()) if content is Unknown.UNREAD)
    return f"Secret {names} could not be read: {why}; trying again"


def unread_bundle(name: str, why: str) -> str:
    """Return the sentence about a CA bundle that could not be read."""
    return f"ConfigMap '{name}' of the CA bundle could not be read: {why}; trying again"


def header_problems(forward: HeaderForwardConfig, secrets: Mapping[str, Content]) -> tuple[list[str], list[str]]:
    """Return what is wrong with the headers: reserved ones, and names and values that are not legal in HTTP.

    Args:
        forward: the headers.
        secrets: what is known of the Secrets with their values; see `missing_secrets` for those that are not there.
    """
    secret = [header.header_name for header in forward.add_headers_from_secret]
    problems = headers.header_problems(dict(sorted(forward.add_plaintext_headers.items())), secret)
    illegal = [problem.message for problem in problems if not problem.reserved]
    for header in forward.add_headers_from_secret:
        ref = header.value_secret_ref
        content = secrets.get(ref.name)
        problem = content.unfit_headers.get(ref.key) if isinstance(content, Facts) else None
        if problem is not None:
            illegal.append(
                f'the value of header "{header.header_name}" in Secret "{ref.name}", key "{ref.key}" {problem}'
            )
    return [problem.message for problem in problems if problem.reserved], illegal


def rank(record: Record) -> tuple[str, str]:
    """Return what decides between objects of one name: the older wins, then the smaller uid."""
    return record.meta.creation_timestamp or "", record.meta.uid


def older_namesake(reader: Reader, record: Record, rivals: Iterable[Resource] = MEMBER_KINDS) -> str | None:
    """Return the kind of a workload that has this object's name and had it before; None when the name is its own."""
    for kind in rivals:
        rival = reader.get(kind, record.key) if kind != record.resource else None
        if rival is not None and rank(rival) < rank(record):
            return kind.kind
    return None


def must_wait(group: GroupState, *, judged: bool, waited: float) -> float | None:
    """Return the seconds that a newcomer still waits for its group; None when it must be judged now."""
    if judged or group in (GroupState.READY, GroupState.DELETING) or waited >= GRACE:
        return None
    return GRACE - waited


@dataclass(frozen=True, slots=True)
class ContentReads:
    """What the reads of content brought.

    Attributes:
        secrets: by name of the Secret.
        bundle: of the CA bundle's ConfigMap; missing when none is referred to.
        error: a passing error of one of the reads: decide, then try again.
    """

    secrets: Mapping[str, Content] = field(default_factory=dict)
    bundle: Content = Unknown.MISSING
    error: Exception | None = None

    @property
    def unread(self) -> str:
        """Why something could not be read, in words that stay the same from one try to the next."""
        if isinstance(self.error, ApiError):
            return f"the API server answered {self.error.status} {self.error.reason}".rstrip()
        return "the API server did not answer" if self.error is not None else ""


async def gather_material(
    namespace: str, names: list[str], config_map: str, secrets: Contents, config_maps: Contents
) -> ContentReads:
    """Look at all Secrets and the ConfigMap at once."""
    if not names and not config_map:
        return ContentReads()
    looks = await asyncio.gather(
        *(secrets.look(Key(namespace, name)) for name in names),
        *([config_maps.look(Key(namespace, config_map))] if config_map else []),
    )
    found: list[Look] = list(looks)
    error = next((look.error for look in found if look.error is not None), None)
    bundle = found.pop().content if config_map else Unknown.MISSING
    return ContentReads({name: look.content for name, look in zip(names, found, strict=True)}, bundle, error)
