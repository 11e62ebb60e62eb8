"""Rewrite MCPRemoteProxy and MCPServerEntry manifests to MCPRemoteEndpoint, which supersedes both.

    python -m hack.migrate FILE...            the rewritten manifests on standard output
    python -m hack.migrate --in-place FILE... the files themselves
    kubectl get mcpserverentries,mcpremoteproxies -o yaml | python -m hack.migrate -

An MCPServerEntry becomes one of type direct, where every field keeps its name. An MCPRemoteProxy becomes one of type
proxy, where the settings of the proxy itself stand under proxyConfig. Other kinds, comments and the order of what stays
in place are kept; manifests in JSON or in YAML's flow style lose their comments. Status and what only a server writes
are left out. What a human must decide is said on standard error.

Exit codes: 0, everything was rewritten; 1, something needs a human; 2, an input cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from pydantic import ValidationError

from api.common.model import GROUP
from api.v1beta1 import MCPRemoteEndpoint

API_VERSION = f"{GROUP}/v1beta1"
KINDS = {"MCPServerEntry": "direct", "MCPRemoteProxy": "proxy"}
"""Superseded kind -> type of the MCPRemoteEndpoint that it becomes."""
STAYS = frozenset(
    (
        "remoteUrl",
        "allowPrivateEndpoint",
        "transport",
        "groupRef",
        "externalAuthConfigRef",
        "headerForward",
        "toolConfigRef",
    )
)
"""Fields of an MCPRemoteProxy that stay where they are; all others move under proxyConfig."""
RENAMED = {"port": "proxyPort"}
OF_THE_SERVER = frozenset(("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"))
"""Metadata that another object cannot take over."""
TRANSPORT = "streamable-http"
"""Default of an MCPRemoteProxy; an MCPRemoteEndpoint has none."""


@dataclass
class Rewritten:
    """A rewritten stream of manifests.

    Attributes:
        text: what to apply.
        count: objects that were rewritten.
        remarks: what a human must decide, each with the object's name.
    """

    text: str
    count: int = 0
    remarks: list[str] = field(default_factory=list)


def rewrite(text: str) -> Rewritten:
    """Rewrite a stream of manifests.

    Raises:
        yaml.YAMLError: it is no YAML, such as a template of Helm.
    """
    found = Rewritten(text)
    documents = list(yaml.safe_load_all(text))
    wanted = [_migrated(document, found) for document in documents]
    if not found.count:
        return found
    objects = [node for document in yaml.compose_all(text) for node in _objects(document)]
    edited = _edited(text, objects) if _in_block_style(objects) else None
    found.text = edited if _says(edited, wanted) else yaml.safe_dump_all(wanted, sort_keys=False, width=120)
    return found


def _says(text: str | None, wanted: list[Any]) -> TypeGuard[str]:
    try:
        return text is not None and list(yaml.safe_load_all(text)) == wanted
    except yaml.YAMLError:
        return False


def _migrated(document: Any, found: Rewritten) -> Any:
    """Return what a document becomes, and note what must be said of it."""
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        return document | {"items": [_migrated(item, found) for item in document["items"]]}
    if not _is_superseded(document):
        return document
    made = migrated(document)
    found.count += 1
    name = f"{document['kind']} {(document.get('metadata') or {}).get('name', '?')}"
    try:
        MCPRemoteEndpoint.model_validate(made)
    except ValidationError as error:
        places = (".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False))
        found.remarks += [f"{name}: {_why(place)}" for place in places]
    return made


def _why(place: str) -> str:
    needed = {
        "spec.groupRef": "an MCPRemoteEndpoint is a member of a group: add spec.groupRef",
        "spec.proxyConfig.oidcConfigRef": "an MCPRemoteEndpoint of type proxy authenticates its callers: add "
        "spec.proxyConfig.oidcConfigRef, or use type direct",
        "spec.proxyConfig": "an MCPRemoteEndpoint of type proxy authenticates its callers: add "
        "spec.proxyConfig.oidcConfigRef, or use type direct",
    }
    return needed.get(place, f"{place} is not valid in an MCPRemoteEndpoint")


def _is_superseded(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and document.get("kind") in KINDS
        and str(document.get("apiVersion", "")).startswith(f"{GROUP}/")
        and isinstance(document.get("spec"), dict)
    )


def migrated(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the MCPRemoteEndpoint that says what an object of a superseded kind says."""
    type_, spec = KINDS[document["kind"]], document["spec"]
    stays, moves = dict(spec), {}
    if type_ == "proxy":
        stays = {key: value for key, value in spec.items() if key in STAYS}
        moves = {RENAMED.get(key, key): value for key, value in spec.items() if key not in STAYS}
    made: dict[str, Any] = {"type": type_}
    if type_ == "proxy" and "transport" not in spec:
        made["transport"] = TRANSPORT
    made |= stays | ({"proxyConfig": moves} if moves else {})
    top = {key: value for key, value in document.items() if key != "status"}
    top |= {"apiVersion": API_VERSION, "kind": "MCPRemoteEndpoint", "spec": made}
    if isinstance(document.get("metadata"), dict):
        top["metadata"] = {key: value for key, value in document["metadata"].items() if key not in OF_THE_SERVER}
    return top


@dataclass(frozen=True)
class _Block:
    """The lines of one key of a mapping in block style, comments above it included."""

    key: str
    lines: tuple[str, ...]


def _in_block_style(objects: list[yaml.MappingNode]) -> bool:
    """Whether each object, its metadata and its spec have lines of their own: no braces, no aliases of another's."""
    parts = [v for node in objects for k, v in node.value if k.value in ("metadata", "spec")]
    mappings = [part for part in parts if isinstance(part, yaml.MappingNode)]
    nodes = [*objects, *mappings]
    scalar = all(isinstance(key, yaml.ScalarNode) for node in nodes for key, _ in node.value)
    return scalar and len({id(node) for node in nodes}) == len(nodes) and not any(node.flow_style for node in nodes)


