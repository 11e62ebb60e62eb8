"""URL elicitation in the other era's form: who must visit a page before a call can go on.

Legacy (2025-11-25) has an id per elicitation and the error -32042 that lists pages to be visited before the call is
made again. Modern has neither: pages come as `input_required`, and the retry is the call made again.
"""

from __future__ import annotations

import secrets

import msgspec
from msgspec import UNSET, Raw

from vmcp.wire.jsonrpc import RpcError, dumps, fields
from vmcp.wire.protocol import ELICIT, URL_ELICITATION_REQUIRED

_ID = "elicitationId"
MAX_PAGES = 32
"""Pages of one error; more make it an error like any other."""


class _Pages(msgspec.Struct):
    elicitations: list[Raw]


def pages_as_requests(error: RpcError, capabilities: bytes) -> bytes | None:
    """Return the `inputRequests` that stand for an error -32042.

    Args:
        error: The backend's.
        capabilities: What the client declared.

    Returns:
        None when it is another error, says nothing usable, or the client does not visit pages.
    """
    if error.code != URL_ELICITATION_REQUIRED or error.data is UNSET:
        return None
    if "url" not in fields(fields(capabilities).get("elicitation")):
        return None
    try:
        pages = msgspec.json.decode(error.data, type=_Pages).elicitations
    except (msgspec.DecodeError, RecursionError):
        return None
    if not pages or len(pages) > MAX_PAGES:
        return None
    return dumps({f"page-{n}": {"method": ELICIT, "params": Raw(_modern(page))} for n, page in enumerate(pages, 1)})


def legacy_params(method: str, params: bytes) -> bytes:
    """Return a question's params as a legacy client takes them: pages have an id there."""
    if method != ELICIT or b'"url"' not in params:
        return params
    members = fields(params)
    if bytes(members.get("mode", b"")) != b'"url"' or _ID in members:
        return params
    members[_ID] = Raw(dumps(secrets.token_urlsafe(12)))
    return dumps(members)


def modern_params(method: str, params: bytes) -> bytes:
    """Return a question's params as a modern client takes them: without the id."""
    if method != ELICIT or b'"elicitationId"' not in params:
        return params
    return _modern(params)


def _modern(params: bytes | Raw) -> bytes:
    members = fields(params)
    members.pop(_ID, None)
    return dumps(members)
