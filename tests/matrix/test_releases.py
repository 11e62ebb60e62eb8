"""Published releases of the official SDKs and of FastMCP, as servers behind the gateway and as clients before it.

What a client sees through the gateway is what it sees of the server itself. Then the server is replaced under a
client's session, and the gateway. On the other side stands the newest release: the Python SDK as client, in both eras;
as servers one that speaks the older era, and one that speaks both.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.matrix.releases import CLIENTS, SERVERS, Release, node, one

LONG = os.environ.get("TEST_LONG", "") not in ("", "0")
ERAS = {"legacy": "2025-11-25", "auto": "2026-07-28"}
REFERENCE = "python-2.3.0"
SECONDS = 12.0 if LONG else 1.0


def chosen(releases: tuple[Release, ...], short: str) -> list[Any]:
    """All of them; in the short run the one that is furthest from what other suites use."""
    return [pytest.param(r, id=r.name) for r in releases if LONG or r.name == short]


def compare(through: dict[str, Any], directly: dict[str, Any]) -> None:
    """Nothing is lost on the way; a question that the server cannot ask of the client itself may be bridged."""
    asked, asked_directly = through.pop("asked", None), directly.pop("asked", None)
    assert through == directly
    if asked_directly == "removed file":
        assert asked == "removed file"


@pytest.mark.parametrize("release", chosen(SERVERS, "python-1.8.1"))
def test_a_server_of_this_release_loses_nothing_behind_the_gateway(release, start, gateway, client, row):
    server = start(lambda port: release.command(release.server, str(port)))
    front = gateway(server)
    reference = one(REFERENCE)
    for mode, version in ERAS.items():
        direct = client(reference.command(reference.client, server.url, mode)).ask("walk 0.2")
        walker = client(reference.command(reference.client, front.url, mode))
        seen = walker.ask(f"walk {SECONDS}")
        direct["version"] = version  # the gateway speaks both eras, whatever the server does
        asked = seen.get("asked")
        compare(seen, direct)
        entry = row(line=release.line, role="server", version=release.name.partition("-")[2], protocol=version)
        entry.long_call = f"{SECONDS:g} s, {len(seen['progress'])} steps of progress"
        entry.elicitation = None if asked is None else "yes" if asked == "removed file" else "the server refuses"
        server.restart()
        assert walker.ask("process") == {"process": str(server.pid)}, "the first call after a restart is answered"
        entry.server_restart = "the next call is answered"
        front.restart()
        walker.ask("process")
        assert walker.ask("again") == {"process": str(server.pid)}
        entry.gateway_restart = "a new session is served"


@pytest.mark.parametrize("release", chosen(CLIENTS, "typescript-1.10.2"))
def test_a_client_of_this_release_loses_nothing_before_the_gateway(release, start, gateway, client, row):
    partner = one(
        "typescript-2.4.0" if "-2." in release.name and "fastmcp" not in release.name else "python-1.30.0", server=True
    )
    server = start(lambda port: partner.command(partner.server, str(port)))
    front = gateway(server)
    direct = client(release.command(release.client, server.url)).ask("walk 0.2")
    walker = client(release.command(release.client, front.url))
    seen = walker.ask(f"walk {SECONDS}")
    entry = row(
        line=release.line, role="client", version=release.name.partition("-")[2], protocol=seen.get("version", "")
    )
    asked, progress = seen.get("asked"), seen.get("progress")
    seen.pop("version", None), direct.pop("version", None)
    compare(seen, direct)
    entry.long_call = f"{SECONDS:g} s" + (f", {len(progress)} steps of progress" if progress else "")
    entry.elicitation = None if asked is None else "yes" if asked == "removed file" else "no"
    server.restart()
    assert walker.ask("process") == {"process": str(server.pid)}, "the first call after a restart is answered"
    entry.server_restart = "the next call is answered"
    front.restart()
    after = walker.ask("process")
    if after == {"process": str(server.pid)}:
        entry.gateway_restart = "the session goes on"
    else:
        assert walker.ask("again") == {"process": str(server.pid)}
        entry.gateway_restart = "a new session is served"


@pytest.mark.skipif(not LONG, reason="a minute: the conformance suite goes through a proxy in the short run")
@pytest.mark.parametrize("release", chosen(SERVERS, "python-1.30.0"))
def test_a_server_of_this_release_loses_nothing_behind_a_proxy_and_a_gateway_before_that(
    release, start, proxy, gateway, client
):
    server = start(lambda port: release.command(release.server, str(port)))
    front = proxy(server)
    both = gateway(front)
    reference = one(REFERENCE)
    for mode, version in ERAS.items():
        direct = client(reference.command(reference.client, server.url, mode)).ask("walk 0.2")
        direct["version"] = version
        for url in (front.url, both.url):
            walker = client(reference.command(reference.client, url, mode))
            compare(walker.ask("walk 0.2"), dict(direct))
    walker = client(reference.command(reference.client, front.url, "legacy"))
    walker.ask("process")
    server.restart()
    assert walker.ask("process") == {"process": str(server.pid)}, "the first call after a restart is answered"


@pytest.mark.skipif(not LONG, reason="the Inspector's packages are 135 MiB: make test-long")
@pytest.mark.parametrize(
    ("version", "command"),
    [
        ("0.16.8", ["inspector-old/build/cli.js", "--cli", "{url}", "--transport", "http"]),
        ("2.12.0", ["inspector-new/clients/launcher/build/index.js", "--cli", "{url}", "--transport", "http"]),
    ],
)
def test_the_inspector_lists_and_calls_through_the_gateway(version, command, start, gateway, row):
    partner = one("python-1.30.0", server=True)
    front = gateway(start(lambda port: partner.command(partner.server, str(port))))
    program = str(node("tests/matrix/inspector"))
    root = "tests/matrix/inspector/node_modules/"

    def inspect(*arguments: str) -> dict[str, Any]:
        line = [root + command[0], *(word.format(url=front.url) for word in command[1:]), *arguments]
        done = subprocess.run([program, *line], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return dict(json.loads(done.stdout))

    listed = inspect("--method", "tools/list")
    assert {tool["name"] for tool in listed["tools"]} == {"add", "process", "remove", "work"}
    called = inspect("--method", "tools/call", "--tool-name", "add", "--tool-arg", "a=2", "b=3")
    assert called["content"][0]["text"] == "5"
    row(
        line="Inspector", role="client", version=version, long_call="not tried", server_restart="-", gateway_restart="-"
    )
