"""TLS towards backends: system trust plus a bundle, at least 1.2, the bundle reloaded when its file changes."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme

from vmcp.http.client import BundlePathError, ConnectError, Origin, PooledHttpClient, Trust
from vmcp.http.client.tls import check_bundle_path, system_context
from vmcp.tasks import loop_time


def server_context(ca: trustme.CA, host: str = "remote.example") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host).configure_cert(context)
    return context


async def serve(scripted, context: ssl.SSLContext) -> int:
    async def handler(peer) -> None:
        while True:
            await peer.request()
            await peer.ok()

    return await scripted.start(handler, tls=context)


def client_for(port: int, bundle: Path | None, host: str = "remote.example") -> PooledHttpClient:
    trust = Trust(None if bundle is None else str(bundle))
    return PooledHttpClient(Origin(True, host, port), trust=trust, resolve={(host, port): "127.0.0.1"})


async def test_a_private_authority_is_trusted_only_with_its_bundle(scripted, tmp_path) -> None:
    ca = trustme.CA()
    bundle = tmp_path / "ca.crt"
    ca.cert_pem.write_to_path(str(bundle))
    port = await serve(scripted, server_context(ca))
    with pytest.raises(ConnectError, match="not trusted") as caught:
        await client_for(port, None).send("POST", "/", [], b"x", deadline=loop_time() + 5)
    assert not caught.value.sent
    assert (await client_for(port, bundle).send("POST", "/", [], b"x", deadline=loop_time() + 5)).status == 200


async def test_the_certificate_must_be_the_hosts_even_when_resolve_names_the_address(scripted, tmp_path) -> None:
    ca = trustme.CA()
    bundle = tmp_path / "ca.crt"
    ca.cert_pem.write_to_path(str(bundle))
    port = await serve(scripted, server_context(ca, "other.example"))
    with pytest.raises(ConnectError, match="not trusted"):
        await client_for(port, bundle).send("POST", "/", [], b"x", deadline=loop_time() + 5)


def test_a_bundle_adds_to_the_system_trust_and_wants_tls_1_2(tmp_path) -> None:
    ca = trustme.CA()
    bundle = tmp_path / "ca.crt"
    ca.cert_pem.write_to_path(str(bundle))
    context = Trust(str(bundle)).context()
    system = {str(cert) for cert in system_context().get_ca_certs()}
    both = {str(cert) for cert in context.get_ca_certs()}
    assert system <= both
    assert len(both) == len(system) + 1
    for each in (context, system_context()):
        assert each.minimum_version is ssl.TLSVersion.TLSv1_2
        assert each.verify_mode is ssl.CERT_REQUIRED
        assert each.check_hostname


async def test_a_changed_bundle_counts_for_the_next_request_and_ends_older_connections(scripted, tmp_path) -> None:
    old, new = trustme.CA(), trustme.CA()
    bundle = tmp_path / "ca.crt"
    new.cert_pem.write_to_path(str(bundle))
    port = await serve(scripted, server_context(old))
    client = client_for(port, bundle)
    with pytest.raises(ConnectError):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)
    old.cert_pem.write_to_path(str(bundle))
    os.utime(bundle, ns=(1, 1))
    assert (await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)).status == 200
    new.cert_pem.write_to_path(str(bundle))
    os.utime(bundle, ns=(2, 2))
    client._trust._looked = 0.0  # noqa: SLF001  the clock of TLS files is the machine's
    with pytest.raises(ConnectError, match="not trusted"):
        await client.send("POST", "/", [], b"x", deadline=loop_time() + 5)


async def test_a_bundle_that_became_unreadable_keeps_the_last_good_one_and_says_so(scripted, tmp_path) -> None:
    ca = trustme.CA()
    bundle = tmp_path / "ca.crt"
    ca.cert_pem.write_to_path(str(bundle))
    trust = Trust(str(bundle))
    context = trust.context()
    bundle.write_text("-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
    assert trust.context() is context
    assert "cannot be used" in trust.problem
    bundle.unlink()
    assert trust.context() is context
    assert "No such file" in trust.problem
    ca.cert_pem.write_to_path(str(bundle))
    trust.context()
    assert trust.problem == ""


@pytest.mark.parametrize("content", [None, "", "hello", "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----"])
def test_without_a_usable_bundle_nothing_is_sent(tmp_path, content) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConnectError, match="cannot be used"):
        Trust(str(path)).context()


@pytest.mark.parametrize("path", ["ca.crt", "./ca.crt", "/etc/../ca.crt", "/etc/ca\0.crt", ""])
def test_bundle_paths_follow_the_rules(path) -> None:
    with pytest.raises(BundlePathError):
        check_bundle_path(path)
