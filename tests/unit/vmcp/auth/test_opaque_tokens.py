"""Opaque results of a token exchange: who says for whom they are good, and what happens when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.vmcp.issuer import Issuer
from tests.unit.vmcp.auth.test_token_exchange import SECRET, Bench
from vmcp.auth.fetch import FetchedAnswer
from vmcp.auth.interface import AuthUnavailable
from vmcp.auth.outgoing.answers import check_audience, introspected_claims, lifetime_of
from vmcp.auth.outgoing.strategy import TokenEndpoints
from vmcp.auth.outgoing.token_exchange import UNCHECKED

AUDIENCE = "api://backend"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as server:
        server.opaque_exchange = True
        yield server


@pytest.fixture
async def bench(issuer: Issuer) -> AsyncIterator[Bench]:
    made = Bench(issuer, opaque=issuer.url + "/introspect")
    yield made
    await made.auth.close()
    await made.fetcher.close()


async def test_a_token_is_used_when_introspection_says_that_it_is_for_the_audience(bench):
    assert await bench.ask(bench.caller()) == "opaque-alice"
    assert bench.issuer.introspections == [{"token": "opaque-alice", "token_type_hint": "access_token"}]
    ours = [headers["Authorization"] for headers in bench.issuer.introspection_headers]
    assert ours == [bench.issuer.exchange_headers[0]["Authorization"]], "the client of the exchange asks"


async def test_a_public_client_names_itself_to_the_introspection_endpoint_too(issuer):
    bench = Bench(issuer, client_secret="", opaque=issuer.url + "/introspect")
    await bench.ask(bench.caller())
    assert issuer.introspections[0]["client_id"] == "gw"
    assert "Authorization" not in issuer.introspection_headers[0]
    await bench.fetcher.close()


async def test_one_of_several_introspected_audiences_is_enough(bench):
    bench.issuer.told = {"aud": ["x", AUDIENCE]}
    assert await bench.ask(bench.caller())


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"active": False}, "not active"),
        ({"active": "true"}, "not active"),
        ({"active": 1}, "not active"),
        ({"active": None}, "not active"),
        ({"aud": "api://other"}, "another audience"),
        ({"aud": [AUDIENCE + "/"]}, "another audience"),
        ({"aud": {AUDIENCE: 1}}, "another audience"),
        ({"aud": None}, "does not say for which audience"),
        ({"aud": []}, "does not say for which audience"),
        ({"exp": 1}, "expired already"),
        ({"exp": "4102444800"}, "exp that is not a number"),
        ({"exp": True}, "exp that is not a number"),
    ],
)
async def test_whatever_introspection_does_not_vouch_for_is_refused(bench, told, reason):
    bench.issuer.told = told
    caller = bench.caller()
    refusal = await bench.refused(caller)
    assert refusal.denied
    assert reason in refusal.reason
    assert "opaque-alice" not in refusal.reason
    await bench.refused(caller)
    assert len(bench.issuer.introspections) == 1, "it is not asked again at once"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"true", b'{"active": true', b"[" * 100_000])
async def test_an_answer_that_is_no_object_is_refused(bench, body):
    bench.issuer.introspection_body = body
    assert "not a JSON object" in (await bench.refused(bench.caller())).reason


async def test_a_gateway_that_may_not_introspect_says_so(bench):
    bench.issuer.introspection_status = [401]
    refusal = await bench.refused(bench.caller())
    assert refusal.denied
    assert refusal.reason == "the introspection endpoint refused with status 401 (invalid_client)"


async def test_a_token_is_kept_no_longer_than_introspection_says(bench):
    bench.issuer.expires_in = 3_000
    bench.issuer.told = {"exp": int(bench.now) + 100}
    caller = bench.caller()
    await bench.ask(caller)
    bench.now += 85
    await bench.ask(caller)
    assert len(bench.issuer.introspections) == 1
    bench.now += 14
    await bench.ask(caller)
    assert len(bench.issuer.introspections) == 2


async def test_a_token_whose_end_nobody_tells_is_kept_for_a_minute(bench):
    bench.issuer.expires_in = None
    bench.issuer.told = {"exp": None}
    caller = bench.caller()
    await bench.ask(caller)
    bench.now += 61
    await bench.ask(caller)
    assert len(bench.issuer.introspections) == 2


async def test_a_passing_failure_of_introspection_is_retried_without_a_second_exchange(bench):
    bench.issuer.introspection_status = [503, 429, 200]
    assert await bench.ask(bench.caller())
    assert len(bench.issuer.introspections) == 3
    assert len(bench.issuer.exchanges) == 1


async def test_an_introspection_endpoint_that_is_down_fails_closed_and_both_are_spared(bench):
    bench.issuer.introspection_status = [500]
    refusal = await bench.refused(bench.caller())
    assert not refusal.denied, "it may pass"
    assert refusal.reason == "the introspection endpoint 127.0.0.1 answered with status 500"
    assert "a moment ago" in (await bench.refused(bench.caller())).reason
    assert (len(bench.issuer.exchanges), len(bench.issuer.introspections)) == (1, 3)
    bench.issuer.introspection_status = [200]
    bench.now += 3
    assert await bench.ask(bench.caller())


async def test_an_introspection_endpoint_that_cannot_be_reached_fails_closed(issuer):
    async with Issuer() as gone:
        url = gone.url + "/introspect"
    bench = Bench(issuer, opaque=url)
    refusal = await bench.refused(bench.caller())
    assert not refusal.denied
    assert "the introspection endpoint cannot be asked: cannot reach 127.0.0.1" in refusal.reason
    await bench.fetcher.close()


async def test_a_silent_introspection_endpoint_costs_the_exchange_its_time_and_is_named(issuer):
    bench = Bench(issuer, opaque=issuer.url + "/introspect", limits={"timeout": 0.3})
    bench.issuer.introspection_gate = asyncio.Event()
    refusal = await bench.refused(bench.caller())
    assert not refusal.denied
    assert refusal.reason == "the introspection endpoint did not answer in time"
    bench.issuer.introspection_gate.set()
    await bench.auth.close()


async def test_many_calls_at_once_make_one_introspection(bench):
    caller = bench.caller()
    await asyncio.gather(*(bench.ask(caller) for _ in range(50)))
    assert len(bench.issuer.introspections) == 1


async def test_probes_are_checked_as_calls_are(bench):
    loop = asyncio.get_running_loop()
    assert await bench.auth.probe_headers(deadline=loop.time() + 5) == (("Authorization", "Bearer opaque-service"),)
    bench.issuer.told = {"active": False}
    bench.auth.rejected(None)
    with pytest.raises(AuthUnavailable, match="not active"):
        await bench.auth.probe_headers(deadline=loop.time() + 5)


@pytest.mark.parametrize("way", ["/introspect", UNCHECKED])
async def test_a_token_that_can_be_looked_into_is_checked_without_introspection(issuer, way):
    issuer.opaque_exchange = False
    bench = Bench(issuer, opaque=issuer.url + way if way.startswith("/") else way)
    assert await bench.ask(bench.caller())
    issuer.exchange_audience = "api://other"
    assert "another audience" in (await bench.refused(bench.caller("bob"))).reason
    assert issuer.introspections == []
    await bench.fetcher.close()


async def test_without_a_check_an_opaque_token_is_used_as_long_as_the_endpoint_says(issuer):
    bench = Bench(issuer, opaque=UNCHECKED)
    caller = bench.caller()
    assert await bench.ask(caller) == "opaque-alice"
    bench.now += 269
    await bench.ask(caller)
    assert len(issuer.exchanges) == 1
    assert issuer.introspections == []
    await bench.fetcher.close()


async def test_without_an_audience_nothing_is_introspected(issuer):
    bench = Bench(issuer, audience="", opaque=issuer.url + "/introspect")
    assert await bench.ask(bench.caller()) == "opaque-alice"
    assert issuer.introspections == []
    await bench.fetcher.close()


async def test_by_default_an_opaque_token_is_refused_and_the_option_is_named(issuer):
    bench = Bench(issuer)
    assert "--opaque-tokens" in (await bench.refused(bench.caller())).reason
    await bench.fetcher.close()


async def test_neither_tokens_nor_the_secret_are_logged(bench, capsys, caplog):
    caplog.set_level("DEBUG")
    await bench.ask(bench.caller())
    bench.issuer.introspection_status = [500]
    await bench.refused(bench.caller("bob"))
    written = caplog.text + "".join(capsys.readouterr())
    assert "opaque-" not in written
    assert SECRET not in written


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://idp.example/token", "none"),
        ("https://IDP.example:443/token", "none"),
        ("https://idp.example/token/", None),
        ("http://idp.example/token", None),
        ("https://idp.example:8443/token", None),
        ("https://idp.example/token?tenant=1", None),
        ("https://other.example/token", None),
        ("not a url", None),
    ],
)
def test_what_is_said_of_an_endpoint_holds_for_that_one_in_every_spelling(url, found):
    assert TokenEndpoints(opaque={"https://idp.example/token": "none"}).opaque_of(url) == found


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.just(AUDIENCE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.fixed_dictionaries(
        {"active": st.just(True) | _json, "aud": st.just(AUDIENCE) | st.lists(st.just(AUDIENCE) | _json) | _json},
        optional={"exp": st.integers(1_700_000_000, 1_900_000_000) | _json},
    )
    | _json
)
def test_only_an_active_token_for_the_audience_before_its_end_gets_through(answer):
    now = 1_800_000_000.0
    try:
        claims = introspected_claims(FetchedAnswer(200, {}, orjson.dumps(answer)))
        check_audience(claims, AUDIENCE)
        lifetime = lifetime_of(None, claims, now)
    except AuthUnavailable:
        return
    assert answer["active"] is True
    found = answer["aud"]
    assert found == AUDIENCE or (isinstance(found, list) and AUDIENCE in found)
    assert answer.get("exp") is None or now + lifetime <= answer["exp"]
