"""A sentinel in every Secret; afterwards it is searched wherever the operator writes or speaks."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest

from hack.controlplane.rest import Kube
from tests.support import secret_edges
from tests.support.process import Program
from tests.support.samples import API, apply, samples, settled

SENTINEL = 's3ntinel/"+ä\\ %27<x>'
"""Looks different in every encoding."""
OWN = ("MCPGroup", "MCPServerEntry", "MCPRemoteEndpoint", "MCPExternalAuthConfig", "VirtualMCPServer")


def forms(value: str) -> dict[str, str]:
    """The texts under which a value could appear."""
    raw = value.encode()
    found = {
        "raw": value,
        "JSON": json.dumps(value)[1:-1],
        "JSON, plain Unicode": json.dumps(value, ensure_ascii=False)[1:-1],
        "JSON twice": json.dumps(json.dumps(value))[1:-1],
        "URL": quote(value, safe=""),
        "form": quote_plus(value),
        "Python": repr(value)[1:-1],
    }
    for shift in range(3):  # base64 of a longer text that has the value somewhere in it
        whole = base64.b64encode(b"x" * shift + raw)
        found[f"base64 +{shift}"] = whole[4 if shift else 0 : len(whole) // 4 * 4 - 4].decode()
    found["base64 twice"] = base64.b64encode(base64.b64encode(raw))[:-4].decode()
    return found


def leaks(text: str) -> list[str]:
    """Names of the forms that a text holds."""
    return [name for name, form in forms(SENTINEL).items() if form in text]


@pytest.mark.parametrize("name", forms("x" * 9))
def test_the_search_finds_every_form(name: str) -> None:
    assert leaks(f"before {forms(SENTINEL)[name]} after")
    assert not leaks("nothing of the kind here")


def test_the_search_finds_base64_inside_of_base64() -> None:
    for prefix in ("", "a", "ab", "abc"):
        assert leaks(base64.b64encode(f"{prefix}{SENTINEL}{prefix}".encode()).decode())


async def everything(admin: Kube, namespace: str) -> dict[str, Any]:
    """All objects of a namespace but the Secrets of users, by path."""
    kinds = [
        ("v1", "ConfigMap"),
        ("v1", "Service"),
        ("v1", "ServiceAccount"),
        ("apps/v1", "Deployment"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        ("events.k8s.io/v1", "Event"),
        ("coordination.k8s.io/v1", "Lease"),
    ]
    kinds += [(API, kind) for kind in (*OWN, "MCPOIDCConfig", "MCPTelemetryConfig")]
    found = {}
    for api, kind in kinds:
        for item in await admin.list(api, kind, namespace=namespace):
            found[f"{kind}/{item['metadata']['name']}"] = item
    for item in await admin.list("v1", "Secret", namespace=namespace):
        if item["metadata"].get("ownerReferences"):  # made by the operator: may hold own secrets, not the user's
            found[f"Secret/{item['metadata']['name']}"] = item
    return found


def test_the_world_uses_every_field_that_may_name_a_secret() -> None:
    bodies = secret_edges.world("n", SENTINEL)
    used = {edge for body in bodies if body["kind"] != "Secret" for edge in secret_edges.used_edges(body)}
    assert used == {edge for kind in secret_edges.KINDS for edge in secret_edges.edges_of(kind)}
    assert len(used) > 30


async def own_secrets(admin: Kube, namespace: str) -> list[str]:
    """Values that the operator made up, as they are stored."""
    found = await admin.list("v1", "Secret", namespace=namespace)
    return [value for item in found if item["metadata"].get("ownerReferences") for value in item["data"].values()]


def world(namespace: str, dialect: str) -> list[dict[str, Any]]:
    """The samples and every edge; for this project's gateway also what of it that gateway can do.

    It has neither xaa nor exports of telemetry (docs/limits.md): what asks for an export gets no pods.
    """
    bodies = samples(namespace) + secret_edges.world(namespace, SENTINEL)
    for body in bodies:
        if body["kind"] == "Secret":
            body["stringData"] = dict.fromkeys(body["stringData"], SENTINEL)
    if dialect == "toolhive":
        return bodies
    possible = copy.deepcopy(next(body for body in bodies if body["metadata"]["name"] == "every-edge"))
    possible["metadata"]["name"] = "native-edge"
    del possible["spec"]["telemetryConfigRef"]
    exchange = {"type": "externalAuthConfigRef", "externalAuthConfigRef": {"name": "exchange"}}
    possible["spec"]["outgoingAuth"]["backends"] = {"entry-xaa": exchange}
    return [*bodies, possible]


@pytest.mark.parametrize("dialect", ["native", "toolhive"])
async def test_no_value_of_a_secret_leaves_the_operator(
    dialect: str, operator_program: Callable[..., Program], admin: Kube, namespace: str
) -> None:
    bodies = world(namespace, dialect)
    secrets = [body for body in bodies if body["kind"] == "Secret"]
    ours = [body for body in bodies if body["kind"] in OWN]
    redis = {
        "TOOLHIVE_DEFAULT_REDIS_ADDR": "redis:6379",
        "TOOLHIVE_DEFAULT_REDIS_SECRET_NAME": secret_edges.DEFAULT_REDIS,
        "TOOLHIVE_DEFAULT_REDIS_SECRET_KEY": secret_edges.KEY,
    }
    async with operator_program(f"--vmcp-dialect={dialect}", **redis) as program:
        metrics = await program.line(lambda line: line.get("server") == "metrics")
        await program.log("manager started")
        await apply(admin, bodies)
        await settled(admin, ours)
        outcomes = {"every-edge": applied, "defaults": applied}
        if dialect == "native":
            outcomes |= {"every-edge": refused, "native-edge": applied}
        for gateway, outcome in outcomes.items():
            await admin.wait_for(API, "VirtualMCPServer", gateway, namespace=namespace, until=outcome)
        for secret in secrets:  # rotation: watched, read again, hashed; and a key that goes: the error paths speak, too
            patch = {"stringData": {"another": SENTINEL}} | (
                {"data": {secret_edges.KEY: None}} if _goes(secret) else {}
            )
            await admin.patch("v1", "Secret", secret["metadata"]["name"], patch, namespace=namespace)
        await admin.patch(
            API, "MCPServerEntry", "context7", {"metadata": {"labels": {"touched": "yes"}}}, namespace=namespace
        )
        await admin.wait_for(
            API, "MCPServerEntry", "entry-header", namespace=namespace, until=lambda found: phase(found) == "Failed"
        )
        await settled(admin, ours)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{metrics['port']}/metrics") as answer,
        ):
            scraped = await answer.text()
        objects, made = await everything(admin, namespace), await own_secrets(admin, namespace)
    if dialect == "toolhive":
        assert {"token-exchange", "oidc-client", "redis-own", "otel-header", "xaa-idp"} <= named(objects, "every-edge")
        assert secret_edges.DEFAULT_REDIS in named(objects, "defaults")
    else:
        assert {"token-exchange", "oidc-client", "endpoint-header", "redis-own"} <= named(objects, "native-edge")
        assert "Deployment/every-edge" not in objects
        assert secret_edges.DEFAULT_REDIS in named(objects, "defaults")
    assert any(name.startswith("Event/") for name in objects)
    logged = "\n".join(program.raw)
    assert leaks(logged) == []
    assert leaks(scraped) == []
    found = {name: leaks(json.dumps(item, ensure_ascii=False)) for name, item in objects.items()}
    assert {name: where for name, where in found.items() if where} == {}
    # What the operator made up stays in its Secret, too: as stored, and without that encoding.
    public = logged + scraped + json.dumps({n: o for n, o in objects.items() if not n.startswith("Secret/")})
    assert len(made) >= 3
    for value in made:
        assert value not in public
        assert base64.b64decode(value).decode() not in public


def _goes(secret: dict[str, Any]) -> bool:
    return bool(secret["metadata"]["name"] in ("entry-header", "injected-header"))


def applied(found: dict[str, Any] | None) -> bool:
    """Whether a gateway's objects are there."""
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return any((c["type"], c["status"]) == ("ObjectsApplied", "True") for c in conditions)


def refused(found: dict[str, Any] | None) -> bool:
    """Whether a gateway gets no pods because of its settings."""
    conditions = (found or {}).get("status", {}).get("conditions", [])
    said = [c["message"] for c in conditions if (c["type"], c["status"]) == ("Valid", "False")]
    return phase(found) == "Failed" and any("OpenTelemetry collector" in message for message in said)


def named(objects: dict[str, Any], gateway: str) -> set[str]:
    """The Secrets of a gateway's environment."""
    (container,) = objects[f"Deployment/{gateway}"]["spec"]["template"]["spec"]["containers"]
    refs = (variable.get("valueFrom", {}).get("secretKeyRef") for variable in container["env"])
    return {ref["name"] for ref in refs if ref}


def phase(found: dict[str, Any] | None) -> str | None:
    """The phase of an object."""
    said: str | None = (found or {}).get("status", {}).get("phase")
    return said
