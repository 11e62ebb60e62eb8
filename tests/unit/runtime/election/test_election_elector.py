"""Who holds the lease when: the election loop against a lease in memory, in virtual time.

The real server, real processes and real signals are in tests/envtest/manager; here every second is exact.
"""

from __future__ import annotations

import asyncio
import copy
import random
from typing import Any

import pytest

from runtime.election import fence as fence_module
from runtime.election.elector import Elector, LeaseLostError
from runtime.election.fence import Fence
from runtime.election.lease import HttpLeaseClient, LeaseLock
from runtime.election.options import ElectionOptions
from runtime.transport.session import Answer
from runtime.wire.errors import AlreadyExistsError, ConflictError, NotFoundError, TransportError
from runtime.wire.gvk import Key
from tests.support.virtual_time import now, settle, virtual_time

KEY = Key("ns", "lease")
OPTIONS = ElectionOptions("lease", "ns")


class Server:
    """One Lease with optimistic locking."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.version = 0
        self.writes: list[tuple[float, str]] = []

    @property
    def holder(self) -> str:
        return self.body["spec"]["holderIdentity"] if self.body else ""

    def store(self, body: Any) -> dict[str, Any]:
        self.version += 1
        self.body = copy.deepcopy(dict(body))
        self.body["metadata"]["resourceVersion"] = str(self.version)
        self.writes.append((now(), self.holder))
        return copy.deepcopy(self.body)


class Client:
    """One candidate's connection; can be cut, can lose answers, can hang."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.down = False
        self.lose_answers = False
        self.hang = False
        self.gets = 0

    async def get(self) -> dict[str, Any]:
        await self._network()
        self.gets += 1
        if self.server.body is None:
            raise NotFoundError(404, "NotFound", "no lease")
        return copy.deepcopy(self.server.body)

    async def create(self, body: Any) -> dict[str, Any]:
        await self._network()
        if self.server.body is not None:
            raise AlreadyExistsError(409, "AlreadyExists", "there is one")
        return self._answer(self.server.store(body))

    async def update(self, body: Any) -> dict[str, Any]:
        await self._network()
        if body["metadata"]["resourceVersion"] != str(self.server.version):
            raise ConflictError(409, "Conflict", "modified")
        return self._answer(self.server.store(body))

    async def _network(self) -> None:
        if self.hang:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if self.down:
            raise TransportError("connection refused")

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.lose_answers:
            raise TransportError("reset")
        return body


@pytest.fixture(autouse=True)
def virtual_boottime(monkeypatch):
    monkeypatch.setattr(fence_module, "boottime", lambda: asyncio.get_running_loop().time())


class Candidate:
    def __init__(self, server: Server, name: str, options: ElectionOptions = OPTIONS) -> None:
        self.client = Client(server)
        self.fence = Fence()
        self.stop = asyncio.Event()
        self.silence = 0.0
        self.elected_at: float | None = None
        self.slow = 0
        clock = asyncio.get_running_loop().time
        self.lock = LeaseLock(self.client, KEY, name, options.lease_duration, clock, self._count)

        def elected() -> None:
            self.elected_at = now()

        self.elector = Elector(
            self.lock, options, self.fence, clock, lambda: self.silence, elected, random.Random(name)
        )
        self.task = asyncio.create_task(self.elector.run(self.stop))

    def _count(self) -> None:
        self.slow += 1

    async def end(self) -> None:
        self.stop.set()
        await asyncio.gather(self.task, return_exceptions=True)


@virtual_time
async def test_the_first_candidate_leads_at_once_and_renews_every_retry_period():
    server = Server()
    a = Candidate(server, "a")
    await asyncio.sleep(10.5)
    assert a.elected_at == 0
    assert [at for at, _ in server.writes] == [0, 2, 4, 6, 8, 10]
    assert a.client.gets == 1  # renewals use the record they wrote
    assert server.body["spec"]["leaseTransitions"] == 0
    await a.end()


@virtual_time
async def test_a_second_candidate_waits_for_the_full_lease_after_the_last_renewal_it_saw():
    server = Server()
    a = Candidate(server, "a")
    await settle()
    b = Candidate(server, "b")
    await asyncio.sleep(6.1)
    a.client.down = True  # last renewal at 6
    await asyncio.sleep(30)
    assert b.elected_at is not None
    assert 21 <= b.elected_at <= 6 + 15 + 2 * 2.2 * 2
    assert server.body["spec"]["leaseTransitions"] == 1
    assert isinstance(a.task.exception(), LeaseLostError)
    await b.end()


@virtual_time
async def test_a_leader_that_cannot_renew_is_fenced_before_anybody_else_leads():
    server = Server()
    a, b = Candidate(server, "a"), None
    await settle()
    b = Candidate(server, "b")
    await asyncio.sleep(4.1)
    a.client.hang = True
    fenced_at = None
    while b.elected_at is None:
        await asyncio.sleep(0.1)
        if fenced_at is None and not a.fence.allows():
            fenced_at = now()
    assert fenced_at is not None
    assert fenced_at <= 4 + OPTIONS.renew_deadline + 0.2
    assert b.elected_at >= fenced_at + OPTIONS.lease_duration - OPTIONS.renew_deadline - 0.2
    assert isinstance(a.task.exception(), LeaseLostError)
    await b.end()


