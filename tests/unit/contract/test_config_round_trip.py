"""Written and read back, a configuration is the same; a toolhive document holds only keys of the stock parser."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin, get_type_hints

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from api.contract import (
    Dialect,
    Duration,
    StaticBackend,
    VmcpConfig,
    dump_config,
    pack_config,
    parse_config,
    to_dialect,
    with_defaults,
)
from api.contract.proxy import ProxyConfig, dump_proxy, parse_proxy
from api.contract.section import Section

ODD = (
    *(
        "on",
        "null",
        "~",
        "1",
        "0x1f",
        "1e3",
        ".5",
        "-",
        "a: b",
        "a #b",
        "'",
        '"',
        "\n",
        "\t",
        "\x85\u2028",
        "2026-07-28",
    ),
    *("true", "No", "<<", "=", "*a", "&a", "!x", "%d", "@x", "`", "1:30", "{workload}_", " x ", "", "\ufeff", "😀"),
)
TEXT = st.text(max_size=12) | st.sampled_from(ODD)
SPAN = st.integers(-(10**15), 10**15).map(Duration)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FREE = st.dictionaries(TEXT, JSON, max_size=3)


def _value(draw: Any, annotation: Any, depth: int) -> Any:
    """Draw a value for one field of a section, by its type."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    options = [option for option in get_args(annotation) if option is not type(None)]
    if type(None) in get_args(annotation):
        return _value(draw, options[0], depth) if draw(st.booleans()) else None
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return _section(draw, annotation, depth + 1)
    if get_origin(annotation) is tuple:
        return tuple(_value(draw, options[0], depth) for _ in range(draw(st.integers(0, 2 if depth < 4 else 0))))
    if get_origin(annotation) is dict:
        if options[1] is Any:
            return draw(FREE)
        keys = draw(st.lists(TEXT, max_size=2 if depth < 4 else 0, unique=True))
        return {key: _value(draw, options[1], depth) for key in keys}
    return draw({str: TEXT, bool: st.booleans(), int: st.integers(-5, 2**40), Duration: SPAN, Any: JSON}[annotation])


def _section(draw: Any, kind: type[Section], depth: int = 0) -> Any:
    if depth > 4:
        return kind()
    hints = get_type_hints(kind, include_extras=True)
    if depth == 0:
        # A few parts, each deep: a document with everything would exceed what hypothesis draws.
        chosen = draw(st.lists(st.sampled_from(list(kind.model_fields)), max_size=4, unique=True))
    else:
        odds = {name: 4 if "Section" in _mro(hints[name]) else 1 for name in kind.model_fields}
        chosen = [name for name in kind.model_fields if draw(st.integers(0, 4)) < odds[name]]
    return kind(**{name: _value(draw, hints[name], depth) for name in chosen})


def _mro(hint: Any) -> str:
    """Names of the bases of everything in a type, to prefer fields that hold sections."""
    own = " ".join(base.__name__ for base in getattr(hint, "__mro__", ()))
    return own + "".join(_mro(inner) for inner in get_args(hint) if not isinstance(inner, str))


@st.composite
def _configs(draw: Any) -> VmcpConfig:
    return _section(draw, VmcpConfig)


@st.composite
def _proxies(draw: Any) -> ProxyConfig:
    return _section(draw, ProxyConfig)


CONFIGS = _configs()
PROXIES = _proxies()


@given(PROXIES)
def test_a_proxys_document_reads_back_as_what_was_written(proxy: ProxyConfig):
    document = dump_proxy(proxy)
    assert parse_proxy(document) == proxy
    assert dump_proxy(parse_proxy(document)) == document


@given(CONFIGS)
def test_a_native_document_reads_back_as_what_was_written(config: VmcpConfig):
    document = dump_config(config, Dialect.NATIVE)
    assert parse_config(document) == config
    assert parse_config(pack_config(document)) == config
    assert dump_config(parse_config(document), Dialect.NATIVE) == document


