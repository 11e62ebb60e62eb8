"""Daemons of the cluster: found again by their id only while it is theirs, and gone when asked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hack.cluster.daemons import Daemon, DaemonError, processes_of, running, stop
from hack.cluster.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path)
    for directory in (found.bin, found.run):
        directory.mkdir()
    return found


def program(layout: Layout, name: str) -> Path:
    found = layout.bin / name
    shutil.copy(shutil.which("sleep") or "/bin/sleep", found)
    return found


def test_a_daemon_is_started_once_and_ended(layout: Layout) -> None:
    path = program(layout, "d")
    daemon = Daemon(path, ("60",), layout)
    daemon.start()
    daemon.wait(lambda: processes_of(path) != [], "it runs", 10)
    first = running(layout, "d")
    daemon.start()
    assert running(layout, "d") == first
    stop(layout, "d")
    assert running(layout, "d") is None
    assert processes_of(path) == []
    stop(layout, "d")


def test_an_id_that_belongs_to_somebody_else_by_now_is_left_alone(layout: Layout) -> None:
    (layout.run / "d.pid").write_text(f"{os.getpid()} {layout.bin / 'd'}")
    assert running(layout, "d") is None
    stop(layout, "d")  # or these tests would have ended here
    assert not (layout.run / "d.pid").exists()


def test_a_daemon_that_ends_by_itself_says_why(layout: Layout) -> None:
    daemon = Daemon(program(layout, "d"), ("nonsense",), layout)
    daemon.start()
    with pytest.raises(DaemonError, match="invalid time interval"):
        daemon.wait(lambda: False, "never", 10)
