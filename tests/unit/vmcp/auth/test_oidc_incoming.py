"""Incoming OIDC: which tokens get in, and what happens while the issuer rotates its keys or is gone."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.e2e.vmcp.issuer import Issuer, rsa_key
from tests.support.clock import Clock
from vmcp.auth.fetch import AiohttpFetcher
from vmcp.auth.interface import Unauthenticated
from vmcp.auth.jwks import UNKNOWN_KID_COOLDOWN, KeyStore
from vmcp.auth.oidc import OidcAuthenticator, OidcSettings
from vmcp.auth.tokens import TokenCache


class Bench:
    """An authenticator in front of a real issuer, with both clocks in the test's hand."""

    def __init__(self, issuer: Issuer, *, remembered: int = 100, **settings: object) -> None:
        self.issuer = issuer
        self.mono, self.wall = Clock(1000.0), Clock(time.time())
        self.fetcher = AiohttpFetcher()
        self.store = KeyStore(issuer.url, self.fetcher, allow_http=True, clock=self.mono)
        options = {"issuer": issuer.url, "audience": "gateway", **settings}
        self.cache = TokenCache(remembered)
        self.auth = OidcAuthenticator(OidcSettings(**options), self.store, cache=self.cache, clock=self.wall)

    async def ask(self, token: str):
        return await self.auth.authenticate([(b"authorization", b"Bearer " + token.encode())])

    async def refused(self, token: str) -> Unauthenticated:
        with pytest.raises(Unauthenticated) as caught:
            await self.ask(token)
        return caught.value


@asynccontextmanager
async def bench_at(issuer: Issuer, **options: int) -> AsyncIterator[Bench]:
    made = Bench(issuer, **options)
    yield made
    await made.auth.close()
    await made.fetcher.close()


@pytest.fixture
async def bench(issuer):
    async with bench_at(issuer) as made:
        yield made


async def test_a_good_token_becomes_a_principal_with_its_claims(bench):
    principal = await bench.ask(bench.issuer.token("bob", email="b@example.com"))
    assert (principal.subject, principal.issuer) == ("bob", bench.issuer.url)
    assert principal.claims["email"] == "b@example.com"
    assert "token" not in repr(principal)


