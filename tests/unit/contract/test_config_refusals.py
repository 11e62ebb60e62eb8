"""Every rule of the configuration refuses what breaks it, at the right place, with all mistakes at once."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest

from api.contract import ConfigErrors, Dialect, load_config

GOOD: dict[str, Any] = {
    "name": "v",
    "groupRef": "g",
    "backends": [{"name": "a", "url": "https://a.example/mcp", "transport": "sse"}],
    "incomingAuth": {"type": "anonymous"},
    "outgoingAuth": {"source": "inline"},
    "aggregation": {"conflictResolution": "prefix", "conflictResolutionConfig": {"prefixFormat": "{workload}_"}},
}
STEP = {"id": "s", "tool": "a.b"}
OIDC = {"issuer": "https://i.example", "audience": "a"}
OTHER = {"name": "b", "url": "https://b.example/", "transport": "sse"}
REDIS = {"provider": "redis", "address": "r:1"}


def strategy(kind: str, key: str, **fields: Any) -> dict[str, Any]:
    return {"source": "inline", "default": {"type": kind, key: fields}}


def composite(*steps: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return [{"name": "t", "description": "d", "steps": list(steps)} | fields]


def backend(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": "a", "url": "https://a.example/mcp", "transport": "sse"} | fields]


REFUSED: list[tuple[str, Any, str]] = [
    ("name", "", "name"),
    ("groupRef", "", "groupRef"),
    ("incomingAuth", None, "incomingAuth"),
    ("outgoingAuth", None, "outgoingAuth"),
    ("aggregation", None, "aggregation"),
    ("backends", [OTHER, OTHER], "backends[1].name"),
    ("backends", backend(name=""), "backends[0].name"),
    ("backends", backend(url="ftp://a"), "backends[0].url"),
    ("backends", backend(url="https://"), "backends[0].url"),
    ("backends", backend(transport="stdio"), "backends[0].transport"),
    ("backends", backend(type="pod"), "backends[0].type"),
    ("backends", backend(caBundlePath="/a"), "backends[0].caBundlePath"),
    ("backends", backend(type="entry", caBundlePath="a"), "backends[0].caBundlePath"),
    ("backends", backend(type="entry", caBundlePath="/a/../b"), "backends[0].caBundlePath"),
    ("backends", backend(type="entry", caBundlePath="/a\0"), "backends[0].caBundlePath"),
    (
        "backends",
        backend(headerForward={"addPlaintextHeaders": {"Host": "x"}}),
        "backends[0].headerForward.addPlaintextHeaders.Host",
    ),
    (
        "backends",
        backend(headerForward={"addPlaintextHeaders": {"X": "a\nb"}}),
        "backends[0].headerForward.addPlaintextHeaders.X",
    ),
    (
        "backends",
        backend(headerForward={"addHeadersFromSecret": {"X": "a b"}}),
        "backends[0].headerForward.addHeadersFromSecret.X",
    ),
    (
        "backends",
        backend(headerForward={"addPlaintextHeaders": {"x": "1"}, "addHeadersFromSecret": {"X": "A"}}),
        "backends[0].headerForward.addHeadersFromSecret.X",
    ),
    ("incomingAuth", {"type": "basic"}, "incomingAuth.type"),
    ("incomingAuth", {"type": "oidc"}, "incomingAuth.oidc"),
    ("incomingAuth", {"type": "oidc", "oidc": {"audience": "a"}}, "incomingAuth.oidc.issuer"),
    ("incomingAuth", {"type": "oidc", "oidc": {"issuer": "https://i"}}, "incomingAuth.oidc.audience"),
    ("incomingAuth", {"type": "oidc", "oidc": OIDC | {"caBundlePath": "x"}}, "incomingAuth.oidc.caBundlePath"),
    ("incomingAuth", {"type": "anonymous", "authz": {"type": "opa"}}, "incomingAuth.authz.type"),
    ("incomingAuth", {"type": "anonymous", "authz": {"type": "cedar"}}, "incomingAuth.authz.policies"),
    ("outgoingAuth", {"source": "guess"}, "outgoingAuth.source"),
    ("outgoingAuth", {"source": "inline", "default": {"type": "magic"}}, "outgoingAuth.default.type"),
    ("outgoingAuth", {"source": "inline", "default": {"type": "xaa"}}, "outgoingAuth.default.xaa"),
    (
        "outgoingAuth",
        strategy("header_injection", "headerInjection", headerName="X"),
        "outgoingAuth.default.headerInjection",
    ),
    (
        "outgoingAuth",
        strategy("header_injection", "headerInjection", headerName="X", headerValue="a", headerValueEnv="B"),
        "outgoingAuth.default.headerInjection.headerValue",
    ),
    (
        "outgoingAuth",
        strategy("header_injection", "headerInjection", headerName="X Y", headerValue="a"),
        "outgoingAuth.default.headerInjection.headerName",
    ),
    ("outgoingAuth", strategy("token_exchange", "tokenExchange"), "outgoingAuth.default.tokenExchange.tokenUrl"),
    (
        "outgoingAuth",
        strategy("token_exchange", "tokenExchange", tokenUrl="https://t", clientSecret="s"),
        "outgoingAuth.default.tokenExchange.clientId",
    ),
    (
        "outgoingAuth",
        strategy("token_exchange", "tokenExchange", tokenUrl="https://t", subjectTokenType="saml"),
        "outgoingAuth.default.tokenExchange.subjectTokenType",
    ),
    ("outgoingAuth", strategy("upstream_inject", "upstreamInject"), "outgoingAuth.default.upstreamInject.providerName"),
    (
        "outgoingAuth",
        strategy("aws_sts", "awsSts", fallbackRoleArn="r"),
        "outgoingAuth.default.awsSts.region",
    ),
    (
        "outgoingAuth",
        strategy("aws_sts", "awsSts", region="r", fallbackRoleArn="r", sessionDuration=10),
        "outgoingAuth.default.awsSts.sessionDuration",
    ),
    (
        "outgoingAuth",
        strategy("xaa", "xaa", idpTokenUrl="http://i", targetTokenUrl="https://t", targetAudience="a"),
        "outgoingAuth.default.xaa.idpTokenUrl",
    ),
    (
        "outgoingAuth",
        strategy("xaa", "xaa", idpTokenUrl="https://i", targetTokenUrl="https://t#f", targetAudience="a"),
        "outgoingAuth.default.xaa.targetTokenUrl",
    ),
    (
        "outgoingAuth",
        strategy(
            "xaa", "xaa", idpTokenUrl="https://i", targetTokenUrl="https://t", targetAudience="a", idpClientId="c"
        ),
        "outgoingAuth.default.xaa.idpClientId",
    ),
    ("aggregation", {"conflictResolution": "vote"}, "aggregation.conflictResolution"),
    ("aggregation", {"conflictResolution": "prefix"}, "aggregation.conflictResolutionConfig"),
    (
        "aggregation",
        {"conflictResolution": "prefix", "conflictResolutionConfig": {}},
        "aggregation.conflictResolutionConfig.prefixFormat",
    ),
    (
        "aggregation",
        {"conflictResolution": "priority", "conflictResolutionConfig": {}},
        "aggregation.conflictResolutionConfig.priorityOrder",
    ),
    ("aggregation", {"conflictResolution": "manual", "conflictResolutionConfig": {}}, "aggregation.tools"),
    (
        "aggregation",
        {
            "conflictResolution": "priority",
            "conflictResolutionConfig": {"priorityOrder": ["x"]},
            "defaultToolVisibility": "deny",
        },
        "aggregation.conflictResolutionConfig.priorityOrder[0]",
    ),
    (
        "aggregation",
        GOOD["aggregation"] | {"tools": [{"workload": "a"}, {"workload": "a"}]},
        "aggregation.tools[1].workload",
    ),
    (
        "aggregation",
        GOOD["aggregation"] | {"tools": [{"workload": "a", "overrides": {"t": {"annotations": {"title": "x"}}}}]},
        "aggregation.tools[0].overrides.t",
    ),
    ("operational", {"logLevel": "info"}, "operational.logLevel"),
    ("operational", {"timeouts": {"default": "-1s"}}, "operational.timeouts.default"),
    ("operational", {"timeouts": {"perWorkload": {"a": "0s"}}}, "operational.timeouts.perWorkload.a"),
    (
        "operational",
        {"failureHandling": {"healthCheckInterval": "5s", "healthCheckTimeout": "5s"}},
        "operational.failureHandling.healthCheckTimeout",
    ),
    (
        "operational",
        {"failureHandling": {"circuitBreaker": {"enabled": True, "timeout": "900ms"}}},
        "operational.failureHandling.circuitBreaker.timeout",
    ),
    (
        "operational",
        {"failureHandling": {"partialFailureMode": "ok"}},
        "operational.failureHandling.partialFailureMode",
    ),
    ("compositeToolRefs", [{"name": "a"}, {"name": "a"}], "compositeToolRefs[1].name"),
    ("compositeToolRefs", [{}], "compositeToolRefs[0].name"),
    ("compositeTools", composite(), "compositeTools[0].steps"),
    ("compositeTools", composite(STEP, STEP), "compositeTools[0].steps[1].id"),
    ("compositeTools", composite(STEP | {"dependsOn": ["x"]}), "compositeTools[0].steps[0].dependsOn"),
    ("compositeTools", composite(STEP | {"dependsOn": ["s"]}), "compositeTools[0].steps"),
    ("compositeTools", composite(STEP | {"tool": "-x"}), "compositeTools[0].steps[0].tool"),
    ("compositeTools", composite(STEP | {"message": "m"}), "compositeTools[0].steps[0].type"),
    ("compositeTools", composite(STEP | {"condition": "{{.x"}), "compositeTools[0].steps[0].condition"),
    ("compositeTools", composite(STEP | {"arguments": {"a": "{{nope .x}}"}}), "compositeTools[0].steps[0].arguments.a"),
    ("compositeTools", composite(STEP, parameters={"type": "array"}), "compositeTools[0].parameters.type"),
    (
        "compositeTools",
        composite(STEP | {"onError": {"action": "retry"}}),
        "compositeTools[0].steps[0].onError.retryCount",
    ),
    (
        "compositeTools",
        composite({"id": "f", "type": "forEach", "collection": "x", "itemVar": "index", "step": STEP}),
        "compositeTools[0].steps[0].itemVar",
    ),
    (
        "compositeTools",
        composite(
            STEP | {"onError": {"action": "continue"}},
            {"id": "t", "tool": "a.c", "dependsOn": ["s"], "arguments": {"x": "{{.steps.s.output.v}}"}},
        ),
        "compositeTools[0].steps[0].defaultResults",
    ),
    (
        "compositeTools",
        composite(STEP, output={"properties": {"x": {"type": "text", "value": "v"}}}),
        "compositeTools[0].output.properties.x.type",
    ),
    ("telemetry", {"endpoint": "e"}, "telemetry.endpoint"),
    ("telemetry", {"samplingRate": "2"}, "telemetry.samplingRate"),
    ("optimizer", {"embeddingProvider": "openai"}, "optimizer.embeddingModel"),
    ("optimizer", {"embeddingHeaders": {"X": "y"}}, "optimizer.embeddingHeaders"),
    ("optimizer", {"maxToolsToReturn": 51}, "optimizer.maxToolsToReturn"),
    ("optimizer", {"semanticDistanceThreshold": "2.1"}, "optimizer.semanticDistanceThreshold"),
    ("sessionStorage", {"provider": "redis"}, "sessionStorage.address"),
    ("sessionStorage", {"provider": "etcd"}, "sessionStorage.provider"),
    ("rateLimiting", {}, "rateLimiting"),
    ("rateLimiting", {"shared": {"refillPeriod": "1s"}}, "rateLimiting.shared.maxTokens"),
    ("rateLimiting", {"shared": {"maxTokens": 1}}, "rateLimiting.shared.refillPeriod"),
    ("rateLimiting", {"perUser": {"maxTokens": 1, "refillPeriod": "1s"}}, "rateLimiting"),
    ("passthroughHeaders", ["Authorization"], "passthroughHeaders[0]"),
    ("passthroughHeaders", ["X-A", "x forwarded"], "passthroughHeaders[1]"),
    ("passthroughHeaders", [""], "passthroughHeaders[0]"),
    ("backendz", [], "backendz"),
    ("operational", {"timeouts": {"default": 30}}, "operational.timeouts.default"),
    ("operational", {"timeouts": {"default": "30"}}, "operational.timeouts.default"),
    ("codeMode", {"enabled": "maybe"}, "codeMode.enabled"),
    ("audit", [], "audit"),
]


def refused(document: Any, **options: Any) -> tuple[Any, ...]:
    with pytest.raises(ConfigErrors) as caught:
        load_config(orjson.dumps(document), **options)
    return caught.value.errors


def test_the_document_that_the_others_break_is_good():
    load_config(orjson.dumps(GOOD))


@pytest.mark.parametrize(("key", "value", "path"), REFUSED)
def test_a_broken_rule_is_named_at_its_place(key: str, value: Any, path: str):
    errors = refused(GOOD | {key: value})
    assert path in [error.path for error in errors], errors
    assert all(error.message for error in errors)


def test_all_mistakes_come_at_once():
    document = copy.deepcopy(GOOD)
    document |= {"name": "", "groupRef": "", "passthroughHeaders": ["Cookie", "Host"]}
    document["backends"][0] |= {"url": "x", "transport": "y"}
    assert len(refused(document)) == 6


def test_an_unknown_key_names_the_nearest_known_one():
    errors = refused(GOOD | {"aggregaton": {}, "operational": {"timeuots": {}}})
    messages = {error.path: error.message for error in errors}
    assert messages == {
        "aggregaton": 'unknown key; did you mean "aggregation"?',
        "operational.timeuots": 'unknown key; did you mean "timeouts"?',
    }


def test_a_secret_is_looked_for_in_the_environment_only_when_there_is_one():
    document = GOOD | {
        "outgoingAuth": strategy("header_injection", "headerInjection", headerName="X", headerValueEnv="TOKEN")
    }
    load_config(orjson.dumps(document))
    load_config(orjson.dumps(document), env={"TOKEN": "hunter2"})
    (error,) = refused(document, env={"TOKEN": ""})
    assert error.path.endswith("headerValueEnv")
    errors = refused(document, env={"TOKEN": "hunter2\nX: y"})
    assert "hunter2" not in str(errors)


def test_rate_limits_need_redis_in_the_stock_gateway_only():
    limits = {"rateLimiting": {"shared": {"maxTokens": 1, "refillPeriod": "1s"}}}
    load_config(orjson.dumps(GOOD | limits))
    load_config(orjson.dumps(GOOD | limits | {"sessionStorage": REDIS}), dialect=Dialect.TOOLHIVE)
    assert [error.path for error in refused(GOOD | limits, dialect=Dialect.TOOLHIVE)] == ["rateLimiting"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("--- \n...\n", "must be a mapping"),
        ("a: b: c", "not YAML"),
        ("[1, 2]", "must be a mapping"),
        ("name: a\nname: b", "appears twice"),
        ("name: !!python/object/apply:os.system [x]", "not supported"),
        ("a: &a [*a]", "refers to nothing, or to itself"),
        ("[" * 5000, "nested deeper"),
        ("name: \x00", "not YAML"),
        (b"\xff\xfe\xfa", "UTF-8"),
        (b"\x1f\x8bgarbage", "damaged"),
    ],
)
def test_what_is_no_document_is_refused_with_a_sentence(text: str | bytes, part: str):
    with pytest.raises(ConfigErrors, match=part):
        load_config(text)


def test_a_bomb_of_aliases_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ConfigErrors, match="more than"):
        load_config("\n".join(lines))


def test_only_the_first_document_counts_and_scalars_become_what_their_field_is():
    document = load_config(
        "name: 1.10\ngroupRef: on\nincomingAuth: {type: anonymous}\noutgoingAuth: {source: inline}\n"
        "aggregation: {conflictResolution: prefix, conflictResolutionConfig: {prefixFormat: x}}\n"
        "audit: {enabled: yes, maxDataSize: 0x10}\n---\nname: other\n"
    )
    assert (document.name, document.group_ref) == ("1.10", "on")
    assert document.audit is not None
    assert (document.audit.enabled, document.audit.max_data_size) == (True, 16)
