"""Rules 6 and 7 of "vMCP towards a direct backend" on a whole gateway; 1 to 5 are in `test_backend_rules`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.vmcp.issuer import Issuer
from tests.e2e.vmcp.kit import EchoBackend, Gateway, config
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class House:
    issuer: Issuer
    gateway: Gateway
    remote: EchoBackend
    audit: Path

    def lines(self) -> list[dict]:
        """Return the audit lines of calls so far."""
        found = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return [line for line in found if line["type"] == "mcp_tool_call"]


@pytest_asyncio.fixture(loop_scope="module")
async def house(tmp_path) -> AsyncIterator[House]:
    audit = tmp_path / "audit.log"
    async with Issuer() as issuer:
        remote = await EchoBackend("remote").start()
        exchange = {
            "tokenUrl": issuer.url + "/token",
            "clientId": "gw",
            "clientSecretEnv": "SECRET",
            "audience": "api://remote",
        }
        document = config(
            {**remote.entry, "url": remote.entry["url"] + "?tenant=hush", "type": "direct"},
            incomingAuth=issuer.incoming,
            outgoingAuth={
                "source": "inline",
                "backends": {"remote": {"type": "token_exchange", "tokenExchange": exchange}},
            },
            audit={"logFile": str(audit)},
        )
        gateway = Gateway(document, tmp_path, remote.resolve, environ={"SECRET": "client-secret"})
        await gateway.start()
        try:
            await eventually(lambda: gateway.knows("remote"))
            yield House(issuer, gateway, remote, audit)
        finally:
            await gateway.stop()
            await remote.stop()
        gateway.clean()


async def test_rule_6_a_token_for_another_audience_is_not_sent(house, connect):
    client = await connect(house.gateway.url, era="modern", token=house.issuer.token("ann"))
    good = (await client.call("remote_count")).told
    house.issuer.exchange_audience = ["api://other", "gateway"]
    client.token = house.issuer.token("bob")
    refused = await client.call("remote_count")
    assert refused.error["data"] == {"backend": "remote", "category": "auth"}
    house.issuer.exchange_audience = ["api://other", "api://remote"]
    client.token = house.issuer.token("ann")
    assert (await client.call("remote_count")).told["count"] == good["count"] + 1, "the refused call was sent"


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_rule_7_the_audit_line_names_the_remote_the_method_and_the_remote_s_status(house, connect, era):
    client = await connect(house.gateway.url, era=era, token=house.issuer.token("ann"))
    await client.call("remote_echo")
    await client.call("remote_fail")
    await house.remote.stop()
    await client.call("remote_echo")
    await eventually(lambda: len(house.lines()) == 3)
    done, wrong, dead = (line["metadata"]["extra"] for line in house.lines())
    for extra in (done, wrong, dead):
        assert extra["backend_name"] == "remote"
        assert extra["remote_url"] == house.remote.entry["url"], "without its query"
        assert extra["auth_method"] == "token_exchange"
    assert (done["remote_status"], wrong["remote_status"]) == (200, 200)
    assert "remote_status" not in dead, "nothing came back"
    outcomes = [line["outcome"] for line in house.lines()]
    assert outcomes == ["success", "application_error", "error"]
    assert "hush" not in house.audit.read_text() + house.gateway.text()


@pytest.mark.parametrize("how", ["/introspect", "none"])
async def test_opaque_tokens_are_sent_where_somebody_says_for_whom_they_are_or_nobody_wants_to_know(
    tmp_path, connect, how
):
    async with Issuer() as issuer:
        issuer.opaque_exchange = True
        remote = await EchoBackend("remote").start()
        exchange = {"tokenUrl": issuer.url + "/token", "clientId": "gw", "clientSecretEnv": "SECRET", "audience": "api"}
        document = config(
            {**remote.entry, "type": "direct"},
            incomingAuth=issuer.incoming,
            outgoingAuth={"source": "inline", "default": {"type": "token_exchange", "tokenExchange": exchange}},
        )
        checked = "none" if how == "none" else issuer.url + how
        environ = {"SECRET": "client-secret", "VMCP_OPAQUE_TOKENS": f"{issuer.url}/token={checked}"}
        gateway = Gateway(document, tmp_path, remote.resolve, environ=environ)
        await gateway.start()
        try:
            await eventually(lambda: gateway.knows("remote"))
            client = await connect(gateway.url, era="modern", token=issuer.token("ann"))
            assert (await client.call("remote_echo")).told["authorization"] == "Bearer opaque-ann"
            issuer.told = {"aud": "api://other"}
            client.token = issuer.token("bob")
            answer = await client.call("remote_echo")
            if how == "none":
                assert answer.told["authorization"] == "Bearer opaque-bob"
                assert issuer.introspections == []
            else:
                assert answer.error["data"] == {"backend": "remote", "category": "auth"}
                assert "for another audience" in answer.error["message"]
        finally:
            await gateway.stop()
            await remote.stop()
        gateway.clean()
    assert "opaque-ann" not in gateway.text()
    assert "opaque-bob" not in gateway.text()


async def test_a_server_that_answers_nobody_without_a_token_is_listed_to_callers_of_a_public_client(tmp_path, connect):
    async with Issuer() as issuer:
        remote = EchoBackend("remote")
        remote.environ = {"REQUIRED_AUDIENCE": "api"}
        await remote.start()
        exchange = {"tokenUrl": issuer.url + "/token", "audience": "api"}
        document = config(
            {**remote.entry, "type": "direct"},
            incomingAuth=issuer.incoming,
            outgoingAuth={"source": "inline", "default": {"type": "token_exchange", "tokenExchange": exchange}},
        )
        gateway = Gateway(document, tmp_path, remote.resolve)
        await gateway.start()
        try:
            client = await connect(gateway.url, era="modern", token=issuer.token("ann"))

            async def listed() -> bool:
                return "remote_echo" in await client.tools()

            await eventually(listed)
            assert (await client.call("remote_echo", nonce="x")).told["nonce"] == "x"
        finally:
            await gateway.stop()
            await remote.stop()
        gateway.clean()
