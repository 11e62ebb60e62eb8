"""Faults of lists and watches: after each the cache equals the server, nothing was told twice, and requests are few.

The rows are those of the fault table in the controller runtime's checklist (section 3.7).
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest

from hack.controlplane.handle import Handle
from runtime._kit.backoff import BackoffSettings
from runtime.testing.faultproxy import FaultProxy, FaultRule
from runtime.testing.faults import (
    Matcher,
    answered_late,
    changed,
    ended,
    injected,
    lists,
    page,
    pages,
    reset_inside_line,
    resumes,
    rewritten,
    shuffled,
    silent,
    slow,
    status,
    stream,
    streams,
    watches,
    without,
)
from tests.support.eventually import eventually
from tests.support.fault_rig import QUICK, rig

LISTING = replace(QUICK, streaming=False)
ANY_LIST = lists("widgets")


def names(count: int, prefix: str = "w") -> list[str]:
    return [f"{prefix}{number:02}" for number in range(count)]


async def test_streams_that_end_after_every_few_events_cost_no_list_and_few_requests(
    control_plane: Handle, namespace: str
) -> None:
    def often(proxy: FaultProxy) -> None:
        proxy.on(watches("widgets"), stream(ended(after=3)))

    async with rig(control_plane, namespace, before=often) as world:
        await world.synced()
        await world.make(*names(20))
        await world.remove(*names(20)[::2])
        await world.in_step()
        assert world.proxy.count(streams("widgets")) + world.proxy.count(ANY_LIST) == 1
        assert world.proxy.count(resumes("widgets")) <= 30 / 3 + 2


async def test_a_connection_reset_inside_a_line_resumes_from_the_last_whole_event(
    control_plane: Handle, namespace: str
) -> None:
    async with rig(control_plane, namespace, existing=names(3)) as world:
        await world.synced()
        world.proxy.on(resumes("widgets"), stream(reset_inside_line(after=2)), times=3)
        world.proxy.reset_streams()
        await world.make(*names(10, "x"))
        await world.remove(*names(3))
        await world.in_step()
        assert world.proxy.count(streams("widgets")) == 1
        assert world.proxy.count(ANY_LIST) == 0
        assert world.proxy.count(resumes("widgets")) <= 6


async def test_a_watch_that_is_cut_before_its_answer_comes_is_asked_for_again(
    control_plane: Handle, namespace: str
) -> None:
    never = asyncio.Event()

    def unanswered(proxy: FaultProxy) -> None:
        proxy.on(streams("widgets"), stream(ended(after=4)), times=1)

    async with rig(control_plane, namespace, before=unanswered, existing=names(3)) as world:
        hanging = world.proxy.on(resumes("widgets"), answered_late(never), times=1)
        await world.synced()
        await eventually(lambda: hanging.hits == 1, "the watch has arrived")
        world.proxy.reset_streams()
        await world.make("x")
        await world.in_step()
        assert world.proxy.count(resumes("widgets")) == 2
        assert world.proxy.count(streams("widgets")) == 1


async def test_an_initial_stream_that_is_reset_starts_again_with_nothing_told_twice(
    control_plane: Handle, namespace: str
) -> None:
    def broken(proxy: FaultProxy) -> None:
        proxy.on(streams("widgets"), stream(reset_inside_line(after=2)), times=2)

    async with rig(control_plane, namespace, before=broken, existing=names(5)) as world:
        await world.in_step()
        assert world.proxy.count(streams("widgets")) == 3


async def test_a_silent_watch_is_replaced_and_no_problem_meanwhile(control_plane: Handle, namespace: str) -> None:
    settings = replace(QUICK, silence=1.0, fresh=20.0)

    def mute(proxy: FaultProxy) -> None:
        proxy.on(streams("widgets"), stream(silent(after=lambda line: b'"late"' in line)))

    async with rig(control_plane, namespace, settings=settings, before=mute) as world:
        await world.synced()
        await world.make("late")
        await world.in_step()
        assert world.cache.problems() == []
        assert world.proxy.count(streams("widgets")) == 1


async def test_silence_turns_readiness_red_when_the_watch_cannot_be_opened_again(
    control_plane: Handle, namespace: str
) -> None:
    settings = replace(QUICK, silence=0.5, fresh=1.0)

    def dead(proxy: FaultProxy) -> None:
        proxy.on(streams("widgets"), stream(silent(after=lambda line: b'"late"' in line)))
        proxy.on(resumes("widgets"), status(503, "ServiceUnavailable"), times=6)

    async with rig(control_plane, namespace, settings=settings, before=dead) as world:
        await world.synced()
        await world.make("late")
        await eventually(world.cache.problems, "a problem is reported")
        await world.in_step()
        assert world.cache.problems() == []


@pytest.mark.parametrize("form", ["status", "event"])
async def test_an_expired_version_leads_to_one_new_list_with_each_deletion_told_once(
    control_plane: Handle, namespace: str, form: str
) -> None:
    gone = orjson.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})

    def expire(proxy: FaultProxy) -> None:
        # The first stream ends after its end bookmark and one event; the deletions fall between.
        proxy.on(streams("widgets"), stream(ended(after=5)), times=1)
        plan = status(410, "Expired") if form == "status" else stream(injected(lambda _: [gone]))
        proxy.on(resumes("widgets"), plan, times=1)

    async with rig(control_plane, namespace, before=expire, existing=names(3)) as world:
        await world.synced()
        await world.make("trigger")  # the fifth line
        await world.remove("w00", "w01")
        await world.in_step()
        assert world.proxy.count(streams("widgets")) == 2
        assert [world.view.count("deleted", name) for name in ("w00", "w01", "w02")] == [1, 1, 0]
        assert world.informer.stats().lists["expired"] == 1
        assert len(world.proxy.exchanges) < 8


async def test_a_page_that_expires_is_followed_by_a_full_list_without_duplicates(
    control_plane: Handle, namespace: str
) -> None:
    def expire(proxy: FaultProxy) -> None:
        proxy.on(lambda e: ANY_LIST(e) and e.query.get("resourceVersion") == "0", status(410, "Expired"))
        proxy.on(pages("widgets"), status(410, "Expired"), times=1)

    settings = replace(LISTING, page_size=4)
    async with rig(control_plane, namespace, settings=settings, before=expire, existing=names(10)) as world:
        await world.in_step()
        assert [world.view.count("added", name) for name in names(10)] == [1] * 10
        assert world.proxy.count(ANY_LIST) == 4
        assert "limit" not in next(e for e in reversed(world.proxy.exchanges) if ANY_LIST(e)).query


@pytest.mark.parametrize("settings", [QUICK, LISTING], ids=["streaming", "listing"])
async def test_a_version_too_large_waits_as_told_and_asks_for_the_most_recent(
    control_plane: Handle, namespace: str, settings: object
) -> None:
    matches: Matcher = streams("widgets") if settings is QUICK else ANY_LIST

    def behind(proxy: FaultProxy) -> None:
        plan = status(504, "Timeout", retry_after=1, cause="ResourceVersionTooLarge")
        proxy.on(matches, plan, times=1)

    async with rig(control_plane, namespace, settings=settings, before=behind, existing=["a"]) as world:
        await world.in_step()
        first, second = [e for e in world.proxy.exchanges if matches(e)]
        assert 1.0 <= second.time - first.time < 5.0
        assert second.query.get("resourceVersion", "") == ""


async def test_a_stream_without_end_bookmark_is_replaced_by_a_list_and_remembered(
    control_plane: Handle, namespace: str
) -> None:
    def forgetful(proxy: FaultProxy) -> None:
        proxy.on(streams("widgets"), stream(without(lambda line: b"initial-events-end" in line)))

    async with rig(control_plane, namespace, before=forgetful, existing=names(3)) as world:
        await world.in_step()
        world.proxy.on(resumes("widgets"), status(410, "Expired"), times=1)
        world.proxy.reset_streams()
        await eventually(lambda: world.informer.stats().lists["expired"] == 1, "the version has expired")
        await world.in_step()
        assert world.proxy.count(streams("widgets")) == 1
        assert world.proxy.count(ANY_LIST) == 2


@pytest.mark.parametrize(("code", "reason"), [(422, "Invalid"), (400, "BadRequest")])
async def test_a_server_that_knows_no_streaming_lists_is_listed(
    control_plane: Handle, namespace: str, code: int, reason: str
) -> None:
    def old(proxy: FaultProxy) -> None:
        proxy.on(streams("widgets"), status(code, reason))

    async with rig(control_plane, namespace, before=old, existing=names(3)) as world:
        await world.in_step()
        await world.change("w01", a=1)
        await world.in_step()
        assert (world.proxy.count(streams("widgets")), world.proxy.count(ANY_LIST)) == (1, 1)


@pytest.mark.parametrize("settings", [QUICK, LISTING], ids=["streaming", "listing"])
async def test_too_many_requests_is_obeyed_on_lists_and_watches(
    control_plane: Handle, namespace: str, settings: object
) -> None:
    def busy(proxy: FaultProxy) -> None:
        proxy.on(lambda e: ANY_LIST(e) or streams("widgets")(e), status(429, "TooManyRequests", retry_after=1), times=1)
        proxy.on(watches("widgets"), stream(ended(after=1)), times=0 if settings is LISTING else 1)
        proxy.on(resumes("widgets"), status(429, "TooManyRequests", retry_after=1), times=1)

    async with rig(control_plane, namespace, settings=settings, before=busy) as world:
        await world.synced()
        await world.make("a")
        await world.in_step()
        times = [e.time for e in world.proxy.exchanges]
        refused = [at for at, e in enumerate(world.proxy.exchanges) if e.status == 429]
        assert len(refused) == 2
        assert all(1.0 <= times[at + 1] - times[at] < 5.0 for at in refused)
        assert sum(1 for e in world.proxy.exchanges if (ANY_LIST(e) or streams("widgets")(e)) and e.status == 200) == 1


@pytest.mark.parametrize("code", [200, 502])
async def test_empty_and_foreign_answers_are_asked_for_ever_more_rarely(
    control_plane: Handle, namespace: str, code: int
) -> None:
    settings = replace(QUICK, backoff=BackoffSettings(base=0.1, cap=2.0, reset_after=10))
    rules: list[FaultRule] = []

    def proxied(proxy: FaultProxy) -> None:
        proxy.on(streams("widgets"), stream(ended(after=1)), times=1)
        rules.append(proxy.on(resumes("widgets"), page(code, "" if code == 200 else "<html>bad gateway</html>")))

    async with rig(control_plane, namespace, settings=settings, before=proxied) as world:
        await world.synced()
        (rule,) = rules
        await eventually(lambda: rule.hits >= 4, "the answers came")
        times = [e.time for e in world.proxy.exchanges if e.rule is rule]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert gaps[0] >= 0.1
        assert gaps[2] >= 0.4
        await eventually(lambda: any("cannot follow" in p for p in world.cache.problems()), "a problem is reported")
        rule.stop()
        await world.make("a")
        await world.in_step()
        assert world.proxy.count(streams("widgets")) == 1


def lifted(data: bytes) -> bytes:
    """Move every version into the server's future, as one from before a restored backup would be."""
    return re.sub(rb'"resourceVersion":\s?"(\d+)"', lambda m: b'"resourceVersion":"%d"' % (int(m[1]) + 10**9), data)


