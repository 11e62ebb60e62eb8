"""A syntax check for the Go templates of composite tools, so that a typo is found before a workflow runs.

Checks what `text/template` would refuse to parse: actions that are not closed, strings and parentheses that are not
closed, unknown functions, blocks without `end`. It does not type-check fields: those exist only at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

FUNCTIONS = frozenset(
    {"and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf"}
    | {"println", "slice", "urlquery", "json", "quote", "fromJson"}
)
"""Built-in functions of text/template, and the three that workflows add."""
_OPENERS = frozenset({"if", "range", "with", "block", "define"})
_KEYWORDS = _OPENERS | {"else", "end", "template", "break", "continue", "nil", "true", "false"}
_TOKEN = re.compile(
    r"""\s+|"(?:[^"\\\n]|\\.)*"|`[^`]*`|'(?:[^'\\\n]|\\.)+'|:=|[|(),=]"""
    r"""|[-+]?[0-9][0-9A-Za-z_.+]*|[.$]?[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"""
    r"""|\$|(?:\.[A-Za-z_][A-Za-z0-9_]*)+|\."""
)
_STEP_OUTPUT = re.compile(r"\.steps\.([A-Za-z0-9_-]+)\.output\.([A-Za-z_][A-Za-z0-9_]*)")


def template_problem(text: str) -> str | None:
    """Say why a text is not a template; None when it is one (also when it holds no action at all)."""
    depth = 0
    for action in _actions(text):
        if action is None:
            return "an action {{ is not closed by }}"
        words = _words(action)
        if isinstance(words, str):
            return words
        first = words[0] if words else ""
        if not words:
            return "an action {{ }} is empty"
        if first in _OPENERS:
            depth += 1
        elif first == "end":
            depth -= 1
            if depth < 0:
                return "{{end}} without a block"
        elif first == "else" and depth == 0:
            return "{{else}} without a block"
    return "a block is not closed by {{end}}" if depth else None


def referenced_outputs(text: str) -> set[tuple[str, str]]:
    """Return the (step, field) pairs that a template reads as `.steps.<id>.output.<field>`."""
    return {(match.group(1), match.group(2)) for match in _STEP_OUTPUT.finditer(text)}


def _actions(text: str) -> Iterator[str | None]:
    """Yield the inside of every action; None for one that is never closed. Comments are skipped."""
    position = text.find("{{")
    while position >= 0:
        end = _end_of_action(text, position + 2)
        if end < 0:
            yield None
            return
        body = text[position + 2 : end].removeprefix("- ").removesuffix(" -").strip()
        if not (body.startswith("/*") and body.endswith("*/")):
            yield body
        position = text.find("{{", end + 2)


def _end_of_action(text: str, start: int) -> int:
    quote = ""
    position = start
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\" and quote != "`":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "\"`'":
            quote = char
        elif text.startswith("}}", position):
            return position
        position += 1
    return -1


def _words(action: str) -> list[str] | str:
    """Split an action into words, or say what is wrong with it."""
    words: list[str] = []
    open_parentheses = 0
    position = 0
    while position < len(action):
        match = _TOKEN.match(action, position)
        if match is None:
            return f"unexpected {action[position]!r} in an action"
        word = match.group()
        position = match.end()
        if word.isspace():
            continue
        open_parentheses += {"(": 1, ")": -1}.get(word, 0)
        if open_parentheses < 0:
            return "a closing parenthesis has no opening one"
        name = word.split(".")[0]
        if name and name[0].isalpha() and name not in FUNCTIONS and name not in _KEYWORDS:
            return f'function "{name}" is not defined'
        words.append(word)
    return "a parenthesis is not closed" if open_parentheses else words
