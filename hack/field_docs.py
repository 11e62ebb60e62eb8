"""Read the docstrings of classes and of their fields from the source.

Python keeps no docstring of an attribute at run time, and pydantic's own extraction would cost every start of the
programs; only the generators need them.
"""

from __future__ import annotations

import ast
import functools
import inspect
from pathlib import Path


def paragraph(text: str) -> str:
    """Return `text` as one line."""
    return " ".join(text.split())


@functools.cache
def _module_docs(path: Path) -> dict[tuple[str, str], str]:
    """Map (class, field) to the string that follows the field; (class, "") to the docstring of the class."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ClassDef):
            continue
        found[node.name, ""] = paragraph(ast.get_docstring(node) or "")
        for before, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                found[node.name, before.target.id] = paragraph(after.value.value)
    return found


def _docs(cls: type) -> dict[tuple[str, str], str]:
    return _module_docs(Path(inspect.getfile(cls)))


def class_doc(cls: type) -> str:
    """Return the docstring of a class as one line."""
    return _docs(cls)[cls.__name__, ""]


def field_doc(cls: type, name: str) -> str:
    """Return the docstring of a field, inherited ones included.

    Raises:
        LookupError: the field has none; the API has no undescribed field.
    """
    for base in cls.__mro__:
        if base.__module__.startswith("api."):
            text = _docs(base).get((base.__name__, name))
            if text:
                return text
    raise LookupError(f"{cls.__module__}.{cls.__name__}.{name} has no docstring")
