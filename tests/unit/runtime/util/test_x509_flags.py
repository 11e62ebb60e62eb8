"""Certificates that kubectl accepts are accepted, by every Python from 3.11 on.

Python 3.13 turned strict: it is tested by its own flag here, which OpenSSL obeys in every version.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runtime.transport.tls import ReloadingContext, TlsFiles
from vmcp.http.client.tls import Trust, system_context

NOW = dt.datetime.now(dt.UTC)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def issue(
    subject: str, issuer: str, signer: ec.EllipticCurvePrivateKey, *, authority: bool
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate as older tools make them: without any key identifier."""
    key = signer if subject == issuer else ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - dt.timedelta(days=1)).not_valid_after(NOW + dt.timedelta(1))
    builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=False)
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    return builder.sign(signer, hashes.SHA256()), key


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


class World:
    """An authority, one below it, and a server's certificate from that one."""

    def __init__(self, directory: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.root, _ = issue("root", "root", key, authority=True)
        self.middle, middle_key = issue("middle", "root", key, authority=True)
        leaf, leaf_key = issue("server", "middle", middle_key, authority=False)
        chain, private = directory / "chain.pem", directory / "key.pem"
        chain.write_bytes(pem(leaf, self.middle))
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        private.write_bytes(leaf_key.private_bytes(serialization.Encoding.PEM, form, plain))
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(chain, private)
        self.bundle = directory / "ca.pem"

    async def accepts(self, context: ssl.SSLContext) -> bool:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=self.server)
        port = server.sockets[0].getsockname()[1]
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        except ssl.SSLCertVerificationError:
            return False
        else:
            writer.close()
            return True
        finally:
            server.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def contexts(world: World) -> list[ssl.SSLContext]:
    cluster = ReloadingContext(TlsFiles(ca_file=str(world.bundle))).current(0.0)
    return [cluster, Trust(str(world.bundle)).context()]


async def test_an_authority_without_key_identifiers_is_trusted_by_operator_and_gateway(world: World) -> None:
    world.bundle.write_bytes(pem(world.root))
    strict = ssl.create_default_context(cafile=str(world.bundle))
    strict.verify_flags |= ssl.VERIFY_X509_STRICT  # the default of Python 3.13 and later
    assert not await world.accepts(strict), "this is what breaks"
    for context in contexts(world):
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT
        assert await world.accepts(context)


async def test_an_intermediate_authority_alone_can_be_trusted_as_in_go(world: World) -> None:
    world.bundle.write_bytes(pem(world.middle))
    for context in contexts(world):
        assert await world.accepts(context)


async def test_another_authority_is_still_refused(world: World) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    world.bundle.write_bytes(pem(issue("root", "root", key, authority=True)[0]))
    for context in contexts(world):
        assert not await world.accepts(context)


def test_the_system_trust_has_the_same_flags() -> None:
    assert not system_context().verify_flags & ssl.VERIFY_X509_STRICT


def test_a_default_that_turned_strict_under_us_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Python 3.13."""
    plain = ssl.create_default_context

    def strict(*args: object, **more: object) -> ssl.SSLContext:
        context = plain(*args, **more)  # type: ignore[arg-type]
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    world.bundle.write_bytes(pem(world.root))
    for context in contexts(world):
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT
