"""Where the control plane's programs come from.

In this order: the directory in KUBEBUILDER_ASSETS; the user's cache directory (XDG_CACHE_HOME or ~/.cache); built from
Go modules into that cache directory when `go` is there; else the official envtest archive. CONTROLPLANE_DOWNLOAD=1 asks
for the archive before Go, CONTROLPLANE_DOWNLOAD=0 forbids it. docs/design/010-control-plane.md says why building is the
default.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.controlplane import builder
from hack.controlplane import download as archive
from hack.controlplane.programs import (
    ETCD,
    MODULE,
    REQUIRED,
    Binaries,
    BinariesError,
    Say,
    cache_directory,
    kubernetes_version,
    to_stderr,
)


def find(module: Path = MODULE) -> Binaries | None:
    """Look without building or downloading; None when there is nothing.

    KUBEBUILDER_ASSETS counts for the newest release only: nobody knows which one it holds, and whoever names an older
    one wants that.

    Raises:
        BinariesError: KUBEBUILDER_ASSETS is set, but the directory is not complete.
    """
    if module == MODULE and (assets := os.environ.get("KUBEBUILDER_ASSETS")):
        return _assets(assets)
    cached = Binaries(cache_directory(module), "cache")
    return cached if cached.complete else None


def _assets(assets: str) -> Binaries:
    binaries = Binaries(Path(assets), "KUBEBUILDER_ASSETS")
    if not binaries.complete:
        raise BinariesError(f"KUBEBUILDER_ASSETS={assets} does not hold all of {', '.join(REQUIRED)}")
    return binaries


def ensure(say: Say | None = None, *, download: bool | None = None, module: Path = MODULE) -> Binaries:
    """Find the programs, or make them. Waits while another process makes them.

    Args:
        say: gets one line per step; default: standard error.
        download: True tries the official archive before Go, False never tries it, None reads CONTROLPLANE_DOWNLOAD
            ("1", "0"; unset: only where there is no Go).
        module: the release of Kubernetes, one of `releases()`; default: the newest.

    Raises:
        BinariesError: nothing worked; the message says why and what to do.
    """
    say = say or to_stderr
    found = find(module)
    if found:
        return found
    with _lock(say, cache_directory(module)):
        found = find(module)  # somebody else may have made them while we waited
        if found:
            return found
        _make(module, say, download if download is not None else _download_wanted())
    found = find(module)
    assert found, "made, but not found"
    return found


def _download_wanted() -> bool | None:
    value = os.environ.get("CONTROLPLANE_DOWNLOAD", "")
    if value not in ("", "0", "1"):
        raise BinariesError(f"CONTROLPLANE_DOWNLOAD={value}: expected 0 or 1")
    return {"": None, "0": False, "1": True}[value]


def _make(module: Path, say: Say, download: bool | None) -> None:
    """Fill a partial directory, then rename it: the programs appear together or not at all."""
    directory = cache_directory(module)
    partial = directory.with_name(f".{directory.name}.partial")
    go = shutil.which("go")
    if download or (download is None and go is None):
        try:
            archive.fetch(partial, say, kubernetes_version(module))
        except BinariesError as error:
            if go is None:
                raise BinariesError(f"{error}; and there is no `go` (1.26 or newer) to build with") from error
            say(f"    {error}; building from Go modules instead")
    if go is not None:
        _share_etcd(partial)
        programs = builder.control_plane(module)
        builder.build(go, partial, say, programs, what=f"the control plane of Kubernetes {kubernetes_version(module)}")
    if not Binaries(partial, "").complete:
        raise BinariesError(
            "no `go` in PATH (install Go 1.26 or newer), or set CONTROLPLANE_DOWNLOAD=1 to fetch the envtest archive, "
            "or point KUBEBUILDER_ASSETS at a directory with " + ", ".join(REQUIRED)
        )
    shutil.rmtree(directory, ignore_errors=True)  # without one of the programs, or `find` had taken it
    partial.rename(directory)
    say(f"    kept in {directory}")


def _share_etcd(partial: Path) -> None:
    """All releases run on one etcd: do not build again what the newest has."""
    etcd = cache_directory() / ETCD
    if etcd.exists() and not (partial / ETCD).exists():
        partial.mkdir(parents=True, exist_ok=True)
        shutil.copy2(etcd, partial / f".{ETCD}.tmp")
        (partial / f".{ETCD}.tmp").rename(partial / ETCD)


@contextmanager
def _lock(say: Say, directory: Path) -> Iterator[None]:
    """One maker at a time, across processes; the kernel frees the lock of a process that died."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f".{directory.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("==> another process is building the control plane; waiting for it (up to about 5 minutes)")
            start = time.monotonic()
            fcntl.flock(file, fcntl.LOCK_EX)
            say(f"    waited {time.monotonic() - start:.0f} s")
        yield
