"""Builds images without a container engine: the Dockerfiles' instructions on a tree that debootstrap makes.

Each stage is a stack of directories. A RUN happens in a chroot of them, mounted by overlayfs in a mount namespace of
its own, so that a crash leaves no mount behind. Every directory and every layer is kept under a hash of what it was
made from: code that changed costs the layer of the code.

One difference to the Dockerfiles' builder remains: for `python:3.11-slim-bookworm` it takes Debian bookworm with
Debian's own Python 3.11.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.dockerfile import Copy, Run, Stage, parse
from hack.cluster.layers import content_key, seal_layer, write_image, write_layer
from hack.cluster.layout import DNS_IMAGE, PAUSE_IMAGE, REPOSITORY, Layout
from hack.controlplane.programs import Say

_SUITE, _PACKAGES = "bookworm", "python3,python3-venv,ca-certificates"
_KEPT_EMPTY = ("dev", "proc", "sys")
_TRIMMED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
_PAUSE = """
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int s) { (void)s; _exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap); for (;;) pause(); }
"""


class ImageError(RuntimeError):
    """An image could not be built; the message holds the end of what was said."""


@dataclass(frozen=True)
class Built:
    """A stage's files: directories, the upper ones over the lower ones."""

    directories: tuple[Path, ...]
    key: str


