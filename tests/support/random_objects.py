"""Random objects of a kind, from its CRD: admissible more often than not, and covering every field and enum value.

The generator walks the structural schema. Whether an optional field is set depends on how often it was set before: rare
fields are preferred, so that deep ones occur too. Values come from small vocabularies per name or pattern, so that
references meet real objects about half of the time. `REPAIRS` mends what CEL rules would refuse.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from hack.controlplane import crds

CRDS = Path(__file__).parents[2] / "config" / "crd" / "bases"

Json = Any
Schema = dict[str, Any]

WORDS = [
    "a",
    "b",
    "some-name",
    "x.y",
    "Ünïcode ✓",
    "with space",
    "0",
    "true",
    "",
    "line\nbreak",
    "{workload}_",
    "x" * 80,
]
NAMES = ["present", "missing", "other"]
URLS = [
    "https://mcp.example.com/mcp",
    "http://remote.example.org:8080/sse",
    "https://127.0.0.1/mcp",
    "https://10.1.2.3/mcp",
    "http://[::1]:80/x",
    "https://metadata.google.internal/x",
    "https://svc.ns.svc.cluster.local/mcp",
    "https://user:pw@example.com/x",
    "https://",
    "http:// spaces/",
    "https://0x7f.1/x",
]
HEADERS = ["X-Api-Key", "x-trace", "Authorization", "Host", "Mcp-Session-Id", "Content-Type", "bad header", "X:Y", "é"]
CEDAR = [
    "permit(principal, action, resource);",
    'permit(principal, action == Action::"call_tool", resource == Tool::"x");',
    "permit(principal, action",
    "",
]
BY_PATTERN = [
    "30s", "1m30s", "500ms", "0s", "9999h", "1.5h", "0.05", "1", "0.5", "https://idp.example.com", "http://idp.example.com/x",
    "https://as.example.com/token", "a", "a-b", "some_claim", "us-east-1", "arn:aws:iam::123456789012:role/reader",
    "access_token", "", "urn:ietf:params:oauth:token-type:jwt", "example.com", "11111111-2222-3333-4444-555555555555",
    "subject-1", "openid", "https://mcp.example.com/mcp", "https://127.0.0.1/x", "Group",
]  # fmt: skip
VOCABULARY: dict[str, list[Json]] = {
    "name": NAMES,
    "key": ["ca.crt", "token", "missing-key", "authz.json"],
    "groupRef": NAMES,
    "remoteUrl": URLS,
    "url": URLS,
    "headerName": HEADERS,
    "policies": CEDAR,
    "entitiesJson": ["[]", "{}", "not json", '[{"uid": {"type": "User", "id": "a"}, "attrs": {}, "parents": []}]'],
    "refillPeriod": ["1m0s", "30s", "junk", "-5s", "0s"],
    "maxAssertionAge": ["5m", "1h"],
    "samplingRate": ["0.05", "1", "x"],
    "providerName": ["present", "a"],
    "address": ["redis:6379", "x"],
}


class ObjectGenerator:
    """Makes random `spec`s of one kind.

    Attributes:
        fields: how often each optional field was set, by path.
        enums: how often each enum value was used, by (path, value).
    """

    def __init__(self, plural: str, seed: int, *, version: str = "v1beta1") -> None:
        (definition,) = crds.read([CRDS / f"toolhive.stacklok.dev_{plural}.yaml"])
        served = next(v for v in definition["spec"]["versions"] if v["name"] == version)
        self.kind: str = definition["spec"]["names"]["kind"]
        self.api_version = f"{definition['spec']['group']}/{version}"
        self.schema: Schema = served["schema"]["openAPIV3Schema"]["properties"]["spec"]
        self.random = Random(f"{seed}/{plural}")
        self.fields: Counter[str] = Counter()
        self.enums: Counter[tuple[str, str]] = Counter()
        self.made = 0
        self._rare: set[str] = set()
        self._rare_at = 0
        self._register(self.schema, "spec")

    def generate(self) -> dict[str, Json]:
        """Make the next object, without metadata."""
        self.made += 1
        return {"apiVersion": self.api_version, "kind": self.kind, "spec": self._object(self.schema, "spec")}

    def rare_fields(self, share: float = 0.01) -> list[str]:
        """The optional fields that were set in less than `share` of the objects."""
        return sorted(path for path, count in self.fields.items() if count < share * self.made)

    def _register(self, schema: Schema, path: str) -> None:
        required = schema.get("required", ())
        for name, child in schema.get("properties", {}).items():
            where = f"{path}.{name}"
            if name not in required:
                self.fields[where] = 0
            self._register(child, where)
        for mark, key in (("[]", "items"), ("{}", "additionalProperties")):
            if isinstance(schema.get(key), dict):
                self._register(schema[key], path + mark)
        for value in schema.get("enum", ()):
            self.enums[path, str(value)] = 0

    def _holds_rare(self, path: str) -> bool:
        """Whether a field or enum value at or below `path` has been too rare so far; looked up again now and then."""
        if self.made % 20 == 1 and self._rare_at != self.made:
            wanted = 0.02 * self.made
            rare = [p for p, count in self.fields.items() if count <= wanted]
            rare += [p for (p, _), count in self.enums.items() if count <= max(wanted / 2, min(self.made, 25))]
            self._rare = {prefix for p in rare for prefix in _prefixes(p)}
            self._rare_at = self.made
        return path in self._rare

    def _value(self, schema: Schema, path: str) -> Json:
        if "enum" in schema:
            value = min(schema["enum"], key=lambda v: (self.enums[path, str(v)] * self.random.random(), str(v)))
            self.enums[path, str(value)] += 1
            return value
        match schema.get("type"):
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "integer":
                low, high = schema.get("minimum", -3), schema.get("maximum", 2**31 - 1)
                return self.random.choice([low, high, min(high, low + 1), min(high, max(low, 8080))])
            case "boolean":
                return self.random.random() < 0.5
            case "string":
                return self._string(schema, path)
            case _:
                return self.random.choice([{"type": "object"}, {"x": [1, None, {"y": "z"}]}, {"version": "1.0"}])

    def _object(self, schema: Schema, path: str) -> dict[str, Json]:
        if "properties" not in schema:
            return self._map(schema, path)
        required = schema.get("required", ())
        result: dict[str, Json] = {}
        for name, child in schema["properties"].items():
            where = f"{path}.{name}"
            if name in required or self.random.random() < (0.8 if self._holds_rare(where) else 0.2):
                result[name] = self._value(child, where)
        for applies, mend in REPAIRS:
            if applies(schema, path):
                mend(result, self.random, lambda n: self._value(schema["properties"][n], f"{path}.{n}"))
        for name in result:
            if name not in required:
                self.fields[f"{path}.{name}"] += 1
        return result

    def _map(self, schema: Schema, path: str) -> dict[str, Json]:
        values = schema.get("additionalProperties")
        if not isinstance(values, dict):
            return self.random.choice(
                [{}, {"type": "object"}, {"spec": {"containers": []}}, {"spec": {"containers": 1}}]
            )
        keys = HEADERS if "eader" in path else [*NAMES, "tool_a", "odd key!"]
        return {
            k: self._value(values, path + "{}")
            for k in self.random.sample(keys, self.random.randint(1 if self._holds_rare(path + "{}") else 0, 2))
        }

    def _array(self, schema: Schema, path: str) -> list[Json]:
        low = schema.get("minItems", 0)
        low = max(low, 1) if self._holds_rare(path + "[]") else low
        count = min(self.random.choice([low, low + 1, low + 2]), schema.get("maxItems", 99))
        items = [self._value(schema["items"], path + "[]") for _ in range(count)]
        keys = schema.get("x-kubernetes-list-map-keys")
        if keys or schema.get("x-kubernetes-list-type") == "set":
            items = list({str([i.get(k) for k in keys] if keys else i): i for i in items}.values())
        return items

    def _string(self, schema: Schema, path: str) -> str:
        name = re.split(r"[.\[\]{}]+", path.rstrip("[]{}"))[-1]
        allowed = [v for v in VOCABULARY.get(name, [*WORDS, *BY_PATTERN]) if _fits(v, schema)]
        allowed = allowed or [v for v in [*BY_PATTERN, *WORDS, *URLS] if _fits(v, schema)]
        return self.random.choice(allowed)


def _prefixes(path: str) -> list[str]:
    """`a.b[].c` -> `a`, `a.b`, `a.b[]`, `a.b[].c`."""
    return [path[: m.start()] for m in re.finditer(r"[.\[{]", path)] + [path, path.removesuffix("[]")]


def _fits(value: str, schema: Schema) -> bool:
    pattern = schema.get("pattern", "").replace("[:space:]", r"\s")
    return (
        schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 2**20)
        and re.search(pattern, value) is not None
        and (schema.get("format") != "date-time" or value == "")
    )


Make = Callable[[str], Json]
Repair = tuple[Callable[[Schema, str], bool], Callable[[dict[str, Json], Random, Make], None]]


def _has(*names: str) -> Callable[[Schema, str], bool]:
    return lambda schema, _: all(n in schema.get("properties", {}) for n in names)


def _exactly_the_named(result: dict[str, Json], _: Random, make: Make) -> None:
    """MCPExternalAuthConfig: the sub-object of `type` and no other."""
    kind = result["type"]
    for other in set(result) - {"type", kind}:
        del result[other]
    if kind != "unauthenticated" and kind not in result:
        result[kind] = make(kind)


def _auth_server(result: dict[str, Json], _: Random, __: Make) -> None:
    if result.get("forceConfidentialRedirectUris"):
        result["allowConfidentialClientRegistration"] = True
    if result.get("allowConfidentialClientRegistration"):
        result["insecureAllowHTTP"] = False
    if result.get("delegateClients"):
        result["issuer"] = "https://issuer.example.com"


def _trusted_issuer(result: dict[str, Json], _: Random, __: Make) -> None:
    if result.get("allowPrivateIPs"):
        result["jwksUrl"] = "https://idp.example.com/jwks"
    result["expectedAudience"] = result.get("expectedAudience") or "audience"
    clients = [c for c in result.get("allowedDelegateClients", ()) if c != "*"]
    result["allowedDelegateClients"] = clients or ["client"]
    if result.get("actorClaim") in {"sub", "iss", "aud", "exp", "iat", "nbf", "jti", "name", "email", "scope", "scp"}:
        result["actorClaim"] = "azp"


def _jwt_bearer(result: dict[str, Json], _: Random, __: Make) -> None:
    unique = {binding["subject"]: binding for binding in result["subjectBindings"]}
    result["subjectBindings"] = list(unique.values())


def _one_of(first: str, second: str) -> Callable[[dict[str, Json], Random, Make], None]:
    def mend(result: dict[str, Json], r: Random, make: Make) -> None:
        keep, drop = (first, second) if r.random() < 0.5 else (second, first)
        result.pop(drop, None)
        if keep not in result:
            result[keep] = make(keep)
        if not result[keep]:
            result[keep] = "value"

    return mend


def _upstream(result: dict[str, Json], _: Random, make: Make) -> None:
    wanted, other = ("oidcConfig", "oauth2Config") if result["type"] == "oidc" else ("oauth2Config", "oidcConfig")
    result.pop(other, None)
    result.setdefault(wanted, make(wanted) if wanted not in result else None)


def _dynamic_client(result: dict[str, Json], _: Random, __: Make) -> None:
    if "dcrConfig" in result:
        result.pop("clientSecretRef", None)


def _cluster_mode(result: dict[str, Json], _: Random, __: Make) -> None:
    if "addr" not in result:
        result.pop("clusterMode", None)


def _authz_source(result: dict[str, Json], _: Random, make: Make) -> None:
    wanted = result["type"]
    result.pop("inline" if wanted == "configMap" else "configMap", None)
    if wanted not in result:
        result[wanted] = make(wanted)


def _one_authz(result: dict[str, Json], r: Random, _: Make) -> None:
    if "authzConfig" in result and "authzConfigRef" in result:
        del result[r.choice(["authzConfig", "authzConfigRef"])]


def _incoming(result: dict[str, Json], _: Random, make: Make) -> None:
    if result["type"] == "oidc" and "oidcConfigRef" not in result:
        result["oidcConfigRef"] = make("oidcConfigRef")


def _redis(result: dict[str, Json], _: Random, __: Make) -> None:
    if result["provider"] == "redis":
        result.setdefault("address", "redis:6379")


def _some_bucket(result: dict[str, Json], _: Random, make: Make) -> None:
    if "shared" not in result and "perUser" not in result:
        result["shared"] = make("shared")


def _optimizer(result: dict[str, Json], _: Random, __: Make) -> None:
    if result.get("embeddingHeaders"):
        result["embeddingHeaders"] = {"X-Team": "a"}
        result["embeddingProvider"] = "openai"


def _endpoint_mode(result: dict[str, Json], _: Random, make: Make) -> None:
    if result["type"] == "direct":
        result.pop("proxyConfig", None)
    elif "proxyConfig" not in result:
        result["proxyConfig"] = make("proxyConfig")


def _gateway(result: dict[str, Json], _: Random, make: Make) -> None:
    config = result.get("config", {})
    if "rateLimiting" in config:
        result["sessionStorage"] = {"provider": "redis", "address": "redis:6379"}
        result["incomingAuth"] = {"type": "oidc", "oidcConfigRef": {"name": "present", "audience": "a"}}
    if "embeddingServerRef" in result and config.get("optimizer", {}).get("embeddingProvider") == "openai":
        del result["embeddingServerRef"]


def _breaker(result: dict[str, Json], _: Random, __: Make) -> None:
    if result.get("timeout") in {"500ms", "0s", "0.5s"}:
        result["timeout"] = "5s"


REPAIRS: list[Repair] = [
    (_has("type", "tokenExchange", "bearerToken"), _exactly_the_named),
    (_has("issuer", "delegateClients"), _auth_server),
    (_has("allowedDelegateClients", "allowMayAct"), _trusted_issuer),
    (_has("subjectBindings", "maxAssertionAge"), _jwt_bearer),
    (_has("addr", "sentinelConfig"), _one_of("addr", "sentinelConfig")),
    (_has("addr", "clusterMode"), _cluster_mode),
    (_has("clientId", "dcrConfig"), _one_of("clientId", "dcrConfig")),
    (_has("dcrConfig", "clientSecretRef"), _dynamic_client),
    (_has("discoveryUrl", "registrationEndpoint"), _one_of("discoveryUrl", "registrationEndpoint")),
    (_has("type", "oidcConfig", "oauth2Config"), _upstream),
    (_has("configMap", "inline", "type"), _authz_source),
    (_has("authzConfig", "authzConfigRef"), _one_authz),
    (_has("oidcConfigRef", "type"), _incoming),
    (_has("provider", "passwordRef"), _redis),
    (_has("shared", "perUser"), _some_bucket),
    (_has("embeddingHeaders", "embeddingProvider"), _optimizer),
    (_has("type", "proxyConfig", "remoteUrl"), _endpoint_mode),
    (_has("incomingAuth", "groupRef", "outgoingAuth"), _gateway),
    (_has("failureThreshold", "timeout"), _breaker),
]