def _edited(text: str, objects: list[yaml.MappingNode]) -> str:
    """Rewrite the text itself, so that comments stay. Whether it says what it shall is for the caller to check."""
    lines = text.splitlines()
    for node in reversed(objects):  # from the end, so that the numbers of lines above stay right
        kind = next(value.value for key, value in node.value if key.value == "kind")
        for key, value in reversed(node.value):
            start, end = _extent(lines, node, key)
            lines[start:end] = _rewritten_key(lines[start:end], key.value, value, KINDS[kind])
    return "\n".join(lines) + "\n"


def _objects(node: Any) -> Iterator[yaml.MappingNode]:
    """Yield the mappings that are objects of a superseded kind."""
    if not isinstance(node, yaml.MappingNode):
        return
    found = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    if isinstance(found.get("items"), yaml.SequenceNode):
        for item in found["items"].value:
            yield from _objects(item)
    kind = found.get("kind")
    if isinstance(kind, yaml.ScalarNode) and kind.value in KINDS:
        yield node


def _extent(lines: list[str], node: yaml.MappingNode, key: yaml.Node) -> tuple[int, int]:
    """Return the first line of a key's block, comments above included, and the line after its last."""
    starts = [k.start_mark for k, _ in node.value]
    position = next(i for i, (k, _) in enumerate(node.value) if k is key)
    start = _with_comments(lines, starts[position].line, starts[position].column) if position else starts[0].line
    if position + 1 < len(starts):
        return start, _with_comments(lines, starts[position + 1].line, starts[position + 1].column)
    column, end = starts[position].column, starts[position].line + 1
    while end < len(lines) and (not lines[end].strip() or _belongs(lines[end], column)):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return start, end


def _belongs(line: str, column: int) -> bool:
    """Whether a line is still of the value of a key at a column: deeper, or a list at the same depth."""
    depth = len(line) - len(line.lstrip())
    return depth > column or (depth == column and line.lstrip().startswith("- ") and column > 0)


def _with_comments(lines: list[str], line: int, column: int) -> int:
    while line > 0 and lines[line - 1].startswith(" " * column + "#"):
        line -= 1
    return line


def _rewritten_key(lines: list[str], key: str, value: yaml.Node, type_: str) -> list[str]:
    match key:
        case "apiVersion" | "kind":
            new = API_VERSION if key == "apiVersion" else "MCPRemoteEndpoint"
            return [line.replace(value.value, new, 1) if f"{key}:" in line else line for line in lines]
        case "status":
            return []
        case "metadata" if isinstance(value, yaml.MappingNode):
            blocks = _blocks(lines, value)
            head = lines[: len(lines) - sum(len(block.lines) for block in blocks)]
            return [*head, *_joined(block for block in blocks if block.key not in OF_THE_SERVER)]
        case "spec" if isinstance(value, yaml.MappingNode) and value.value:
            blocks = _blocks(lines, value)
            head = lines[: len(lines) - sum(len(block.lines) for block in blocks)]
            return [*head, *_spec(blocks, value.value[0][0].start_mark.column, type_)]
    return lines


def _blocks(lines: list[str], node: yaml.MappingNode) -> list[_Block]:
    """Cut the lines of a key, whose value is a mapping in block style, into those of the mapping's keys."""
    column = node.value[0][0].start_mark.column
    names = [key.value for key, _ in node.value]
    first = node.value[0][0].start_mark.line
    starts = [key.start_mark.line for key, _ in node.value]
    own = " " * column + names[0]
    base = next((i for i, line in enumerate(lines) if line.startswith(own)), 0)
    marks = [_with_comments(lines, base + start - first, column) for start in starts]
    ends = [*marks[1:], len(lines)]
    return [_Block(n, tuple(lines[a:b])) for n, a, b in zip(names, marks, ends, strict=True)]


def _joined(blocks: Iterable[_Block]) -> list[str]:
    return [line for block in blocks for line in block.lines]


def _spec(blocks: list[_Block], column: int, type_: str) -> list[str]:
    indent = " " * column
    made = [f"{indent}type: {type_}"]
    if type_ == "direct":
        return [*made, *_joined(blocks)]
    if all(block.key != "transport" for block in blocks):
        made.append(f"{indent}transport: {TRANSPORT}")
    made += _joined(block for block in blocks if block.key in STAYS)
    moved = [block for block in blocks if block.key not in STAYS]
    if moved:
        made.append(f"{indent}proxyConfig:")
        made += [f"  {line}" if line.strip() else line for block in moved for line in _renamed(block)]
    return made


def _renamed(block: _Block) -> list[str]:
    new = RENAMED.get(block.key)
    if new is None:
        return list(block.lines)
    return [line.replace(f"{block.key}:", f"{new}:", 1) for line in block.lines]


def main(arguments: list[str] | None = None) -> int:
    """Rewrite what is named; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help="manifests; - for standard input")
    parser.add_argument("--in-place", action="store_true", help="rewrite the files instead of printing them")
    options = parser.parse_args(arguments)
    code = 0
    texts = []
    for name in options.files:
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
            found = rewrite(text)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            print(f"{name}: cannot be read: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        for remark in found.remarks:
            print(f"{name}: {remark}", file=sys.stderr)
            code = 1
        if options.in_place and name != "-":
            if found.count:
                Path(name).write_text(found.text, encoding="utf-8")
        else:
            texts.append(found.text)
    sys.stdout.write("---\n".join(text if text.endswith("\n") else f"{text}\n" for text in texts))
    return code


if __name__ == "__main__":
    sys.exit(main())
