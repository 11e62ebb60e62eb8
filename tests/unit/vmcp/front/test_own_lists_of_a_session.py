"""What a client's session enables for itself is listed and callable, for that client alone."""

from __future__ import annotations

import asyncio
import json

import pytest

from vmcp.backend.interface import Call, Era, Reply

TOOL = {"name": "enable", "inputSchema": {"type": "object"}}
EXTRA = {"name": "extra", "inputSchema": {"type": "object"}}
CHANGED = "notifications/tools/list_changed"


class Toolsets:
    """A backend whose sessions have tools of their own, once they called `enable`."""

    def __init__(self, backend, **members):
        self.fake = backend("kit", tools=[TOOL], **members)
        self.fake.catalogue = self.announcing(self.fake.catalogue)
        self.fake.open = self.open
        self.enabled: set[object] = set()
        self.opened: list[object] = []
        self.listed = 0

    @staticmethod
    def announcing(catalogue):
        object.__setattr__(catalogue, "capabilities", b'{"tools":{"listChanged":true}}')
        return catalogue

    def open(self, spec):
        session = type(self.fake).open(self.fake, spec)
        inner = session.call

        async def call(request: Call) -> Reply:
            name = json.loads(request.params).get("name")
            if request.method == "tools/list":
                self.listed += 1
                tools = [TOOL, EXTRA] if session in self.enabled else [TOOL]
                return Reply(result=json.dumps({"tools": tools}).encode(), era=Era.LEGACY)
            if name == "enable":
                self.enabled.add(session)
            return await inner(request)

        session.call = call
        self.opened.append(session)
        return session


@pytest.fixture
def kit(backend):
    return Toolsets(backend)


async def listed(w) -> list[str]:
    return [tool["name"] for tool in (await w.legacy("tools/list").answer()).last["result"]["tools"]]


@pytest.mark.parametrize("dual", [False, True])
async def test_a_tool_that_a_session_enabled_can_be_called_in_it_and_in_no_other(world, kit, dual) -> None:
    if dual:
        kit.fake.state.era, kit.fake.state.eras = Era.MODERN, frozenset(Era)
    w = world(kit.fake)
    await w.initialize()
    assert "error" in (await w.legacy("tools/call", {"name": "extra"}).answer()).last
    await w.legacy("tools/call", {"name": "enable"}).answer()
    assert "result" in (await w.legacy("tools/call", {"name": "extra"}).answer()).last
    await w.initialize()
    await w.legacy("tools/call", {"name": "nothing"}).answer()
    assert "error" in (await w.legacy("tools/call", {"name": "extra"}).answer()).last


async def test_a_client_that_heard_of_a_change_is_shown_it_before_the_shared_lists_are_put_together(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.fake.change(tools=[TOOL, EXTRA])
    kit.fake.catalogue = kit.announcing(kit.fake.catalogue)
    assert w.gateway.offers.pending, "the backend's lists are new, what everybody is shown is not"
    kit.opened[0].spec.events.notification("kit", CHANGED, b"{}")
    assert await listed(w) == ["enable", "extra"]


async def test_a_list_that_changed_for_a_session_is_shown_to_its_client_who_is_told(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    stream = w.stream()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    assert await listed(w) == ["enable"], "nobody said that anything changed"
    kit.opened[0].spec.events.notification("kit", CHANGED, b"{}")
    told = await stream.until(lambda answer: CHANGED.encode() in answer.body)
    assert told.status == 200
    assert await listed(w) == ["enable", "extra"]
    asked = kit.listed
    assert await listed(w) == ["enable", "extra"]
    assert kit.listed == asked, "asked once, not for every list"
    await w.initialize()
    assert await listed(w) == ["enable"]


async def test_own_lists_that_equal_the_shared_ones_again_are_forgotten(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.opened[0].spec.events.notification("kit", CHANGED, b"{}")
    assert await listed(w) == ["enable", "extra"]
    kit.enabled.clear()
    kit.opened[0].spec.events.notification("kit", CHANGED, b"{}")
    assert await listed(w) == ["enable"]


async def test_unknown_names_do_not_make_a_session_be_asked_again_and_again(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    calls = (w.legacy("tools/call", {"name": f"nothing-{number}"}).answer() for number in range(20))
    answers = await asyncio.gather(*calls)
    assert all("error" in answer.last for answer in answers)
    assert kit.listed <= 1


async def test_a_backend_cannot_fill_the_memory_with_lists_of_single_sessions(world, kit, monkeypatch) -> None:
    monkeypatch.setitem(EXTRA, "description", "x" * 300_000)
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.opened[0].spec.events.notification("kit", CHANGED, b"{}")
    assert await listed(w) == ["enable"]
