"""Certificate authorities as older tools make them, without key identifiers, and servers below them."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

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
