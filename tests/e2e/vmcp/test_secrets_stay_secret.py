"""A sentinel in every secret, looked for in everything that the gateway writes or answers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from tests.e2e.vmcp.issuer import Issuer
from tests.e2e.vmcp.kit import ROOT, Client, EchoBackend, Gateway, config, free_port
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADER = 'hdr-Sent1nel/+"x'
CLIENT_SECRET = "client-Sent1nel&=%"
INJECTED = "injected-Sent1nel-0815"
BYSTANDER = "bystander-Sent1nel"
INLINE = 'inline-Sent1nel"/+'
SESSION = base64.b64encode(b"session-Sent1nel" * 2).decode()
TRACE = "ab" * 16
SECRETS = (HEADER, CLIENT_SECRET, INJECTED, BYSTANDER, INLINE, SESSION)


def spellings(secret: str) -> set[str]:
    """Return a secret as it may look in logs, URLs, JSON and base64 (whole, or inside something longer)."""
    raw = secret.encode()
    found = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        # The first and last characters depend on the neighbours.
        found |= {whole[4:-2], whole[4:-2].replace("+", "-").replace("/", "_")}
    return found


async def test_no_secret_appears_in_logs_audit_errors_metrics_status_or_answers(tmp_path):
    audit = tmp_path / "audit.log"
    answers: list[str] = []
    tokens: list[str] = []
    async with Issuer() as issuer:
        echo, injected, exchanged = await asyncio.gather(
            *(EchoBackend(name).start() for name in ("echo", "injected", "exchanged"))
        )
        dead = {"name": "dead", "url": f"http://dead.example:{free_port()}/mcp?api_key={BYSTANDER}"}
        dead["transport"] = "streamable-http"
        headers = {"addHeadersFromSecret": {"X-Secret": "HEADER_FORWARD_X_SECRET"}}
        document = config(
            {**echo.entry, "type": "direct", "headerForward": headers},
            {**injected.entry, "type": "direct"},
            {**exchanged.entry, "type": "direct"},
            {**dead, "type": "direct"},
            incomingAuth=issuer.incoming,
            outgoingAuth={
                "source": "inline",
                "backends": {
                    "injected": {
                        "type": "header_injection",
                        "headerInjection": {"headerName": "X-Injected", "headerValueEnv": "INJECTED"},
                    },
                    "exchanged": {
                        "type": "token_exchange",
                        "tokenExchange": {
                            "tokenUrl": issuer.url + "/token",
                            "clientId": "gw",
                            "clientSecretEnv": "CLIENT_SECRET",
                            "audience": "api",
                        },
                    },
                },
            },
            audit={
                "includeRequestData": True,
                "includeResponseData": True,
                "maxDataSize": 65536,
                "logFile": str(audit),
            },
        )
        gateway = Gateway(
            document,
            tmp_path,
            echo.resolve,
            injected.resolve,
            exchanged.resolve,
            f"dead.example:{dead['url'].split(':')[2].split('/')[0]}:127.0.0.1",
            environ={
                "TOOLHIVE_SECRET_HEADER_FORWARD_X_SECRET": HEADER,
                "INJECTED": INJECTED,
                "CLIENT_SECRET": CLIENT_SECRET,
                "VMCP_SESSION_HMAC_SECRET": SESSION,
            },
        )
        await gateway.start()
        try:
            await eventually(lambda: gateway.knows("echo", "injected", "exchanged"))
            for era in ("legacy", "modern"):
                token = issuer.token(f"user-{era}")
                tokens.append(token)
                async with Client(gateway.url, era=era, token=token) as client:
                    for tool in ("echo_echo", "injected_echo", "dead_echo", "echo_fail", "none"):
                        # Request data with secrets in it: a token in an argument, a password under its key.
                        arguments = {"nonce": "n", "password": BYSTANDER, "note": f"Bearer {token}"}
                        body = {"name": tool, "arguments": arguments}
                        reply = await client.request("tools/call", body, traceparent=f"00-{TRACE}-{'cd' * 8}-01")
                        answers += [reply.body, str(reply.headers)]
                    # This backend tells what it was sent; only the caller may learn that, and the audit must not.
                    told = (await client.call("exchanged_echo", nonce="n")).told
                    tokens.append(told["authorization"].removeprefix("Bearer "))
                    issuer.exchange_status = [400]
                    client.token = issuer.token("refused")
                    tokens.append(client.token)
                    if era == "modern":
                        answers.append((await client.call("exchanged_echo")).body)
                    issuer.exchange_status = [200]
                    client.token = issuer.token("late", exp=1)
                    tokens.append(client.token)
                    reply = await client.request("tools/list")
                    answers += [reply.body, str(reply.headers)]
            sent = {backend.name: (await _seen(backend))[1] for backend in (echo, injected, exchanged)}
            assert _travelled(sent["echo"], "X-Secret", HEADER), "the header must really travel"
            assert _travelled(sent["injected"], "X-Injected", INJECTED)
            async with Client(gateway.url, token=issuer.token("last")) as client:
                await client.call("injected_echo")
                await injected.stop(signal.SIGKILL)
                await client.send({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})
                await eventually(lambda: '"level": "debug"' in gateway.text())
                answers.append((await client.call("injected_echo")).body)
            for path in ("/status", "/api/backends/health", "/metrics", "/readyz"):
                answers.append((await gateway.get(path))[1])
            for number, broken in enumerate(_broken(document), 1):
                gateway.write(broken)
                await eventually(lambda count=number: _judged(gateway.text()) == count)
                answers.append((await gateway.get("/status"))[1])
                answers.append(await _validated(gateway))
        finally:
            await gateway.stop()
            await asyncio.gather(echo.stop(), injected.stop(), exchanged.stop())
    written = {"log": gateway.text(), "audit": audit.read_text(), "answers": "\n".join(answers)}
    assert written["audit"].count("\n") >= 10
    for name, text in sent.items():
        # Each backend gets its own secrets; traces and everything else that goes to all of them hold none.
        own = {"echo": {HEADER}, "injected": {INJECTED}}.get(name, set())
        for secret in {*SECRETS} - {*own, BYSTANDER}:
            for spelling in spellings(secret):
                assert spelling not in text, f"{secret} as {spelling!r} reached {name}"
        assert TRACE in text or name == "exchanged", "nobody called that one as part of a trace"
    for secret in SECRETS:
        for spelling in spellings(secret):
            for where, text in written.items():
                # The answers' echo of the caller's own arguments is the caller's business; the gateway adds none.
                assert spelling not in text, f"{secret} as {spelling!r} in {where}"
    for token in tokens:
        for part in (token, token.rsplit(".", 1)[1]):
            for where, text in written.items():
                assert part not in text, f"a token in {where}"


def _travelled(seen: str, header: str, value: str) -> bool:
    return any(one.get(header) == value for one in json.loads(seen)["seen"])


def _broken(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return configurations that are refused, whole or for the backends that need them, with secrets in their text."""
    inline = {"type": "header_injection", "headerInjection": {"headerName": "X", "headerValue": INLINE}}
    return [
        {**document, "backends": "nonsense", "passthroughHeaders": ["Cookie"]},
        {**document, "outgoingAuth": {"source": "inline", "default": {**inline, "tokenExchange": 7}}},
        {**document, "outgoingAuth": {"source": "inline", "default": inline, "nonsense": 1}, "backends": []},
        {**document, "outgoingAuth": {"source": "inline", "default": {**inline, "type": "token_exchange"}}},
        {**document, "incomingAuth": {"type": "oidc", "oidc": {"issuer": f"https://u:{INLINE}@idp.example"}}},
    ]


def _judged(log: str) -> int:
    return sum(log.count(said) for said in ("configuration refused", "configuration reloaded"))


async def _validated(gateway: Gateway) -> str:
    """Return what `validate` says about the file as it is."""
    command = [sys.executable, "-m", "vmcp", "validate", "--config", str(gateway.config), "--debug"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={"PATH": os.environ["PATH"], **gateway.environ}, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode in (0, 3), output
    assert b"error" in output or b"left out" in output or b"invalid" in output, output
    return output.decode()


async def _seen(backend: EchoBackend) -> tuple[int, str]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{backend.port}/seen") as response:
        return response.status, await response.text()
