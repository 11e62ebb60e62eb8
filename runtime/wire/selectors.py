"""Label and field selectors, evaluated locally as the API server would.

The cache needs them to keep its promise: an object that a watch would not show must not appear in it, even when the
object was just written by this process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Operator = Literal["=", "!=", "in", "notin", "exists", "!"]

_SET_TERM = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)\s*$")
_EQUAL_TERM = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s!=,()]*)\s*$")
_EXIST_TERM = re.compile(r"^\s*(?P<not>!?)\s*(?P<key>[^\s!=,()]+)\s*$")
_FIELD_TERM = re.compile(r"^\s*(?P<key>[^\s!=,]+)\s*(?P<op>==|=|!=)(?P<value>.*)$")
_TOP_LEVEL_COMMA = re.compile(r",(?![^()]*\))")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a selector."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, value: str | None) -> bool:
        """Whether a label's or field's value (None when absent) satisfies the term."""
        match self.operator:
            case "=" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                # An absent label differs from everything (k8s.io/apimachinery/pkg/labels).
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None

    def __str__(self) -> str:
        values = ",".join(sorted(self.values))
        match self.operator:
            case "=" | "!=":
                return f"{self.key}{self.operator}{values}"
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case _:
                return f"{self.key} {self.operator} ({values})"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All terms must hold; without terms it matches everything."""

    terms: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """Read the query form, for example `app=x,tier in (a,b),!legacy`.

        Raises:
            ValueError: not a selector.
        """
        return cls(tuple(_label_term(term) for term in _TOP_LEVEL_COMMA.split(text))) if text.strip() else cls()

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> LabelSelector:
        """Select equality with each of these labels."""
        return cls(tuple(Requirement(key, "=", frozenset((value,))) for key, value in sorted(labels.items())))

    @classmethod
    def from_object(cls, selector: Mapping[str, Any]) -> LabelSelector:
        """Read a `metav1.LabelSelector` (`matchLabels`, `matchExpressions`).

        Raises:
            ValueError: an unknown operator.
        """
        names: Mapping[str, Operator] = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
        terms = list(cls.of(selector.get("matchLabels") or {}).terms)
        for expression in selector.get("matchExpressions") or ():
            if expression.get("operator") not in names:
                raise ValueError(f"unknown selector operator {expression.get('operator')!r}")
            values = frozenset(expression.get("values") or ())
            terms.append(Requirement(expression["key"], names[expression["operator"]], values))
        return cls(tuple(terms))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(term.matches(labels.get(term.key)) for term in self.terms)

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Equality and inequality of fields, as the API server has it."""

    terms: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> FieldSelector:
        """Read the query form, for example `metadata.namespace!=kube-system,spec.type=a`.

        Raises:
            ValueError: not a selector.
        """
        return cls(tuple(_field_term(term) for term in text.split(","))) if text.strip() else cls()

    @classmethod
    def all_but_namespaces(cls, namespaces: Iterable[str]) -> FieldSelector:
        """Select the objects of all other namespaces."""
        return cls(tuple(Requirement("metadata.namespace", "!=", frozenset((name,))) for name in sorted(namespaces)))

    def matches(self, read: Callable[[str], Any]) -> bool:
        """Whether an object is selected.

        Args:
            read: gives the value at a dotted path, None when absent. An absent field counts as the empty string
                (k8s.io/apimachinery/pkg/fields).
        """
        return all(term.matches(_text(read(term.key))) for term in self.terms)

    def and_(self, other: FieldSelector) -> FieldSelector:
        """Select what both select."""
        return FieldSelector((*self.terms, *other.terms))

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _label_term(term: str) -> Requirement:
    if found := _SET_TERM.match(term):
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], "in" if found["op"] == "in" else "notin", values)
    if found := _EQUAL_TERM.match(term):
        return Requirement(found["key"], "!=" if found["op"] == "!=" else "=", frozenset((found["value"],)))
    if found := _EXIST_TERM.match(term):
        return Requirement(found["key"], "!" if found["not"] else "exists")
    raise ValueError(f"not a label selector term: {term!r}")


def _field_term(term: str) -> Requirement:
    found = _FIELD_TERM.match(term)
    if found is None:
        raise ValueError(f"not a field selector term: {term!r}")
    return Requirement(found["key"], "!=" if found["op"] == "!=" else "=", frozenset((found["value"],)))
