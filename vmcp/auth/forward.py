"""Which headers may travel towards backends besides those of the protocol and of auth.

Three sources, none of which is trusted alike: *static* headers of one backend (written by whoever may write the
resource), *passthrough* headers (the configuration names them, the client fills them), and the environment form of
the static ones that the stock operator writes. All pass the same deny-lists, at load time and again where a request
is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from api.contract.headers import RESTRICTED_HEADERS
from vmcp.auth.interface import HeaderList, Headers

MANIFEST_PREFIX = "TOOLHIVE_HEADER_FORWARD_"
SECRET_PREFIX = "TOOLHIVE_SECRET_"  # noqa: S105  a name, no secret

RESTRICTED = frozenset(name.lower() for name in RESTRICTED_HEADERS)
"""Headers that steer the connection or claim an origin: never from configuration, never from a client."""

PROTOCOL = frozenset(
    {
        "accept",
        "accept-encoding",
        "content-type",
        "content-encoding",
        "mcp-session-id",
        "mcp-protocol-version",
        "mcp-method",
        "mcp-name",
        "last-event-id",
    }
)
"""Headers by which the two ends agree on the protocol: the gateway writes them itself, from what it really speaks."""

CREDENTIALS = frozenset({"authorization", "cookie", "set-cookie"})
"""Credentials that the client holds for this gateway, not for a backend."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,255}")
_VALUE = re.compile(r"[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]{0,8190}[\x21-\x7e\x80-\xff])?")
_BACKEND_OWNER = re.compile(r"[^A-Z0-9_]")


def owner(backend: str) -> str:
    """Return a backend's name as environment variables hold it. Not injective: see the contract for collisions."""
    return _BACKEND_OWNER.sub("_", backend.upper())


def static_refusal(name: str, value: str | None = None) -> str | None:
    """Say why a static header may not be sent; None = it may. The value is never part of the answer."""
    lower = name.lower()
    if not _NAME.fullmatch(name):
        return "is not a header name"
    if lower in RESTRICTED:
        return "is a restricted header"
    if lower in PROTOCOL or lower.startswith("mcp-param-"):
        return "is a header that the gateway writes itself"
    if value is not None and not _VALUE.fullmatch(value):
        return "has a value that no header may have (empty, too long, control characters or outer blanks)"
    return None


def passthrough_refusal(name: str) -> str | None:
    """Say why a client's header may not be passed on; None = it may."""
    refusal = static_refusal(name)
    if refusal is None and name.lower() in CREDENTIALS:
        return "is a credential of the client for this gateway"
    return refusal


class Passthrough:
    """Takes the configured headers out of a client's request."""

    def __init__(self, names: Iterable[str]) -> None:
        """Accept `names`; refused ones are left out here too, whatever checked them before."""
        self._names = {name.lower().encode(): name for name in names if passthrough_refusal(name) is None}

    def __bool__(self) -> bool:
        return bool(self._names)

    def capture(self, headers: Headers) -> HeaderList:
        """Return the headers to pass on: the first value of each, none that is empty or could break a line."""
        found: dict[str, str] = {}
        for raw, value in headers:
            name = self._names.get(raw)
            if name is not None and name not in found:
                text = value.decode("latin-1").strip(" \t")
                if _VALUE.fullmatch(text):
                    found[name] = text
        return tuple(found.items())


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """Static headers of one backend before secrets are resolved: header -> value, header -> secret identifier."""

    plaintext: Mapping[str, str] = field(default_factory=dict)
    secret: Mapping[str, str] = field(default_factory=dict)


def read_manifest(text: str) -> ForwardSpec:
    """Read the JSON of a `TOOLHIVE_HEADER_FORWARD_<OWNER>` variable.

    Raises:
        ValueError: It does not have that form.
    """
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON") from None
    if not isinstance(parsed, dict) or (unknown := set(parsed) - {"addPlaintextHeaders", "addHeadersFromSecret"}):
        raise ValueError(
            f"has unknown keys: {', '.join(sorted(unknown))}" if isinstance(parsed, dict) else "is no object"
        )
    parts = [parsed.get(key, {}) for key in ("addPlaintextHeaders", "addHeadersFromSecret")]
    for part in parts:
        if not isinstance(part, dict) or not all(isinstance(value, str) for value in part.values()):
            raise ValueError("must map header names to strings")
    return ForwardSpec(parts[0], parts[1])


def resolve_static(spec: ForwardSpec, environ: Mapping[str, str]) -> tuple[HeaderList, tuple[str, ...]]:
    """Return the headers to send and what is wrong with the rest, by name and without values."""
    headers: list[tuple[str, str]] = []
    errors: list[str] = []
    seen: set[str] = set()
    pairs: list[tuple[str, str | None, str]] = [(name, value, "") for name, value in spec.plaintext.items()]
    for name, identifier in spec.secret.items():
        variable = SECRET_PREFIX + identifier
        pairs.append((name, environ.get(variable), variable))
    for name, value, variable in pairs:
        if value is None or (variable and not value):
            errors.append(f"header {name!r}: environment variable {variable} is not set")
        elif (refusal := static_refusal(name, value)) is not None:
            errors.append(f"header {name!r} {refusal}")
        elif name.lower() in seen:
            errors.append(f"header {name!r} is given twice")
        else:
            headers.append((name, value))
        seen.add(name.lower())
    return tuple(headers), tuple(errors)
