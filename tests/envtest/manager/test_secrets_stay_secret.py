"""A sentinel in every Secret; afterwards it is searched wherever the operator writes or speaks."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import pytest

from hack.controlplane.rest import Kube
from tests.support.process import Program
from tests.support.samples import API, apply, samples, settled

SENTINEL = 's3ntinel/"+ä\\ %27<x>'
"""Looks different in every encoding."""


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
def test_the_search_finds_every_form(name):
    assert leaks(f"before {forms(SENTINEL)[name]} after")
    assert not leaks("nothing of the kind here")


def test_the_search_finds_base64_inside_of_base64():
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
    kinds += [
        (API, kind)
        for kind in ("MCPGroup", "MCPServerEntry", "MCPRemoteEndpoint", "MCPExternalAuthConfig", "VirtualMCPServer")
    ]
    found = {}
    for api, kind in kinds:
        for item in await admin.list(api, kind, namespace=namespace):
            found[f"{kind}/{item['metadata']['name']}"] = item
    for item in await admin.list("v1", "Secret", namespace=namespace):
        if item["metadata"].get("ownerReferences"):  # made by the operator: may hold own secrets, not the user's
            found[f"Secret/{item['metadata']['name']}"] = item
    return found


@pytest.mark.parametrize("dialect", ["native", "toolhive"])
async def test_no_value_of_a_secret_leaves_the_operator(
    dialect, operator_program, admin: Kube, namespace: str, control_plane
):
    bodies = samples(namespace)
    for body in bodies:
        if body["kind"] == "Secret":
            body["stringData"] = dict.fromkeys(body["stringData"], SENTINEL)
    # A Secret where a certificate belongs, and a value where a header name is judged: the error paths speak, too.
    secrets = [b for b in bodies if b["kind"] == "Secret"]
    assert len(secrets) >= 2
    program: Program
    async with operator_program(f"--vmcp-dialect={dialect}") as program:
        metrics = await program.line(lambda line: line.get("server") == "metrics")
        await program.log("manager started")
        await apply(admin, bodies)
        await settled(admin, bodies)
        for secret in secrets:  # rotation: watched, read again, hashed
            patch = {"stringData": {"another": SENTINEL}}
            await admin.patch("v1", "Secret", secret["metadata"]["name"], patch, namespace=namespace)
        await admin.patch(
            API, "MCPServerEntry", "context7", {"metadata": {"labels": {"touched": "yes"}}}, namespace=namespace
        )
        await settled(admin, bodies)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{metrics['port']}/metrics") as answer,
        ):
            scraped = await answer.text()
        objects = await everything(admin, namespace)
    assert any(name.startswith("Deployment/") for name in objects)
    assert any(name.startswith("Event/") for name in objects)
    assert leaks("\n".join(program.raw)) == []
    assert leaks(scraped) == []
    found = {name: leaks(json.dumps(item, ensure_ascii=False)) for name, item in objects.items()}
    assert {name: where for name, where in found.items() if where} == {}
