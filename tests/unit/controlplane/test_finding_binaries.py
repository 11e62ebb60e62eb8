"""The order in which the control plane's programs are looked for, and what is said when there are none."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path

import pytest

from hack.controlplane import binaries, builder, programs
from hack.controlplane.__main__ import main
from hack.controlplane.programs import CONTROLLER_MANAGER, REQUIRED, BinariesError


@pytest.fixture
def empty_machine(tmp_path, monkeypatch):
    """An empty cache directory, no assets, and a PATH without Go."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.delenv("CONTROLPLANE_DOWNLOAD", raising=False)
    return tmp_path


def install(directory: Path, names=REQUIRED) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


def fake_go(machine: Path, script: str) -> None:
    (machine / "bin").mkdir()
    go = machine / "bin" / "go"
    go.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    go.chmod(0o755)


WRITES_ITS_OUTPUT = 'while [ "$1" != -o ]; do shift; done; echo "#!$0" > "$2"; chmod +x "$2"'


def test_assets_named_by_the_environment_come_first(empty_machine, monkeypatch):
    install(programs.cache_directory())
    assets = install(empty_machine / "assets")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert binaries.ensure().directory == assets


def test_incomplete_assets_are_an_error_and_not_skipped_in_silence(empty_machine, monkeypatch):
    install(programs.cache_directory())
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(install(empty_machine / "assets", ["etcd"])))
    with pytest.raises(BinariesError, match=r"KUBEBUILDER_ASSETS=.*/assets does not hold all of etcd, kube-apiserver"):
        binaries.ensure()


def test_a_program_that_the_assets_lack_is_taken_from_the_cache(empty_machine, monkeypatch):
    cache = install(programs.cache_directory(), [*REQUIRED, CONTROLLER_MANAGER])
    assets = install(empty_machine / "assets")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    found = binaries.ensure()
    assert found.path("etcd") == assets / "etcd"
    assert found.path(CONTROLLER_MANAGER) == cache / CONTROLLER_MANAGER


def test_a_missing_controller_manager_is_named_with_the_way_out(empty_machine):
    install(programs.cache_directory())
    with pytest.raises(BinariesError, match=r"kube-controller-manager is neither in .*envtest archives lack it"):
        binaries.ensure().path(CONTROLLER_MANAGER)


def test_without_go_and_without_download_the_error_lists_the_ways_out(empty_machine, monkeypatch):
    monkeypatch.setenv("CONTROLPLANE_DOWNLOAD", "0")
    with pytest.raises(BinariesError, match=r"no `go` in PATH.*CONTROLPLANE_DOWNLOAD=1.*KUBEBUILDER_ASSETS"):
        binaries.ensure()


def test_a_mistyped_download_switch_is_refused(empty_machine, monkeypatch):
    monkeypatch.setenv("CONTROLPLANE_DOWNLOAD", "yes")
    with pytest.raises(BinariesError, match="CONTROLPLANE_DOWNLOAD=yes: expected 0 or 1"):
        binaries.ensure()


def test_a_build_shows_each_step_and_appears_as_a_whole(empty_machine):
    fake_go(empty_machine, f'echo "$PWD" >> {empty_machine}/log; {WRITES_ITS_OUTPUT}')
    said: list[str] = []
    found = binaries.ensure(said.append)
    assert found.directory == programs.cache_directory()
    assert sorted(path.name for path in found.directory.iterdir()) == sorted(p.name for p in builder.control_plane())
    assert [line for line in said if "usually" in line and "[1/4] etcd" in line]
    assert set((empty_machine / "log").read_text().split()) == {str(programs.MODULE)}
    assert list(programs.cache_directory().parent.glob(".*.partial")) == []


def test_a_failed_build_shows_the_compilers_words_and_leaves_nothing_to_be_found(empty_machine):
    fake_go(empty_machine, f'case "$*" in *apiserver) echo "boom: no space left"; exit 2;; esac; {WRITES_ITS_OUTPUT}')
    with pytest.raises(BinariesError, match=r"go build .*/kube-apiserver failed \(status 2\):\nboom"):
        binaries.ensure(lambda _: None)
    assert binaries.find() is None


def test_a_broken_off_build_goes_on_where_it_stopped(empty_machine):
    test_a_failed_build_shows_the_compilers_words_and_leaves_nothing_to_be_found(empty_machine)
    (empty_machine / "bin" / "go").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{WRITES_ITS_OUTPUT}\n")
    said: list[str] = []
    assert binaries.ensure(said.append).complete
    assert "    [1/4] etcd: there already" in said


def test_every_release_from_the_oldest_to_the_newest_that_is_supported_has_its_programs_pinned():
    found = programs.releases()
    minors = [int(minor.removeprefix("1.")) for minor in found]
    assert minors == list(range(33, minors[-1] + 1))
    assert found[list(found)[-1]] == programs.MODULE, "the newest is the default"
    for minor, module in found.items():
        staging = re.findall(r"=> k8s\.io/\S+ v0\.(\S+)", (module / "go.mod").read_text())
        version = programs.kubernetes_version(module)
        assert set(staging) == {version.removeprefix("1.")}, f"all of {minor} from one release"
        assert f"k8s.io/kubernetes v{version} h1:" in (module / "go.sum").read_text()


def test_an_older_release_is_built_from_its_own_modules_with_the_etcd_of_the_newest(empty_machine):
    oldest = next(iter(programs.releases().values()))
    install(programs.cache_directory())
    fake_go(empty_machine, f'echo "$PWD $*" >> {empty_machine}/log; {WRITES_ITS_OUTPUT}')
    found = binaries.ensure(lambda _: None, module=oldest)
    assert found.directory == programs.cache_directory(oldest) != programs.cache_directory()
    assert found.complete
    built = (empty_machine / "log").read_text().splitlines()
    assert len(built) == len(builder.control_plane()) - 1
    assert all(f"gitVersion=v{programs.kubernetes_version(oldest)} " in line for line in built)
    assert all(line.startswith(f"{oldest} ") for line in built)


def test_assets_do_not_stand_for_an_older_release_that_was_asked_for(empty_machine, monkeypatch):
    oldest = next(iter(programs.releases().values()))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(install(empty_machine / "assets")))
    cached = install(programs.cache_directory(oldest))
    assert binaries.ensure(module=oldest).directory == cached


def test_the_command_line_names_the_releases_that_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["binaries", "--kubernetes", "1.2"])
    assert "1.33" in capsys.readouterr().err


def _ensure(results) -> None:
    said: list[str] = []
    binaries.ensure(said.append)
    results.put(said)


def test_of_two_processes_one_builds_and_the_other_waits(empty_machine):
    pipe = empty_machine / "go-on"
    os.mkfifo(pipe)
    fake_go(empty_machine, f"echo x >> {empty_machine}/built; [ -p {pipe} ] && cat {pipe}; {WRITES_ITS_OUTPUT}")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_ensure, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    pipe.write_text("")  # returns when the first build reads it
    pipe.unlink()
    said = sorted((results.get(timeout=60) for _ in processes), key=len)
    for process in processes:
        process.join()
    assert (empty_machine / "built").read_text() == "x\n" * len(builder.control_plane())
    assert len(said[1]) == 2 + 2 * len(builder.control_plane())
    assert said[0] == [] or "another process is building" in said[0][0]