@virtual_time
async def test_a_short_outage_is_survived_and_asked_about_more_often():
    server = Server()
    a = Candidate(server, "a")
    await asyncio.sleep(4.1)
    a.client.down = True
    await asyncio.sleep(5)
    a.client.down = False
    await asyncio.sleep(1)
    assert a.fence.allows()
    assert not a.task.done()
    assert server.writes[-1][0] > 9
    await a.end()


@virtual_time
@pytest.mark.parametrize(
    "page", [b"<html>a proxy's page</html>", b"", b"[]", b"null", b'{"spec":"\xff"}', b'{"spec":[]}']
)
async def test_an_answer_that_is_no_lease_is_a_failed_try_and_not_the_end_of_the_candidate(page):
    class Proxy:
        async def request(self, method: str, path: str, *, body: bytes | None = None, retry: bool = True) -> Answer:
            return Answer(200, page)

    with pytest.raises(TransportError, match="Lease"):
        await HttpLeaseClient(Proxy(), KEY).get()


async def test_an_answer_that_was_lost_is_found_out_by_reading():
    server = Server()
    a = Candidate(server, "a")
    await asyncio.sleep(2.1)
    a.client.lose_answers = True
    await asyncio.sleep(2)
    a.client.lose_answers = False
    await asyncio.sleep(4)
    assert not a.task.done()
    assert a.fence.allows()
    assert server.body["spec"]["leaseTransitions"] == 0
    await a.end()


@virtual_time
async def test_a_silent_main_loop_lets_the_lease_go():
    server = Server()
    a = Candidate(server, "a")
    await asyncio.sleep(4.1)
    a.silence = OPTIONS.longest_silence + 1
    await asyncio.sleep(9.8)
    assert not a.task.done()  # fenced at 14, not before
    await asyncio.sleep(0.5)
    assert isinstance(a.task.exception(), LeaseLostError)
    assert [at for at, _ in server.writes][-1] == 4


@virtual_time
async def test_a_silence_that_ends_in_time_costs_nothing():
    server = Server()
    a = Candidate(server, "a")
    await asyncio.sleep(4.1)
    a.silence = 6.0
    await asyncio.sleep(5)
    a.silence = 0.0
    await asyncio.sleep(10)
    assert not a.task.done()
    assert a.fence.allows()
    await a.end()


@virtual_time
async def test_a_process_whose_main_loop_hangs_does_not_become_leader():
    server = Server()
    a = Candidate(server, "a")
    a.silence = 60
    await asyncio.sleep(30)
    assert a.elected_at is None
    assert server.body is None
    await a.end()


@virtual_time
async def test_a_released_lease_is_taken_within_one_retry():
    server = Server()
    a = Candidate(server, "a")
    await settle()
    b = Candidate(server, "b")
    await asyncio.sleep(5.1)
    await a.end()
    await a.lock.release()
    assert server.holder == ""
    released = now()
    await asyncio.sleep(5)
    assert b.elected_at is not None
    assert b.elected_at - released <= OPTIONS.retry_period * 2.2
    await a.lock.release()  # not ours any more: nothing happens
    assert server.holder == "b"
    await b.end()


@virtual_time
async def test_a_leader_that_finds_another_holder_stops_at_once():
    server = Server()
    a = Candidate(server, "a")
    await asyncio.sleep(2.1)
    stolen = copy.deepcopy(server.body)
    stolen["spec"]["holderIdentity"] = "thief"
    server.store(stolen)
    await asyncio.sleep(2)
    assert isinstance(a.task.exception(), LeaseLostError)
    assert not a.fence.allows()
    assert a.slow == 1


@virtual_time
async def test_fields_of_others_in_the_lease_stay():
    server = Server()
    server.store(
        {"metadata": {"labels": {"x": "y"}}, "spec": {"holderIdentity": "", "strategy": "OldestEmulationVersion"}}
    )
    a = Candidate(server, "a")
    await asyncio.sleep(3)
    assert server.body["metadata"]["labels"] == {"x": "y"}
    assert server.body["spec"]["strategy"] == "OldestEmulationVersion"
    await a.end()


@virtual_time
async def test_many_candidates_never_overlap():
    """Connections come and go at random; at no time do two fences allow writes."""
    server, rng = Server(), random.Random(7)
    crowd = [Candidate(server, f"c{i}") for i in range(4)]
    reigns = set()
    for step in range(4000):
        await asyncio.sleep(0.1)
        allowed = [c for c in crowd if c.fence.allows()]
        assert len(allowed) <= 1, step
        reigns.update(id(c) for c in allowed)
        for index, candidate in enumerate(crowd):
            if candidate.task.done() and candidate.task.exception() is not None:
                crowd[index] = Candidate(server, f"c{step}-{index}")
            elif rng.random() < 0.01:
                candidate.client.down = not candidate.client.down
                candidate.client.hang = rng.random() < 0.2
    assert len(reigns) >= 3
    for candidate in crowd:
        await candidate.end()


@pytest.mark.parametrize(
    "times", [{"lease_duration": 5}, {"renew_deadline": 2.2}, {"retry_period": 9}, {"lease_duration": 0.5}]
)
def test_times_that_could_let_two_leaders_overlap_are_refused(times):
    with pytest.raises(ValueError, match=r"leader election needs|at least 1 s"):
        ElectionOptions("l", "ns", **times)


@virtual_time
async def test_a_closed_fence_is_not_reopened_by_a_renewal_under_way():
    fence = Fence()
    fence.extend(100)
    assert fence.allows()
    fence.close()
    fence.extend(200)
    assert not fence.allows()
