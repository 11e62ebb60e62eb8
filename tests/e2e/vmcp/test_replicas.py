"""Replicas of one gateway: processes that share a secret take up what another one handed out; nobody else does."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.vmcp.asking_backend import STATE, AskingBackend
from tests.e2e.vmcp.kit import Client, Gateway, Reply, config
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = 1000
SECRET_ENV = "VMCP_SESSION_HMAC_SECRET"


def new_secret() -> str:
    """Return a secret as the operator makes it: the text of base64 around 32 random bytes."""
    return base64.b64encode(os.urandom(32)).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backend() -> AsyncIterator[AskingBackend]:
    async with AskingBackend("asks", tools=PAGE + 1) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateways(backend, tmp_path_factory) -> AsyncIterator[dict[str, Gateway]]:
    shared = new_secret()
    secrets = {"one": shared, "two": shared, "other": new_secret(), "none": ""}
    found = {
        name: Gateway(
            config(backend.entry), tmp_path_factory.mktemp(name), backend.resolve, environ={SECRET_ENV: secret}
        )
        for name, secret in secrets.items()
    }
    try:
        await asyncio.gather(*(gateway.start() for gateway in found.values()))
        await asyncio.gather(*(eventually(lambda known=gateway: known.knows("asks")) for gateway in found.values()))
        yield found
    finally:
        codes = await asyncio.gather(*(gateway.stop() for gateway in found.values() if gateway.process is not None))
    assert set(codes) == {0}
    for name, gateway in found.items():
        gateway.clean()
        assert (secrets[name] or shared) not in gateway.text()


async def second_page(client: Client, cursor: str) -> Reply:
    return await client.request("tools/list", {"cursor": cursor})


async def answered(client: Client, state: str) -> Reply:
    answer = {"q": {"action": "accept", "content": {}}}
    body = {"name": "asks_t00000", "arguments": {}, "inputResponses": answer, "requestState": state}
    return await client.request("tools/call", body)


async def test_a_list_goes_on_at_a_replica_and_nowhere_else(gateways, connect):
    first = (await (await connect(gateways["one"].url, era="modern")).request("tools/list")).result
    assert len(first["tools"]) == PAGE
    replica = await connect(gateways["two"].url, era="modern")
    rest = (await second_page(replica, first["nextCursor"])).result
    assert [tool["name"] for tool in rest["tools"]] == [f"asks_t{PAGE:05}"]
    assert "nextCursor" not in rest
    for stranger in ("other", "none"):
        refused = await second_page(await connect(gateways[stranger].url, era="modern"), first["nextCursor"])
        assert (refused.status, refused.error["code"]) == (400, -32602)


async def test_a_question_of_one_replica_is_answered_at_another_and_nowhere_else(gateways, backend, connect):
    asked = (await (await connect(gateways["one"].url, era="modern")).call("asks_t00000")).result
    assert asked["resultType"] == "input_required"
    assert STATE not in asked["requestState"]
    for stranger in ("other", "none"):
        refused = await answered(await connect(gateways[stranger].url, era="modern"), asked["requestState"])
        assert (refused.status, refused.error["code"]) == (400, -32602)
    assert backend.states == []
    done = (await answered(await connect(gateways["two"].url, era="modern"), asked["requestState"])).result
    assert done["content"][0]["text"] == "accept"
    assert backend.states == [STATE]


async def test_a_session_is_opened_anew_where_it_is_not_known(gateways, connect):
    # Sessions live in one process: the 404 makes clients initialize again, whoever made the id.
    client = await connect(gateways["one"].url)
    elsewhere = await connect(gateways["two"].url)
    elsewhere.session_id = client.session_id
    assert (await elsewhere.request("tools/list")).status == 404
    assert len((await client.request("tools/list")).result["tools"]) == PAGE


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        ("not base64!", "is not base64"),
        (base64.b64encode(b"short").decode(), "holds 5 bytes"),
        (base64.b64encode(bytes(32)).decode(), "is all zero"),
    ],
)
async def test_a_secret_that_is_none_keeps_the_gateway_from_starting(tmp_path, backend, secret, what):
    gateway = Gateway(config(backend.entry), tmp_path, environ={SECRET_ENV: secret})
    with pytest.raises(AssertionError):
        await gateway.start()
    assert gateway.process.returncode == 3
    assert f"{SECRET_ENV}: the secret {what}" in gateway.text()
    assert secret not in gateway.text()