def _stock(config: VmcpConfig) -> VmcpConfig:
    """The nearest configuration that the stock gateway can have."""
    if config.session_storage is None or config.session_storage.provider != "redis":
        config = config.model_copy(update={"rate_limiting": None})
    if config.aggregation is not None and config.aggregation.conflict_resolution == "prefixOnConflict":
        config = config.model_copy(update={"aggregation": None})
    return to_dialect(config, Dialect.TOOLHIVE)


@given(CONFIGS)
def test_a_toolhive_document_reads_back_as_what_was_written(config: VmcpConfig):
    stock = _stock(config)
    document = dump_config(stock, Dialect.TOOLHIVE)
    assert parse_config(document) == stock


@given(CONFIGS)
def test_a_toolhive_document_holds_only_keys_that_the_stock_parser_knows(config: VmcpConfig):
    document = yaml.safe_load(dump_config(_stock(config), Dialect.TOOLHIVE)) or {}
    assert list(_unknown(document, KEYS, "")) == []
    for backend in document.get("backends", ()):
        assert ("caBundlePath" in backend) == (backend.get("type") == "entry")


@given(
    st.lists(
        st.builds(StaticBackend, name=TEXT, url=TEXT, metadata=st.dictionaries(TEXT, TEXT, max_size=3)), max_size=3
    )
)
def test_another_yaml_reader_sees_the_same_texts(backends: list[StaticBackend]):
    document = dump_config(VmcpConfig(backends=tuple(backends)))
    seen = (yaml.safe_load(document) or {}).get("backends", [])
    expected = [backend.model_dump(by_alias=True, exclude_defaults=True) for backend in backends]
    assert seen == expected


@given(CONFIGS)
def test_defaults_are_filled_in_once(config: VmcpConfig):
    once = with_defaults(config)
    assert with_defaults(once) == once
    assert once.operational is not None


def _unknown(document: Any, keys: Any, where: str):
    """Walk a document along the transcribed keys of the stock schema."""
    if keys is None:
        return
    if isinstance(keys, list):
        for index, item in enumerate(document):
            yield from _unknown(item, keys[0], f"{where}[{index}]")
    elif "*" in keys:
        for key, item in document.items():
            yield from _unknown(item, keys["*"], f"{where}.{key}")
    else:
        for key, item in document.items():
            if key not in keys:
                yield f"{where}.{key}"
            else:
                yield from _unknown(item, keys[key], f"{where}.{key}")


def _keys(text: str) -> dict[str, None]:
    return dict.fromkeys(text.split())


