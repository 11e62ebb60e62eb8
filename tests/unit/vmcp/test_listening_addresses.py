"""Where the gateway listens: both families, one of them, or the one that there is."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys

import pytest

from vmcp.serving import listen

TALK = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
{prepare}
from vmcp.serving import listen
sock = listen("::", 0)
sock.setblocking(True)
for address in {addresses}:
    with socket.create_connection((address, sock.getsockname()[1]), timeout=5):
        sock.accept()[0].close()
        print("reached at", address)
"""
ONLY_IPV6 = 'subprocess.run(["ip", "addr", "del", "127.0.0.1/8", "dev", "lo"], check=True)'
NO_IPV6 = 'open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w").write("1")'
V6_ALONE = 'open("/proc/sys/net/ipv6/bindv6only", "w").write("1")'


def test_every_address_means_both_families_whatever_the_system_s_default():
    sock = listen("::", 0)
    port = sock.getsockname()[1]
    for address in ("127.0.0.1", "::1"):
        with contextlib.closing(socket.create_connection((address, port), timeout=5)):
            pass
    sock.close()


@pytest.mark.parametrize(("host", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_an_address_means_itself(host, other):
    sock = listen(host, 0)
    with contextlib.closing(socket.create_connection((host, sock.getsockname()[1]), timeout=5)):
        pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((other, sock.getsockname()[1]), timeout=5)
    sock.close()


def test_an_address_that_is_taken_or_not_ours_is_an_error():
    sock = listen("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use") as caught:
        listen("127.0.0.1", sock.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE
    sock.close()
    with pytest.raises(OSError, match="assign"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("prepare", "addresses"),
    [(ONLY_IPV6, ["::1"]), (NO_IPV6, ["127.0.0.1"]), (V6_ALONE, ["127.0.0.1", "::1"])],
    ids=["IPv6 only", "IPv4 only", "bindv6only"],
)
def test_a_machine_with_one_family_is_served_on_that(prepare, addresses):
    inner = TALK.format(prepare=prepare, addresses=addresses)
    namespace = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*namespace, "ip", "link"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace for this user")
    command = [*namespace, sys.executable, "-c", inner]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ})
    assert done.stdout.splitlines() == [f"reached at {address}" for address in addresses], done.stderr
