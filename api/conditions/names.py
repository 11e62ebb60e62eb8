"""Condition types that carry an object's name."""

from __future__ import annotations

import hashlib
import re

MAX_TYPE_LENGTH = 316
"""`metav1.Condition.type` of the CRDs: maxLength 316."""

_NAME = re.compile(r"[-A-Za-z0-9_.]*[A-Za-z0-9]")


def named_condition_type(family: str, name: str) -> str:
    """Return the condition type of one member of a family, for example `BackendAuthConfig-github`.

    The name goes in as it is wherever the API server accepts it. Keys of a map may be any text: such a name is cut to
    its legal characters and gets eight hex digits of its hash, so that two odd names never share a condition and a
    status write is never refused because of one.
    """
    legal = f"{family}-{name}"
    if _NAME.fullmatch(name) and len(legal) <= MAX_TYPE_LENGTH:
        return legal
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = re.sub(r"[^-A-Za-z0-9_.]", "_", name)[: MAX_TYPE_LENGTH - len(family) - 10]
    return f"{family}-{kept}-{digest}"
