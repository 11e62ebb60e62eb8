"""Callers that forge, replay and steal: each gets the right refusal, and nobody else notices."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from joserfc.jwk import RSAKey

from tests.e2e.vmcp.asking_backend import STATE, AskingBackend
from tests.e2e.vmcp.echo_backend import TOOLS
from tests.e2e.vmcp.issuer import Issuer, rsa_key
from tests.e2e.vmcp.kit import EchoBackend, Gateway, config
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICIES = [
    'permit(principal, action, resource) when { principal has claim_level && principal.claim_level == "full" };',
    'permit(principal, action == Action::"call_tool", resource == Tool::"safe_echo");',
    'permit(principal, action == Action::"call_tool", resource == Tool::"safe_count");',
]


@dataclass
class House:
    issuer: Issuer
    gateway: Gateway
    safe: EchoBackend
    exchanged: EchoBackend
    asks: AskingBackend


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory) -> AsyncIterator[House]:
    async with Issuer() as issuer, AskingBackend("asks", tools=2) as asks:
        safe, exchanged = await asyncio.gather(EchoBackend("safe").start(), EchoBackend("exchanged").start())
        document = config(
            safe.entry,
            exchanged.entry,
            asks.entry,
            incomingAuth={
                "type": "oidc",
                "oidc": {
                    "issuer": issuer.url,
                    "clientId": "gw",
                    "audience": "gateway",
                    "resource": "http://gw.example/mcp",
                    "jwksAllowPrivateIp": True,
                    "insecureAllowHttp": True,
                },
                "authz": {"type": "cedar", "policies": POLICIES},
            },
            outgoingAuth={
                "source": "inline",
                "backends": {
                    "exchanged": {
                        "type": "token_exchange",
                        "tokenExchange": {
                            "tokenUrl": issuer.url + "/token",
                            "clientId": "gw",
                            "clientSecretEnv": "EXCHANGE_SECRET",
                            "audience": "api://exchanged",
                        },
                    }
                },
            },
        )
        gateway = Gateway(
            document,
            tmp_path_factory.mktemp("gw"),
            safe.resolve,
            exchanged.resolve,
            asks.resolve,
            environ={"EXCHANGE_SECRET": "exchange-client-secret"},
        )
        await gateway.start()
        await eventually(lambda: gateway.knows("safe", "exchanged", "asks"))
        yield House(issuer, gateway, safe, exchanged, asks)
        code = await gateway.stop()
        await asyncio.gather(safe.stop(), exchanged.stop())
        gateway.clean()
        assert code == 0


async def test_without_a_token_the_way_to_one_is_told(house, connect):
    client = await connect(house.gateway.url, era="modern")
    reply = await client.request("tools/list")
    assert reply.status == 401
    challenge = reply.headers["www-authenticate"]
    assert 'resource_metadata="http://gw.example/.well-known/oauth-protected-resource/mcp"' in challenge
    assert "error=" not in challenge
    status, body = await house.gateway.get("/.well-known/oauth-protected-resource/mcp")
    assert status == 200
    assert house.issuer.url in body


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "somebody-else"},
        {"iss": "http://evil.example"},
        {"exp": int(time.time()) - 3600},
        {"nbf": int(time.time()) + 3600},
        {"sub": None},
        {"header": {"kid": "unknown"}},
        {"header": {"typ": "logout+jwt"}},
        {"key": RSAKey.generate_key(2048, {"kid": "k1"})},
    ],
    ids=["aud", "iss", "exp", "nbf", "sub", "kid", "typ", "signature"],
)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_wrong_token_is_refused_in_both_eras(house, connect, change, era):
    client = await connect(house.gateway.url, era="modern")
    client.era, client.token = era, house.issuer.token(**change)
    reply = await client.request("initialize" if era == "legacy" else "tools/list")
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]
    assert client.token not in reply.body


def _headed(token: str, **head: str) -> str:
    """Return the token with another head, and the signature that it had."""
    old, body, signature = token.split(".")
    parsed = {**json.loads(base64.urlsafe_b64decode(old + "==")), **head}
    return ".".join([base64.urlsafe_b64encode(json.dumps(parsed).encode()).rstrip(b"=").decode(), body, signature])


def _unsigned(token: str) -> str:
    return _headed(token, alg="none").rpartition(".")[0] + "."


def _signed_with_the_public_key(token: str) -> str:
    signed = _headed(token, alg="HS256").rpartition(".")[0]
    mac = hmac.new(rsa_key("k1").as_pem(private=False), signed.encode(), "sha256").digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _of_another_algorithm(token: str) -> str:
    return _headed(token, alg="ES256")


@pytest.mark.parametrize("forge", [_unsigned, _signed_with_the_public_key, _of_another_algorithm])
async def test_a_token_cannot_choose_how_it_is_checked(house, connect, forge):
    client = await connect(house.gateway.url, era="modern", token=forge(house.issuer.token("forger")))
    reply = await client.request("tools/list")
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]


async def test_lists_show_and_calls_allow_the_same_and_a_denial_tells_nothing(house, connect):
    for era in ("legacy", "modern"):
        low = await connect(house.gateway.url, era=era, token=house.issuer.token("low"))
        full = await connect(house.gateway.url, era=era, token=house.issuer.token("boss", level="full"))
        assert sorted(await low.tools()) == ["safe_count", "safe_echo"]
        echo = [f"{name}_{tool['name']}" for name in ("safe", "exchanged") for tool in TOOLS]
        assert sorted(await full.tools()) == sorted([*echo, "asks_t00000", "asks_t00001"])
        denied, unknown = await low.call("safe_fail"), await low.call("no_such_tool")
        assert denied.status == 403
        assert denied.error["code"] == 403
        assert "safe_fail" not in denied.body
        assert unknown.status == denied.status
        assert unknown.error == denied.error
        assert (await low.call("safe_echo", nonce="n")).told["nonce"] == "n"


async def test_a_stranger_can_neither_use_nor_end_a_session(house, connect):
    owner = await connect(house.gateway.url, token=house.issuer.token("owner", level="full"))
    stranger = await connect(house.gateway.url, token=house.issuer.token("stranger", level="full"))
    first = (await owner.call("safe_count")).told
    own = stranger.session_id
    stranger.session_id = owner.session_id
    assert (await stranger.call("safe_count")).status == 404
    assert (await stranger.post(b"", stranger.headers(), "DELETE")).status == 404
    assert (await stranger.post(b"", {**stranger.headers(), "Accept": "text/event-stream"}, "GET")).status == 404
    stranger.session_id = own
    again = (await owner.call("safe_count")).told
    assert (again["session"], again["count"]) == (first["session"], first["count"] + 1)
    assert (await stranger.call("safe_count")).told["session"] != first["session"]


async def test_a_refreshed_token_keeps_its_session(house, connect):
    client = await connect(house.gateway.url, token=house.issuer.token("keeper", level="full", jti="1"))
    first = (await client.call("safe_count")).told
    client.token = house.issuer.token("keeper", level="full", jti="2")
    assert (await client.call("safe_count")).told["count"] == first["count"] + 1


async def test_forged_and_bent_session_ids_are_unknown(house, connect):
    client = await connect(house.gateway.url, token=house.issuer.token("forger", level="full"))
    good = client.session_id
    bent = [good[:-1] + ("A" if good[-1] != "A" else "B"), good[::-1], good + "A", "x", "0" * 64, "a" * 5000]
    for session in bent:
        client.session_id = session
        assert (await client.call("safe_echo")).status in (400, 404)
    client.session_id = good
    assert (await client.call("safe_echo", nonce="1")).told["nonce"] == "1"


async def test_a_session_that_was_ended_cannot_be_replayed(house, connect):
    client = await connect(house.gateway.url, token=house.issuer.token("ender", level="full"))
    assert (await client.post(b"", client.headers(), "DELETE")).status in (200, 204)
    assert (await client.call("safe_echo")).status == 404


@pytest.mark.parametrize("state", ["", "x", "A" * 200, "eyJhbGciOiJub25lIn0", "\u0000"])
async def test_forged_request_state_is_refused(house, connect, state):
    client = await connect(house.gateway.url, era="modern", token=house.issuer.token("s", level="full"))
    body = {"name": "safe_echo", "arguments": {}, "requestState": state, "inputResponses": {}}
    reply = await client.request("tools/call", body)
    assert reply.status == 400
    assert reply.error["code"] == -32602


async def test_request_state_is_worth_something_to_its_owner_and_for_its_request_only(house, connect):
    owner = await connect(house.gateway.url, era="modern", token=house.issuer.token("owner", level="full"))
    thief = await connect(house.gateway.url, era="modern", token=house.issuer.token("thief", level="full"))
    asked = (await owner.call("asks_t00000", n=1)).result
    state = asked["requestState"]
    assert STATE not in state
    answers = {"inputResponses": {"q": {"action": "accept", "content": {}}}}
    good = {"name": "asks_t00000", "arguments": {"n": 1}, "requestState": state, **answers}
    for client, changes in (
        (thief, {}),
        (owner, {"arguments": {"n": 2}}),
        (owner, {"arguments": {}}),
        (owner, {"name": "asks_t00001"}),
        (owner, {"requestState": state[:-2] + ("AA" if state[-2:] != "AA" else "BB")}),
        (owner, {"requestState": state[::-1]}),
        (owner, {"requestState": owner.token}),
        (owner, {"requestState": state + state}),
    ):
        reply = await client.request("tools/call", {**good, **changes})
        assert (reply.status, reply.error["code"]) == (400, -32602), changes
        assert state not in reply.body
    assert house.asks.states == []
    assert (await owner.request("tools/call", good)).result["content"][0]["text"] == "accept"
    assert house.asks.states == [STATE]


async def test_a_cursor_or_a_session_id_is_no_request_state(house, connect):
    client = await connect(house.gateway.url, token=house.issuer.token("mixer", level="full"))
    session = client.session_id
    client.era = "modern"
    body = {"name": "asks_t00000", "arguments": {}, "requestState": session, "inputResponses": {}}
    reply = await client.request("tools/call", body)
    assert (reply.status, reply.error["code"]) == (400, -32602)
    assert (await client.request("tools/list", {"cursor": session})).error["code"] == -32602


async def test_every_caller_reaches_a_backend_with_its_own_token_only(house, connect):
    async def ask(number: int) -> None:
        era = ("legacy", "modern")[number % 2]
        token = house.issuer.token(f"user-{number}", level="full")
        client = await connect(house.gateway.url, era=era, token=token)
        told = (await client.call("exchanged_echo", nonce=str(number))).told
        sent = told["authorization"].removeprefix("Bearer ")
        assert sent != token
        claims = _claims(sent)
        assert (claims["sub"], claims["aud"]) == (f"user-{number}", "api://exchanged")
        assert told["nonce"] == str(number)

    before = len(house.issuer.exchanges)
    await asyncio.gather(*(ask(number) for number in range(12)))
    assert len(house.issuer.exchanges) - before <= 12


async def test_a_client_s_token_never_reaches_a_backend(house, connect):
    client = await connect(house.gateway.url, era="modern", token=house.issuer.token("x", level="full"))
    assert (await client.call("safe_echo", nonce="n")).told["authorization"] is None


async def test_an_exchange_that_fails_fails_the_call_and_nothing_else(house, connect):
    client = await connect(house.gateway.url, era="modern", token=house.issuer.token("unlucky", level="full"))
    house.issuer.exchange_audience = "api://other"
    try:
        reply = await client.call("exchanged_echo")
        assert "result" not in reply.message
        assert "exchange-client-secret" not in reply.body
        assert (await client.call("safe_echo", nonce="n")).told["nonce"] == "n"
    finally:
        house.issuer.exchange_audience = None


async def test_an_outage_of_the_issuer_only_stops_those_whose_key_nobody_knows(house, connect, scale):
    known = await connect(house.gateway.url, era="modern", token=house.issuer.token("known", level="full"))
    assert (await known.call("safe_echo", nonce="1")).told["nonce"] == "1"
    house.issuer.down = True
    try:
        # Keys at hand go on being good, for old tokens and for new ones.
        known.token = house.issuer.token("known", level="full", jti="other")
        assert (await known.call("safe_echo", nonce="2")).told["nonce"] == "2"
        known.token = house.issuer.token("known", key=rsa_key("k9"))
        assert (await known.request("tools/list")).status == 401
    finally:
        house.issuer.down = False
    if scale.long:  # unknown keys are asked for at most every 30 seconds; `test_oidc_incoming` has it in virtual time
        house.issuer.keys.append(rsa_key("k9"))
        known.token = house.issuer.token("known", level="full")

        async def accepted() -> bool:
            return (await known.request("tools/list")).status == 200

        await eventually(accepted, within=90, every=0.5)


async def test_metrics_tell_refusals_calls_and_backends_apart(house, connect):
    client = await connect(house.gateway.url, era="modern", token=house.issuer.token("m", level="full"))
    before = await _metrics(house)
    await client.call("safe_echo")
    await client.call("safe_fail")
    client.token = None
    await client.call("safe_echo")
    after = await _metrics(house)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    backend = '{mcp_method="tools/call",target_workload_id="safe"}'
    assert grown(f"toolhive_vmcp_backend_requests_total{backend}") == 2
    assert grown('toolhive_mcp_tool_calls_total{backend="safe",outcome="application_error",tool="safe_fail"}') == 1
    assert grown("vmcp_unauthenticated_total") == 1
    assert after["toolhive_mcp_active_connections"] >= 1
    assert after['vmcp_backend_up{backend="safe"}'] == 1


async def _metrics(house: House) -> dict[str, float]:
    lines = (await house.gateway.get("/metrics"))[1].splitlines()
    found = {}
    for line in lines:
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            labels = ",".join(sorted(name.partition("{")[2].removesuffix("}").split(","))) if "{" in name else ""
            found[name.partition("{")[0] + (f"{{{labels}}}" if labels else "")] = float(value)
    return found


def _claims(token: str) -> dict:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
