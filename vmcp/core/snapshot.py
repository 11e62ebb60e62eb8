"""What the gateway offers at one moment: every advertised name and where a use of it goes. Immutable.

A change of anything makes a new snapshot, and one assignment puts it in place: a call that began with the old one ends
with the old one, and no reader ever waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vmcp.backend.interface import Item, Kind
from vmcp.backend.modern.mirrored import InvalidMirrorError, Mirror, mirror_of
from vmcp.core.items import KEY_FIELD, member, replace_members
from vmcp.core.naming import Claim, Naming, name_prompts, name_tools
from vmcp.core.rules import AggregationRules, Override
from vmcp.core.templates import UriTemplate, compile_template

_NO_OVERRIDE = Override()


@dataclass(frozen=True, slots=True)
class Offer:
    """The lists of one backend, as its catalogue holds them: keys are unique within a list."""

    backend: str
    tools: tuple[Item, ...] = ()
    resources: tuple[Item, ...] = ()
    templates: tuple[Item, ...] = ()
    prompts: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One advertised item.

    Attributes:
        name: As advertised: tool or prompt name, URI, or URI template.
        backend: Who serves it.
        original: Its name at the backend.
        raw: The JSON object as advertised.
        annotations: Of tools, as advertised: policies may look at them.
        hidden: In the table, for parts of the gateway that may use it, but neither listed nor callable by clients.
        mirror: Of tools: arguments that modern clients mirror in headers.
    """

    name: str
    backend: str
    original: str
    raw: bytes
    annotations: Mapping[str, object] | None = None
    hidden: bool = False
    mirror: Mirror = ()


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """All routes, sorted by name, and what was lost on the way."""

    tools: Mapping[str, Route] = field(default_factory=dict)
    resources: Mapping[str, Route] = field(default_factory=dict)
    templates: Mapping[str, Route] = field(default_factory=dict)
    prompts: Mapping[str, Route] = field(default_factory=dict)
    matchers: tuple[tuple[UriTemplate, Route], ...] = ()
    problems: tuple[str, ...] = ()

    def table(self, kind: Kind) -> Mapping[str, Route]:
        """Return the routes of one kind."""
        match kind:
            case Kind.TOOLS:
                return self.tools
            case Kind.RESOURCES:
                return self.resources
            case Kind.TEMPLATES:
                return self.templates
            case Kind.PROMPTS:
                return self.prompts

    def tool(self, name: str) -> Route | None:
        """Return the callable tool of this name."""
        route = self.tools.get(name)
        return None if route is None or route.hidden else route

    def for_uri(self, uri: str) -> Route | None:
        """Return who serves a URI: the resource of that URI, the template of that text, the first that matches."""
        found = self.resources.get(uri) or self.templates.get(uri)
        if found is not None:
            return found
        return next((route for matcher, route in self.matchers if matcher.matches(uri)), None)


EMPTY = Snapshot()


def aggregate(offers: Iterable[Offer], rules: AggregationRules) -> Snapshot:
    """Merge the lists of all backends. Pure; the order of `offers` does not matter."""
    ordered = sorted(offers, key=lambda offer: offer.backend)
    problems: list[str] = []
    tools = _tools(ordered, rules, problems)
    prompts = _prompts(ordered, rules, problems)
    resources = _first_of(ordered, Kind.RESOURCES, problems)
    templates = _first_of(ordered, Kind.TEMPLATES, problems)
    matchers: list[tuple[UriTemplate, Route]] = []
    for name, route in templates.items():
        matcher = compile_template(name)
        if matcher is None:
            problems.append(f"{route.backend}: {name!r} is no URI template; only its exact text is routed")
        else:
            matchers.append((matcher, route))
    return Snapshot(tools, resources, templates, prompts, tuple(matchers), tuple(problems))


def _tools(offers: list[Offer], rules: AggregationRules, problems: list[str]) -> dict[str, Route]:
    items: dict[tuple[str, str], Item] = {}
    claims: list[Claim] = []
    for offer in offers:
        taken: set[str] = set()
        for item in offer.tools:
            override = _override(rules, offer.backend, item.key)
            wanted = override.name or item.key
            if wanted in taken:
                problems.append(f"{offer.backend}: overrides give {wanted!r} to a second tool, {item.key!r}: dropped")
                continue
            taken.add(wanted)
            items[offer.backend, item.key] = item
            claims.append(Claim(offer.backend, item.key, wanted, overridden=bool(override.name)))
    naming = name_tools(claims, rules)
    problems.extend(f"tool {problem}" for problem in naming.problems)
    return {name: _tool_route(name, naming.names[name], items, rules) for name in sorted(naming.names)}


def _tool_route(name: str, claim: Claim, items: Mapping[tuple[str, str], Item], rules: AggregationRules) -> Route:
    raw = items[claim.backend, claim.original].raw
    override = _override(rules, claim.backend, claim.original)
    changes: dict[str, object] = {}
    if name != claim.original:
        changes["name"] = name
    if override.description is not None:
        changes["description"] = override.description
    annotations = member(raw, "annotations")
    annotations = annotations if isinstance(annotations, dict) else None
    if override.annotations:
        annotations = {**(annotations or {}), **override.annotations}
        changes["annotations"] = annotations
    return Route(
        name=name,
        backend=claim.backend,
        original=claim.original,
        raw=replace_members(raw, changes) if changes else raw,
        annotations=annotations,
        hidden=not rules.visible(claim.backend, claim.wanted),
        mirror=_mirror(raw),
    )


def _mirror(raw: bytes) -> Mirror:
    """Tools that break the rules of mirroring were dropped where they came in; a legacy backend's are left alone."""
    try:
        return mirror_of(raw)
    except InvalidMirrorError:
        return ()


def _prompts(offers: list[Offer], rules: AggregationRules, problems: list[str]) -> dict[str, Route]:
    items = {(offer.backend, item.key): item for offer in offers for item in offer.prompts}
    naming: Naming = name_prompts((Claim(backend, key, key) for backend, key in items), rules)
    problems.extend(naming.problems)
    routes: dict[str, Route] = {}
    for name in sorted(naming.names):
        claim = naming.names[name]
        raw = items[claim.backend, claim.original].raw
        raw = raw if name == claim.original else replace_members(raw, {"name": name})
        routes[name] = Route(name, claim.backend, claim.original, raw)
    return routes


def _first_of(offers: list[Offer], kind: Kind, problems: list[str]) -> dict[str, Route]:
    """URIs cannot be renamed: of several bearers the backend that sorts first serves it."""
    routes: dict[str, Route] = {}
    for offer in offers:
        raws = offer.resources if kind is Kind.RESOURCES else offer.templates
        for item in raws:
            owner = routes.get(item.key)
            if owner is None:
                routes[item.key] = Route(item.key, offer.backend, item.key, item.raw)
            else:
                problems.append(f"{KEY_FIELD[kind]} {item.key!r}: {owner.backend} wins over {offer.backend}")
    return dict(sorted(routes.items()))


def _override(rules: AggregationRules, backend: str, original: str) -> Override:
    workload = rules.workloads.get(backend)
    return _NO_OVERRIDE if workload is None else workload.overrides.get(original, _NO_OVERRIDE)
