"""Token exchange: whose token a backend gets, for how long it is kept, and what happens when there is none."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.vmcp.issuer import Issuer
from vmcp.auth.fetch import AiohttpFetcher
from vmcp.auth.interface import ANONYMOUS, AuthUnavailable, Principal
from vmcp.auth.outgoing.token_exchange import OUTAGE_SUBJECTS, TokenExchangeAuth, TokenExchangeSettings

SECRET = "s3cr:t/+ value"


class Bench:
    def __init__(
        self, issuer: Issuer, *, opaque: str | None = None, limits: Mapping[str, Any] | None = None, **settings: object
    ) -> None:
        self.issuer = issuer
        self.now = time.time()
        self.fetcher = AiohttpFetcher()
        options = {
            "token_url": issuer.url + "/token",
            "client_id": "gw",
            "client_secret": SECRET,
            "audience": "api://backend",
            "scopes": ("read", "write"),
            **settings,
        }
        self.auth = TokenExchangeAuth(
            TokenExchangeSettings(**options), self.fetcher, opaque=opaque, clock=lambda: self.now, **(limits or {})
        )

    def caller(self, subject: str = "alice", **claims: object) -> Principal:
        token = self.issuer.token(subject, **claims)
        return Principal(subject, self.issuer.url, {}, token, expires_at=self.now + 300)

    async def ask(self, principal: Principal, within: float = 5.0) -> str:
        headers = await self.auth.headers(principal, deadline=asyncio.get_running_loop().time() + within)
        [(name, value)] = headers
        assert name == "Authorization"
        return value.removeprefix("Bearer ")

    async def refused(self, principal: Principal, within: float = 5.0) -> AuthUnavailable:
        with pytest.raises(AuthUnavailable) as caught:
            await self.ask(principal, within)
        assert SECRET not in str(caught.value)
        assert "detail" not in str(caught.value)
        return caught.value


@pytest.fixture
async def bench(issuer):
    made = Bench(issuer)
    yield made
    await made.auth.close()
    await made.fetcher.close()


def claims_of(token: str) -> dict:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def test_the_request_is_rfc_8693_with_client_authentication(bench):
    caller = bench.caller()
    await bench.ask(caller)
    form = bench.issuer.exchanges[0]
    assert form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": caller.token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": "api://backend",
        "scope": "read write",
    }
    basic = bench.issuer.exchange_headers[0]["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(basic) == b"gw:s3cr%3At%2F%2B+value"


async def test_a_public_client_names_itself_in_the_form(issuer):
    bench = Bench(issuer, client_secret="")
    await bench.ask(bench.caller())
    assert issuer.exchanges[0]["client_id"] == "gw"
    assert "Authorization" not in issuer.exchange_headers[0]
    await bench.fetcher.close()


async def test_every_principal_gets_its_own_token_and_never_anothers(bench):
    callers = [bench.caller(f"user-{n}") for n in range(20)]
    for _ in range(3):
        tokens = await asyncio.gather(*(bench.ask(caller) for caller in callers))
        assert [claims_of(token)["sub"] for token in tokens] == [caller.subject for caller in callers]
    assert len(bench.issuer.exchanges) == 20


async def test_the_same_subject_of_another_issuer_is_another_principal(bench):
    first = bench.caller("alice")
    twin = Principal("alice", "https://other.example", {}, first.token, expires_at=first.expires_at)
    assert await bench.ask(first) != await bench.ask(twin)
    assert len(bench.issuer.exchanges) == 2


async def test_a_refreshed_token_is_exchanged_anew(bench):
    await bench.ask(bench.caller("alice", jti="1"))
    await bench.ask(bench.caller("alice", jti="2"))
    assert len(bench.issuer.exchanges) == 2


async def test_many_calls_at_once_make_one_exchange(bench):
    caller = bench.caller()
    tokens = await asyncio.gather(*(bench.ask(caller) for _ in range(50)))
    assert len(set(tokens)) == 1
    assert len(bench.issuer.exchanges) == 1


async def test_a_token_is_exchanged_again_before_it_ends(bench):
    caller = bench.caller()
    first = await bench.ask(caller)
    bench.now += 260
    assert await bench.ask(caller) == first
    bench.now += 15
    assert await bench.ask(caller) != first


async def test_a_result_never_outlives_the_token_it_was_made_from(bench):
    bench.issuer.expires_in = 86_400
    token = bench.issuer.token(exp=int(time.time()) + 4_000)
    caller = Principal("alice", bench.issuer.url, {}, token, expires_at=bench.now + 40)
    await bench.ask(caller)
    bench.now += 41
    assert "expired" in (await bench.refused(caller)).reason


async def test_a_rejected_token_is_not_used_again(bench):
    caller = bench.caller()
    first = await bench.ask(caller)
    bench.auth.rejected(caller)
    assert await bench.ask(caller) != first


@pytest.mark.parametrize("audience", ["api://other", ["a", "b"], ""])
async def test_a_token_for_another_audience_is_never_used(bench, audience):
    bench.issuer.exchange_audience = audience
    assert "another audience" in (await bench.refused(bench.caller())).reason


async def test_one_of_several_audiences_is_enough(bench):
    bench.issuer.exchange_audience = ["x", "api://backend"]
    assert await bench.ask(bench.caller())


async def test_an_opaque_token_is_refused_when_an_audience_is_configured(bench):
    bench.issuer.opaque_exchange = True
    assert "opaque" in (await bench.refused(bench.caller())).reason


async def test_an_opaque_token_is_used_when_no_audience_is_configured(issuer):
    bench = Bench(issuer, audience="")
    issuer.opaque_exchange = True
    assert await bench.ask(bench.caller()) == "opaque-alice"
    await bench.fetcher.close()


async def test_without_a_token_nothing_is_sent(bench):
    refusal = await bench.refused(ANONYMOUS)
    assert refusal.denied
    assert bench.issuer.exchanges == []


async def test_a_refusal_is_told_by_its_registered_code_and_not_asked_again_at_once(bench):
    bench.issuer.exchange_status = [400]
    caller = bench.caller()
    for _ in range(10):
        refusal = await bench.refused(caller)
        assert refusal.denied
        assert refusal.reason == "the token endpoint refused with status 400 (invalid_grant)"
    assert len(bench.issuer.exchanges) == 1
    bench.issuer.exchange_status = [200]
    bench.now += 6
    assert await bench.ask(caller)


async def test_a_passing_failure_is_retried(bench):
    bench.issuer.exchange_status = [503, 429, 200]
    assert await bench.ask(bench.caller())
    assert len(bench.issuer.exchanges) == 3


async def test_an_outage_fails_closed_and_spares_the_endpoint(bench):
    bench.issuer.exchange_status = [503]
    refusal = await bench.refused(bench.caller())
    assert not refusal.denied
    for number in range(20):
        await bench.refused(bench.caller(f"other-{number}"))
    assert len(bench.issuer.exchanges) == 3 * OUTAGE_SUBJECTS, "then it is everybody's outage"
    bench.issuer.exchange_status = [200]
    bench.now += 3
    assert await bench.ask(bench.caller())


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_one_subjects_failure_pauses_that_subject_and_nobody_else(bench, status):
    for number in range(2 * OUTAGE_SUBJECTS):
        bench.issuer.exchange_status = [status]
        await bench.refused(bench.caller("eve", number=number))
        bench.issuer.exchange_status = [200]
        assert await bench.ask(bench.caller(f"other-{number}"))
    assert len(bench.issuer.exchanges) == 3 + 2 * OUTAGE_SUBJECTS, "eve was left alone after the first time"
    bench.now += 3
    assert await bench.ask(bench.caller("eve"))


async def test_an_endpoint_that_nobody_can_connect_to_pauses_everybody(bench):
    await bench.issuer.__aexit__(None, None, None)
    await bench.refused(bench.caller("a"))
    assert "a moment ago" in (await bench.refused(bench.caller("b"))).reason


async def test_an_endpoint_that_never_answers_costs_a_caller_only_its_own_deadline(bench):
    bench.issuer.exchange_gate = asyncio.Event()
    caller = bench.caller()
    patient = asyncio.create_task(bench.ask(caller, within=5.0))
    await asyncio.sleep(0)
    assert "in time" in (await bench.refused(caller, within=0.05)).reason
    bench.issuer.exchange_gate.set()
    assert await patient
    assert len(bench.issuer.exchanges) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"access_token": 7}',
        b'{"access_token": "a b"}',
        b'{"access_token": "x\\r\\nX-Evil: 1"}',
        b'{"access_token": "t", "token_type": "N_A"}',
        b'{"access_token": "t", "token_type": "Bearer", "issued_token_type": "urn:ietf:params:oauth:token-type:saml2"}',
        b'{"access_token": "t", "token_type": "Bearer", "expires_in": -5}',
    ],
)
async def test_an_answer_that_is_no_token_is_refused(issuer, body):
    bench = Bench(issuer, audience="")
    issuer.exchange_body = body
    assert (await bench.refused(bench.caller())).denied
    await bench.fetcher.close()


async def test_an_endpoint_that_sends_us_elsewhere_is_not_followed(bench):
    async with Issuer() as elsewhere:
        bench.issuer.redirect_to = elsewhere.url
        await bench.refused(bench.caller())
        assert elsewhere.exchanges == []
        assert elsewhere.exchange_headers == []


async def test_probes_use_the_gateways_own_credentials(bench):
    headers = await bench.auth.probe_headers(deadline=asyncio.get_running_loop().time() + 5)
    assert claims_of(headers[0][1].removeprefix("Bearer "))["sub"] == "service"
    assert bench.issuer.exchanges[0]["grant_type"] == "client_credentials"
    await bench.auth.probe_headers(deadline=asyncio.get_running_loop().time() + 5)
    assert len(bench.issuer.exchanges) == 1


async def test_probes_without_a_secret_go_out_unauthenticated(issuer):
    bench = Bench(issuer, client_secret="")
    assert await bench.auth.probe_headers(deadline=asyncio.get_running_loop().time() + 5) == ()
    assert issuer.exchanges == []


async def test_closing_ends_what_runs(bench):
    bench.issuer.exchange_gate = asyncio.Event()
    waiting = asyncio.create_task(bench.refused(bench.caller(), within=0.3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await bench.auth.close()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    bench.issuer.exchange_gate.set()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "token-exchange"]


async def test_the_cache_is_bounded(issuer):
    bench = Bench(issuer, limits={"max_entries": 5})
    for number in range(12):
        await bench.ask(bench.caller(f"u{number}"))
    assert len(bench.auth._cache) == 5  # noqa: SLF001  what is remembered shows nowhere else
    await bench.auth.close()
