"""Objects built from the reference table: the smallest valid one around any field, and what its rules need beside it.

Paths are the table's: `spec.a[].b{}.c`; `[]` stands for the first item of a list, `{}` for one key of a map.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "fields.json").read_text())
KINDS: dict[str, Any] = TABLE["kinds"]
MAP_KEY = "k"

AUTH_TYPES = [t for t in KINDS["MCPExternalAuthConfig"]["fields"]["spec.type"]["enum"] if t != "unauthenticated"]
BUCKET = {"maxTokens": 5, "refillPeriod": "1m"}
OIDC_UPSTREAM = {"issuerUrl": "https://idp.example.com", "clientId": "c"}
OIDC_REF = {"name": "o", "audience": "a"}
REDIS = {"provider": "redis", "address": "redis:6379"}


class DELETE:
    """Stands for "nothing there". A class, because deepcopy keeps classes as they are."""


# pattern -> (text of at least n characters that matches, text that does not)
PATTERNS = {
    r"^arn:(aws|aws-cn|aws-us-gov):iam::\d{12}:role/[\w+=,.@\-_/]+$": (
        lambda n: "arn:aws:iam::123456789012:role/R".ljust(n, "r"),
        "arn:aws:iam::1234:role/R",
    ),
    r"^[a-z]{2}(-[a-z]+)+-\d+$": (lambda n: "eu-west-1".ljust(n, "1"), "europe"),
    r"^https?://[^\s?#]+[^/\s?#]$": (lambda n: "https://a.example".ljust(n, "e"), "https://a.example/"),
    r"^[\x21\x23-\x5B\x5D-\x7E]+$": (lambda n: "s".ljust(n, "s"), "two words"),
    r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$": (lambda n: "1m30s".rjust(n, "1"), "30"),
    r"^https://[^\s?#]+$": (lambda n: "https://a.example/cb".ljust(n, "b"), "http://a.example/cb"),
    r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$": (lambda n: "p".ljust(n, "p"), "P-"),
    r"^https?://[^[:space:]]+$": (lambda n: "https://a.example".ljust(n, "e"), "https://a b"),
    r"^[^*]+$": (lambda n: "s".ljust(n, "s"), "a*"),
    r"^https?://.*$": (lambda n: "http://a.example".ljust(n, "e"), "ftp://a.example"),
    r"^https://[^\s?#]+[^/\s?#]$": (lambda n: "https://a.example".ljust(n, "e"), "http://a.example"),
    r"^https://.*$": (lambda n: "https://a.example".ljust(n, "e"), "http://a.example"),
    r"^([a-zA-Z_][a-zA-Z0-9_]*)?$": (lambda n: "sub".ljust(n, "b"), "1sub"),
    r"^https://[^\s?#@]+[^/\s?#@]$": (lambda n: "https://a.example".ljust(n, "e"), "https://u@a.example"),
    r"^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,})$": (  # noqa: E501  the server's own text
        lambda n: "t.example".ljust(n, "e"),
        "tenant",
    ),
    r"^(access_token|id_token|jwt|urn:ietf:params:oauth:token-type:(access_token|id_token|jwt))?$": (
        lambda _: "id_token",
        "saml2",
    ),
    r"^https?://": (lambda n: "https://a.example".ljust(n, "e"), "ws://a.example"),
    r"^[A-Za-z_][A-Za-z0-9_]*$": (lambda n: "T".ljust(n, "T"), "2T"),
    r"^(0(\.\d+)?|1(\.0+)?)$": (lambda n: "0.5".ljust(n, "5"), "1.5"),
    r"^[^\x00-\x08\x0A-\x1F\x7F]*$": (lambda n: "v".ljust(n, "v"), "a\nb"),
    r"^([0-9]*[.])?[0-9]+$": (lambda n: "0.5".ljust(n, "5"), "half"),
    r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$": (lambda n: "R".ljust(n, "r"), "1R"),
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$": (  # noqa: E501  the server's own text
        lambda n: "T".ljust(n, "t"),
        "a/b/c",
    ),
}

# Smallest valid value of fields whose siblings depend on each other; first match wins, paths are searched at the end.
MINIMAL: list[tuple[str, str, Any]] = [
    ("MCPExternalAuthConfig", r"^spec$", {"type": "unauthenticated"}),
    ("MCPOIDCConfig", r"^spec$", {"type": "inline", "inline": {"issuer": "https://idp.example.com"}}),
    ("MCPRemoteEndpoint", r"^spec\.type$", "direct"),
    ("", r"upstreamProviders\[\]$", {"name": "p", "type": "oidc", "oidcConfig": OIDC_UPSTREAM}),
    (
        "",
        r"oauth2Config$",
        {"authorizationEndpoint": "https://a.example/a", "tokenEndpoint": "https://a.example/t", "clientId": "c"},
    ),
    ("", r"dcrConfig$", {"discoveryUrl": "https://a.example/d"}),
    (
        "",
        r"trustedIssuers\[\]$",
        {
            "issuerUrl": "https://i.example",
            "jwksUrl": "https://i.example/keys",
            "expectedAudience": "a",
            "allowedDelegateClients": ["c"],
        },
    ),
    ("", r"maxAssertionAge$", "5m"),
    ("", r"storage\.redis$", {"addr": "redis:6379", "aclUserConfig": {"passwordSecretRef": {"name": "s", "key": "k"}}}),
    ("", r"authzConfig$", {"type": "inline", "inline": {"policies": ["permit(principal, action, resource);"]}}),
    ("", r"rateLimiting$", {"shared": BUCKET}),
    ("", r"rateLimiting\.tools\[\]$", {"name": "t", "shared": BUCKET}),
    ("", r"refillPeriod$", "1m"),
    ("", r"lastTransitionTime$|lastHealthCheck$|circuitLastChanged$|lastReportTime$", "2026-01-01T00:00:00Z"),
]

# What a field needs elsewhere: (kind, pattern of the path, changes at the matched prefix; `^` starts at the root).
CONTEXT: list[tuple[str, str, dict[str, Any]]] = [
    *(("MCPExternalAuthConfig", rf"^spec\.{t}\b", {"^spec.type": t}) for t in AUTH_TYPES),
    (
        "MCPOIDCConfig",
        r"^spec\.kubernetesServiceAccount\b",
        {"^spec.type": "kubernetesServiceAccount", "^spec.inline": DELETE},
    ),
    ("MCPRemoteEndpoint", r"^spec\.proxyConfig\b", {"^spec.type": "proxy"}),
    ("", r"upstreamProviders\[\](?=\.oauth2Config)", {"type": "oauth2", "oidcConfig": DELETE}),
    ("", r"oauth2Config(?=\.dcrConfig)", {"clientId": DELETE}),
    ("", r"dcrConfig(?=\.registrationEndpoint)", {"discoveryUrl": DELETE}),
    ("", r"redis(?=\.sentinelConfig)", {"addr": DELETE}),
    ("", r"authzConfig(?=\.configMap)", {"type": "configMap", "inline": DELETE}),
    ("", r"(embeddedAuthServer|authServerConfig)(?=\.forceConf)", {"allowConfidentialClientRegistration": True}),
    ("MCPServer", r"^spec(?=\.rateLimiting)", {"sessionStorage": REDIS, "oidcConfigRef": OIDC_REF}),
    (
        "VirtualMCPServer",
        r"^spec(?=\.config\.rateLimiting)",
        {"sessionStorage": REDIS, "incomingAuth": {"type": "oidc", "oidcConfigRef": OIDC_REF}},
    ),
    ("VirtualMCPServer", r"optimizer(?=\.embeddingHeaders)", {"embeddingProvider": "openai"}),
]

# What must change when a field has one of its enum's values.
FOR_VALUE: list[tuple[str, str, str, dict[str, Any]]] = [
    ("MCPOIDCConfig", r"^spec\.type$", "kubernetesServiceAccount", {"inline": DELETE, "kubernetesServiceAccount": {}}),
    ("MCPRemoteEndpoint", r"^spec\.type$", "proxy", {"proxyConfig": {"oidcConfigRef": OIDC_REF}}),
    ("", r"authzConfig\.type$", "configMap", {"inline": DELETE, "configMap": {"name": "c"}}),
    ("", r"sessionStorage\.provider$", "redis", {"address": "redis:6379"}),
    ("VirtualMCPServer", r"^spec\.incomingAuth\.type$", "oidc", {"oidcConfigRef": OIDC_REF}),
    (
        "",
        r"upstreamProviders\[\]\.type$",
        "oauth2",
        {
            "oidcConfig": DELETE,
            "oauth2Config": {
                "authorizationEndpoint": "https://a.example/a",
                "tokenEndpoint": "https://a.example/t",
                "clientId": "c",
            },
        },
    ),
]

# What must stand in for an optional field that a rule wants in the smallest object.
INSTEAD: list[tuple[str, str, dict[str, Any]]] = [
    *(("MCPExternalAuthConfig", rf"^spec\.{t}$", {"type": "unauthenticated"}) for t in AUTH_TYPES),
    ("MCPOIDCConfig", r"^spec\.inline$", {"type": "kubernetesServiceAccount", "kubernetesServiceAccount": {}}),
    ("", r"upstreamProviders\[\]\.oidcConfig$", FOR_VALUE[-1][3] | {"type": "oauth2"}),
    ("", r"oauth2Config\.clientId$", {"dcrConfig": {"discoveryUrl": "https://a.example/d"}}),
    ("", r"dcrConfig\.discoveryUrl$", {"registrationEndpoint": "https://a.example/r"}),
    ("", r"redis\.addr$", {"sentinelConfig": {"masterName": "m"}}),
    ("", r"authzConfig\.inline$", {"type": "configMap", "configMap": {"name": "c"}}),
    ("", r"authzConfig\.type$", {"inline": DELETE, "configMap": {"name": "c"}}),
    ("MCPRemoteEndpoint", r"^spec\.type$", {"proxyConfig": {"oidcConfigRef": OIDC_REF}}),
    ("", r"rateLimiting\.shared$", {"perUser": BUCKET}),
    ("", r"rateLimiting\.tools\[\]\.shared$", {"perUser": BUCKET}),
    (
        "",
        r"trustedIssuers\[\]\.expectedAudience$",
        {"jwtBearerGrant": {"maxAssertionAge": "5m", "subjectBindings": [{"subject": "s", "allowedResources": ["https://r.example"]}]}},
    ),
    (
        "",
        r"trustedIssuers\[\]\.allowedDelegateClients$",
        {
            "expectedAudience": DELETE,
            "jwtBearerGrant": {"maxAssertionAge": "5m", "subjectBindings": [{"subject": "s", "allowedResources": ["https://r.example"]}]},
        },
    ),
]  # fmt: skip


def fields_of(kind: str) -> dict[str, dict[str, Any]]:
    """All fields of a kind, those of its conditions included."""
    conditions = {f"status.conditions[]{name}": facts for name, facts in TABLE["conditionFields"].items()}
    return KINDS[kind]["fields"] | conditions


def parent(path: str) -> str:
    return path.rpartition(".")[0]


def steps(path: str) -> list[str | int]:
    """`a[].b{}` -> ["a", 0, "b", "k"]."""
    out: list[str | int] = []
    for part in path.split("."):
        name = re.match(r"[^\[{]*", part)[0]
        out.append(name)
        out += [0 if token == "[]" else MAP_KEY for token in re.findall(r"\[\]|\{\}", part[len(name) :])]
    return out


def shown(path: str) -> str:
    """The path as the API server writes it in messages."""
    return path.replace("[]", "[0]").replace("{}", f".{MAP_KEY}")


class Builder:
    """Builds objects of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fields = fields_of(kind)

    def value(self, path: str) -> Any:
        """The smallest valid value of a field, or of an item (`path[]`) or value (`path{}`) of one."""
        for kind, pattern, found in MINIMAL:
            if kind in ("", self.kind) and re.search(pattern, path):
                return copy.deepcopy(found)
        return self._by_type(path, path if path in self.fields else path[:-2])

    def _by_type(self, path: str, field: str) -> Any:
        facts = self.fields[field]
        kind, prefix = facts["type"], ""
        if path != field:
            prefix = "items." if path.endswith("[]") else "values."
            kind = kind[1:-1] if kind.startswith("[") else kind.removeprefix("map[string]")
        if f"{prefix}enum" in facts or f"{prefix}pattern" in facts or kind == "string":
            return text(facts, prefix)
        if kind.startswith("["):
            return [self.value(f"{path}[]")]
        if kind.startswith("map["):
            return {MAP_KEY: self.value(f"{path}{{}}")}
        if kind.startswith("integer"):
            return facts.get("minimum", 1)
        if kind == "boolean":
            return not facts.get("default", False)
        if kind.startswith("any"):
            return {"free": [1, "two"]}
        return self._object(path, kept="unknown kept" in kind)

    def _object(self, path: str, *, kept: bool) -> dict[str, Any]:
        children = [p for p in self.fields if parent(p) == path]
        if kept and not children:
            return {"free": {"form": 1}}
        return {p.rpartition(".")[2]: self.value(p) for p in children if self.fields[p].get("required")}

    def around(self, path: str) -> dict[str, Any]:
        """The smallest valid object in which the field has a valid value."""
        root = path.split(".", maxsplit=1)[0]
        doc: dict[str, Any] = {root: self.value(root)}
        if root == "status":
            doc = {"status": {}}
        self.ensure(doc, path)
        for kind, pattern, changes in CONTEXT:
            found = re.search(pattern, path)
            if kind in ("", self.kind) and found:
                self.change(doc, path[: found.end()], changes)
        return doc

    def ensure(self, doc: dict[str, Any], path: str) -> None:
        """Give the field and all that it stands in a value, where there is none yet."""
        here: Any = doc
        walked = ""
        for part in path.split("."):
            name = re.match(r"[^\[{]*", part)[0]
            walked = f"{walked}.{name}" if walked else name
            here = _fill(here, name, lambda p=walked: self.value(p))
            for token in re.findall(r"\[\]|\{\}", part[len(name) :]):
                walked += token
                here = _fill(here, 0 if token == "[]" else MAP_KEY, lambda p=walked: self.value(p))

    def change(self, doc: dict[str, Any], at: str, changes: dict[str, Any]) -> None:
        """Apply changes at a path; keys that start with `^` start at the root."""
        for name, value in changes.items():
            path = name[1:] if name.startswith("^") else f"{at}.{name}"
            put(doc, path, copy.deepcopy(value))

    def with_value(self, path: str, value: Any) -> dict[str, Any]:
        """The smallest valid object around the field, with this value in it."""
        doc = self.around(path)
        put(doc, path, value)
        if path == "spec.type" and self.kind == "MCPExternalAuthConfig" and value in AUTH_TYPES:
            self.ensure(doc, f"spec.{value}")
        for kind, pattern, wanted, changes in FOR_VALUE:
            if kind in ("", self.kind) and value == wanted and re.search(pattern, path):
                self.change(doc, parent(path), changes)
        return doc

    def without(self, path: str) -> dict[str, Any]:
        """The smallest object around the field's parent, without the field."""
        doc = self.around(parent(path)) if parent(path) else {}
        put(doc, path, DELETE)
        for kind, pattern, changes in INSTEAD:
            if kind in ("", self.kind) and re.search(pattern, path):
                self.change(doc, parent(path), changes)
        return doc


