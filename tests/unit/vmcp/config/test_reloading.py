"""A changed file is validated, then swapped in; a bad one is refused, visibly, and the old one stays."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from tests.unit.vmcp.config.configs import text
from vmcp.config.load import load_file
from vmcp.config.reload import ConfigStatus, FileSource, Reloader
from vmcp.config.settings import Settings
from vmcp.observe.metrics import Metrics


class Bench:
    def __init__(self, path) -> None:
        self.path = path
        self.applied: list[Settings] = []
        self.fail: Exception | None = None
        self.standing: set[str] = set()
        self.swapped = asyncio.Event()
        self.metrics = Metrics()
        first = load_file(path, {})
        status = ConfigStatus(first.digest, 1.0, left_out=first.settings.left_out)
        self.reloader = Reloader(FileSource(path, {}), self.apply, self.metrics, status, interval=0.005)

    async def apply(self, settings: Settings) -> frozenset[str]:
        if self.fail is not None:
            raise self.fail
        self.applied.append(settings)
        self.swapped.set()
        return frozenset(self.standing)

    def gauge(self) -> str:
        lines = self.metrics.render()[1].decode().splitlines()
        return next(line for line in lines if line.startswith("vmcp_config_last_reload_successful ")).split()[1]


@pytest.fixture
def bench(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(text())
    return Bench(path)


async def test_an_unchanged_or_touched_file_is_no_reload(bench):
    assert not await bench.reloader.check()
    os.utime(bench.path)
    assert not await bench.reloader.check()
    assert bench.applied == []
    assert bench.reloader.status.generation == 1


async def test_a_changed_file_is_swapped_in(bench):
    old = bench.reloader.status.digest
    bench.path.write_bytes(text(name="new"))
    assert await bench.reloader.check()
    assert [one.name for one in bench.applied] == ["new"]
    status = bench.reloader.status
    assert status.digest != old
    assert (status.generation, status.refused) == (2, ())
    assert bench.gauge() == "1.0"


async def test_a_bad_file_is_refused_and_shown_until_a_good_one_comes(bench):
    digest = bench.reloader.status.digest
    bench.path.write_bytes(b"nme: x\n")
    assert not await bench.reloader.check()
    shown = bench.reloader.status.as_json()
    assert shown["digest"] == digest
    assert shown["refused"] == ["nme"]
    assert "unknown key" in bench.reloader.status.refused[0]
    assert shown["refused_at"] is not None
    assert bench.gauge() == "0.0"
    assert bench.applied == []
    bench.path.write_bytes(text())
    await bench.reloader.check()
    assert bench.reloader.status.refused == ()
    assert bench.gauge() == "1.0"


async def test_many_mistakes_are_shown_up_to_a_bound(bench):
    bench.path.write_bytes(b"".join(b"unknown%d: 1\n" % n for n in range(100)))
    await bench.reloader.check()
    assert len(bench.reloader.status.refused) == 21
    assert bench.reloader.status.refused[-1] == "and 80 more"


async def test_a_file_that_vanishes_is_refused_and_its_return_is_noticed(bench):
    bench.path.rename(bench.path.with_suffix(".gone"))
    await bench.reloader.check()
    assert "cannot be read" in bench.reloader.status.refused[0]
    bench.path.write_bytes(text(name="back"))
    assert await bench.reloader.check()


async def test_a_swap_that_fails_leaves_the_old_one_and_says_so(bench):
    bench.fail = RuntimeError("no")
    bench.path.write_bytes(text(name="new"))
    assert not await bench.reloader.check()
    assert "cannot be applied" in bench.reloader.status.refused[0]
    assert bench.reloader.status.generation == 1


async def test_a_config_map_s_symlink_swap_is_noticed(tmp_path):
    # As the kubelet does it: config.yaml -> ..data/config.yaml, ..data -> a directory that is replaced at once.
    for number, name in enumerate(("first", "second")):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}" / "config.yaml").write_bytes(text(name=name))
    (tmp_path / "..data").symlink_to("v0")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    bench = Bench(tmp_path / "config.yaml")
    assert not await bench.reloader.check()
    (tmp_path / "..tmp").symlink_to("v1")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert await bench.reloader.check()
    assert bench.applied[0].name == "second"


async def test_it_watches_by_itself_and_a_nudge_makes_it_look_at_once(bench):
    bench.reloader.interval = 3600.0
    task = asyncio.create_task(bench.reloader.run())
    bench.path.write_bytes(text(name="nudged"))
    await asyncio.sleep(0)
    bench.reloader.nudge()
    await asyncio.wait_for(bench.swapped.wait(), 5)
    bench.swapped.clear()
    bench.reloader.interval = 0.005
    bench.reloader.nudge()
    bench.path.write_bytes(text(name="watched"))
    await asyncio.wait_for(bench.swapped.wait(), 5)
    assert [one.name for one in bench.applied] == ["nudged", "watched"]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_source_that_fails_unexpectedly_goes_on_being_followed(bench):
    class Broken:
        stamps = 0
        broken = True

        def stamp(self):
            self.stamps += 1
            return self.stamps

        async def load(self):
            if self.broken:
                raise KeyError("s3cret")
            return load_file(bench.path, {})

    source = bench.reloader.source = Broken()
    assert not await bench.reloader.check()
    assert bench.reloader.status.refused == ("cannot be built: KeyError",)
    source.broken = False
    bench.path.write_bytes(text(name="new"))
    assert await bench.reloader.check()
    assert bench.reloader.status.refused == ()
