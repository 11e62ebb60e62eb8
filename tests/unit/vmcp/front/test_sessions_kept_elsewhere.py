"""Sessions whose records are kept where other gateways find them, and what happens while the store does not answer."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from tests.support.eventually import eventually
from vmcp.backend.interface import BackendLink
from vmcp.front.sessions import MAX_UNTOLD
from vmcp.sessions.record import Change, SessionRecord, decode_record, encode_record
from vmcp.sessions.store import Note, ProcessStore, StoreUnavailable

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
ANN, BOB = {"authorization": "Bearer ann"}, {"authorization": "Bearer bob"}


class Shelf(ProcessStore):
    """A store in this process, for gateways that share it; none of them hears of the others.

    Attributes:
        away: It does not answer.
        asked: What it was asked, by name.
        told: Bytes of each note that it was told.
        takes_notes: It goes on with what it was told; while this is not set, it lets all wait.
    """

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.away = False
        self.told: list[int] = []
        self.takes_notes = asyncio.Event()
        self.takes_notes.set()
        self._kept: dict[tuple[str, str], bytes] = {}

    @property
    def trouble(self) -> str:
        return "unavailable" if self.away else ""

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise StoreUnavailable("unavailable", retry_after=2.5)

    async def open(self, record: SessionRecord) -> None:
        self._ask("open")
        self._kept.setdefault((record.owner, record.id), encode_record(record))

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        self._ask("find")
        kept = self._kept.get((owner, session_id))
        return None if kept is None else decode_record(kept)

    async def save(self, record: SessionRecord, changes: Sequence[Change]) -> SessionRecord | None:
        self._ask("save")
        kept = await self.find(record.id, record.owner)
        if kept is not None:
            for change in changes:
                kept = change(kept)
            kept = msgspec.structs.replace(kept, revision=kept.revision + 1)
            self._kept[record.owner, record.id] = encode_record(kept)
        return kept

    async def end(self, session_id: str, owner: str, until: float) -> None:
        self._ask("end")
        self._kept.pop((owner, session_id), None)

    async def tell(self, note: Note) -> None:
        self.told.append(len(note.body))
        await self.takes_notes.wait()


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
async def one(world, backend, shelf):
    gateway = world(backend("a", tools=[TOOL], resources=[{"uri": "r:1", "name": "r"}]), store=shelf)
    await gateway.initialize({"elicitation": {}}, headers=ANN)
    return gateway


@pytest.fixture
async def other(world, backend, shelf, one):
    gateway = world(backend("a", tools=[TOOL], resources=[{"uri": "r:1", "name": "r"}]), store=shelf)
    gateway.session_id = one.session_id
    return gateway


async def test_a_session_goes_on_at_another_gateway_as_it_is(one, other):
    await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()
    await one.legacy("resources/subscribe", {"uri": "r:1"}, headers=ANN).answer()
    assert (await other.legacy("tools/call", {"name": "echo"}, headers=ANN).answer()).status == 200
    (session,) = other.sessions.all()
    assert session.record == one.sessions.all()[0].record
    assert (session.record.level, session.record.subscriptions) == ("error", ("r:1",))
    assert other.backends["a"].sessions[0].spec.client_capabilities == b'{"elicitation": {}}'


async def test_before_a_session_with_a_backend_is_opened_the_store_is_asked_for_one_that_is_there(one, other):
    assert (await other.legacy("ping", headers=ANN).answer()).status == 200
    session = one.sessions.all()[0]
    session.linked("a", BackendLink(id="opened by the one", version="2025-11-25"))
    await one.sessions.save(session)
    found = await other.sessions.all()[0].link("a")
    assert found is not None, "although no note of it has arrived"
    assert found.id == "opened by the one"


async def test_nobody_goes_on_with_the_session_of_another(one, other):
    for gateway in (one, other):
        assert (await gateway.legacy("ping", headers=BOB).answer()).status == 404
    assert (await other.legacy("ping", headers=ANN).answer()).status == 200


async def test_answers_to_nobody_s_questions_wait_for_a_slow_store_in_bounded_memory(one, shelf):
    answer = {"jsonrpc": "2.0", "id": "vmcp-another-1", "result": {"text": "x" * 2**20}}
    shelf.takes_notes.clear()
    for _ in range(40):
        assert (await one.post(answer, {**one.session_headers(), **ANN}).answer()).status == 202
    await eventually(lambda: len(shelf.told) > 5)
    assert sum(shelf.told) <= MAX_UNTOLD
    before = len(shelf.told)
    shelf.takes_notes.set()

    async def is_told() -> bool:
        await one.post(answer, {**one.session_headers(), **ANN}).answer()
        return len(shelf.told) > before

    await eventually(is_told)


async def test_a_session_that_was_ended_is_found_nowhere(one, other):
    assert (await one.send("DELETE", "/mcp", {**one.session_headers(), **ANN})).status == 200
    for gateway in (one, other):
        assert (await gateway.legacy("ping", headers=ANN).answer()).status == 404


async def test_the_store_is_not_asked_for_a_session_that_is_served_here(one, shelf):
    shelf.asked.clear()
    for _ in range(3):
        assert (await one.legacy("tools/call", {"name": "echo"}, headers=ANN).answer()).status == 200
    assert (await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()).status == 200
    assert (await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()).status == 200
    assert shelf.asked == ["save", "find"], "once, for what changed"


async def test_initialize_does_not_succeed_for_a_session_that_could_not_be_kept(world, backend, shelf):
    w = world(backend("a", tools=[TOOL]), store=shelf)
    shelf.away = True
    answer = await w.initialize(headers=ANN)
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert "mcp-session-id" not in answer.headers
    assert answer.json["error"]["message"] == "sessions are temporarily unavailable; try again"
    assert len(w.sessions) == 0
    shelf.away = False
    assert (await w.initialize(headers=ANN)).status == 200


async def test_while_the_store_is_away_sessions_that_are_here_go_on_and_others_hear_to_come_back(one, other, shelf):
    shelf.away = True
    assert (await one.legacy("tools/call", {"name": "echo"}, headers=ANN).answer()).status == 200
    assert (await one.legacy("logging/setLevel", {"level": "error"}, headers=ANN).answer()).status == 200
    elsewhere = await other.legacy("ping", headers=ANN).answer()
    assert (elsewhere.status, elsewhere.headers["retry-after"]) == (503, "3")
    assert (await other.modern("tools/call", {"name": "echo"}, headers=ANN).answer()).status == 200
    shelf.away = False
    assert (await other.legacy("ping", headers=ANN).answer()).status == 200


async def test_a_session_that_cannot_be_ended_everywhere_is_not_said_to_be_ended(one, shelf):
    shelf.away = True
    answer = await one.send("DELETE", "/mcp", {**one.session_headers(), **ANN})
    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    shelf.away = False
    assert (await one.legacy("ping", headers=ANN).answer()).status == 200
    assert (await one.send("DELETE", "/mcp", {**one.session_headers(), **ANN})).status == 200
    assert (await one.legacy("ping", headers=ANN).answer()).status == 404
