"""What the gateway offers at one moment: every advertised name and where a use of it goes. Immutable.

A change of anything makes a new snapshot, and one assignment puts it in place: a call that began with the old one ends
with the old one, and no reader ever waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vmcp.backend.interface import LIST_KINDS, Item, Kind
from vmcp.backend.modern.mirrored import InvalidMirrorError, Mirror, mirror_of
from vmcp.core.items import member, replace_members
from vmcp.core.naming import COMMON_LIMIT, NameClaim, Naming, name_prompts, name_tools, shortened
from vmcp.core.pages import SharedPages
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
        via: Marks of the gateways that it came through.
    """

    name: str
    backend: str
    original: str
    raw: bytes
    annotations: Mapping[str, object] | None = None
    hidden: bool = False
    mirror: Mirror = ()
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Matcher:
    """A template that URIs are compared with.

    Attributes:
        template: Compiled.
        route: Who serves it.
        rank: Place of its backend in the order of priority; those that are not in it share the last one.
    """

    template: UriTemplate
    route: Route
    rank: int


@dataclass(frozen=True, slots=True, eq=False)
class RoutingSnapshot:
    """All routes, sorted by name, and what was lost on the way. `matchers` stand in the order of what they say."""

    tools: Mapping[str, Route] = field(default_factory=dict)
    resources: Mapping[str, Route] = field(default_factory=dict)
    templates: Mapping[str, Route] = field(default_factory=dict)
    prompts: Mapping[str, Route] = field(default_factory=dict)
    matchers: tuple[Matcher, ...] = ()
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
        """Return who serves a URI: the resource of that URI, the template of that text, the one that says most of it.

        Several backends whose templates say equally much of it are nobody, unless one stands first in the order of
        priority: a member must not take what is read from another by naming the same.
        """
        found = self.resources.get(uri) or self.templates.get(uri)
        if found is not None:
            return found
        best: list[Matcher] = []
        for matcher in self.matchers:
            if best and matcher.template.specificity != best[0].template.specificity:
                break
            if matcher.template.matches(uri):
                best.append(matcher)
        return _first_in_order([(matcher.rank, matcher.route) for matcher in best])

    def vague(self, uri: str) -> bool:
        """Say whether a URI is served only by a template that would take URIs of every kind."""
        if uri in self.resources or uri in self.templates:
            return False
        found = next((matcher.template for matcher in self.matchers if matcher.template.matches(uri)), None)
        return found is not None and not found.names_a_scheme


def _first_in_order(candidates: list[tuple[int, Route]]) -> Route | None:
    """Return the route of the one backend, or of the one that alone stands first; None when nobody said whose it is."""
    if not candidates:
        return None
    first = min(rank for rank, _ in candidates)
    routes = [route for rank, route in candidates if rank == first]
    return routes[0] if len({route.backend for route in routes}) == 1 else None


EMPTY = RoutingSnapshot()


def aggregate(offers: Iterable[Offer], rules: AggregationRules) -> RoutingSnapshot:
    """Merge the lists of all backends. Pure; the order of `offers` does not matter."""
    ordered = sorted(offers, key=lambda offer: offer.backend)
    problems: list[str] = []
    pages = SharedPages(ordered)
    tools = _tools(ordered, rules, pages, problems)
    prompts = _prompts(ordered, rules, problems)
    problems.extend(_long_names(tools, prompts))
    resources = _owned(ordered, Kind.RESOURCES, rules, pages, problems)
    templates = _owned(ordered, Kind.TEMPLATES, rules, pages, problems)
    matchers: list[Matcher] = []
    for name, route in templates.items():
        template = compile_template(name)
        if template is None:
            problems.append(f"{route.backend}: {name!r} is not a URI template; only its exact text is routed")
        else:
            matchers.append(Matcher(template, route, _rank(rules, route.backend)))
    matchers.sort(key=lambda matcher: matcher.template.specificity, reverse=True)
    return RoutingSnapshot(tools, resources, templates, prompts, tuple(matchers), tuple(problems))


def _long_names(*tables: Mapping[str, Route]) -> Iterator[str]:
    advertised = (route for table in tables for route in table.values() if not route.hidden)
    long = sorted(route.name for route in advertised if len(route.name) > COMMON_LIMIT)
    if long:
        yield (
            f"{len(long)} names are longer than {COMMON_LIMIT} characters, such as {long[0][:128]!r}: "
            "some clients refuse the whole list for them; --max-name-length shortens them"
        )


def _rank(rules: AggregationRules, backend: str) -> int:
    rank = rules.rank(backend)
    return len(rules.priority) if rank is None else rank


