"""The second builder of the images: it reads the same Dockerfiles, and refuses what it does not know."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from hack.cluster.dockerfile import Copy, DockerfileError, Run, parse
from hack.cluster.layers import content_key, write_image, write_layer
from hack.cluster.layout import REPOSITORY


@pytest.mark.parametrize(
    ("name", "lock", "code", "entry"),
    [
        ("Dockerfile", "locks/operator.txt", {"api", "runtime", "controllers", "manager.py"}, "/app/manager.py"),
        ("Dockerfile.vmcp", "locks/vmcp.txt", {"api", "runtime", "vmcp"}, "vmcp"),
    ],
)
def test_our_dockerfiles_are_understood(name: str, lock: str, code: set[str], entry: str) -> None:
    build, final = parse((REPOSITORY / name).read_text())
    copied = {step.source for step in build.steps if isinstance(step, Copy)}
    assert copied == {lock} | code | ({"membership"} & copied)
    assert any(
        "--require-hashes" in step.command and lock in step.command for step in build.steps if isinstance(step, Run)
    )
    assert build.base == final.base == "python:3.11-slim-bookworm"
    assert [step.stage for step in final.steps if isinstance(step, Copy)] == ["build", "build"]
    assert final.config["User"] == "65532:65532"
    assert final.config["WorkingDir"] == "/app"
    assert final.config["Entrypoint"][-1] == entry  # type: ignore[index]
    assert "PYTHONUNBUFFERED=1" in final.config["Env"]  # type: ignore[operator]


@pytest.mark.parametrize(
    "line",
    ["HEALTHCHECK CMD true", "COPY --chown=1:1 a b", "COPY a b c", "ADD a b", 'SHELL ["sh"]', "VOLUME /data"],
)
def test_what_the_builder_does_not_know_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(DockerfileError, match=r"^line 3: "):
        parse(f"# comment\nFROM base AS build\n{line}\n")


def test_continued_lines_are_one_and_relative_targets_begin_in_the_working_directory() -> None:
    (stage,) = parse("ARG BASE=x:1\nFROM ${BASE}\nWORKDIR /srv\nCOPY a b\nRUN one \\\n # why\n && two\n")
    assert stage.base == "x:1"
    assert stage.steps == (Copy("a", "/srv/b"), Run("one && two", "/srv"))


def test_an_image_holds_its_layers_with_their_digests(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    layer = write_layer(tree, "/app", tmp_path / "layers" / "a.tar")
    archive = write_image("localhost/x:1", [layer], {"User": "1", "Env": ["A=b"]}, tmp_path / "x.tar")
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(tar.extractfile(manifest["Config"]))  # type: ignore[arg-type]
        names = tar.getnames()
    assert manifest["RepoTags"] == ["localhost/x:1"]
    assert set(manifest["Layers"]) <= set(names)
    (diff,) = config["rootfs"]["diff_ids"]
    assert manifest["Layers"] == [f"{diff.removeprefix('sha256:')}/layer.tar"]
    assert config["config"]["Env"][-1] == "A=b"
    with tarfile.open(layer) as tar:
        assert {(member.name, member.uid, member.uname) for member in tar} == {("app", 0, ""), ("app/file", 0, "")}


def test_a_key_changes_with_content_and_names_and_not_with_byte_code(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.py").write_text("1")
    before = content_key("x", tree)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "a.pyc").write_bytes(b"2")
    assert content_key("x", tree) == before
    assert content_key("y", tree) != before
    (tree / "a.py").rename(tree / "b.py")
    assert content_key("x", tree) != before
