"""However the owner of a control plane ends, its servers end too and its files go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from hack.controlplane import ControlPlane, Options, plane, process, shared
from hack.controlplane.handle import Handle
from tests.support.eventually import eventually_blocking

ROOT = Path(__file__).parents[3]
OWNER = """
import sys
from hack.controlplane import ControlPlane
with ControlPlane() as plane:
    print(plane.directory, plane.etcd.process.pid, plane.apiserver.process.pid, flush=True)
    sys.stdin.read()
"""
SHARED_OWNER = """
import sys
from pathlib import Path
from hack.controlplane import plane, shared
run = Path(sys.argv[1])
lock = plane.hold(run)
handle = shared.start(run, ("--controllers=",), owner=run / plane.ALIVE)
print(handle.pid, flush=True)
sys.stdin.read()
"""


def owner(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def private_tmp(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.mark.envtest
@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_servers_die_with_a_killed_owner_and_the_next_start_removes_its_files(private_tmp):
    child = owner(OWNER)
    directory, *pids = child.stdout.readline().split()
    child.kill()
    child.wait()
    eventually_blocking(lambda: not any(shared.running(int(pid)) for pid in pids))
    assert Path(directory).is_dir()
    os.utime(directory, (0, 0))  # as if a while ago
    plane.sweep(private_tmp)
    assert list(private_tmp.iterdir()) == []


@pytest.mark.envtest
def test_a_shared_control_plane_ends_when_its_owner_is_killed(tmp_path):
    child = owner(SHARED_OWNER, str(tmp_path))
    supervisor = psutil.Process(int(child.stdout.readline()))
    servers = supervisor.children()
    assert sorted(server.name() for server in servers) == ["etcd", "kube-apiserver"]
    child.kill()
    child.wait()
    _, alive = psutil.wait_procs([supervisor, *servers], timeout=20)
    assert not alive
    assert not (tmp_path / shared.PLANE).exists()


@pytest.mark.envtest
def test_of_many_that_ask_at_once_one_starts_it_and_all_get_the_same(tmp_path):
    script = SHARED_OWNER.replace("plane.hold(run)", "None").replace("owner=run / plane.ALIVE", "owner=None")
    children = [owner(script, str(tmp_path)) for _ in range(3)]
    pids = {child.stdout.readline() for child in children}
    for child in children:
        child.communicate("")
    assert len(pids) == 1
    assert shared.stop(tmp_path)
    assert not shared.running(int(pids.pop()))
    assert not shared.stop(tmp_path), "there is none any more"


@pytest.mark.envtest
def test_up_and_down_from_the_command_line(tmp_path):
    command = [sys.executable, "-m", "hack.controlplane"]
    where = f"--directory={tmp_path}"
    up = subprocess.run(
        [*command, "up", "--detach", "--controllers=", where], cwd=ROOT, capture_output=True, text=True, check=True
    )
    handle = Handle.load(tmp_path / shared.PLANE)
    assert up.stdout.splitlines()[0] == f"export KUBECONFIG={handle.kubeconfig}"
    installed = subprocess.run(
        [*command, "install-crds", where, "tests/support/crds"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert installed.stdout.splitlines() == ["widgets.test.example.com"]
    assert handle.kubectl("get", "widgets", "-A").stderr == "No resources found\n"
    subprocess.run([*command, "down", where], cwd=ROOT, check=True)
    assert not shared.running(handle.pid)
    gone = subprocess.run([*command, "install-crds", where, "x"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert gone.returncode == 1
    assert gone.stderr.endswith("is not there; is the control plane up?\n")


@pytest.mark.envtest
def test_ctrl_c_stops_a_control_plane_in_the_foreground(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-m", "hack.controlplane", "up", "--controllers=", f"--directory={tmp_path}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout.readline().startswith("export KUBECONFIG=")
    servers = psutil.Process(child.pid).children()
    child.send_signal(signal.SIGINT)
    assert child.wait(20) == 0
    assert not psutil.wait_procs(servers, timeout=0)[1]
    assert not (tmp_path / shared.PLANE).exists()


def test_a_port_that_somebody_took_meanwhile_is_not_the_end(make_control_plane, monkeypatch):
    import socket

    real = process.free_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr("hack.controlplane.components.free_port", lambda: ports.pop() if ports else real())
        started = make_control_plane(Options())
    assert started.handle.kubectl("get", "--raw=/readyz").stdout == "ok"


def test_a_killed_api_server_comes_back_on_the_same_port_with_its_data(make_control_plane):
    started = make_control_plane(Options())
    started.handle.kubectl("create", "namespace", "kept")
    started.apiserver.process.kill()
    started.restart(started.apiserver)
    assert started.handle.kubectl("get", "namespace", "kept", "-o", "name").stdout == "namespace/kept\n"


@pytest.mark.envtest
def test_a_server_that_refuses_its_flags_is_reported_with_its_own_words(private_tmp):
    with pytest.raises(process.ProcessError, match=r"(?s)kube-apiserver ended .*unknown flag: --nonsense"):
        ControlPlane(Options(apiserver_arguments=("--nonsense",))).start()
    assert list(private_tmp.iterdir()) == []
