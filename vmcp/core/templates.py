"""Does a URI belong to a resource template (RFC 6570)?

Matching is linear in the URI and uses no regular expression: templates come from backends and URIs from clients, and
neither must be able to make the other's matching slow.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_URI = 8192
"""Longer URIs match no template, bytes."""

_OPERATORS = "+#./;?&"
# `{path*}` is written by servers for "the rest of the path", and by RFC 6570 for a list: both may hold slashes here.
_EXPLODED = "?#"
# What a value of each kind of expression cannot contain: simple values are percent-encoded, so no reserved character
# that separates parts of a URI; reserved expansion (+, #) may hold anything.
_STOPS = {
    "": "/?#",
    ".": "/?#",
    "/": "?#",
    ";": "/?#",
    "?": "#",
    "&": "#",
    "+": "",
    "#": "",
}


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """A template, cut at its expressions.

    Attributes:
        literals: The text around the expressions; always one more than there are expressions.
        stops: Per expression (neighbours without text between them are one), the characters its value cannot hold.
    """

    literals: tuple[str, ...]
    stops: tuple[str, ...]

    @property
    def specificity(self) -> tuple[int, int]:
        """How much of a URI is said: the length of the text before the first expression, and of all text."""
        return len(self.literals[0]), sum(map(len, self.literals))

    @property
    def names_a_scheme(self) -> bool:
        """Whether the text before the first expression says at least what kind of URI it is."""
        return ":" in self.literals[0]

    def matches(self, uri: str) -> bool:
        """Say whether the template could have produced `uri`.

        Each literal is looked for at its earliest place. That is exact for values that cannot hold the literal, and
        the customary reading otherwise.
        """
        if len(uri) > MAX_URI or not uri.startswith(self.literals[0]):
            return False
        if not self.stops:
            return uri == self.literals[0]
        place = len(self.literals[0])
        for stops, literal in zip(self.stops[:-1], self.literals[1:-1], strict=True):
            found = uri.find(literal, place)
            if found < 0 or not _clean(uri, place, found, stops):
                return False
            place = found + len(literal)
        end = len(uri) - len(self.literals[-1])
        return end >= place and uri.endswith(self.literals[-1]) and _clean(uri, place, end, self.stops[-1])


def compile_template(template: str) -> UriTemplate | None:
    """Cut a template; None when its braces do not pair."""
    literals: list[str] = []
    stops: list[str] = []
    text, *rest = template.split("{")
    if "}" in text:
        return None
    for part in rest:
        inside, closing, after = part.partition("}")
        if not closing or not inside or "}" in after:
            return None
        operator = inside[0] if inside[0] in _OPERATORS else ""
        kind = _EXPLODED if not operator and inside.endswith("*") else _STOPS[operator]
        if stops and not text:
            stops[-1] = "".join(sorted(set(stops[-1]) & set(kind)))
        else:
            literals.append(text)
            stops.append(kind)
        text = after
    return UriTemplate((*literals, text), tuple(stops))


def _clean(uri: str, start: int, end: int, stops: str) -> bool:
    return all(uri.find(stop, start, end) < 0 for stop in stops)