ANNOTATIONS = _keys("title readOnlyHint destructiveHint idempotentHint openWorldHint")
BUCKET = {"maxTokens": None, "refillPeriod": _keys("duration")}
STRATEGY = {
    "type": None,
    "headerInjection": _keys("headerName headerValue headerValueEnv"),
    "tokenExchange": _keys(
        "tokenUrl clientId clientSecret clientSecretEnv audience scopes subjectTokenType subjectProviderName"
    ),
    "upstreamInject": _keys("providerName"),
    "awsSts": _keys("region service fallbackRoleArn roleClaim sessionDuration sessionNameClaim subjectProviderName")
    | {"roleMappings": [_keys("claim matcher roleArn priority")]},
    "obo": _keys(
        "tokenUrl clientId clientSecret clientSecretEnv audience scopes subjectTokenProviderName cacheSkewSeconds"
    ),
    "xaa": _keys(
        "idpTokenUrl idpClientId idpClientSecret idpClientSecretEnv targetTokenUrl insecureTargetTokenUrl "
        "targetClientId targetClientSecret targetClientSecretEnv targetAudience targetResource scopes "
        "subjectProviderName subjectTokenType"
    ),
}
STEP: dict[str, Any] = _keys(
    "id type tool arguments condition dependsOn message schema timeout defaultResults collection itemVar maxParallel "
    "maxIterations"
) | {
    "onError": _keys("action retryCount retryDelay"),
    "onDecline": _keys("action"),
    "onCancel": _keys("action"),
}
STEP["step"] = STEP
PROPERTY: dict[str, Any] = _keys("type description value default")
PROPERTY["properties"] = {"*": PROPERTY}
KEYS = _keys("name groupRef metadata passthroughHeaders") | {
    "backends": [_keys("name url transport type caBundlePath metadata")],
    "incomingAuth": {
        "type": None,
        "oidc": _keys(
            "issuer clientId clientSecretEnv audience resource jwksUrl introspectionUrl scopes "
            "protectedResourceAllowPrivateIp jwksAllowPrivateIp insecureAllowHttp caBundlePath"
        ),
        "authz": _keys(
            "type policies entitiesJson primaryUpstreamProvider groupClaimName roleClaimName groupEntityType"
        ),
    },
    "outgoingAuth": {"source": None, "default": STRATEGY, "backends": {"*": STRATEGY}},
    "aggregation": {
        "conflictResolution": None,
        "conflictResolutionConfig": _keys("prefixFormat priorityOrder"),
        "excludeAllTools": None,
        "defaultToolVisibility": None,
        "tools": [
            {
                "workload": None,
                "toolConfigRef": _keys("name"),
                "filter": None,
                "excludeAll": None,
                "overrides": {"*": {"name": None, "description": None, "annotations": ANNOTATIONS}},
            }
        ],
    },
    "compositeTools": [
        _keys("name description parameters timeout")
        | {
            "steps": [STEP],
            "output": {"properties": {"*": PROPERTY}, "required": None},
            "annotations": ANNOTATIONS,
        }
    ],
    "compositeToolRefs": [_keys("name")],
    "operational": {
        "logLevel": None,
        "timeouts": _keys("default perWorkload"),
        "failureHandling": _keys(
            "healthCheckInterval unhealthyThreshold healthCheckTimeout statusReportingInterval partialFailureMode"
        )
        | {"circuitBreaker": _keys("enabled failureThreshold timeout")},
    },
    "telemetry": _keys(
        "endpoint serviceName serviceVersion tracingEnabled metricsEnabled samplingRate headers insecure "
        "enablePrometheusMetricsPath prometheusPort metricsOnTransportPort environmentVariables customAttributes "
        "useLegacyAttributes caCertPath"
    ),
    "audit": _keys(
        "enabled component eventTypes excludeEventTypes includeRequestData includeResponseData "
        "detectApplicationErrors maxDataSize maxDelegationDepth logFile"
    ),
    "optimizer": _keys(
        "embeddingService embeddingServiceTimeout embeddingProvider embeddingModel embeddingHeaders maxToolsToReturn "
        "hybridSearchSemanticRatio semanticDistanceThreshold"
    ),
    "codeMode": _keys("enabled stepLimit parallelMaxConcurrency toolCallTimeout"),
    "sessionStorage": _keys("provider address db keyPrefix"),
    "rateLimiting": {
        "shared": BUCKET,
        "perUser": BUCKET,
        "tools": [{"name": None, "shared": BUCKET, "perUser": BUCKET}],
    },
}


def test_every_part_of_the_schema_is_generated():
    """So that the walk above cannot pass because a part of the model never occurs."""
    met: set[type[Section]] = set()

    def note(root: Section) -> None:
        stack: list[Any] = [root]
        while stack:
            item = stack.pop()
            if isinstance(item, Section):
                met.add(type(item))
                stack.extend(getattr(item, name) for name in type(item).model_fields)
            elif isinstance(item, tuple):
                stack.extend(item)
            elif isinstance(item, dict):
                stack.extend(item.values())

    # Not random: what is judged is the generator, and with any seed a rare part may be missing. A proxy has few parts
    # of its own.
    for parts, examples in ((CONFIGS, 1000), (PROXIES, 50)):
        settings(max_examples=examples, database=None, derandomize=True)(given(parts)(note))()
    assert met == set(Section.__subclasses__())