@pytest.mark.parametrize("settings", [QUICK, LISTING], ids=["streaming", "listing"])
async def test_a_server_restored_to_an_earlier_state_is_noticed(
    control_plane: Handle, namespace: str, settings: object
) -> None:
    def future(proxy: FaultProxy) -> None:
        proxy.on(streams("widgets"), stream(changed(lifted)), times=1)
        if settings is LISTING:
            proxy.on(ANY_LIST, rewritten(lifted), times=1)

    quick = replace(settings, silence=0.8, fresh=30)
    async with rig(control_plane, namespace, settings=quick, before=future, existing=names(3)) as world:
        await world.synced()
        assert {record.version > 10**9 for record in world.cache.reader.list(world.informer.resource)} == {True}
        world.proxy.reset_streams()
        await world.remove("w00")
        await world.change("w01", restored=True)
        await world.in_step()
        assert world.view.count("deleted", "w00") == 1


async def test_reordered_and_repeated_events_converge_with_a_bounded_number_of_lists(
    control_plane: Handle, namespace: str, scale: Any
) -> None:
    def disorder(proxy: FaultProxy) -> None:
        proxy.on(watches("widgets"), stream(shuffled(random.Random(scale.seed))), times=12)

    async with rig(control_plane, namespace, before=disorder) as world:
        await world.synced()
        await world.make(*names(6))
        for number in range(6):
            await world.change(names(6)[number], number=number)
        await world.remove(*names(3))
        await world.in_step()
        assert world.informer.stats().lists["version_regression"] >= 1
        assert len(world.proxy.exchanges) < 30


