"""What a client's session enables for itself is listed and callable, for that client alone."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from tests.support.eventually import eventually
from vmcp.backend.interface import BackendError, Call, Era, Reply
from vmcp.core import own_lists

TOOL = {"name": "enable", "inputSchema": {"type": "object"}}
EXTRA = {"name": "extra", "inputSchema": {"type": "object"}}
LATER = {"name": "later", "inputSchema": {"type": "object"}}
CHANGED = "notifications/tools/list_changed"


class Toolsets:
    """A backend whose sessions have tools of their own, once they called `enable`.

    Attributes:
        common: Tools of every session.
        answers: Lists are answered while it is set.
        asked: Set when a list is asked for.
        failing: Methods that have no answer.
    """

    def __init__(self, backend, **members):
        self.fake = backend("kit", tools=[TOOL], **members)
        self.fake.catalogue = self.announcing(self.fake.catalogue)
        self.fake.open = self.open
        self.enabled: set[object] = set()
        self.opened: list[object] = []
        self.listed = 0
        self.refused = 0
        self.common = [TOOL]
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()
        self.failing: set[str] = set()

    def tell(self) -> None:
        """Tell the newest session that its tools changed."""
        self.opened[-1].spec.events.notification("kit", CHANGED, b"{}")

    def change(self) -> None:
        """Change what everybody is shown to what is common; the snapshot does not hold it yet."""
        self.fake.change(tools=self.common)
        self.announcing(self.fake.catalogue)

    @staticmethod
    def announcing(catalogue):
        object.__setattr__(catalogue, "capabilities", b'{"tools":{"listChanged":true},"prompts":{}}')
        return catalogue

    def open(self, spec):
        session = type(self.fake).open(self.fake, spec)
        inner = session.call

        async def call(request: Call) -> Reply:
            name = json.loads(request.params).get("name")
            if request.method in self.failing:
                self.refused += 1
                raise BackendError("kit", "does not answer")
            if request.method == "tools/list":
                self.listed += 1
                tools = [*self.common, EXTRA] if session in self.enabled else self.common
                self.asked.set()
                await self.answers.wait()
                return Reply(result=json.dumps({"tools": tools}).encode(), era=Era.LEGACY)
            if request.method == "prompts/list":
                return Reply(result=b'{"prompts":[]}', era=Era.LEGACY)
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
    kit.common = [TOOL, EXTRA]
    kit.change()
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


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """What the clock of the lists says, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(own_lists, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


async def test_calls_of_unknown_names_wait_for_a_slow_backend_once_and_not_one_after_the_other(world, kit, now) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.answers.clear()
    calls = [w.legacy("tools/call", {"name": f"nothing-{number}"}) for number in range(3)]
    await kit.asked.wait()
    for _ in range(100):  # the others come to wait
        await asyncio.sleep(0)
    now[0] += own_lists.AGAIN + 1
    kit.answers.set()
    answers = await asyncio.gather(*(call.answer() for call in calls))
    assert all("error" in answer.last for answer in answers)
    assert kit.listed == 1


async def test_a_backend_that_answers_no_list_is_searched_less_and_less(world, kit, now) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.failing.add("tools/list")
    asked = []
    for _ in range(60):
        await w.legacy("tools/call", {"name": "nothing"}).answer()
        asked.append(kit.refused)
        now[0] += 1
    assert asked[-1] <= 5


async def test_a_backend_cannot_fill_the_memory_with_lists_of_single_sessions(world, kit, monkeypatch) -> None:
    monkeypatch.setitem(EXTRA, "description", "x" * 300_000)
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.opened[0].spec.events.notification("kit", CHANGED, b"{}")
    assert await listed(w) == ["enable"]


# --- who was told of a change, and then lists, sees it ---


async def held(w, kit):
    """Return a list request whose answer waits for what the session says."""
    kit.answers.clear()
    kit.asked.clear()
    request = w.legacy("tools/list")
    async with asyncio.timeout(10):
        await kit.asked.wait()
    return request


async def names(request) -> list[str]:
    return [tool["name"] for tool in (await request.answer()).last["result"]["tools"]]


async def test_shared_lists_that_are_put_together_while_the_session_is_asked_are_the_ones_that_are_shown(
    world, kit
) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.enabled.clear()
    kit.common = [TOOL, LATER]
    kit.change()
    kit.tell()
    request = await held(w, kit)
    w.gateway.offers.rebuild()  # as its timer does, where the session takes longer than that
    kit.answers.set()
    assert await names(request) == ["enable", "later"]


async def test_every_list_that_is_asked_for_at_the_same_time_shows_the_change(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.tell()
    first = await held(w, kit)
    others = [asyncio.create_task(listed(w)) for _ in range(3)]
    (session,) = w.sessions.all()
    await eventually(lambda: session.active == 4 or others[0].done())
    assert not any(other.done() for other in others), "what the session says is not known yet"
    kit.answers.set()
    assert await names(first) == ["enable", "extra"]
    assert await asyncio.gather(*others) == [["enable", "extra"]] * 3


async def test_a_second_change_during_the_look_at_the_first_is_shown_to_who_lists_after_it(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.tell()
    first = await held(w, kit)
    kit.common = [TOOL, LATER]
    kit.tell()
    kit.answers.set()
    assert await names(first) == ["enable", "extra"]
    assert await listed(w) == ["enable", "extra", "later"]


async def test_own_lists_hide_no_change_of_the_shared_ones(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.tell()
    assert await listed(w) == ["enable", "extra"]
    stream = w.stream()
    kit.common = [TOOL, LATER]
    kit.change()
    w.gateway.offers.rebuild()
    await stream.until(lambda answer: CHANGED.encode() in answer.body)
    assert await listed(w) == ["enable", "extra", "later"], "the session itself heard nothing"


async def test_own_lists_that_everybody_is_shown_by_now_are_not_asked_for_again(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.tell()
    assert await listed(w) == ["enable", "extra"]
    kit.enabled.clear()
    kit.common = [TOOL, EXTRA]
    kit.change()
    asked = kit.listed
    assert await listed(w) == ["enable", "extra"]
    assert kit.listed == asked
    assert not w.gateway.offers.pending, "what everybody is shown was put together for it"


async def test_what_a_client_gave_up_asking_for_is_shown_when_it_asks_again(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.tell()
    request = await held(w, kit)
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": w.last_id}}
    await w.post(cancelled, w.session_headers()).answer()
    await request.task
    kit.answers.set()
    assert await listed(w) == ["enable", "extra"]


async def test_a_list_that_cannot_be_had_hides_no_change_of_another(world, kit) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.failing.add("prompts/list")
    kit.tell()
    assert await listed(w) == ["enable", "extra"]


async def test_a_list_that_could_not_be_had_is_asked_for_again(world, kit, monkeypatch) -> None:
    w = world(kit.fake)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.failing.add("tools/list")
    kit.tell()
    assert await listed(w) == ["enable"]
    kit.failing.clear()
    assert await listed(w) == ["enable"], "not at once: each look may cost seconds"
    monkeypatch.setattr(own_lists, "AGAIN", 0.0)
    assert await listed(w) == ["enable", "extra"]


async def test_own_lists_of_one_backend_leave_the_personal_ones_of_another(world, backend, kit) -> None:
    other = backend("other")
    other.personal = True
    lists = other.make(tools=[LATER])

    async def catalogue_for(principal, *, headers=(), timeout):
        return lists

    other.catalogue_for = catalogue_for
    w = world(kit.fake, other)
    await w.initialize()
    await w.legacy("tools/call", {"name": "enable"}).answer()
    kit.tell()
    assert await listed(w) == ["enable", "extra", "later"]
