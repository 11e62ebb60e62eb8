"""Certificates that kubectl accepts are accepted, by every Python from 3.11 on.

Python 3.13 turned strict: it is tested by its own flag here, which OpenSSL obeys in every version.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from runtime.transport.tls import ReloadingContext, TlsFiles
from tests.support.authorities import World, issue, pem
from vmcp.http.client.tls import Trust, system_context


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