async def test_a_slow_stream_is_alive(control_plane: Handle, namespace: str) -> None:
    settings = replace(QUICK, silence=1.5, fresh=1.2)

    def trickle(proxy: FaultProxy) -> None:
        # About 500 bytes/s: the line needs more than twice the allowed silence.
        proxy.on(watches("widgets"), stream(slow(size=50, pause=0.1)))

    async with rig(control_plane, namespace, settings=settings, before=trickle) as world:
        await world.synced()
        await world.make("big", text="x" * 1500)
        before = world.proxy.count(watches("widgets"))
        await eventually(lambda: world.names() == ["big"], "the slow line has arrived")
        assert world.proxy.count(watches("widgets")) - before <= 1


async def test_a_line_of_five_mebibytes_is_read(control_plane: Handle, namespace: str) -> None:
    def pad(line: bytes) -> bytes:
        return line.replace(b'"pad":"x"', b'"pad":"' + b"x" * (5 * 2**20) + b'"')

    def large(proxy: FaultProxy) -> None:
        proxy.on(watches("widgets"), stream(changed(pad)))

    async with rig(control_plane, namespace, before=large) as world:
        await world.synced()
        await world.make("big", pad="x")
        record = await eventually(
            lambda: world.cache.reader.get(world.informer.resource, world.key("big")), "the object is in the cache"
        )
        assert len(record.path("spec.pad")) == 5 * 2**20
        assert world.proxy.count(watches("widgets")) == 1
