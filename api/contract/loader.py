"""From bytes to a configuration and back."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from api.contract.config import Dialect, StaticBackend, VmcpConfig
from api.contract.defaults import with_defaults
from api.contract.dialect import dialect_errors
from api.contract.document import to_document
from api.contract.errors import ConfigError, ConfigErrors, join
from api.contract.nearest import nearest
from api.contract.section import Section
from api.contract.validation import validate_config
from api.contract.yaml_reader import read_yaml
from api.contract.yaml_writer import YamlFragment, render_item, write_yaml

D = TypeVar("D", bound=Section)

MAX_CONFIG_BYTES = 64 * 1024 * 1024
"""Longest document, unpacked. A ConfigMap holds 1 MiB; YAML of thousands of backends packs to a twentieth."""

_MOST_TEXTS = 16_384
_backend_texts: dict[tuple[Any, ...], str] = {}

_GZIP = b"\x1f\x8b"
_SENTENCES = {
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "missing": "is required",
}


def load_config(
    data: bytes | str, *, dialect: Dialect = Dialect.NATIVE, env: Mapping[str, str] | None = None
) -> VmcpConfig:
    """Read, check and complete a configuration.

    Args:
        data: YAML or JSON, plain or gzip-packed.
        dialect: NATIVE reads documents of both dialects; TOOLHIVE refuses what the stock gateway would refuse.
        env: the process's environment; when given, the variables that strategies name must be there.

    Returns:
        The configuration with the defaults of `operational` filled in.

    Raises:
        ConfigErrors: every mistake at once. Unknown keys and wrong types come first: rules of meaning are only
            checked on a document that has the right shape.
    """
    config = with_defaults(parse_config(data), dialect)
    errors = [*dialect_errors(config, dialect), *validate_config(config, env=env)]
    if errors:
        raise ConfigErrors(errors)
    return config


def parse_config(data: bytes | str) -> VmcpConfig:
    """Read a configuration without completing it or checking its meaning: only keys and types.

    Raises:
        ConfigErrors: every unknown key (with the nearest known one) and wrong type at once.
    """
    return parse_document(data, VmcpConfig)


def parse_document(data: bytes | str, kind: type[D]) -> D:
    """Read a document of any kind; see `parse_config`.

    Raises:
        ConfigErrors: See there.
    """
    tree = read_yaml(_decode(data))
    if not isinstance(tree, dict):
        raise ConfigErrors([ConfigError("", "the document must be a mapping")])
    try:
        return kind.model_validate(tree, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigErrors(_explain(error, kind)) from None


def dump_config(config: VmcpConfig, dialect: Dialect = Dialect.NATIVE) -> bytes:
    """Write a configuration: keys in the stock gateway's order, maps sorted, nothing that is zero; same bytes always.

    Raises:
        ConfigErrors: the configuration holds what the dialect cannot say (see `to_dialect`).
    """
    errors = dialect_errors(config, dialect)
    if errors:
        raise ConfigErrors(errors)
    document = to_document(config.model_copy(update={"backends": ()}), dialect)
    if config.backends:
        backends = YamlFragment("".join(_backend_text(backend, dialect) for backend in config.backends))
        # Their place is after name and groupRef, those of the two that are there.
        head = {key: document.pop(key) for key in ("name", "groupRef") if key in document}
        document = head | {"backends": backends} | document
    return write_yaml(document).encode()


def _backend_text(backend: StaticBackend, dialect: Dialect) -> str:
    """Return the lines of one backend; a group of thousands is written again whenever one of them changes."""
    forward = backend.header_forward
    identity = (
        *(backend.name, backend.url, backend.transport, backend.type, backend.ca_bundle_path),
        tuple(backend.metadata.items()),
        forward is not None,
        tuple(forward.add_plaintext_headers.items()) if forward is not None else (),
        tuple(forward.add_headers_from_secret.items()) if forward is not None else (),
    )
    text = _backend_texts.get(identity)
    if text is None:
        if len(_backend_texts) >= _MOST_TEXTS:
            _backend_texts.clear()
        item = to_document(backend, dialect)
        text = _backend_texts[identity] = render_item(item) if item else "    - {}\n"
    return text


def backend_sizes(config: VmcpConfig, dialect: Dialect = Dialect.NATIVE) -> dict[str, int]:
    """Return about how many bytes of the written configuration each backend takes: itself, its strategy, its tools."""
    sizes = {backend.name: len(_backend_text(backend, dialect)) for backend in config.backends}
    strategies = config.outgoing_auth.backends if config.outgoing_auth is not None else {}
    parts: list[tuple[str, Section]] = [*strategies.items()]
    parts += [(tools.workload, tools) for tools in (config.aggregation.tools if config.aggregation is not None else ())]
    for name, part in parts:
        if name in sizes:
            sizes[name] += len(render_item(to_document(part, dialect)))
    return sizes


def pack_config(document: bytes) -> bytes:
    """Pack a written configuration with gzip; no time stamp, so the same bytes always."""
    return gzip.compress(document, compresslevel=6, mtime=0)


def _decode(data: bytes | str) -> str:
    if isinstance(data, str):
        size = len(data)
        text = data
    else:
        plain = _unpack(data) if data.startswith(_GZIP) else data
        size = len(plain)
        try:
            text = plain.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ConfigErrors([ConfigError("", "the document is not UTF-8 text")]) from None
    if size > MAX_CONFIG_BYTES:
        raise ConfigErrors([ConfigError("", f"the document is longer than {MAX_CONFIG_BYTES >> 20} MiB")])
    return text


def _unpack(data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise ConfigErrors([ConfigError("", "the packed document is damaged")]) from None


def _explain(error: ValidationError, document: type[Section]) -> list[ConfigError]:
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = item["loc"]
        if item["type"] == "extra_forbidden":
            known = _keys_at(document, where[:-1])
            found.append(ConfigError(join(*where), f"unknown key{nearest(str(where[-1]), known)}"))
        else:
            found.append(ConfigError(join(*where), _SENTENCES.get(item["type"], item["msg"])))
    return found


def _keys_at(document: type[Section], where: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the keys of the section at a place of the document."""
    kind: Any = document
    for step in where:
        if isinstance(kind, type) and issubclass(kind, Section):
            by_key = {field.alias or name: field for name, field in kind.model_fields.items()}
            kind = _bare(by_key[str(step)].annotation)
        else:
            # A list's or a map's items.
            kind = _bare(get_args(kind)[0 if get_origin(kind) is tuple else 1])
    assert isinstance(kind, type)
    assert issubclass(kind, BaseModel)
    return kind.keys() if issubclass(kind, Section) else ()


def _bare(annotation: Any) -> Any:
    options = [option for option in get_args(annotation) if option is not type(None)]
    return options[0] if get_origin(annotation) is not tuple and len(options) == 1 else annotation