async def test_groups_and_roles_come_from_the_configured_claims_nested_ones_too(issuer):
    bench = Bench(issuer, group_claim="groups", role_claim="realm_access.roles")
    principal = await bench.ask(issuer.token(groups=["dev", 7, "ops"], realm_access={"roles": ["admin"]}))
    assert (principal.groups, principal.roles) == (("dev", "ops"), ("admin",))
    await bench.fetcher.close()


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "other"}, "another audience"),
        ({"aud": ["a", "b"]}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": "gateway-2"}, "another audience"),
        ({"iss": "http://evil.example"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"sub": None}, "no subject"),
        ({"sub": ""}, "no subject"),
        ({"sub": "a\0b"}, "no subject"),
        ({"sub": 7}, "no subject"),
        ({"exp": None}, "no expiry"),
        ({"exp": -60}, "expired"),
        ({"exp": True}, "not a time"),
        ({"exp": "tomorrow"}, "not a time"),
        ({"nbf": 600}, "not valid yet"),
        ({"iat": 600}, "not valid yet"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(bench, claims, reason):
    # Times are from now on, and not from when the tests were collected: that may be long ago.
    now = int(time.time())
    claims = {name: now + value if type(value) is int and name != "sub" else value for name, value in claims.items()}
    refusal = await bench.refused(bench.issuer.token(**claims))
    assert reason in refusal.reason
    assert refusal.status == 401
    assert 'error="invalid_token"' in refusal.www_authenticate


async def test_the_issuer_must_match_to_the_letter(bench):
    assert "another issuer" in (await bench.refused(bench.issuer.token(iss=bench.issuer.url + "/"))).reason


async def test_audience_may_be_one_of_several(bench):
    assert (await bench.ask(bench.issuer.token(aud=["x", "gateway"]))).subject == "alice"


def tampered(token: str, **header: object) -> str:
    head, body, signature = token.split(".")
    parsed = {**json.loads(base64.urlsafe_b64decode(head + "==")), **header}
    return ".".join([base64.urlsafe_b64encode(json.dumps(parsed).encode()).rstrip(b"=").decode(), body, signature])


async def test_alg_none_and_a_stripped_signature_are_refused(bench):
    token = bench.issuer.token()
    assert "algorithm" in (await bench.refused(tampered(token, alg="none"))).reason
    assert "not a signed JWT" in (await bench.refused(token.rsplit(".", 1)[0] + ".")).reason


async def test_hmac_with_the_public_key_as_secret_is_refused(bench):
    signed = tampered(bench.issuer.token(), alg="HS256").rsplit(".", 1)[0]
    mac = hmac.new(rsa_key("k1").as_pem(private=False), signed.encode(), "sha256").digest()
    forged = signed + "." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
    assert "algorithm" in (await bench.refused(forged)).reason


async def test_a_strangers_key_with_a_known_kid_is_refused(bench):
    stranger = RSAKey.generate_key(2048, {"kid": "k1"})
    assert "does not verify" in (await bench.refused(bench.issuer.token(key=stranger))).reason


async def test_keys_inside_the_token_are_never_used(bench):
    stranger = RSAKey.generate_key(2048)
    header = {"jwk": stranger.as_dict(private=False), "jku": "http://127.0.0.1:1/jwks", "kid": "k1"}
    assert "does not verify" in (await bench.refused(bench.issuer.token(key=stranger, header=header))).reason


async def test_an_algorithm_that_does_not_fit_the_key_is_refused(bench):
    assert "not one of the issuer's" in (await bench.refused(tampered(bench.issuer.token(), alg="ES256"))).reason


@pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "secevent+jwt", 7])
async def test_other_kinds_of_tokens_are_no_access_tokens(bench, typ):
    assert "not an access token" in (await bench.refused(tampered(bench.issuer.token(), typ=typ))).reason


async def test_critical_extensions_are_refused(bench):
    assert "extension" in (await bench.refused(tampered(bench.issuer.token(), crit=["b64"], b64=False))).reason


async def test_a_changed_body_breaks_the_signature(bench):
    head, _, signature = bench.issuer.token().split(".")
    body = bench.issuer.token("mallory").split(".")[1]
    assert "does not verify" in (await bench.refused(f"{head}.{body}.{signature}")).reason


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ([], ""),
        ([(b"authorization", b"Basic YTpi")], ""),
        ([(b"authorization", b"Bearer")], 'error="invalid_token"'),
        ([(b"authorization", b"Bearer a.b")], 'error="invalid_token"'),
        ([(b"authorization", b"Bearer \xff.\xff.\xff")], 'error="invalid_token"'),
        ([(b"authorization", b"Bearer " + b"a" * 20_000)], 'error="invalid_token"'),
        ([(b"authorization", b"Bearer a.b.c"), (b"authorization", b"Bearer a.b.c")], 'error="invalid_request"'),
    ],
)
async def test_what_is_no_bearer_token_is_challenged(bench, raw, error):
    with pytest.raises(Unauthenticated) as caught:
        await bench.auth.authenticate(raw)
    assert caught.value.www_authenticate.startswith("Bearer realm=")
    assert (error in caught.value.www_authenticate) if error else ("error=" not in caught.value.www_authenticate)
    assert bench.issuer.jwks_requests == 0


async def test_elliptic_and_edwards_keys_work(bench):
    bench.issuer.keys = [ECKey.generate_key("P-256", {"kid": "e"}), OKPKey.generate_key("Ed25519", {"kid": "d"})]
    assert (await bench.ask(bench.issuer.token(key=bench.issuer.keys[0], alg="ES256"))).subject == "alice"
    assert (await bench.ask(bench.issuer.token(key=bench.issuer.keys[1], alg="EdDSA"))).subject == "alice"


async def test_a_token_without_kid_is_tried_against_fitting_keys(bench):
    bench.issuer.keys = [rsa_key("k1"), rsa_key("k2")]
    assert (await bench.ask(bench.issuer.token(header={"kid": None}))).subject == "alice"


