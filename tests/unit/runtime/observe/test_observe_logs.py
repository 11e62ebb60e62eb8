"""No secret value leaves through a log line, whoever wrote it and in whatever form."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from runtime.control.scope import ReconcileScope, add_scope, current_scope
from runtime.observe.logs import configure_logging
from runtime.observe.redact import REDACTED, redact, redact_text
from runtime.wire.gvk import Key, Resource

SECRET = "s3ntinel-value-XYZ"


@pytest.fixture
def lines():
    """Configured JSON logging into a buffer; the previous configuration comes back."""
    buffer = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("debug", json=True, processors=[add_scope], stream=buffer)
    yield lambda: [json.loads(line) for line in buffer.getvalue().splitlines()]
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": f"Bearer {SECRET}"},
        {"headers": {"Authorization": SECRET, "X-Api-Key": SECRET}},
        {"token": SECRET},
        {"client_secret": SECRET},
        {"clientSecret": SECRET},
        {"obj": {"kind": "Secret", "metadata": {"name": "x"}, "data": {"k": SECRET}, "stringData": {"k": SECRET}}},
        {"list": [{"kind": "Secret", "data": {"k": SECRET}}]},
        {"body": SECRET.encode()},
        {"url": f"https://user:{SECRET}@example.com/mcp"},
        {"url": f"https://example.com/mcp?access_token={SECRET}&x=1"},
        {"text": f"sent Authorization: Bearer {SECRET}"},
        {"text": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"},
        {"nested": {"a": [{"password": {"value": SECRET}}]}},
    ],
)
def test_values_that_look_like_credentials_are_cut(lines, fields):
    structlog.get_logger().debug("something happened", **fields)
    assert SECRET not in json.dumps(lines())
    assert lines()[0]["msg"] == "something happened"


def test_names_of_secrets_and_keys_stay_readable(lines):
    structlog.get_logger().info("secret is missing", secret="my-secret", key="token-key", object="ns/name")
    line = lines()[0]
    assert (line["secret"], line["key"], line["object"]) == ("my-secret", "token-key", "ns/name")


def test_exceptions_are_logged_without_local_variables_and_without_tokens(lines):
    def fail() -> None:
        password = SECRET  # a local variable must not be shown
        raise RuntimeError(f"401 for Bearer {password}")

    try:
        fail()
    except RuntimeError:
        structlog.get_logger().exception("it broke")
    line = lines()[0]
    assert SECRET not in json.dumps(line)
    assert "RuntimeError" in line["exception"]
    assert "in fail" in line["exception"]


def test_libraries_log_through_the_same_chain_and_bodies_of_the_client_are_silent(lines):
    logging.getLogger("some.library").warning("token is %s", f"Bearer {SECRET}")
    logging.getLogger("kubernetes_asyncio.client.rest").error("response body: %s", SECRET)
    logging.getLogger("aiohttp.access").info("GET /metrics")
    assert [line["msg"] for line in lines()] == [f"token is Bearer {REDACTED}"]
    assert lines()[0]["logger"] == "some.library"


def test_a_running_reconcile_is_named_in_its_lines_as_controller_runtime_names_it(lines):
    scope = ReconcileScope("mcpgroup", Resource("x.dev", "v1", "MCPGroup", "mcpgroups"), Key("ns", "g"))
    current_scope.set(scope)
    structlog.get_logger().info("hello")
    current_scope.set(None)
    structlog.get_logger().info("bye")
    first, second = lines()
    assert first["controller"] == "mcpgroup"
    assert first["controllerGroup"] == "x.dev"
    assert first["controllerKind"] == "MCPGroup"
    assert first["MCPGroup"] == {"namespace": "ns", "name": "g"}
    assert (first["namespace"], first["name"]) == ("ns", "g")
    assert first["reconcileID"] == scope.reconcile_id
    assert "reconcileID" not in second


def test_text_form_is_readable_and_cut_as_well():
    buffer = io.StringIO()
    configure_logging("info", json=False, stream=buffer)
    structlog.get_logger().info("hello", token=SECRET, object="ns/a")
    structlog.reset_defaults()
    assert SECRET not in buffer.getvalue()
    assert "hello" in buffer.getvalue()
    assert "object=ns/a" in buffer.getvalue()


def test_levels_are_respected():
    buffer = io.StringIO()
    configure_logging("warning", json=True, stream=buffer)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    structlog.reset_defaults()
    assert [json.loads(line)["msg"] for line in buffer.getvalue().splitlines()] == ["loud"]


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(TREES)
def test_any_value_can_be_logged(tree):
    json.dumps(redact(tree))


@given(st.text(max_size=200))
def test_ordinary_texts_are_not_changed_by_accident(text):
    if not any(word in text.lower() for word in ("bearer", "basic", "eyj", "://", "=", "begin")):
        assert redact_text(text) == text
