"""How the vocabulary of conditions is written down: words with a description, and which word may follow which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self


class Word(StrEnum):
    """A condition type, a reason or a phase: the text on the wire plus a sentence that says when it is set.

    A member is written as `NAME = "Text", "When it is set."` and is the plain text everywhere else, so it goes into
    JSON, f-strings and comparisons as a `str`.
    """

    description: str

    def __new__(cls, value: str, description: str) -> Self:
        """Keep the sentence beside the text."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member


STALLED_TYPE = (
    "Stalled",
    "Nothing more will happen until a user changes something; carries the reason of the first check that needs it.",
)
"""The condition type by which kstatus (Flux, Helm, Argo CD's generic check) tells "broken" from "not there yet"."""
STALLED_PRESENCE = "only while a check fails that only the user can fix"

CRD_OUTDATED_TYPE = (
    "CRDOutdated",
    "The installed CRD is older than the operator and lacks fields of the status; the message says which.",
)
"""The condition type that every reconciled kind has for it."""
STATUS_FIELDS_UNKNOWN_REASON = (
    "StatusFieldsUnknown",
    "The installed CRD lacks some status fields or values: apply the CRDs of the operator's version.",
)
CRD_OUTDATED_PRESENCE = "only while the CRDs are older than the operator"

OBJECTS_APPLIED_TYPE = "ObjectsApplied", "Whether the generated objects of the proxy could be written."
"""The condition types and reasons of every kind that runs proxies."""
DEPLOYMENT_READY_TYPE = (
    "DeploymentReady",
    "Whether a pod of the proxy serves this generation of the spec; a later rollout takes nothing away.",
)
DEPLOYMENT_READY_REASON = "DeploymentReady", "A pod serves this generation of the spec."
DEPLOYMENT_NOT_READY_REASON = (
    "DeploymentNotReady",
    "No pod serves this generation yet; the message says how far they are.",
)
PROXY_CONFIG_INVALID_REASON = (
    "ProxyConfigInvalid",
    "The proxy or the platform would refuse what the spec comes to; the message says what, and where.",
)

OBJECTS_APPLIED_REASON = "ObjectsApplied", "Every generated object is up to date."
"""The reasons of the condition ObjectsApplied, of every kind that deploys something."""
FOREIGN_OBJECT_REASON = (
    "ForeignObject",
    "An object with the required name exists but belongs to someone else; it is left alone.",
)
OBJECT_REFUSED_REASON = (
    "ObjectRefused",
    "The API server refused a generated object; the message quotes it. Retried every minute.",
)
CONTESTED_REASON = (
    "Contested",
    "Something else keeps changing or removing a generated object; the message names it. Repairs back off.",
)
APPLY_FAILED_REASON = (
    "ApplyFailed",
    "The API server or a webhook failed temporarily, or an object that is being deleted is held; retried soon.",
)


@dataclass(frozen=True)
class ConditionRule:
    """One condition type with the reasons that it may carry.

    Attributes:
        type: the condition type; for a family (`BackendAuthConfig-<name>`) its prefix.
        true: reasons with status True.
        false: reasons with status False.
        unknown: reasons with status Unknown.
        presence: when the condition is there at all.
        family: the type is followed by an object's name (see `named_condition_type`).
        writer: who writes it: "operator" or "vmcp" (the running gateway).
        mirrors: the status that may also carry the reason of the failing condition that this one follows; "" for none.
    """

    type: Word
    true: tuple[Word, ...] = ()
    false: tuple[Word, ...] = ()
    unknown: tuple[Word, ...] = ()
    presence: str = "always"
    family: bool = False
    writer: str = "operator"
    mirrors: Literal["", "True", "False"] = ""

    @property
    def by_status(self) -> tuple[tuple[str, tuple[Word, ...]], ...]:
        """Each status with its reasons."""
        return ("True", self.true), ("False", self.false), ("Unknown", self.unknown)


@dataclass(frozen=True)
class KindVocabulary:
    """All words of one kind's status."""

    kind: str
    phase: type[Word] | None
    types: type[Word]
    reasons: type[Word]
    rules: tuple[ConditionRule, ...]
    controlled: bool = True
    """Whether this repository has a controller for the kind; otherwise the words are read, not written."""

    def rule(self, condition_type: str) -> ConditionRule:
        """Return the rule of a condition type, also of a member of a family.

        Raises:
            KeyError: the kind has no such condition.
        """
        for rule in self.rules:
            if rule.type == condition_type or (rule.family and condition_type.startswith(f"{rule.type}-")):
                return rule
        raise KeyError(f"{self.kind} has no condition {condition_type}")