def text(facts: dict[str, Any], prefix: str = "", length: int = 0) -> str:
    """A valid text of at least `length` characters."""
    if f"{prefix}enum" in facts:
        return facts[f"{prefix}enum"][0]
    pattern = facts.get(f"{prefix}pattern")
    make = PATTERNS[pattern][0] if pattern else lambda n: "x".ljust(n, "x")
    return make(max(length, facts.get(f"{prefix}minLength", 0)))


def _fill(here: Any, key: str | int, make: Any) -> Any:
    if isinstance(key, int):
        if not here:
            here.append(make())
    elif here.get(key) is None:
        here[key] = make()
    return here[key]


def put(doc: dict[str, Any], path: str, value: Any) -> None:
    """Set or delete what is at the path; its parent must be there, except for a deletion."""
    *way, last = steps(path)
    here: Any = doc
    for step in way:
        here = here[step]
    if value is DELETE:
        here.pop(last, None)
    elif isinstance(last, int) and last == len(here):
        here.append(value)
    else:
        here[last] = value


def holds(found: Any, wanted: Any) -> bool:
    """Whether the answer has what was sent; the server may have added defaults inside objects."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and holds(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(holds, found, wanted))
    return bool(found == wanted and type(found) is type(wanted))


def get(doc: Any, path: str) -> Any:
    """What is at the path; DELETE when nothing is."""
    for step in steps(path):
        try:
            doc = doc[step]
        except (KeyError, IndexError, TypeError):
            return DELETE
    return doc
