"""Which conditions a test makes appear and go away again: claimed by the test, checked against the server.

`@shows("MCPServerEntry", "RemoteURLValidated=False/RemoteURLInvalid")` claims that during the test an object of that
kind carried that condition and later did not any more: the condition changed its status or reason, or was removed,
while the object stayed. What can end only with its object is claimed with `gone=True`. A watch of the test's
namespace sees every version of every object, so that a claim which is not true fails its test; that each word of
`api.conditions` is claimed somewhere is checked by `test_every_condition_has_its_test`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import pytest

from hack.controlplane.rest import Kube, KubeError

API = "toolhive.stacklok.dev/v1beta1"
MARK = "shows"


class Claim(NamedTuple):
    """A condition that appears and goes away.

    Attributes:
        kind: of the object.
        type: of the condition; of a family without the object's name.
        state: "Status/Reason".
        gone: it ends with its object.
    """

    kind: str
    type: str
    state: str
    gone: bool = False

    @classmethod
    def parse(cls, kind: str, text: str, *, gone: bool = False) -> Self:
        """Read "Type=Status/Reason"."""
        type_, equals, state = text.partition("=")
        assert equals, f"{text!r}: expected Type=Status/Reason"
        assert "/" in state, f"{text!r}: expected Type=Status/Reason"
        return cls(kind, type_, state, gone)

    def __str__(self) -> str:
        """As it is claimed."""
        return f"{self.kind} {self.type}={self.state}{' until it is gone' if self.gone else ''}"


def shows(kind: str, *conditions: str, gone: bool = False) -> pytest.MarkDecorator:
    """Claim that each of the conditions, written as Type=Status/Reason, appears in a test and goes away again."""
    return pytest.mark.shows(kind, *conditions, gone=gone)


def claims_of(item: pytest.Item) -> set[Claim]:
    """Return what a test claims."""
    return {
        Claim.parse(mark.args[0], text, gone=mark.kwargs.get("gone", False))
        for mark in item.iter_markers(MARK)
        for text in mark.args[1:]
    }


class Ledger:
    """What happened to the conditions of the objects of a namespace."""

    def __init__(self) -> None:
        self.ended: set[Claim] = set()
        self._now: dict[str, dict[str, str]] = {}
        self._changed = asyncio.Event()

    def see(self, event: str, found: dict[str, Any]) -> None:
        """Take note of one version of an object."""
        kind, uid = found["kind"], found["metadata"]["uid"]
        before = self._now.pop(uid, {})
        listed = found.get("status", {}).get("conditions", [])
        gone = event == "DELETED"
        now = {} if gone else {c["type"]: f"{c['status']}/{c['reason']}" for c in listed}
        self._now[uid] = now
        for type_, state in before.items():
            if now.get(type_) != state:
                self.ended.add(Claim(kind, type_.partition("-")[0], state, gone))
        self._changed.set()

    async def holds(self, claims: Iterable[Claim], timeout: float = 10.0) -> None:
        """Wait until everything claimed has happened.

        Raises:
            AssertionError: it has not; the message names the claims.
        """
        wanted = set(claims)
        try:
            async with asyncio.timeout(timeout):
                while not wanted <= self.ended:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            missing = "; ".join(sorted(map(str, wanted - self.ended)))
            raise AssertionError(f"claimed, but did not appear and go away: {missing}") from None


async def version_of(admin: Kube, namespace: str, kind: str) -> str:
    """The version from which a watch misses nothing that happens from now on."""
    found = await admin.request("GET", await admin.path(API, kind, namespace=namespace))
    return str(found["metadata"]["resourceVersion"])


async def follow(admin: Kube, namespace: str, kind: str, version: str, ledger: Ledger) -> None:
    """Write everything that happens to the objects of one kind since a version into the ledger, until cancelled."""
    while True:  # the server ends a watch after a while, and refuses one while it starts to serve a kind
        try:
            async for event, found in admin.watch(API, kind, namespace=namespace, resource_version=version):
                if event == "ERROR" and found["code"] == 410:
                    version = ""  # the definition was replaced: what is there now tells what has ended
                    break
                assert event in ("ADDED", "MODIFIED", "DELETED"), found
                version = found["metadata"]["resourceVersion"]
                ledger.see(event, found)
        except KubeError as error:
            if error.status != 429:
                raise
            await asyncio.sleep(0.1)
