"""Headers that are added to requests towards a remote server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.common.markers import ListType, ValueBounds
from api.common.model import Struct
from api.common.references import SecretKeyRef


class HeaderFromSecret(Struct):
    """A header whose value is read from a Secret."""

    header_name: Annotated[str, ValueBounds(min_length=1, max_length=255)]
    """Name of the HTTP header."""
    value_secret_ref: SecretKeyRef
    """Secret and key that hold the value."""


class HeaderForwardConfig(Struct):
    """Headers to add to every request; headers that steer HTTP or name a caller are refused by the operator."""

    add_plaintext_headers: dict[str, str] = Field(default_factory=dict)
    """Header names and values in the clear; readable by everybody who may read this object."""
    add_headers_from_secret: Annotated[tuple[HeaderFromSecret, ...], ListType("map", ("headerName",))] = ()
    """Headers whose values come from Secrets and never appear in a ConfigMap."""
