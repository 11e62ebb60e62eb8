"""Health endpoints, metrics endpoint, loop watch."""

from __future__ import annotations

import asyncio
import gc
import time

import aiohttp
import pytest
from structlog.testing import capture_logs

from runtime.observe.health import Checks, report
from runtime.observe.loopwatch import LoopWatch
from runtime.observe.metrics import REGISTRY
from runtime.observe.servers import BindError, HttpServer, metrics_server, parse_bind, probe_server
from tests.support.virtual_time import virtual_time


class Serving:
    def __init__(self, server: HttpServer) -> None:
        self.server, self.stop = server, asyncio.Event()

    async def __aenter__(self) -> str:
        ready = asyncio.Event()
        self.task = asyncio.create_task(self.server.run(ready.set, self.stop))
        await asyncio.wait({self.task, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            self.task.result()
        return f"http://127.0.0.1:{self.server.port}"

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await self.task


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_probes_answer_like_the_api_server():
    healthz, readyz, state = Checks("healthz"), Checks("readyz"), {"reason": None}
    readyz.add("caches", lambda: state["reason"])
    readyz.add("other", lambda: None)
    async with Serving(probe_server("127.0.0.1:0", healthz, readyz)) as url:
        assert await get(f"{url}/healthz") == (200, "ok")
        assert await get(f"{url}/healthz/ping") == (200, "ok")
        assert await get(f"{url}/readyz") == (200, "ok")
        assert await get(f"{url}/readyz?verbose") == (200, "[+]caches ok\n[+]other ok\nreadyz check passed\n")
        state["reason"] = "watch of secrets is dead"
        status, text = await get(f"{url}/readyz")
        assert status == 500
        assert text == "[-]caches failed: reason withheld\n[+]other ok\nreadyz check failed\n"
        assert (await get(f"{url}/readyz/caches"))[0] == 500
        assert (await get(f"{url}/readyz/other"))[0] == 200
        assert (await get(f"{url}/readyz?exclude=caches"))[0] == 200
        assert (await get(f"{url}/readyz/nope"))[0] == 404
        assert (await get(f"{url}/healthz"))[0] == 200


async def test_a_check_that_raises_is_red_and_its_reason_is_logged_once_per_change():
    checks, outcome = Checks("readyz"), [RuntimeError("boom")]

    async def check() -> str | None:
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    checks.add("x", check)
    with capture_logs() as logs:
        for _ in range(3):
            assert (await report(checks))[0] == 500
        outcome[0] = None
        assert (await report(checks))[0] == 200
    assert [line["event"] for line in logs] == ["health check failed", "health check recovered"]
    assert logs[0]["reason"] == "RuntimeError: boom"
    with pytest.raises(ValueError, match="already is a check named x"):
        checks.add("x", check)


async def test_metrics_are_served_in_the_format_that_is_asked_for():
    async with Serving(metrics_server("127.0.0.1:0")) as url:
        status, text = await get(f"{url}/metrics")
        assert status == 200
        assert "process_resident_memory_bytes" in text
        assert "_created" not in text
        _, text = await get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert text.endswith("# EOF\n")
        assert (await get(f"{url}/debug"))[0] == 404


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (":8080", (None, 8080)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:0", ("::1", 0)),
        ("0", None),
        ("", None),
    ],
)
def test_addresses_have_controller_runtimes_form(address, expected):
    assert parse_bind(address) == expected


@pytest.mark.parametrize("address", ["8080", "host", ":http", ":70000", "::"])
def test_other_addresses_are_refused_by_name(address):
    with pytest.raises(BindError, match="is not an address"):
        parse_bind(address)


async def test_a_taken_port_is_one_clear_sentence():
    async with Serving(metrics_server("127.0.0.1:0")) as url:
        taken = url.removeprefix("http://")
        with pytest.raises(BindError, match=f"metrics server cannot listen on {taken}"):
            await metrics_server(taken).run(lambda: None, asyncio.Event())


async def test_a_switched_off_server_is_ready_at_once():
    ready = asyncio.Event()
    await metrics_server("0").run(ready.set, asyncio.Event())
    assert ready.is_set()


def lag_count() -> float:
    return REGISTRY.get_sample_value("runtime_event_loop_lag_seconds_count") or 0.0


async def test_a_blocked_loop_is_logged_and_fails_the_check_when_it_happens_again():
    watch, stop = LoopWatch(interval=0.01, warn_after=0.05, red_after=0.1, window=30), asyncio.Event()
    with capture_logs() as logs:
        task = asyncio.create_task(watch.run(lambda: None, stop))
        for expected in (False, True):
            await asyncio.sleep(0.03)
            time.sleep(0.15)  # noqa: ASYNC251  blocking is what is tested
            await asyncio.sleep(0.03)
            assert (watch.check() is not None) is expected
        stop.set()
        await task
    assert sum(line["event"] == "the event loop was blocked" for line in logs) == 2
    assert "over 0.1 s late 2 times" in watch.check()


@virtual_time
async def test_an_idle_loop_is_never_late():
    before, watch, stop = lag_count(), LoopWatch(interval=0.5), asyncio.Event()
    task = asyncio.create_task(watch.run(lambda: None, stop))
    await asyncio.sleep(10.2)
    stop.set()
    await task
    assert lag_count() - before == 20
    assert watch.check() is None


async def test_collections_are_timed_while_watching_only():
    def pauses() -> float:
        return REGISTRY.get_sample_value("runtime_gc_pause_seconds_count", {"generation": "2"}) or 0.0

    watch, stop = LoopWatch(), asyncio.Event()
    task = asyncio.create_task(watch.run(lambda: None, stop))
    await asyncio.sleep(0)
    before = pauses()
    gc.collect()
    assert pauses() == before + 1
    stop.set()
    await task
    gc.collect()
    assert pauses() == before + 1
