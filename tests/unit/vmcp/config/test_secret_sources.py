"""Values of Secrets come from one seam, whoever fills it, and are never shown."""

from __future__ import annotations

import pytest

from api.contract.loader import parse_config
from tests.unit.vmcp.config.configs import text
from vmcp.auth.outgoing.header_injection import HeaderInjectionSettings
from vmcp.config.load import settle
from vmcp.config.resolve import Surroundings
from vmcp.config.secrets import EnvironmentSecrets, NamedSecrets

BACKEND = {
    "name": "gh",
    "url": "https://gh.example/mcp",
    "transport": "streamable-http",
    "type": "entry",
    "headerForward": {"addHeadersFromSecret": {"X-Key": "KEY_OF_GH"}},
}
INJECTION = {"type": "header_injection", "headerInjection": {"headerName": "X-Auth", "headerValueEnv": "AUTH_OF_GH"}}
VALUES = {"TOOLHIVE_SECRET_KEY_OF_GH": "key-s3cret\n", "AUTH_OF_GH": "auth-s3cret"}


def settled(secrets):
    config = parse_config(text(backends=[BACKEND], outgoingAuth={"source": "inline", "backends": {"gh": INJECTION}}))
    return settle(config, "d", Surroundings({}, secrets))


@pytest.mark.parametrize(
    "secrets",
    [
        EnvironmentSecrets(VALUES),
        NamedSecrets(VALUES, EnvironmentSecrets({})),
        NamedSecrets({}, EnvironmentSecrets(VALUES)),
        NamedSecrets({"AUTH_OF_GH": "auth-s3cret"}, EnvironmentSecrets({**VALUES, "AUTH_OF_GH": "of the pod"})),
    ],
    ids=["environment", "named", "behind", "named first"],
)
def test_headers_and_strategies_get_their_values_from_any_source(secrets):
    found = settled(secrets).settings
    assert found.left_out == ()
    assert found.backends[0].headers == (("X-Key", "key-s3cret"),)
    assert found.outgoing["gh"] == HeaderInjectionSettings(name="X-Auth", value="auth-s3cret")
    assert set(found.secrets) == {"key-s3cret", "auth-s3cret"}


def test_a_value_that_no_source_has_costs_its_backend():
    found = settled(NamedSecrets({}, EnvironmentSecrets({}))).settings
    assert [one.name for one in found.left_out] == ["gh"]
    assert found.left_out[0].missing


def test_nothing_on_the_way_shows_a_value():
    environment = EnvironmentSecrets(VALUES)
    named = NamedSecrets(VALUES, environment)
    shown = repr((environment, named, Surroundings(VALUES, named), settled(named)))
    assert "s3cret" not in shown