class Images:
    """Builds images into the cluster's directory.

    Args:
        layout: where.
        say: gets a line per step that takes long.
    """

    def __init__(self, layout: Layout, say: Say) -> None:
        self._layout = layout
        self._say = say

    def pause(self) -> Path:
        """Return the archive of the process that holds a pod's namespaces."""
        archive = self._layout.images / "pause.tar"
        if not archive.exists():
            directory = self._fresh("pause")
            (directory / "pause.c").write_text(_PAUSE)
            _call("gcc", "-Os", "-static", "-s", "-o", str(directory / "pause"), str(directory / "pause.c"))
            layer = write_layer(directory / "pause", "/pause", self._layer("pause"))
            write_image(PAUSE_IMAGE, [layer], {"Entrypoint": ["/pause"], "User": "65535:65535"}, archive)
        return archive

    def coredns(self) -> Path:
        """Return the archive of the DNS server."""
        archive, program = self._layout.images / "coredns.tar", self._layout.bin / "coredns"
        if not archive.exists() or archive.stat().st_mtime < program.stat().st_mtime:
            layer = write_layer(program, "/coredns", self._layer("coredns"))
            write_image(DNS_IMAGE, [layer], {"Entrypoint": ["/coredns"]}, archive)
        return archive

    def from_dockerfile(self, dockerfile: Path, name: str) -> Path:
        """Return the archive of a Dockerfile's last stage.

        Raises:
            DockerfileError: it uses an instruction that is not known.
            ImageError: a command failed.
        """
        stages = parse(dockerfile.read_text(encoding="utf-8"))
        base = self._base()
        built: dict[str, Built] = {}
        for stage in stages[:-1]:
            built[stage.name] = self._build(stage, base)
        layers = [self._base_layer(base)]
        for step in stages[-1].steps:
            if not isinstance(step, Copy):
                raise ImageError(f"{dockerfile.name}: RUN in the last stage is not known")
            layers.append(self._copied(step, built))
        key = content_key(name, str(stages[-1].config), *(layer.with_suffix(".sha256").read_text() for layer in layers))
        archive = self._layout.images / f"{dockerfile.name.lower()}-{key}.tar"
        if not archive.exists():
            for old in self._layout.images.glob(f"{dockerfile.name.lower()}-*.tar"):
                old.unlink()
            write_image(name, layers, stages[-1].config, archive)
        return archive

    def _base(self) -> Built:
        directory = self._layout.images / "base" / content_key(_SUITE, _PACKAGES)
        if not directory.exists():
            self._say(f"    Debian {_SUITE} with Python by debootstrap, once: usually 90 s ...")
            start = time.monotonic()
            partial = self._fresh("base.partial")
            _call("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(partial))
            for name in (*_TRIMMED, *_KEPT_EMPTY):
                shutil.rmtree(partial / name, ignore_errors=True)
                (partial / name).mkdir(parents=True)
            # python:3.11 has it; Debian only calls it python3.
            (partial / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            directory.parent.mkdir(parents=True, exist_ok=True)
            partial.rename(directory)
            self._say(f"    Debian: {time.monotonic() - start:.0f} s")
        return Built((directory,), directory.name)

    def _base_layer(self, base: Built) -> Path:
        layer = self._layer(f"base-{base.key}")
        return layer if layer.exists() else write_layer(base.directories[0], "", layer)

    def _build(self, stage: Stage, base: Built) -> Built:
        present = base
        for step in stage.steps:
            present = self._step(present, step)
        return present

    def _step(self, below: Built, step: Copy | Run) -> Built:
        key = content_key(below.key, repr(step), *([REPOSITORY / step.source] if isinstance(step, Copy) else []))
        directory = self._layout.images / "steps" / key
        if not directory.exists():
            partial = self._fresh("step.partial")
            if isinstance(step, Copy):
                if step.stage:
                    raise ImageError("COPY --from is known in the last stage only")
                _copy(REPOSITORY / step.source, partial / step.target.lstrip("/"))
            else:
                self._say(f"    {step.command[:100]} ...")
                start = time.monotonic()
                _run(step, below.directories, partial, self._fresh("work"))
                self._say(f"    {time.monotonic() - start:.0f} s")
            directory.parent.mkdir(parents=True, exist_ok=True)
            partial.rename(directory)
        return Built((*below.directories, directory), key)

    def _copied(self, step: Copy, built: dict[str, Built]) -> Path:
        if not step.stage:
            raise ImageError(f"COPY {step.source} into the last stage is not known; copy --from a stage")
        stage = built[step.stage]
        layer = self._layer(content_key(stage.key, repr(step)))
        if not layer.exists():
            layer.parent.mkdir(parents=True, exist_ok=True)
            partial = layer.with_suffix(".partial")
            tree = self._fresh("tree")
            source, target = step.source.strip("/"), step.target.strip("/")
            tar = f"tar --numeric-owner --owner=0 --group=0 --sort=name --transform s,^{source},{target}, -C {tree}"
            _in_tree(stage.directories, tree, f"exec {tar} -cf {partial} {source}")
            seal_layer(partial, layer)
        return layer

    def _layer(self, name: str) -> Path:
        return self._layout.images / "layers" / f"{name}.tar"

    def _fresh(self, name: str) -> Path:
        directory = self._layout.images / "work" / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def _run(step: Run, lower: Sequence[Path], upper: Path, work: Path) -> None:
    """Run a command in the tree; what it writes goes to `upper`."""
    tree, scratch = work / "tree", work / "work"
    for directory in (tree, scratch):
        directory.mkdir()
    lines = [
        *(f"mount --rbind /{name} {tree}/{name}" for name in ("dev", "proc")),
        *_shared_with_host(tree),
        f"mkdir -p {tree}{step.directory}",
        f"exec chroot {tree} /bin/sh -c {shlex.quote(f'cd {step.directory} && {step.command}')}",
    ]
    _in_tree(lower, tree, "\n".join(lines), f",upperdir={upper},workdir={scratch}")


def _in_tree(lower: Sequence[Path], tree: Path, script: str, options: str = "") -> None:
    """Run a shell script while the directories are mounted over each other, in a mount namespace of its own."""
    layers = ":".join(str(directory) for directory in reversed(lower))
    mount = f"set -e\nmount -t overlay overlay -o lowerdir={layers}{options} {tree}\n"
    _call("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", mount + script)


def _shared_with_host(tree: Path) -> list[str]:
    """Let pip reach packages as it does on this machine: names, authorities, pip's own settings and what they name."""
    paths = [Path("/etc/resolv.conf"), Path("/etc/hosts"), Path("/etc/ssl/certs"), Path("/etc/pip.conf")]
    paths += [Path(value) for name, value in os.environ.items() if name.startswith("PIP_") and value.startswith("/")]
    lines = []
    for path in dict.fromkeys(path.resolve() for path in paths if path.exists()):
        place = f"{tree}{path}"
        if path.is_dir():
            lines.append(f"mkdir -p {place}")
        else:
            lines.append(f"mkdir -p {place.rpartition('/')[0]}; [ -e {place} ] || : > {place}")
        lines.append(f"mount --bind {path} {place}")
    return lines


def _call(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise ImageError(f"{command[0]} failed (status {done.returncode}):\n{tail}")