async def test_big_tokens_of_real_providers_are_accepted(bench):
    token = bench.issuer.token(groups=[f"group-{n:04}" for n in range(500)], header={"x5c": ["A" * 2000]})
    assert (await bench.ask(token)).subject == "alice"


async def test_a_validated_token_is_not_validated_again_until_it_ends(bench):
    token = bench.issuer.token(exp=int(bench.wall.now) + 100)
    first = await bench.ask(token)
    assert await bench.ask(token) is first
    bench.wall.now += 131
    assert "expired" in (await bench.refused(token)).reason
    assert len(bench.cache) == 0


async def test_the_token_cache_is_bounded(issuer):
    async with bench_at(issuer, remembered=10) as bench:
        for number in range(30):
            await bench.ask(bench.issuer.token(f"user-{number}"))
        assert len(bench.cache) == 10


async def test_discovery_and_keys_are_fetched_once_for_many_first_callers(bench):
    tokens = [bench.issuer.token(f"u{n}") for n in range(20)]
    found = await asyncio.gather(*(bench.ask(token) for token in tokens))
    assert [one.subject for one in found] == [f"u{n}" for n in range(20)]
    assert (bench.issuer.discovery_requests, bench.issuer.jwks_requests) == (1, 1)


async def test_a_rotated_key_is_accepted_at_once(bench):
    await bench.ask(bench.issuer.token())
    bench.mono.now += UNKNOWN_KID_COOLDOWN + 1
    bench.issuer.keys = [rsa_key("k1"), rsa_key("k2")]
    assert (await bench.ask(bench.issuer.token("rotated"))).subject == "rotated"
    assert bench.issuer.jwks_requests == 2


async def test_forged_kids_cannot_hammer_the_issuer(bench):
    await bench.ask(bench.issuer.token())
    bench.mono.now += UNKNOWN_KID_COOLDOWN + 1
    for number in range(200):
        await bench.refused(bench.issuer.token(header={"kid": f"forged-{number}"}))
    assert bench.issuer.jwks_requests == 2


async def test_a_withdrawn_key_stops_working_when_keys_are_refreshed(bench):
    old = bench.issuer.token("old")
    await bench.ask(old)
    bench.issuer.keys = [rsa_key("k2")]
    bench.mono.now += UNKNOWN_KID_COOLDOWN + 1
    await bench.ask(bench.issuer.token("new"))
    bench.wall.now += 301  # the token cache forgets after five minutes
    assert (
        "not one of the issuer's"
        in (await bench.refused(bench.issuer.token(key=rsa_key("k1"), exp=int(bench.wall.now) + 60))).reason
    )


async def test_without_any_keys_nobody_gets_in_and_the_issuer_is_left_alone_for_a_while(bench):
    bench.issuer.down = True
    refusal = await bench.refused(bench.issuer.token())
    assert (refusal.status, refusal.www_authenticate) == (503, None)
    assert refusal.retry_after >= 1
    asked = bench.issuer.discovery_requests
    for _ in range(50):
        await bench.refused(bench.issuer.token())
    assert bench.issuer.discovery_requests == asked
    bench.issuer.down = False
    bench.mono.now += 2
    assert (await bench.ask(bench.issuer.token())).subject == "alice"


async def test_back_off_grows_to_a_minute_and_no_further(bench):
    bench.issuer.down = True
    waits = []
    for _ in range(9):
        waits.append((await bench.refused(bench.issuer.token())).retry_after)
        bench.mono.now += waits[-1] + 1
    assert waits[0] <= 2
    assert max(waits) <= 72
    assert waits[-1] >= 48


async def test_an_outage_does_not_lock_out_callers_while_keys_are_at_hand(bench):
    await bench.ask(bench.issuer.token())
    bench.issuer.down = True
    bench.mono.now += 3_700  # past the keys' freshness: refreshed in the background, in vain
    assert (await bench.ask(bench.issuer.token("later"))).subject == "later"
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "jwks-refresh"))
    assert (await bench.ask(bench.issuer.token("still"))).subject == "still"
    bench.mono.now += 86_400
    assert (await bench.refused(bench.issuer.token("too late"))).status == 503


