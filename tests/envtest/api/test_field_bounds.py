"""The API server accepts every field at and inside its bounds, and refuses it beyond, naming the field."""

from __future__ import annotations

import asyncio

import pytest

from hack.controlplane.rest import Kube, KubeError
from tests.envtest.api.cases import Case, cases
from tests.envtest.api.samples import KINDS, Builder, get, holds

GROUP = "toolhive.stacklok.dev"
IN_FLIGHT = 24
MERGE = "application/merge-patch+json"


class Offers:
    """Offers objects to the server without storing them."""

    def __init__(self, admin: Kube, namespace: str, kind: str) -> None:
        self.admin, self.namespace, self.kind = admin, namespace, kind

    async def offer(self, case: Case) -> dict:
        params = {"dryRun": "All", "fieldValidation": "Strict"}
        path = await self.admin.path(f"{GROUP}/v1beta1", self.kind, namespace=self.namespace)
        if "status" in case.doc:
            return await self.admin.request(
                "PATCH", f"{path}/real/status", body=case.doc, content_type=MERGE, params=params
            )
        return await self.admin.request("POST", path, body=self.body("case") | case.doc, params=params)

    async def minor(self) -> int:
        """Minor version of the API server."""
        return int((await self.admin.request("GET", "/version"))["minor"].rstrip("+"))

    def body(self, name: str) -> dict:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": f"{GROUP}/v1beta1", "kind": self.kind, "metadata": metadata}

    async def wrong(self, case: Case) -> str | None:
        """What the server did that it must not do."""
        try:
            answer = await self.offer(case)
        except KubeError as error:
            if not case.refused:
                return f"{case.name}: refused: {error.message}"
            return None if case.refused in error.message else f"{case.name}: refused, but not for it: {error.message}"
        if case.refused and await self.minor() >= case.since:
            return f"{case.name}: accepted"
        if case.path and not holds(get(answer, case.path), case.stored):
            return f"{case.name}: stored as {get(answer, case.path)!r}"
        return None


@pytest.fixture
async def offers(admin: Kube, namespace: str, request: pytest.FixtureRequest) -> Offers:
    made = Offers(admin, namespace, request.param)
    await admin.create(made.body("real") | {"spec": Builder(request.param).value("spec")})
    return made


@pytest.mark.parametrize("offers", KINDS, indirect=True)
async def test_every_field_is_accepted_within_its_bounds_and_refused_beyond(offers: Offers) -> None:
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(case: Case) -> str | None:
        async with gate:
            return await offers.wrong(case)

    every = list(cases(offers.kind))
    found = await asyncio.gather(*(one(case) for case in every))
    assert len(every) >= 3 * len(KINDS[offers.kind]["fields"])
    assert [wrong for wrong in found if wrong] == []
