"""The official envtest archive: etcd, kube-apiserver and kubectl, checked against the SHA-512 of the release index.

It holds no kube-controller-manager; that one is built when `go` is there, else it stays missing and only what needs it
says so.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.controlplane.programs import REQUIRED, BinariesError, Say, target

INDEX = "https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml"
TIMEOUT = 5.0
"""Seconds for connecting and for each read: a machine without a way out must notice quickly."""


@dataclass(frozen=True)
class Release:
    """An archive of the index."""

    version: str
    url: str
    sha512: str


def fetch(directory: Path, say: Say, version: str, *, index: str = INDEX) -> None:
    """Download, check and unpack into `directory` the newest release of the minor version of `version`.

    Raises:
        BinariesError: no answer, no release for this minor version and platform, or a wrong checksum.
    """
    say("==> looking for the official envtest archive")
    release = newest(yaml.safe_load(_read(index)), version, "-".join(target()))
    say(f"    fetching Kubernetes {release.version} (about 60 MiB)")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".download-") as scratch:
        archive = Path(scratch, "archive.tar.gz")
        digest = _download(release.url, archive)
        if digest != release.sha512:
            raise BinariesError(
                f"{release.url}: SHA-512 is {digest}, the index says {release.sha512}; nothing installed"
            )
        unpacked = Path(scratch, "bin")
        _unpack(archive, unpacked)
        directory.mkdir(exist_ok=True)
        for program in unpacked.iterdir():
            program.replace(directory / program.name)


def newest(index: Any, version: str, platform: str) -> Release:
    """Pick the newest patch release of `version`'s minor for `platform` ("linux-amd64"); raises `BinariesError`."""
    minor = ".".join(version.split(".")[:2])
    found: list[tuple[int, Release]] = []
    for tag, files in (index.get("releases", {}) if isinstance(index, dict) else {}).items():
        match = re.fullmatch(rf"v{re.escape(minor)}\.(\d+)", tag)
        entry = files.get(f"envtest-{tag}-{platform}.tar.gz") if match else None
        if match and entry:
            found.append((int(match[1]), Release(tag.removeprefix("v"), entry["selfLink"], entry["hash"])))
    if not found:
        raise BinariesError(f"the envtest index has no release of Kubernetes {minor} for {platform}")
    return max(found, key=lambda item: item[0])[1]


def _read(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(16 << 20)
            return data
    except OSError as error:
        raise BinariesError(f"cannot read {url}: {error}") from error


def _download(url: str, path: Path) -> str:
    digest = hashlib.sha512()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as out:
            while block := answer.read(1 << 20):
                digest.update(block)
                out.write(block)
    except OSError as error:
        raise BinariesError(f"cannot fetch {url}: {error}") from error
    return digest.hexdigest()


def _unpack(archive: Path, directory: Path) -> None:
    """Take the programs that we know by name, whatever directory they are in; nothing else leaves the archive."""
    directory.mkdir()
    missing = set(REQUIRED)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if member.isfile() and name in missing:
                source = tar.extractfile(member)
                assert source is not None
                with source, (directory / name).open("wb") as out:
                    shutil.copyfileobj(source, out)
                (directory / name).chmod(0o755)
                missing.discard(name)
    if missing:
        raise BinariesError(f"{archive.name} lacks {', '.join(sorted(missing))}")
