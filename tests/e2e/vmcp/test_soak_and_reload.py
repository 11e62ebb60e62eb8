"""Hours in small: many clients while backends die and configurations change. Nobody gets another's answer, nothing is
lost."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.vmcp.issuer import Issuer
from tests.e2e.vmcp.kit import Client, EchoBackend, Gateway, config
from tests.support.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = 64
MEBIBYTE = 1024 * 1024


@dataclass
class Tally:
    """What happened to the calls."""

    good: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Caller:
    """One client that asks again and again, and knows what the answer must be."""

    def __init__(self, number: int, issuer: Issuer, tally: Tally) -> None:
        self.number, self.issuer, self.tally = number, issuer, tally
        self.subject = f"user-{number % 8}"
        self.era = ("legacy", "modern")[number % 2]
        self.counts: dict[tuple[str, str], int] = {}
        self.nonce = 0
        self.client: Client | None = None

    async def run(self, url: str, backends: list[str], steady: set[str], end: asyncio.Event, seed: int) -> None:
        rng = random.Random(seed * 1000 + self.number)
        token = self.issuer.token(self.subject, exp=int(time.time()) + 3600)
        async with Client(url, era=self.era, token=token) as self.client:
            while not end.is_set():
                await self.once(rng.choice(backends), steady)

    async def once(self, backend: str, steady: set[str]) -> None:
        assert self.client is not None
        self.nonce += 1
        nonce = f"{self.number}-{self.nonce}"
        tool = f"{backend}_count" if self.nonce % 3 == 0 else f"{backend}_echo"
        try:
            reply = await self.client.call(tool, nonce=nonce)
            told = reply.told
        except (AssertionError, KeyError, OSError, TimeoutError, ValueError) as error:
            self.tally.failed[backend] += 1
            if backend in steady:
                self.tally.lost.append(f"{self.era} {tool} {nonce}: {type(error).__name__}: {error}"[:500])
            return
        self.tally.good[backend] += 1
        self.check(tool, backend, nonce, told)

    def check(self, tool: str, backend: str, nonce: str, told: dict[str, Any]) -> None:
        """The answer must be to this question, from this backend, with this caller's credentials and session."""
        wrong = []
        if (told["nonce"], told["backend"]) != (nonce, backend):
            wrong.append("another question's answer")
        if told["authorization"] is not None and self._subject(told["authorization"]) != self.subject:
            wrong.append("another's credentials")
        if self.era == "legacy" and tool.endswith("_count"):
            key = (backend, told["session"])
            if told["count"] != self.counts.get(key, 0) + 1:
                wrong.append(f"count {told['count']} after {self.counts.get(key, 0)}: another's session")
            self.counts[key] = told["count"]
        if wrong:
            self.tally.wrong.append(f"{self.era} {self.subject} {tool} {nonce}: {wrong}: {told}")

    def sessions(self, backend: str) -> int:
        """How many sessions of this backend a legacy client has seen: more than one = its state was lost."""
        return len({session for name, session in self.counts if name == backend})

    @staticmethod
    def _subject(authorization: str) -> str:
        part = authorization.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["sub"]


@dataclass
class House:
    issuer: Issuer
    gateway: Gateway
    backends: dict[str, EchoBackend]
    document: dict[str, Any]


@contextlib.asynccontextmanager
async def house(directory: Any, *names: str) -> AsyncIterator[House]:
    async with Issuer() as issuer:
        issuer.expires_in = 3600
        backends = dict(zip(names, await asyncio.gather(*(EchoBackend(name).start() for name in names)), strict=True))
        exchange = {
            "type": "token_exchange",
            "tokenExchange": {
                "tokenUrl": issuer.url + "/token",
                "clientId": "gw",
                "clientSecretEnv": "SECRET",
                "audience": "api",
            },
        }
        document = config(
            *(backend.entry for backend in backends.values()),
            incomingAuth=issuer.incoming,
            outgoingAuth={"source": "inline", "backends": {names[0]: exchange}},
        )
        gateway = Gateway(
            document,
            directory,
            *(backend.resolve for backend in backends.values()),
            environ={"SECRET": "exchange-secret"},
        )
        await gateway.start()
        try:
            await eventually(lambda: gateway.knows(*names), within=60)
            yield House(issuer, gateway, backends, document)
        finally:
            await gateway.stop(seconds=40)
            await asyncio.gather(*(backend.stop() for backend in backends.values()))
        gateway.clean()


