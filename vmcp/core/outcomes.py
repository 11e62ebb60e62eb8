"""What a backend's answer, or the lack of one, means for the caller."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Raw

from vmcp.audit.interface import AuditResult
from vmcp.backend.interface import BackendError, Reply
from vmcp.core.snapshot import Route
from vmcp.core.types import RequestOutcome, failed
from vmcp.wire.jsonrpc import RpcError, dumps, fields
from vmcp.wire.protocol import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    RESOURCE_NOT_FOUND_LEGACY,
    RESOURCES_READ,
    TOOLS_CALL,
)

CLIENTS_FAULT: Final = frozenset({INVALID_PARAMS, RESOURCE_NOT_FOUND_LEGACY})
"""Errors of a backend that say something about the request and nothing about the backend."""


def conclude(reply: Reply, route: Route) -> RequestOutcome:
    """Turn a reply that is not `input_required` into an outcome."""
    outcome = RequestOutcome(
        result=reply.result, era=reply.era, name=route.name, route=route, backend_status=reply.status
    )
    outcome.held = reply.held
    if reply.error is not None:
        outcome.error = reply.error
        outcome.verdict = AuditResult.FAILURE if reply.error.code in CLIENTS_FAULT else AuditResult.ERROR
    elif reply.result is None:
        outcome.error = RpcError(INTERNAL_ERROR, "the backend asks for input that this client cannot provide")
        outcome.verdict = AuditResult.ERROR
    elif b'"isError"' in reply.result and bytes(fields(reply.result).get("isError", b"")) == b"true":
        outcome.verdict = AuditResult.APPLICATION_ERROR
    return outcome


def unread(error: RpcError) -> RpcError:
    """Return the error of a resource that could not be read in the core's words.

    "No such resource" is -32602 with the URI in its data where a modern backend says it (MCP 2026-07-28), and -32002 in
    here; the modern front turns it back.
    """
    if error.code == INVALID_PARAMS and error.data is not UNSET and "uri" in fields(error.data):
        return RpcError(RESOURCE_NOT_FOUND_LEGACY, error.message, error.data)
    return error


def broken(err: BackendError, route: Route | None) -> RequestOutcome:
    """The backend gave no answer: an error of ours, with a sentence that is safe to show.

    Args:
        err: Why.
        route: What was asked for; None = nothing that has a name.
    """
    data = {"backend": err.backend, "category": err.category}
    return RequestOutcome(
        error=RpcError(INTERNAL_ERROR, str(err), Raw(dumps(data))),
        verdict=AuditResult.ERROR,
        name=None if route is None else route.name,
        route=route,
        backend_status=err.status or None,
    )


def unknown(method: str, name: str) -> RequestOutcome:
    """Say that there is no such item, also where this caller may only not know of it."""
    if method == RESOURCES_READ:
        error = RpcError(RESOURCE_NOT_FOUND_LEGACY, "Resource not found", Raw(dumps({"uri": name})))
        return RequestOutcome(error=error, verdict=AuditResult.FAILURE, name=name)
    what = "tool" if method == TOOLS_CALL else "prompt"
    return failed(INVALID_PARAMS, f"Unknown {what}: {name[:256]}", name=name)