def _tools(offers: list[Offer], rules: AggregationRules, pages: SharedPages, problems: list[str]) -> dict[str, Route]:
    items: dict[tuple[str, str], Item] = {}
    claims: list[NameClaim] = []
    for offer in offers:
        taken: set[str] = set()
        for item in offer.tools:
            override = rules.override(offer.backend, item.key) or _NO_OVERRIDE
            wanted = override.name or item.key
            if wanted in taken:
                problems.append(f"{offer.backend}: overrides give {wanted!r} to a second tool, {item.key!r}: dropped")
                continue
            taken.add(wanted)
            items[offer.backend, item.key] = item
            claims.append(NameClaim(offer.backend, item.key, wanted, overridden=bool(override.name)))
    naming = shortened(name_tools(claims, rules, (offer.backend for offer in offers)), rules.max_name)
    problems.extend(f"tool {problem}" for problem in naming.problems)
    return {name: _tool_route(name, naming.names[name], items, rules, pages) for name in sorted(naming.names)}


def _tool_route(
    name: str, claim: NameClaim, items: Mapping[tuple[str, str], Item], rules: AggregationRules, pages: SharedPages
) -> Route:
    item = items[claim.backend, claim.original]
    raw = pages.renamed_in(claim.backend, item.raw)
    override = rules.override(claim.backend, claim.original) or _NO_OVERRIDE
    advertised, annotations = advertised_tool(raw, claim.original, name, override)
    return Route(
        name=name,
        backend=claim.backend,
        original=claim.original,
        raw=advertised,
        annotations=annotations,
        hidden=not rules.visible(claim.backend, claim.wanted),
        mirror=_mirror(raw),
        via=item.via,
    )


def advertised_tool(raw: bytes, original: str, name: str, override: Override) -> tuple[bytes, dict[str, object] | None]:
    """Return a tool's entry as clients see it, and its annotations.

    Args:
        raw: The entry as it came.
        original: Its name there.
        name: The one that clients know.
        override: What else to change.
    """
    changes: dict[str, object] = {}
    if name != original:
        changes["name"] = name
    if override.description is not None:
        changes["description"] = override.description
    annotations = member(raw, "annotations")
    annotations = annotations if isinstance(annotations, dict) else None
    if override.annotations:
        annotations = {**(annotations or {}), **override.annotations}
        changes["annotations"] = annotations
    return replace_members(raw, changes) if changes else raw, annotations


def _mirror(raw: bytes) -> Mirror:
    """Tools that break the rules of mirroring were dropped where they came in; a legacy backend's are left alone."""
    try:
        return mirror_of(raw)
    except InvalidMirrorError:
        return ()


def _prompts(offers: list[Offer], rules: AggregationRules, problems: list[str]) -> dict[str, Route]:
    items = {(offer.backend, item.key): item for offer in offers for item in offer.prompts}
    claims = [NameClaim(backend, key, key) for backend, key in items]
    naming: Naming = shortened(name_prompts(claims, rules, (offer.backend for offer in offers)), rules.max_name)
    problems.extend(naming.problems)
    routes: dict[str, Route] = {}
    for name in sorted(naming.names):
        claim = naming.names[name]
        item = items[claim.backend, claim.original]
        raw = item.raw if name == claim.original else replace_members(item.raw, {"name": name})
        routes[name] = Route(name, claim.backend, claim.original, raw, via=item.via)
    return routes


def _owned(
    offers: list[Offer], kind: Kind, rules: AggregationRules, pages: SharedPages, problems: list[str]
) -> dict[str, Route]:
    """Give each URI its backend.

    URIs cannot be renamed, so one with several bearers goes to the first in the order of priority, or to nobody. Pages
    of tools (`ui://`) are the exception, for only their tools refer to them.
    """
    bearers: dict[str, list[tuple[int, Route]]] = {}
    for offer in offers:
        for item in offer.resources if kind is Kind.RESOURCES else offer.templates:
            name = pages.alias(offer.backend, item.key) if kind is Kind.RESOURCES else item.key
            raw = item.raw if name == item.key else replace_members(item.raw, {LIST_KINDS[kind].key: name})
            route = Route(name, offer.backend, item.key, raw, via=item.via)
            bearers.setdefault(name, []).append((_rank(rules, offer.backend), route))
    routes: dict[str, Route] = {}
    for name, candidates in sorted(bearers.items()):
        owner = _first_in_order(candidates)
        names = ", ".join(route.backend for _, route in candidates if route is not owner)
        if owner is None:
            problems.append(f"{LIST_KINDS[kind].key} {name!r} is offered by {names}: none is advertised")
            continue
        routes[name] = owner
        if names:
            problems.append(f"{LIST_KINDS[kind].key} {name!r}: {owner.backend} wins over {names}")
    for name, (backend, uri) in pages.unlisted() if kind is Kind.RESOURCES else ():
        routes.setdefault(name, Route(name, backend, uri, b"{}", hidden=True))
    return routes