@pytest.mark.parametrize(
    "document", [b"", b"[]", b'{"keys": 7}', b'{"keys": []}', b'{"keys":[{"kty":"oct","k":"AA"}]}', b"\xff"]
)
async def test_a_useless_key_set_is_an_outage_not_a_crash(bench, document):
    bench.issuer.jwks_document = document
    assert (await bench.refused(bench.issuer.token())).status == 503


@pytest.mark.filterwarnings("ignore:Key size")
@pytest.mark.parametrize("known", [False, True], ids=["discovery redirects", "the key set redirects"])
async def test_an_issuer_that_sends_us_elsewhere_is_not_followed(bench, known):
    async with Issuer() as elsewhere:
        if known:
            await bench.ask(bench.issuer.token())
            bench.issuer.keys = [rsa_key("k2")]
            bench.mono.now += UNKNOWN_KID_COOLDOWN + 1
        bench.issuer.redirect_to = elsewhere.url
        refusal = await bench.refused(bench.issuer.token(iss=bench.issuer.url, key=rsa_key("k2")))
        assert refusal.status == (401 if known else 503)
        assert (elsewhere.discovery_requests, elsewhere.jwks_requests) == (0, 0)


async def test_a_key_set_without_end_is_an_outage(bench):
    bench.issuer.jwks_document = b'{"keys":[' + b" " * 3_000_000 + b"]}"
    assert (await bench.refused(bench.issuer.token())).status == 503


async def test_short_rsa_keys_and_encryption_keys_are_not_used(bench):
    short = RSAKey.generate_key(1024, {"kid": "short"})
    encryption = RSAKey.generate_key(2048, {"kid": "enc"})
    listed = [{**key.as_dict(private=False), "use": use} for key, use in ((short, "sig"), (encryption, "enc"))]
    bench.issuer.jwks_document = json.dumps({"keys": [*listed, rsa_key("k1").as_dict(private=False)]}).encode()
    assert "not one of" in (await bench.refused(bench.issuer.token(key=short))).reason
    assert "not one of" in (await bench.refused(bench.issuer.token(key=encryption))).reason


async def test_discovery_of_another_issuer_is_refused(bench):
    bench.issuer.discovery = {"issuer": "https://evil.example"}
    refusal = await bench.refused(bench.issuer.token())
    assert refusal.status == 503
    assert "another issuer" in refusal.reason


async def test_a_caller_that_gives_up_does_not_end_the_fetch_for_others(bench):
    first = asyncio.create_task(bench.ask(bench.issuer.token("first")))
    second = asyncio.create_task(bench.ask(bench.issuer.token("second")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).subject == "second"
    assert bench.issuer.jwks_requests == 1


async def test_private_addresses_are_refused_unless_allowed(issuer):
    fetcher = AiohttpFetcher(allow_private=False)
    for url in (issuer.url, f"http://localhost:{issuer.port}"):
        store = KeyStore(url, fetcher, allow_http=True)
        auth = OidcAuthenticator(OidcSettings(url, "gateway"), store)
        with pytest.raises(Unauthenticated) as caught:
            await auth.authenticate([(b"authorization", b"Bearer " + issuer.token(iss=url).encode())])
        assert "private address" in caught.value.reason
    await fetcher.close()
    assert issuer.discovery_requests == 0


def test_metadata_and_challenge_follow_rfc_9728():
    settings = OidcSettings("https://idp.example", "aud", "https://gw.example/mcp", ("read", "write"))
    auth = OidcAuthenticator(settings, None)
    document = auth.protected_resource()
    assert json.loads(document.body) == {
        "resource": "https://gw.example/mcp",
        "authorization_servers": ["https://idp.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["read", "write"],
    }
    assert "/.well-known/oauth-protected-resource/mcp" in document.paths
    assert auth._refuse("x", "invalid_token").www_authenticate == (  # noqa: SLF001  what a refusal says, apart from why
        'Bearer realm="vmcp", resource_metadata="https://gw.example/.well-known/oauth-protected-resource/mcp", '
        'scope="read write", error="invalid_token", error_description="x"'
    )
