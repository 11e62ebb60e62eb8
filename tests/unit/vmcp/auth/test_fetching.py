"""The requests that authentication makes itself: whom it trusts."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from vmcp.auth.fetch import AiohttpFetcher, FetchError
from vmcp.http.client import Reach

OLD, NEW = trustme.CA(), trustme.CA()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """An HTTPS server whose certificate is the old authority's."""

    async def keys(request: web.Request) -> web.Response:
        return web.json_response({"keys": []})

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    OLD.issue_cert("idp.example").configure_cert(context)
    app = web.Application()
    app.router.add_get("/jwks", keys)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def plain() -> AsyncIterator[tuple[int, list[str]]]:
    """A token endpoint without TLS: its port, and what it was asked."""
    asked: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/token", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], asked
    await runner.cleanup()


def token_fetcher(networks: list[str] | None = None, *, allow_http: bool = False, **options) -> AiohttpFetcher:
    """As `build_outgoing` makes it."""
    return AiohttpFetcher(allow_private=False, allow_http=allow_http, reach=Reach(networks or ()), **options)


def write(bundle: Path, authority: trustme.CA, stamp: int) -> None:
    authority.cert_pem.write_to_path(str(bundle))
    os.utime(bundle, ns=(stamp, stamp))


async def test_a_changed_bundle_counts_for_the_next_request_and_for_connections_that_were_kept(port, tmp_path):
    bundle = tmp_path / "ca.crt"
    write(bundle, NEW, 1)
    fetcher = AiohttpFetcher(ca_bundle=str(bundle), resolve={("idp.example", port): "127.0.0.1"})
    url = f"https://idp.example:{port}/jwks"
    with pytest.raises(FetchError, match="cannot reach"):
        await fetcher.fetch("GET", url)
    write(bundle, OLD, 2)
    assert (await fetcher.fetch("GET", url)).status == 200
    bundle.write_text("no certificate")
    assert (await fetcher.fetch("GET", url)).status == 200, "the last good one stays"
    write(bundle, NEW, 3)
    with pytest.raises(FetchError, match="cannot reach"):
        await fetcher.fetch("GET", url)
    await fetcher.close()


async def test_the_certificate_must_be_the_hosts(port, tmp_path):
    bundle = tmp_path / "ca.crt"
    write(bundle, OLD, 1)
    fetcher = AiohttpFetcher(ca_bundle=str(bundle), resolve={("evil.example", port): "127.0.0.1"})
    with pytest.raises(FetchError, match="cannot reach"):
        await fetcher.fetch("GET", f"https://evil.example:{port}/jwks")
    await fetcher.close()


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_bundle_that_is_none_is_said_at_once(tmp_path, content):
    bundle = tmp_path / "ca.crt"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(OSError, match="cannot be used"):
        AiohttpFetcher(ca_bundle=str(bundle))


@pytest.mark.parametrize(
    "host",
    ["127.1", "0x7f.1", "2130706433", "127.0.0.1\u00ad", "[::ffff:127.0.0.1]", "0.0.0.0", "[64:ff9b::127.0.0.1]"],
)
async def test_token_endpoints_are_not_found_at_private_addresses_in_any_spelling(plain, host):
    port, asked = plain
    for allow_http in (False, True):
        fetcher = token_fetcher(allow_http=allow_http)
        with pytest.raises(FetchError, match=r"private address|not valid|without TLS|not a canonical"):
            await fetcher.fetch("POST", f"http://{host}:{port}/token", body=b"x")
        await fetcher.close()
    assert asked == []


async def test_token_endpoints_without_tls_need_a_flag(plain):
    port, asked = plain
    given = {("idp.example", port): "127.0.0.1"}
    fetcher = token_fetcher(resolve=given)
    with pytest.raises(FetchError, match=r"idp\.example would be asked without TLS"):
        await fetcher.fetch("POST", f"http://idp.example:{port}/token", body=b"subject-token")
    await fetcher.close()
    assert asked == []
    fetcher = token_fetcher(resolve=given, allow_http=True)
    assert (await fetcher.fetch("POST", f"http://idp.example:{port}/token", body=b"x")).status == 200
    await fetcher.close()


async def test_token_endpoints_of_this_machine_and_of_opened_networks_are_asked(plain):
    port, asked = plain
    fetcher = token_fetcher()
    for host in ("127.0.0.1", "localhost"):
        assert (await fetcher.fetch("POST", f"http://{host}:{port}/token", body=b"x")).status == 200
    await fetcher.close()
    fetcher = token_fetcher(allow_http=True, networks=["0.0.0.0/32"])
    assert (await fetcher.fetch("POST", f"http://0.0.0.0:{port}/token", body=b"x")).status == 200
    await fetcher.close()
    assert len(asked) == 3
