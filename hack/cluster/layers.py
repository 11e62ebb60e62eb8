"""Layers and archives: directories as tar files, and tar files as an image in docker's format."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_EPOCH = "2020-01-01T00:00:00Z"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write_layer(directory: Path, target: str, layer: Path) -> Path:
    """Write a directory (or file) as a layer that puts it at `target`; owned by root, as COPY does. "" is the root."""
    layer.parent.mkdir(parents=True, exist_ok=True)
    partial = layer.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(directory, arcname=target.strip("/") or ".", filter=_owned_by_root if target else _plain)
    return seal_layer(partial, layer)


def seal_layer(partial: Path, layer: Path) -> Path:
    """Give a finished tar file its name, and write its digest beside it."""
    layer.with_suffix(".sha256").write_text(_digest(partial))
    partial.replace(layer)
    return layer


def write_image(name: str, layers: Sequence[Path], config: dict[str, Any], archive: Path) -> Path:
    """Write an image of finished layers.

    Args:
        name: with its tag.
        layers: from `write_layer`, lowest first.
        config: in OCI's words; PATH is added.
        archive: the file.
    """
    digests = [layer.with_suffix(".sha256").read_text() for layer in layers]
    config = {**config, "Env": [_PATH, *config.get("Env", [])]}
    document = {
        "architecture": "arm64" if os.uname().machine == "aarch64" else "amd64",
        "os": "linux",
        "created": _EPOCH,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": _EPOCH}] * len(digests),
    }
    body = json.dumps(document, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(body).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar" for digest in digests]}]
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for member, data in ((config_name, body), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for layer, digest in zip(layers, digests, strict=True):
            tar.add(layer, arcname=f"{digest}/layer.tar")
    partial.replace(archive)
    return archive


def content_key(*parts: str | Path) -> str:
    """Return a hash of texts, and of the names and contents of files below paths; byte code does not count."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(f"text {len(part)} {part}".encode())
            continue
        for path in _files(part):
            data = path.read_bytes()
            digest.update(f"file {path.relative_to(part.parent)} {len(data)} ".encode())
            digest.update(data)
    return digest.hexdigest()[:20]


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    return _plain(info)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uname = info.gname = ""
    return info
