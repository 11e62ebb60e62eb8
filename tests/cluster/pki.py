"""A private authority and a server's certificate, as companies have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def authority(host: str) -> tuple[str, dict[str, str]]:
    """Return a private authority's certificate, and the data of a Secret with a server's below it."""
    now = datetime.now(UTC)

    def made(subject: str, key: Any, signer: Any, *, ca: bool) -> x509.Certificate:
        name, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (subject, "ca"))
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        builder = builder.not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode()
    served_by = made(host, leaf, root, ca=False).public_bytes(pem).decode()
    return made("ca", root, root, ca=True).public_bytes(pem).decode(), {"tls.crt": served_by, "tls.key": private}
