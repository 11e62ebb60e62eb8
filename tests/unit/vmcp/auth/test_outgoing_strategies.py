"""Outgoing strategies: what the contract lets through is what the gateway can do, and nothing decides by name twice."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from api.contract.auth import HeaderInjection, Strategy, TokenExchange
from api.contract.strategies import NO_STRATEGY, Converted, convert_strategy
from api.contract.support import STRATEGIES as SUPPORTED
from api.contract.support import unsupported_strategy
from api.contract.validation.auth import STRATEGIES as KNOWN
from api.v1beta1.mcpexternalauthconfig import MCPExternalAuthConfigSpec
from vmcp.auth.interface import ANONYMOUS, UNAUTHENTICATED
from vmcp.auth.outgoing.registry import STRATEGIES, read_strategy
from vmcp.auth.outgoing.strategy import TokenEndpoints

WHOLE = {
    "unauthenticated": Strategy(type="unauthenticated"),
    "header_injection": Strategy(
        type="header_injection",
        header_injection=HeaderInjection(header_name="X-Key", header_value_env="TOOLHIVE_SECRET_K"),
    ),
    "token_exchange": Strategy(
        type="token_exchange",
        token_exchange=TokenExchange(token_url="https://idp.example/token", client_secret_env="TOOLHIVE_SECRET_K"),
    ),
}
KINDS = ["unauthenticated", "headerInjection", "tokenExchange", "upstreamInject", "awsSts", "xaa", *NO_STRATEGY]
SPECS = {
    "headerInjection": {"headerName": "X-Key", "valueSecretRef": {"name": "s", "key": "k"}},
    "tokenExchange": {"tokenUrl": "https://idp.example/token", "audience": "a"},
    "upstreamInject": {"providerName": "p"},
    "awsSts": {"region": "eu-west-1", "fallbackRoleArn": "arn:aws:iam::1:role/r"},
    "xaa": {
        "idpTokenUrl": "https://idp.example/token",
        "idpClientId": "c",
        "targetTokenUrl": "https://as.example/token",
        "targetAudience": "a",
        "scopes": ["s"],
    },
}


def secret(variable: str, literal: str) -> str:
    return f"value of {variable}" if variable else literal


def test_the_operator_lets_through_exactly_the_strategies_that_the_gateway_has() -> None:
    assert set(STRATEGIES) == SUPPORTED


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_strategy_of_the_contract_is_either_registered_or_refused_by_name(name: str) -> None:
    refused = unsupported_strategy(WHOLE.get(name, Strategy(type=name)))
    if name in STRATEGIES:
        assert refused == ()
    else:
        assert refused[0].message == f"the strategy {name} is not supported by this version"


@pytest.mark.parametrize("kind", KINDS)
def test_an_auth_config_becomes_a_registered_strategy_or_is_refused_before_a_gateway_sees_it(kind: str) -> None:
    spec = MCPExternalAuthConfigSpec.model_validate({"type": kind, **({kind: SPECS[kind]} if kind in SPECS else {})})
    converted = convert_strategy("auth", spec)
    if not isinstance(converted, Converted):
        assert kind in NO_STRATEGY
    elif not unsupported_strategy(converted.strategy):
        assert type(read_strategy(converted.strategy, secret)) is STRATEGIES[converted.strategy.type]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
async def test_a_strategy_reads_itself_and_runs_under_its_name(name: str) -> None:
    settings = read_strategy(WHOLE[name], secret)
    assert type(settings) is STRATEGIES[name]
    assert is_dataclass(settings)
    assert settings == read_strategy(WHOLE[name], secret), "equal settings keep a running backend"
    assert "value of" not in repr(settings)
    auth = settings.build(TokenEndpoints())
    assert auth.method == name
    assert auth.rejected(ANONYMOUS) is (name == "token_exchange"), "only a new token is worth a second request"
    await auth.close()


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - {UNAUTHENTICATED}))
def test_a_rotated_secret_makes_other_settings(name: str) -> None:
    other = read_strategy(WHOLE[name], lambda variable, literal: "rotated")
    assert other != read_strategy(WHOLE[name], secret)
    assert "rotated" not in repr(other)
    assert any(getattr(other, field.name) == "rotated" for field in fields(other))  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", [None, Strategy(), Strategy(type="token_exchange"), Strategy(type="obo")])
def test_what_says_nothing_usable_sends_nothing(strategy: Strategy | None) -> None:
    """The contract's checks leave such a backend out; nothing is guessed in case one slips through."""
    assert read_strategy(strategy, secret).method == UNAUTHENTICATED
