"""From the file to settings: what it means, what is missing, and what this version refuses by name."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
import trustme

from api.contract.errors import ConfigErrors
from tests.unit.vmcp.config.configs import text
from vmcp.auth.outgoing.header_injection import HeaderInjectionSettings
from vmcp.auth.outgoing.token_exchange import TokenExchangeSettings
from vmcp.auth.outgoing.unauthenticated import UnauthenticatedSettings
from vmcp.config.load import load, load_file
from vmcp.core.rules import ConflictPolicy
from vmcp.limits.bucket import Rate

OIDC = {"issuer": "https://idp.example", "audience": "gw", "clientId": "gw", "resource": "https://gw.example/mcp"}


def settings(environ: dict[str, str] | None = None, **changes: object):
    return load(text(**changes), environ or {}).settings


def errors(environ: dict[str, str] | None = None, **changes: object) -> list[str]:
    """What is wrong, be it with the document or with single backends."""
    try:
        found = load(text(**changes), environ or {}).settings.left_out
    except ConfigErrors as caught:
        return [str(error) for error in caught.errors]
    assert found, "nothing is wrong"
    return list(dict.fromkeys(str(error) for one in found for error in one.errors))


def backend(**fields: object) -> dict:
    return {"name": "gh", "url": "https://gh.example/mcp", "transport": "streamable-http", **fields}


def test_the_smallest_configuration_means_the_documented_defaults():
    found = settings()
    assert (found.name, found.group, found.timeout, found.fail_partial) == ("gw", "tools", 30.0, False)
    assert [one.name for one in found.backends] == ["gh", "old"]
    assert found.backends[0].health_interval == 30.0
    assert found.backends[0].breaker is None
    assert all(isinstance(one, UnauthenticatedSettings) for one in found.outgoing.values())
    assert found.audit is None
    assert found.authz is None
    assert found.limits is None
    assert not found.metrics


def test_gzip_and_json_are_read_too():
    assert load(gzip.compress(text()), {}).settings == settings()
    import yaml

    assert load(json.dumps(yaml.safe_load(text())).encode(), {}).settings == settings()


def test_operational_settings_arrive_at_the_backends():
    found = settings(
        operational={
            "timeouts": {"default": "5s", "perWorkload": {"old": "1m30s"}},
            "failureHandling": {
                "healthCheckInterval": "10s",
                "healthCheckTimeout": "2s",
                "unhealthyThreshold": 7,
                "partialFailureMode": "fail",
                "circuitBreaker": {"enabled": True, "failureThreshold": 2, "timeout": "9s"},
            },
        }
    )
    first, second = found.backends
    assert (first.timeout, second.timeout) == (5.0, 90.0)
    assert (first.health_interval, first.health_timeout, first.unhealthy_threshold) == (10.0, 2.0, 7)
    assert (first.breaker.threshold, first.breaker.timeout) == (2, 9.0)
    assert found.fail_partial


def test_remote_servers_have_a_circuit_breaker_without_being_asked():
    types = ("direct", "entry", "container", "proxy", "")
    found = settings(backends=[backend(name=f"b{number}", type=type_) for number, type_ in enumerate(types)])
    breakers = [each.breaker and (each.breaker.threshold, each.breaker.timeout) for each in found.backends]
    assert breakers == [(5, 60.0), (5, 60.0), None, None, None]


def test_aggregation_becomes_rules():
    found = settings(
        aggregation={
            "conflictResolution": "priority",
            "conflictResolutionConfig": {"priorityOrder": ["old", "gh"]},
            "defaultToolVisibility": "allow",
            "tools": [
                {
                    "workload": "gh",
                    "filter": ["find"],
                    "overrides": {"search": {"name": "find", "annotations": {"readOnlyHint": True}}},
                },
                {"workload": "old", "excludeAll": True},
            ],
        }
    ).aggregation
    assert (found.strategy, found.priority) == (ConflictPolicy.PRIORITY, ("old", "gh"))
    assert found.workloads["gh"].overrides["search"].annotations == {"readOnlyHint": True}
    assert found.visible("gh", "find")
    assert not found.visible("gh", "search")
    assert not found.visible("old", "x")


def test_the_native_strategy_is_known():
    found = settings(
        aggregation={
            "conflictResolution": "prefixOnConflict",
            "conflictResolutionConfig": {"prefixFormat": "{workload}-"},
        }
    )
    assert found.aggregation.strategy is ConflictPolicy.PREFIX_ON_CONFLICT


def test_native_header_forwarding_takes_secrets_from_the_environment():
    found = settings(
        {"TOOLHIVE_SECRET_HEADER_FORWARD_X_KEY_GH": "s3cr3t-value"},
        backends=[
            backend(
                type="entry",
                headerForward={
                    "addPlaintextHeaders": {"X-Team": "a"},
                    "addHeadersFromSecret": {"X-Key": "HEADER_FORWARD_X_KEY_GH"},
                },
            )
        ],
    )
    assert found.backends[0].headers == (("X-Team", "a"), ("X-Key", "s3cr3t-value"))
    assert found.secrets == ("s3cr3t-value",)
    assert "s3cr3t-value" not in repr(found)


def test_the_toolhive_form_of_header_forwarding_is_read_from_the_environment():
    environ = {
        "TOOLHIVE_HEADER_FORWARD_GH": '{"addPlaintextHeaders":{"X-A":"1"},"addHeadersFromSecret":{"X-B":"ID"}}',
        "TOOLHIVE_SECRET_ID": "b-value",
        "TOOLHIVE_HEADER_FORWARD_GONE": "{}",
    }
    found = settings(environ)
    assert found.backends[0].headers == (("X-A", "1"), ("X-B", "b-value"))
    assert found.backends[1].headers == ()
    assert found.warnings == ("TOOLHIVE_HEADER_FORWARD_GONE belongs to no backend",)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TOOLHIVE_HEADER_FORWARD_GH": "{"}, "TOOLHIVE_HEADER_FORWARD_GH: is not JSON"),
        (
            {"TOOLHIVE_HEADER_FORWARD_GH": '{"addHeadersFromSecret":{"X-B":"ID"}}'},
            'TOOLHIVE_HEADER_FORWARD_GH: header "X-B": environment variable TOOLHIVE_SECRET_ID is not set',
        ),
        (
            {"TOOLHIVE_HEADER_FORWARD_GH": '{"addPlaintextHeaders":{"Host":"evil"}}'},
            'TOOLHIVE_HEADER_FORWARD_GH: header "Host" is restricted and cannot be forwarded',
        ),
    ],
)
def test_a_bad_environment_form_is_refused_by_the_variable_s_name(environ, expected):
    assert errors(environ) == [expected]


def test_a_variable_of_two_backends_is_refused():
    [message] = errors({"TOOLHIVE_HEADER_FORWARD_A_B": "{}"}, backends=[backend(name="a-b"), backend(name="a.b")])
    assert "more than one backend: a-b, a.b" in message


def test_ca_bundles_are_looked_up_below_the_root_but_checked_as_they_stand(tmp_path):
    entry = backend(type="entry", caBundlePath="/etc/toolhive/ca-bundles/gh/ca.crt")
    mounted = tmp_path / "etc/toolhive/ca-bundles/gh/ca.crt"
    mounted.parent.mkdir(parents=True)
    mounted.write_bytes(trustme.CA().cert_pem.bytes())
    rooted = load(text(backends=[entry]), {}, root=str(tmp_path)).settings
    assert rooted.backends[0].ca_bundle == str(mounted)
    (refused,) = load(text(backends=[{**entry, "caBundlePath": "../ca.crt"}]), {}, root=str(tmp_path)).settings.left_out
    assert refused.errors[0].path == "backends[0].caBundlePath"


def test_partial_failure_mode_fails_only_where_the_file_says_so():
    assert not settings().fail_partial
    assert not settings(operational={"failureHandling": {"unhealthyThreshold": 2}}).fail_partial
    assert settings(operational={"failureHandling": {"partialFailureMode": "fail"}}).fail_partial
    assert not settings(operational={"failureHandling": {"partialFailureMode": "best_effort"}}).fail_partial


def test_strategies_are_resolved_per_backend_else_the_default():
    found = settings(
        {"GH_TOKEN": "gh-secret-token", "OBO": "client-s3cret"},
        outgoingAuth={
            "source": "inline",
            "default": {
                "type": "token_exchange",
                "tokenExchange": {
                    "tokenUrl": "https://idp.example/token",
                    "clientId": "gw",
                    "clientSecretEnv": "OBO",
                    "audience": "api",
                    "subjectTokenType": "id_token",
                },
            },
            "backends": {
                "gh": {
                    "type": "header_injection",
                    "headerInjection": {"headerName": "X-Token", "headerValueEnv": "GH_TOKEN"},
                }
            },
        },
    )
    assert found.outgoing["gh"] == HeaderInjectionSettings(name="X-Token", value="gh-secret-token")
    exchange = found.outgoing["old"]
    assert isinstance(exchange, TokenExchangeSettings)
    assert exchange.client_secret == "client-s3cret"
    assert exchange.subject_token_type == "urn:ietf:params:oauth:token-type:id_token"
    assert set(found.secrets) == {"gh-secret-token", "client-s3cret"}
    assert "s3cret" not in repr(found)
    assert "gh-secret-token" not in repr(found)


def test_missing_secrets_are_named_by_their_variables_all_at_once():
    strategy = {"type": "header_injection", "headerInjection": {"headerName": "X-A", "headerValueEnv": "NOT_THERE"}}
    found = errors(
        outgoingAuth={"source": "inline", "backends": {"gh": strategy}},
        backends=[
            backend(headerForward={"addHeadersFromSecret": {"X-K": "ALSO_GONE"}}),
        ],
    )
    assert any("NOT_THERE" in message for message in found)
    assert any("TOOLHIVE_SECRET_ALSO_GONE" in message for message in found)


def test_oidc_and_cedar():
    found = settings(
        incomingAuth={
            "type": "oidc",
            "oidc": {**OIDC, "scopes": ["mcp"], "jwksAllowPrivateIp": True},
            "authz": {
                "type": "cedar",
                "policies": ["permit(principal, action, resource);"],
                "groupClaimName": "teams",
            },
        }
    )
    oidc = found.incoming.oidc
    assert (oidc.tokens.issuer, oidc.tokens.audience, oidc.tokens.group_claim) == ("https://idp.example", "gw", "teams")
    assert oidc.allow_private
    assert found.authz.server == "gw"


def test_bad_policies_are_found_when_loading():
    found = errors(incomingAuth={"type": "anonymous", "authz": {"type": "cedar", "policies": ["permit(nonsense);"]}})
    assert found[0].startswith("incomingAuth.authz: policies[0]:")


def test_rate_limits_in_both_forms_of_the_period():
    found = settings(
        incomingAuth={"type": "oidc", "oidc": OIDC},
        rateLimiting={
            "shared": {"maxTokens": 10, "refillPeriod": {"duration": "1m0s"}},
            "tools": [{"name": "gh_x", "perUser": {"maxTokens": 1, "refillPeriod": "2s"}}],
        },
    ).limits
    assert found.shared == Rate(10, 60.0)
    assert found.tools["gh_x"].per_user == Rate(1, 2.0)


def test_audit_is_on_by_presence_and_off_only_when_it_says_so():
    assert settings(audit={"component": "c"}).audit.line.component == "c"
    assert settings(audit={"enabled": True}).audit is not None
    assert settings(audit={"enabled": False}).audit is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optimizer": {}}, "the tool optimizer"),
        ({"codeMode": {"enabled": True}}, "code mode"),
        (
            {"compositeTools": [{"name": "c", "description": "d", "steps": [{"id": "a", "tool": "gh_x"}]}]},
            "composite tools",
        ),
        (
            {"telemetry": {"endpoint": "otel:4318", "tracingEnabled": True}},
            "exporting to an OpenTelemetry collector",
        ),
        (
            {"incomingAuth": {"type": "oidc", "oidc": {**OIDC, "introspectionUrl": "https://idp.example/introspect"}}},
            "token introspection",
        ),
        (
            {
                "outgoingAuth": {
                    "source": "inline",
                    "default": {
                        "type": "aws_sts",
                        "awsSts": {"region": "eu-west-1", "fallbackRoleArn": "arn:aws:iam::1:role/x"},
                    },
                }
            },
            "the strategy aws_sts",
        ),
        (
            {
                "outgoingAuth": {
                    "source": "inline",
                    "default": {"type": "upstream_inject", "upstreamInject": {"providerName": "gh"}},
                }
            },
            "the strategy upstream_inject",
        ),
        (
            {
                "outgoingAuth": {
                    "source": "inline",
                    "default": {
                        "type": "token_exchange",
                        "tokenExchange": {"tokenUrl": "https://i/t", "subjectProviderName": "gh"},
                    },
                }
            },
            "tokens of upstream providers",
        ),
    ],
)
def test_what_comes_later_is_refused_by_name(changes, named):
    found = errors(**changes)
    assert any(named in message and "not supported by this version" in message for message in found), found


def test_memory_sessions_and_disabled_code_mode_are_nothing_special():
    assert settings(sessionStorage={"provider": "memory"}, codeMode={"enabled": False}).name == "gw"


def test_every_mistake_is_told_at_once():
    found = errors(
        name="",
        passthroughHeaders=["Cookie"],
        backends=[backend(url="ftp://x"), backend()],
        incomingAuth={"type": "magic"},
        codeMode={"enabled": True},
        aggregation={"conflictResolution": "prefx"},
    )
    whole = "\n".join(found)
    for part in ("name", "passthroughHeaders[0]", "backends[0].url", "gh", "incomingAuth.type", "codeMode", "prefx"):
        assert part in whole
    assert len(found) == len(set(found))


def test_an_unknown_key_comes_with_the_nearest_known_one():
    assert errors(aggregaton={})[0] == 'aggregaton: unknown key; did you mean "aggregation"?'


def test_a_file_that_is_not_there_is_an_error_and_no_traceback(tmp_path):
    with pytest.raises(ConfigErrors, match="No such file"):
        load_file(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigErrors, match="cannot be read"):
        load_file(tmp_path, {})


def test_the_digest_tells_versions_apart():
    assert load(text(), {}).digest == load(text(), {}).digest != load(text(name="other"), {}).digest


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_the_issuers_ca_bundle_must_hold_a_certificate(tmp_path, content):
    bundle = tmp_path / "ca.crt"
    if content is not None:
        bundle.write_text(content)
    (error,) = errors(incomingAuth={"type": "oidc", "oidc": {**OIDC, "caBundlePath": str(bundle)}})
    assert error.startswith(f"incomingAuth.oidc.caBundlePath: the CA bundle {bundle} cannot be used: ")


def test_the_session_secret_is_read_checked_and_known_to_the_redactor():
    secret = base64.b64encode(bytes(range(32))).decode()
    found = settings({"VMCP_SESSION_HMAC_SECRET": secret + "\n"})
    assert found.sealing == bytes(range(32))
    assert secret in found.secrets
    assert secret not in repr(found)
    assert settings().sealing is None
    assert settings({"VMCP_SESSION_HMAC_SECRET": ""}).sealing is None
    wrong = base64.b64encode(b"short").decode()
    (error,) = errors({"VMCP_SESSION_HMAC_SECRET": wrong})
    assert error == "VMCP_SESSION_HMAC_SECRET: the secret holds 5 bytes; at least 32 are needed"


# --- the store of sessions ---

REDIS = {"provider": "redis", "address": "redis.default:6379"}
SEALED = {"VMCP_SESSION_HMAC_SECRET": base64.b64encode(b"s" * 32).decode()}


def test_replicas_share_sessions_where_the_configuration_says():
    environ = {**SEALED, "THV_SESSION_REDIS_PASSWORD": "open sesame\n"}
    store = settings(environ, sessionStorage=REDIS | {"db": 3}).store
    assert (store.host, store.port, store.db, store.prefix) == ("redis.default", 6379, 3, "vmcp:gw:")
    assert store.password == "open sesame"
    assert "sesame" not in repr(store)
    assert (
        settings(environ, sessionStorage=REDIS | {"keyPrefix": "team:", "address": "[::1]:1"}).store.prefix == "team:"
    )
    assert settings().store is None


def test_sessions_cannot_be_shared_without_a_secret_to_seal_them():
    assert any("VMCP_SESSION_HMAC_SECRET" in message for message in errors(sessionStorage=REDIS))


@pytest.mark.parametrize(
    "address", ["redis", "redis:", ":6379", "redis:0", "redis:65536", "redis:6379/1", "::1:6379", "a b:1", "r:1\n"]
)
def test_an_address_that_is_not_host_and_port_is_refused(address):
    found = errors(SEALED, sessionStorage=REDIS | {"address": address})
    assert any("sessionStorage.address: must be HOST:PORT" in message for message in found)


@pytest.mark.parametrize(("mode", "closed"), [(None, False), ("", False), ("open", False), ("closed", True)])
def test_what_holds_while_shared_limits_cannot_be_counted_is_an_option(mode, closed):
    limits = {"shared": {"maxTokens": 3, "refillPeriod": "1m"}}
    environ = {} if mode is None else {"VMCP_RATE_LIMIT_FAILURE_MODE": mode}
    assert settings(environ, rateLimiting=limits).limits.fail_closed is closed


def test_an_option_for_shared_limits_that_means_nothing_is_refused():
    limits = {"shared": {"maxTokens": 3, "refillPeriod": "1m"}}
    (error,) = errors({"VMCP_RATE_LIMIT_FAILURE_MODE": "sometimes"}, rateLimiting=limits)
    assert error == 'VMCP_RATE_LIMIT_FAILURE_MODE: "sometimes" is neither "open" nor "closed"'


STORE = {"sessionStorage": {"provider": "redis", "address": "store.example:6379"}}
SEALED = {"VMCP_SESSION_HMAC_SECRET": base64.b64encode(b"s" * 32).decode()}


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    """Paths of what a pod may mount for the store."""
    authority = trustme.CA()
    made = authority.issue_cert("gw.example")
    blobs = {
        "ca": authority.cert_pem.bytes(),
        "cert": made.cert_chain_pems[0].bytes(),
        "key": made.private_key_pem.bytes(),
        "password": b"sesame\n",
        "empty": b"",
    }
    for name, blob in blobs.items():
        (tmp_path / name).write_bytes(blob)
    return {name: str(tmp_path / name) for name in (*blobs, "missing")}


def store_environ(files: dict[str, str], **variables: str) -> dict[str, str]:
    return SEALED | {f"VMCP_SESSION_REDIS_{name}": files.get(value, value) for name, value in variables.items()}


def test_the_environment_says_how_a_store_is_reached_safely(files):
    environ = store_environ(
        files, USERNAME="gw", PASSWORD_FILE="password", CA_FILE="ca", CERT_FILE="cert", KEY_FILE="key"
    )
    store = settings(environ, **STORE).store
    assert (store.username, store.password_file) == ("gw", files["password"])
    assert (store.tls.ca_file, store.tls.cert_file, store.tls.key_file) == (files["ca"], files["cert"], files["key"])
    assert settings(SEALED, **STORE).store.tls is None
    assert settings(store_environ(files, TLS="true"), **STORE).store.tls.ca_file == ""


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"TLS": "yes"}, 'VMCP_SESSION_REDIS_TLS: "yes" is neither "true" nor "false"'),
        ({"TLS": "false", "CA_FILE": "ca"}, "VMCP_SESSION_REDIS_TLS: is false, although files for TLS are named"),
        ({"KEY_FILE": "key"}, "VMCP_SESSION_REDIS_KEY_FILE: needs VMCP_SESSION_REDIS_CERT_FILE"),
        ({"CA_FILE": "missing"}, "VMCP_SESSION_REDIS_CA_FILE: the file cannot be read: No such file or directory"),
        ({"CA_FILE": "password"}, "VMCP_SESSION_REDIS_CA_FILE: the file does not hold what it should, in PEM"),
        ({"CERT_FILE": "cert"}, "VMCP_SESSION_REDIS_CERT_FILE: the file does not hold what it should, in PEM"),
        ({"USERNAME": "gw"}, "VMCP_SESSION_REDIS_USERNAME: needs a password: sessionStorage.passwordRef, or "),
        ({"PASSWORD_FILE": "empty"}, "VMCP_SESSION_REDIS_PASSWORD_FILE: the file is empty"),
        ({"PASSWORD_FILE": "missing"}, "VMCP_SESSION_REDIS_PASSWORD_FILE: the file cannot be read: No such file"),
    ],
)
def test_what_cannot_be_used_to_reach_a_store_is_refused(files, variables, says):
    (error,) = errors(store_environ(files, **variables), **STORE)
    assert error.startswith(says)
