"""Static headers of a backend: their two forms, in the file and in the environment, become headers to send.

Which headers may be sent is the contract's rule (`api.contract.headers`), the same as the operator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from api.contract.headers import header_problems
from api.contract.identifiers import HEADER_FORWARD_ENV, SECRET_ENV, normalize
from api.contract.secrets import SecretSource, secret_header_problem, secret_text
from vmcp.auth.interface import HeaderList


def manifest_variable(backend: str) -> str:
    """Return the variable that holds a backend's static headers. Not injective: see the contract for collisions."""
    return HEADER_FORWARD_ENV + normalize(backend)


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
            f"has unknown keys: {', '.join(sorted(unknown))}" if isinstance(parsed, dict) else "is not an object"
        )
    parts = [parsed.get(key, {}) for key in ("addPlaintextHeaders", "addHeadersFromSecret")]
    for part in parts:
        if not isinstance(part, dict) or not all(isinstance(value, str) for value in part.values()):
            raise ValueError("must map header names to strings")
    return ForwardSpec(parts[0], parts[1])


@dataclass(frozen=True, slots=True)
class ForwardProblem:
    """Why a static header cannot be sent.

    Attributes:
        message: By name, without values.
        variable: The environment variable that it is about; "" when it is about the header itself.
        missing: The variable is not set.
    """

    message: str
    variable: str = ""
    missing: bool = False


def resolve_static(spec: ForwardSpec, secrets: SecretSource) -> tuple[HeaderList, tuple[ForwardProblem, ...]]:
    """Return the headers to send, and why the rest cannot be."""
    found = header_problems(spec.plaintext, spec.secret)
    refused = {problem.header for problem in found}
    problems = [ForwardProblem(problem.message) for problem in found]
    headers = [(name, value) for name, value in spec.plaintext.items() if name not in refused]
    for name, identifier in spec.secret.items():
        variable = SECRET_ENV + identifier
        value = secret_text(secrets.get(variable, ""))
        if not value:
            message = f'header "{name}": environment variable {variable} is not set'
            problems.append(ForwardProblem(message, variable, missing=True))
        elif problem := secret_header_problem(value):
            message = f'header "{name}": the value of environment variable {variable} {problem}'
            problems.append(ForwardProblem(message, variable))
        elif name not in refused:
            headers.append((name, value))
    return tuple(headers), tuple(problems)