@pytest.mark.timeout(1200)
async def test_while_backends_die_and_return_no_answer_is_wrong_and_no_healthy_backend_loses_a_call(tmp_path, scale):
    seconds = int(os.environ.get("SOAK_SECONDS") or scale(20, 600))
    rng = random.Random(scale.seed)
    tally = Tally()
    async with house(tmp_path, "steady", "frail", "brittle") as place:
        callers = [Caller(number, place.issuer, tally) for number in range(CLIENTS)]
        end = asyncio.Event()
        names = list(place.backends)
        tasks = [
            asyncio.create_task(caller.run(place.gateway.url, names, {"steady"}, end, scale.seed)) for caller in callers
        ]
        kills, memory, started = 0, [], time.monotonic()
        while time.monotonic() - started < seconds:
            victim = place.backends[rng.choice(names[1:])]
            await victim.stop(signal.SIGKILL)
            await asyncio.wait(tasks, timeout=rng.uniform(0.1, 1.0))
            await victim.start()
            await asyncio.wait(tasks, timeout=rng.uniform(0.5, 2.0))
            kills += 1
            memory.append(place.gateway.rss())
            assert not [task for task in tasks if task.done()], "a client ended early"
        # Everything is up again: soon every client reaches every backend, in the session that it has.
        await eventually(lambda: place.gateway.knows(*names), within=60)
        end.set()
        await asyncio.gather(*tasks)
        sessions = [caller.sessions("steady") for caller in callers if caller.era == "legacy"]
        before = Counter(tally.failed)
        for caller in callers:
            async with Client(
                place.gateway.url, era=caller.era, token=place.issuer.token(caller.subject)
            ) as caller.client:
                for name in names:
                    await caller.once(name, set(names))
    asked = sum(tally.good.values())
    print(f"{asked} answers in {seconds} s, {kills} kills, failed {dict(tally.failed)}")
    print("MiB:", [size // MEBIBYTE for size in memory])
    assert tally.wrong == []
    assert tally.lost == []
    assert tally.failed == before
    assert asked > 10 * seconds
    assert kills >= max(2, seconds // 20)
    assert min(tally.good[name] for name in names) > seconds
    assert max(sessions) <= 1
    grown = memory[-1] - memory[len(memory) // 2]
    assert grown < 16 * MEBIBYTE, f"{grown / MEBIBYTE:.1f} MiB more in the second half: {memory}"


def variant(document: dict[str, Any], number: int, names: list[str]) -> dict[str, Any]:
    """Return the configuration, changed in another way each time; the first two backends always stay."""
    kept = [entry for entry in document["backends"] if entry["name"] in names[:2] or number % 2 == 0]
    changed = {
        **document,
        "backends": kept if number % 3 else list(reversed(kept)),
        "operational": {
            "timeouts": {"default": f"{20 + number}s"},
            "failureHandling": {"healthCheckInterval": "2s", "healthCheckTimeout": "1s"},
        },
        "rateLimiting": {"shared": {"maxTokens": 1_000_000 + number, "refillPeriod": "1s"}},
    }
    if number % 4 == 0:
        changed["audit"] = {"component": f"c{number}", "logFile": "/dev/null"}
    return changed


@pytest.mark.timeout(1200)
async def test_reloads_under_load_drop_no_call_and_no_session(tmp_path, scale):
    reloads = scale(20, 100)
    tally = Tally()
    async with house(tmp_path, "a", "b", "comes-and-goes") as place:
        names = list(place.backends)
        callers = [Caller(number, place.issuer, tally) for number in range(CLIENTS // 2)]
        end = asyncio.Event()
        tasks = [
            asyncio.create_task(caller.run(place.gateway.url, names, set(names[:2]), end, scale.seed))
            for caller in callers
        ]
        for number in range(1, reloads + 1):
            if number % 10 == 5:
                await _refused(place)
            before = (await place.gateway.status())["config"]["generation"]
            place.gateway.write(variant(place.document, number, names))
            place.gateway.process.send_signal(signal.SIGHUP)
            await eventually(lambda known=before: _generation_after(place.gateway, known), within=30)
            assert not [task for task in tasks if task.done()], "a client ended early"
        end.set()
        await asyncio.gather(*tasks)
        status = await place.gateway.status()
    print(f"{sum(tally.good.values())} answers during {reloads} reloads, failed at {dict(tally.failed)}")
    assert tally.wrong == []
    assert tally.lost == []
    assert status["config"]["generation"] == reloads + 1
    assert status["config"]["refused"] == []
    assert min(tally.good[name] for name in names) > reloads
    for caller in callers:
        if caller.era == "legacy":
            assert max(caller.sessions(name) for name in names[:2]) <= 1


async def _generation_after(gateway: Gateway, known: int) -> bool:
    return (await gateway.status())["config"]["generation"] > known


async def _refused(place: House) -> None:
    """A broken file in between is refused, visibly, and changes nothing."""
    before = (await place.gateway.status())["config"]
    place.gateway.write({**place.document, "backends": [{"name": "x", "url": "nonsense"}], "unknown": 1})
    place.gateway.process.send_signal(signal.SIGHUP)

    async def shown() -> bool:
        return "unknown" in (await place.gateway.status())["config"]["refused"]

    await eventually(shown, within=30)
    assert (await place.gateway.status())["config"]["digest"] == before["digest"]
