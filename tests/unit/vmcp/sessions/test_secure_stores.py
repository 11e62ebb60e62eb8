"""The way to a shared server that asks for TLS, a name and a password, any of which change while gateways run."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis

from hack.redis_server import MISSING, RedisServer, find, free_port
from tests.support.eventually import eventually
from vmcp.sessions.link import RedisLink
from vmcp.sessions.reaching import tls_context
from vmcp.sessions.settings import RedisSettings, RedisTls

pytestmark = pytest.mark.skipif(find() is None, reason=MISSING)


class Authority:
    """A certificate authority, and files that it signed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._ca = trustme.CA()
        self._directory = directory
        self.ca = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.ca)
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, name: str, *hosts: str) -> tuple[str, str]:
        """Return the paths of a certificate and its key."""
        made = self._ca.issue_cert(*hosts)
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(str(key))
        return str(certificate), str(key)


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def servers() -> Iterator[Callable[..., RedisServer]]:
    made: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        made.append(RedisServer(*options))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.close()


@pytest.fixture
def tls_server(servers, authority):
    """Starts a server that takes TLS at a port of its own; returns that port."""

    def start(*options: str, hosts: tuple[str, ...] = ("127.0.0.1",)) -> int:
        certificate, key = authority.issue("server", *hosts)
        port = free_port()
        files = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority.ca)
        try:
            servers("--tls-port", str(port), *files, *(options or ("--tls-auth-clients", "no")))
        except TimeoutError:
            pytest.skip("this server was built without TLS")
        return port

    return start


@pytest.fixture
async def links() -> AsyncIterator[Callable[..., RedisLink]]:
    made: list[RedisLink] = []

    def start(port: int, **settings) -> RedisLink:
        link = RedisLink(RedisSettings(host="127.0.0.1", port=port, prefix="p:", **settings))
        link.ears["p:notes"] = lambda _: None
        made.append(link)
        link.start()
        return link

    yield start
    for link in made:
        await link.close()


async def works(link: RedisLink) -> bool:
    await eventually(lambda: not link.trouble, within=8.0)
    return bool(await link.ask(lambda: link.redis.set("p:k", b"v")))


async def test_a_server_with_a_certificate_of_an_own_authority_is_reached(tls_server, links, authority):
    assert await works(links(tls_server(), tls=RedisTls(ca_file=authority.ca)))


async def test_a_server_that_wants_to_see_a_certificate_sees_ours(tls_server, links, authority):
    port = tls_server("--tls-auth-clients", "yes")
    certificate, key = authority.issue("gateway", "gateway.test")
    assert await works(links(port, tls=RedisTls(ca_file=authority.ca, cert_file=certificate, key_file=key)))
    refused = links(port, tls=RedisTls(ca_file=authority.ca))
    await eventually(lambda: refused.trouble == "unavailable")


@pytest.mark.parametrize("wrong", ["authority", "host", "system"])
async def test_a_server_that_is_not_trusted_is_told_as_that_and_learns_no_password(
    tls_server, links, authority, tmp_path, wrong, capsys
):
    port = tls_server(hosts=("elsewhere.test",) if wrong == "host" else ("127.0.0.1",))
    trusted = {"authority": Authority(tmp_path / "theirs").ca, "host": authority.ca, "system": ""}[wrong]
    link = links(port, tls=RedisTls(ca_file=trusted), password="sesame")
    await eventually(lambda: link.trouble == "untrusted")
    said = capsys.readouterr().out
    assert "its certificate is not trusted" in said
    assert "sesame" not in said


async def test_an_authority_that_takes_the_place_of_another_is_trusted_without_a_restart(
    tls_server, links, authority, tmp_path
):
    mounted = tmp_path / "mounted.pem"
    mounted.write_bytes(Authority(tmp_path / "former").pem)
    link = links(tls_server(), tls=RedisTls(ca_file=str(mounted)))
    await eventually(lambda: link.trouble == "untrusted")
    mounted.write_bytes(authority.pem)
    assert await works(link)


async def test_a_server_without_tls_gets_no_password_from_a_gateway_that_wants_it(servers, links, authority):
    server = servers("--requirepass", "sesame")
    link = links(server.port, tls=RedisTls(ca_file=authority.ca), password="sesame")
    await eventually(lambda: link.trouble == "unavailable")
    client = Redis(port=server.port, password="sesame")
    assert "cmd=auth" not in str(await client.client_list())
    await client.aclose()


async def test_a_user_of_the_servers_access_list_is_let_in(servers, links):
    server = servers()
    client = Redis(port=server.port)
    await client.acl_setuser(
        "gw", enabled=True, passwords=["+sesame"], categories=["+@all"], keys=["p:*"], channels=["p:*"]
    )
    await client.acl_setuser("default", enabled=True, reset_passwords=True, passwords=["+other"])
    await client.aclose()
    assert await works(links(server.port, username="gw", password="sesame"))
    refused = links(server.port, username="gw", password="wrong")
    await eventually(lambda: refused.trouble == "unauthorized")


@pytest.mark.parametrize("username", ["", "gw"])
async def test_another_password_holds_without_a_restart(servers, links, tmp_path, username):
    server = servers()
    client = Redis(port=server.port)
    mounted = tmp_path / "password"
    mounted.write_text("first\n")
    user = username or "default"
    await client.acl_setuser(
        user, enabled=True, passwords=["+first"], categories=["+@all"], keys=["*"], channels=["*"], reset_passwords=True
    )
    link = links(server.port, username=username, password_file=str(mounted))
    assert await works(link)
    await client.acl_setuser(user, enabled=True, reset_passwords=True, passwords=["+second"], categories=["+@all"])
    for kind in ("normal", "pubsub"):
        await client.client_kill_filter(_type=kind, skipme=True)
    await eventually(lambda: link.trouble == "unauthorized")
    mounted.write_text("second\n")
    began = time.monotonic()
    assert await works(link)
    assert time.monotonic() - began < 5.0
    await client.aclose()


async def test_a_password_file_that_is_gone_for_a_moment_costs_that_moment(servers, links, tmp_path):
    server = servers("--requirepass", "sesame")
    mounted = tmp_path / "password"
    link = links(server.port, password_file=str(mounted))
    await eventually(lambda: link.trouble == "unavailable")
    mounted.write_text("sesame")
    assert await works(link)


def test_what_is_trusted_beside_an_own_authority_is_nothing(authority):
    context = tls_context(RedisTls(ca_file=authority.ca))
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
