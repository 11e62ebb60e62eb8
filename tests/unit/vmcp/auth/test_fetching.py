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
    yield site._server.sockets[0].getsockname()[1]
    await runner.cleanup()


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
