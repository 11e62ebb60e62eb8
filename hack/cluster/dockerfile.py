"""The part of the Dockerfile language that this repository uses, as data: one description, two builders."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field, replace

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


class DockerfileError(ValueError):
    """An instruction that the builder of the cluster does not know; the message names the line."""


@dataclass(frozen=True)
class Copy:
    """`COPY SOURCE TARGET`, from the repository or from an earlier stage."""

    source: str
    target: str
    stage: str = ""


@dataclass(frozen=True)
class Run:
    """`RUN`, a shell command in a directory."""

    command: str
    directory: str


@dataclass(frozen=True)
class Stage:
    """One `FROM` and what follows it.

    Attributes:
        name: after AS; "" for the last one.
        base: an image.
        steps: what changes its files, in order.
        config: of the image, in OCI's words.
        directory: WORKDIR so far.
    """

    name: str
    base: str
    steps: tuple[Copy | Run, ...] = ()
    config: dict[str, object] = field(default_factory=dict)
    directory: str = "/"


def parse(text: str) -> tuple[Stage, ...]:
    """Read a Dockerfile.

    Raises:
        DockerfileError: it uses something else than ARG, FROM, WORKDIR, RUN, COPY, ENV, USER, EXPOSE, ENTRYPOINT.
    """
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for number, line in _instructions(text):
        word, _, rest = line.partition(" ")
        rest = _expand(rest.strip(), arguments)
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(name.strip(), base.strip()))
        elif stages:
            stages[-1] = _step(stages[-1], word, rest, number)
        else:
            raise DockerfileError(f"line {number}: {word} before FROM")
    return tuple(stages)


def _instructions(text: str) -> list[tuple[int, str]]:
    """Return instructions with their first line's number; continued lines joined, comments left out."""
    found: list[tuple[int, str]] = []
    open_line: tuple[int, str] | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        start, before = open_line or (number, "")
        if line.endswith("\\"):
            open_line = (start, before + line[:-1].strip() + " ")
        else:
            found.append((start, before + line))
            open_line = None
    return found


def _expand(text: str, arguments: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda match: arguments.get(match[1] or match[2], match[0]), text)


def _step(stage: Stage, word: str, rest: str, number: int) -> Stage:
    match word:
        case "WORKDIR":
            return replace(stage, directory=rest, config={**stage.config, "WorkingDir": rest})
        case "RUN":
            return replace(stage, steps=(*stage.steps, Run(rest, stage.directory)))
        case "COPY":
            return replace(stage, steps=(*stage.steps, _copy(rest, stage.directory, number)))
        case "ENV":
            before = stage.config.get("Env", [])
            assert isinstance(before, list)
            return replace(stage, config={**stage.config, "Env": [*before, *shlex.split(rest)]})
        case "USER":
            return replace(stage, config={**stage.config, "User": rest})
        case "EXPOSE":
            ports: dict[str, dict[str, str]] = {f"{port}/tcp": {} for port in rest.split()}
            return replace(stage, config={**stage.config, "ExposedPorts": ports})
        case "ENTRYPOINT":
            return replace(stage, config={**stage.config, "Entrypoint": json.loads(rest)})
        case _:
            raise DockerfileError(f"line {number}: the cluster's image builder does not know {word}")


def _copy(rest: str, directory: str, number: int) -> Copy:
    words, stage = shlex.split(rest), ""
    while words and words[0].startswith("--"):
        flag, _, value = words.pop(0).partition("=")
        if flag != "--from":
            raise DockerfileError(f"line {number}: the cluster's image builder does not know COPY {flag}")
        stage = value
    if len(words) != 2:
        raise DockerfileError(f"line {number}: COPY with one source and one target is known, not {rest}")
    source, target = words
    if not target.startswith("/"):
        target = f"{directory.rstrip('/')}/{target}"
    return Copy(source, target, stage)
