"""The smallest part of `make test-pythons`, on the versions that happen to be there: no package is needed for it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from hack.pythons import ROOT, VERSIONS, find
from tests.support.authorities import World, pem

SHIPPED = ("api", "controllers", "membership", "runtime", "vmcp", "manager.py")
COMPILE = """
import pathlib, sys, warnings
warnings.simplefilter("error")
for name in sys.argv[1:]:
    for path in [pathlib.Path(name), *pathlib.Path(name).rglob("*.py")]:
        if path.suffix == ".py":
            compile(path.read_text(encoding="utf-8"), str(path), "exec")
"""
CONNECT = """
import runpy, socket, ssl, sys
port, bundle, flags = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=bundle)
if flags:
    context.verify_flags = runpy.run_path(flags)["verify_flags"](context.verify_flags)
try:
    context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost").close()
except ssl.SSLCertVerificationError as error:
    sys.exit(f"refused: {error}")
"""


LOOPBACK = """
import runpy, sys
is_loopback = runpy.run_path("api/contract/hosts.py")["is_loopback"]
print([address for address in sys.argv[1:] if is_loopback(address)])
"""


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> Path:
    found = find(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} on this machine")
    return found


def test_what_is_shipped_compiles_without_a_warning(python: Path) -> None:
    done = subprocess.run(
        [python, "-c", COMPILE, *SHIPPED], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


async def test_an_authority_without_key_identifiers_is_trusted_with_our_flags(python: Path, tmp_path: Path) -> None:
    """As EKS and many private ones are made; Python 3.13 and later refuse it by default."""
    world = World(tmp_path)
    world.bundle.write_bytes(pem(world.root))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=world.server)
    port = str(server.sockets[0].getsockname()[1])

    async def said(flags: str) -> str:
        process = await asyncio.create_subprocess_exec(
            python, "-c", CONNECT, port, str(world.bundle), flags, stderr=asyncio.subprocess.PIPE
        )
        _, error = await asyncio.wait_for(process.communicate(), 60)
        return error.decode()

    async with server:
        assert await said(str(ROOT / "runtime" / "util" / "x509.py")) == ""
        if "3.12" not in python.name:
            assert "refused: " in await said(""), "this is what breaks"


def test_what_counts_as_this_machine_does_not_depend_on_the_version(python: Path) -> None:
    """Python 3.13 began to call `::ffff:127.0.0.1` loopback, which is a way around what a gateway may connect to."""
    addresses = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "0.0.0.0", "::"]
    done = subprocess.run(
        [python, "-c", LOOPBACK, *addresses], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(addresses[:3])
