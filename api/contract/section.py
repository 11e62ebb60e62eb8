"""The base of every part of the configuration, and the scalar types of its fields.

A field is absent, null, empty or zero all the same, as in Go: absent text is `""`, an absent list `()`. Fields where
"absent" and "false" differ are optional.

Values from YAML arrive as `Plain` where they were not quoted, because only the field knows whether `on` or `0.05` is a
text, a number or a flag; yaml.v3 decides in the same way.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from api.contract.duration import Duration

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_OLD_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"})
_OLD_FALSE = frozenset({"n", "N", "no", "No", "NO", "off", "Off", "OFF"})
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"[-+]?(0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+|0[0-7]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


class Plain(str):
    """A YAML scalar without quotes, not yet interpreted."""

    __slots__ = ()


def is_null(value: Any) -> bool:
    """Whether a value from YAML or Python stands for nothing."""
    return value is None or (isinstance(value, Plain) and value in _NULLS)


def whole_number(text: str) -> int | None:
    """Read the integer forms of YAML; None when it is none."""
    if _DECIMAL.fullmatch(text):
        return int(text) if len(text) < 100 else None
    if _OTHER_BASE.fullmatch(text):
        digits = text.lstrip("+-")
        base = {"x": 16, "o": 8, "b": 2}.get(digits[1:2], 8)
        value = int(digits[1:] if digits[1:2].isdigit() else digits[2:], base)
        return -value if text.startswith("-") else value
    return None


def resolve(value: Any) -> Any:
    """Give free-form values the types that YAML's core schema gives them; containers are walked."""
    if isinstance(value, Plain):
        return _resolve_plain(value)
    if isinstance(value, dict):
        return {str(key): resolve(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(item) for item in value]
    return value


def _resolve_plain(value: Plain) -> Any:
    text = str(value)
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    number = whole_number(text)
    if number is not None:
        return number
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _NOT_FINITE.get(text.lower())
    return float(special) if special else text


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    raise PydanticCustomError("text", "expected a string")


def _flag(value: Any) -> Any:
    if isinstance(value, Plain):
        if value in _TRUE or value in _OLD_TRUE:
            return True
        if value in _FALSE or value in _OLD_FALSE:
            return False
    if isinstance(value, bool):
        return value
    raise PydanticCustomError("flag", "expected true or false")


def _count(value: Any) -> Any:
    number = whole_number(value) if isinstance(value, Plain) else value
    if isinstance(number, int) and not isinstance(number, bool) and -(1 << 63) <= number < 1 << 63:
        return number
    raise PydanticCustomError("count", "expected a whole number")


def _span(value: Any) -> Any:
    if isinstance(value, Duration):
        return value
    if isinstance(value, str):
        try:
            return Duration.parse(value)
        except ValueError as error:
            raise PydanticCustomError("duration", "{reason}", {"reason": str(error)}) from None
    raise PydanticCustomError("duration", "expected a duration such as 30s or 1m30s")


def _refill(value: Any) -> Any:
    """The scalar form `1m0s`, or the nested form that yaml.v3 makes of a metav1.Duration."""
    if isinstance(value, dict):
        unknown = [str(key) for key in value if key != "duration"]
        if unknown:
            raise PydanticCustomError("duration", "unknown key {key}; known is duration", {"key": unknown[0]})
        return _span(value.get("duration"))
    return _span(value)


def _free_mapping(value: Any) -> Any:
    if not isinstance(value, dict):
        raise PydanticCustomError("mapping", "expected a mapping")
    return resolve(value)


Text = Annotated[str, BeforeValidator(_text)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, BeforeValidator(_count)]


class Section(BaseModel):
    """A frozen part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        # Bytes of a secret must not come out of an exception's text.
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = cls.keys()
            return {key: value for key, value in data.items() if not (is_null(value) and key in known)}
        if isinstance(data, cls):
            return data
        raise PydanticCustomError("mapping", "expected a mapping")

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Return the keys that this section knows, in the order in which they are written."""
        return _keys(cls)


@cache
def _keys(section: type[Section]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in section.model_fields.items())


Span = Annotated[Duration, BeforeValidator(_span)]
RefillPeriod = Annotated[Duration, BeforeValidator(_refill)]
FreeMapping = Annotated[dict[str, Any], BeforeValidator(_free_mapping)]
FreeValue = Annotated[Any, BeforeValidator(resolve)]
